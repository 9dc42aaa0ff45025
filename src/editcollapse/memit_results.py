"""Results of kmeng01/rome and kmeng01/memit: one ``…case_N.json`` for each request.

Source: kmeng01/memit, experiments/evaluate.py (the record), py/eval_utils_counterfact.py (``post``:
mean NLLs of both targets for each prompt) and summarize.py (the scores made of them).
"""

import math
from typing import Any

from editcollapse.data.records import Record, RecordError, case_id_of, required
from editcollapse.data.requests import SLOT
from editcollapse.foreign_fields import (
    ForeignRequest,
    inner,
    mean_share,
    number,
    object_of,
    old_object,
    optional_number,
    phases_of,
    sentence,
)
from editcollapse.imported_outcomes import ImportedEditRow

_KINDS = ("rewrite", "paraphrase", "neighborhood")
_Nlls = list[tuple[float, float]]


def memit_rows(value: Any, import_id: str, record_index: int) -> list[ImportedEditRow]:
    """Return a record's row after the edit, and the one before it where the record has it.

    Raises:
        RecordError: it is no such record.
    """
    record = object_of(value, "the record")
    request = _request(record)
    return [
        _row(record, request, phase, found, import_id, record_index)
        for phase, found in phases_of(record)
    ]


def _request(record: Record) -> ForeignRequest:
    """Return what was edited."""
    asked = inner(record, "requested_rewrite")
    prefix = "requested_rewrite."
    subject = sentence(required(asked, "subject", prefix), prefix + "subject")
    prompt = sentence(required(asked, "prompt", prefix), prefix + "prompt")
    if prompt.count(SLOT) != 1:
        raise RecordError(f"{prefix}prompt has to hold {SLOT} once, where the subject stands.")
    new, old = inner(asked, "target_new"), asked.get("target_true")
    return ForeignRequest(
        case_id=case_id_of(record),
        subject=subject,
        prompt=prompt.replace(SLOT, subject),
        target_new=sentence(required(new, "str", "target_new."), "target_new.str"),
        target_true=None
        if old is None
        else old_object(object_of(old, "target_true").get("str"), "target_true.str"),
    )


def _row(
    record: Record,
    request: ForeignRequest,
    phase: str,
    found: Record,
    import_id: str,
    record_index: int,
) -> ImportedEditRow:
    """Return the row of one phase."""
    nlls = {kind: _nlls(found, f"{kind}_prompts_probs", f"{phase}.") for kind in _KINDS}
    correct = {
        kind: mean_share(found.get(f"{kind}_prompts_correct"), f"{phase}.{kind}_prompts_correct")
        for kind in _KINDS
    }
    if not any(nlls.values()) and not any(share is not None for share in correct.values()):
        raise RecordError(
            f"{phase} has none of the fields rewrite_prompts_probs, rewrite_prompts_correct and "
            "their like; it is no result of kmeng01/memit's evaluation."
        )
    rewrite, paraphrase, neighborhood = (nlls[kind] for kind in _KINDS)
    # Neighbors are asked the other way round: their true object should stay the likelier one.
    turned = [(old, new) for new, old in neighborhood]
    joint = optional_number(record, "num_edits", "", low=1.0)
    return ImportedEditRow(
        import_id=import_id,
        record_index=record_index,
        phase=phase,
        case_id=request.case_id,
        subject=request.subject,
        prompt=request.prompt,
        target_new=request.target_new,
        target_true=request.target_true,
        n_joint_edits=None if joint is None or not joint.is_integer() else int(joint),
        duration_s=optional_number(record, "time", "") if phase == "post" else None,
        efficacy=None,
        generalization=None,
        locality=None,
        portability=None,
        rewrite_correct=correct["rewrite"],
        paraphrase_correct=correct["paraphrase"],
        neighborhood_correct=correct["neighborhood"],
        efficacy_score=_score(rewrite),
        efficacy_magnitude=_magnitude(rewrite),
        paraphrase_score=_score(paraphrase),
        paraphrase_magnitude=_magnitude(paraphrase),
        neighborhood_score=_score(turned),
        neighborhood_magnitude=_magnitude(turned),
        target_new_nll=rewrite[0][0] if rewrite else None,
        target_true_nll=rewrite[0][1] if rewrite else None,
        ngram_entropy=optional_number(found, "ngram_entropy", f"{phase}."),
        reference_score=optional_number(found, "reference_score", f"{phase}."),
        essence_score=optional_number(found, "essence_score", f"{phase}."),
        target_perplexity=None,
    )


def _nlls(found: Record, name: str, prefix: str) -> _Nlls:
    """Return the mean NLLs of the new and of the true object, for each prompt."""
    value = found.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise RecordError(f"{prefix}{name} is no list of NLLs.")
    pairs = [object_of(item, prefix + name) for item in value]
    return [
        (
            number(required(pair, "target_new", prefix), f"{prefix}{name}.target_new", low=0.0),
            number(required(pair, "target_true", prefix), f"{prefix}{name}.target_true", low=0.0),
        )
        for pair in pairs
    ]


def _score(nlls: _Nlls) -> float | None:
    """Return the share of prompts where the first is the likelier one."""
    return sum(wanted < other for wanted, other in nlls) / len(nlls) if nlls else None


def _magnitude(nlls: _Nlls) -> float | None:
    """Return the mean difference of their probabilities."""
    if not nlls:
        return None
    return sum(math.exp(-wanted) - math.exp(-other) for wanted, other in nlls) / len(nlls)
