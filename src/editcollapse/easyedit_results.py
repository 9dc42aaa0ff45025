"""Results of EasyEdit: the list that ``editor.edit`` returns and writes to ``logs/results.json``.

Source: zjunlp/EasyEdit, editors/editor.py (the entries), editors/utils.py (summary_metrics) and
evaluate/evaluate.py: each share is a number, or in later versions a list of numbers.
"""

from typing import Any

from editcollapse.data.records import Record, RecordError, case_id_of, required
from editcollapse.foreign_fields import (
    ForeignRequest,
    inner,
    mean_share,
    object_of,
    old_object,
    optional_number,
    phases_of,
    sentence,
)
from editcollapse.imported_outcomes import ImportedEditRow

_SHARE = "_acc"


def easyedit_rows(value: Any, import_id: str, record_index: int) -> list[ImportedEditRow]:
    """Return an entry's row after the edit, and the one before it where the entry has it.

    Raises:
        RecordError: it is no such entry.
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
    subject, old = asked.get("subject"), asked.get("ground_truth")
    # Some data sets give several answers that count as the old one; the first stands for them.
    first = old[0] if isinstance(old, list) and old else old
    return ForeignRequest(
        case_id=case_id_of(record),
        subject=None if subject is None else sentence(subject, prefix + "subject"),
        prompt=sentence(required(asked, "prompt", prefix), prefix + "prompt"),
        target_new=sentence(required(asked, "target_new", prefix), prefix + "target_new"),
        target_true=None if first == [] else old_object(first, prefix + "ground_truth"),
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
    efficacy = mean_share(found.get("rewrite_acc"), f"{phase}.rewrite_acc")
    perplexity = optional_number(found, "rewrite_ppl", f"{phase}.")
    if phase == "post" and efficacy is None and perplexity is None:
        raise RecordError(
            "post has neither rewrite_acc nor rewrite_ppl; EasyEdit's editor.edit writes one."
        )
    fluency = found.get("fluency")
    entropy = object_of(fluency, f"{phase}.fluency") if fluency is not None else {}
    return ImportedEditRow(
        import_id=import_id,
        record_index=record_index,
        phase=phase,
        case_id=request.case_id,
        subject=request.subject,
        prompt=request.prompt,
        target_new=request.target_new,
        target_true=request.target_true,
        n_joint_edits=None,
        duration_s=optional_number(record, "time", "") if phase == "post" else None,
        efficacy=efficacy,
        generalization=mean_share(found.get("rephrase_acc"), f"{phase}.rephrase_acc"),
        locality=_mean_of(found, "locality", phase),
        portability=_mean_of(found, "portability", phase),
        rewrite_correct=None,
        paraphrase_correct=None,
        neighborhood_correct=None,
        efficacy_score=None,
        efficacy_magnitude=None,
        paraphrase_score=None,
        paraphrase_magnitude=None,
        neighborhood_score=None,
        neighborhood_magnitude=None,
        target_new_nll=None,
        target_true_nll=None,
        ngram_entropy=optional_number(entropy, "ngram_entropy", f"{phase}.fluency."),
        reference_score=None,
        essence_score=None,
        target_perplexity=perplexity,
    )


def _mean_of(found: Record, name: str, phase: str) -> float | None:
    """Return the mean over the kinds of probes that have a share; None where none has."""
    value = found.get(name)
    if value is None:
        return None
    probes = object_of(value, f"{phase}.{name}")
    shares = [
        share
        for key, shares in probes.items()
        if key.endswith(_SHARE)
        and (share := mean_share(shares, f"{phase}.{name}.{key}")) is not None
    ]
    return sum(shares) / len(shares) if shares else None
