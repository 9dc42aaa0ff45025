"""Where a study's subjects stand under its models' tokenizers: counted, and as a table."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from editcollapse.cli.console import console, plain, print_line, print_text
from editcollapse.cli.tables import Column, print_table
from editcollapse.config.spec import ModelSpec, StudySpec
from editcollapse.data.requests import SLOT
from editcollapse.rows.study import LAST_TOKEN_DIFFERS
from editcollapse.visible import visible

if TYPE_CHECKING:
    from editcollapse.data.requests import RequestFile
    from editcollapse.models.files import ModelFiles
    from editcollapse.models.position_audit import SubjectCounts
    from editcollapse.study.missing_inputs import MissingInput
    from editcollapse.study.plan import StudyPlan

DRAWN_CONTEXT = f"Therefore. {SLOT}"
"""Stands for context templates that are yet to be drawn: each ends like it."""
_SHOWN = 3
"""Requests that a model cannot take, of which the reason is printed."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelSubjects:
    """Where the subjects of a study stand under one model's tokenizer."""

    model: str
    counts: "SubjectCounts | None"
    """None where the tokenizer is not here."""


def subjects_of(plan: "StudyPlan") -> tuple[ModelSubjects, ...]:
    """Count the positions of a planned study's subjects; tokenizers are loaded, no weights.

    Raises:
        ModelError: a tokenizer cannot be loaded, or does not fit the model's settings.
    """
    from editcollapse.study.locks import cached_manifest

    known: dict[tuple[str, tuple[str, ...]], SubjectCounts] = {}
    found = []
    for model in plan.models:
        templates = cached_manifest(model.templates)
        contexts = model.templates.given or (templates.values if templates else (DRAWN_CONTEXT,))
        key = (model.setup.model_id, contexts)
        if key not in known:
            known[key] = _counts(model.files, model.setup.spec, plan.requests, contexts)
        found.append(ModelSubjects(model.setup.spec.name, known[key]))
    return tuple(found)


def subjects_known(
    study: StudySpec, missing: "Sequence[MissingInput]"
) -> tuple[ModelSubjects, ...]:
    """Count the positions of the subjects of a study some of whose inputs are not here.

    Args:
        study: with absolute paths.
        missing: those inputs.

    Raises:
        DatasetError: the dataset is here and cannot be used.
        ModelError: as ``subjects_of``.
    """
    from editcollapse.data.datasets import read_requests, select
    from editcollapse.data.texts import read_templates
    from editcollapse.models.files import locate_model

    absent = {each.what for each in missing}
    requests = None
    if "dataset" not in absent:
        file = read_requests(Path(study.dataset.path))
        requests = select(file, limit=study.dataset.limit, case_ids=study.dataset.case_ids)
    given = study.templates.path if study.templates.kind == "file" else None
    contexts: tuple[str, ...] = (DRAWN_CONTEXT,)
    if given is not None and "templates" not in absent:
        contexts = read_templates(Path(given))
    found = []
    for spec in study.models:
        counts = None
        if requests is not None and f"model {spec.name}" not in absent:
            counts = _counts(locate_model(spec.source, spec.revision), spec, requests, contexts)
        found.append(ModelSubjects(spec.name, counts))
    return tuple(found)


def _counts(
    files: "ModelFiles", spec: ModelSpec, requests: "RequestFile", contexts: Sequence[str]
) -> "SubjectCounts":
    """Count under a model's tokenizer, which is loaded."""
    from editcollapse.models.loading import read_encoder
    from editcollapse.models.position_audit import count_positions

    return count_positions(read_encoder(files, spec), requests.records, contexts)


def print_subjects(found: Sequence[ModelSubjects]) -> None:
    """Print where subjects stand as a table, a model a row; what is not known, once."""
    print_line("")
    names = ("first token", "first, several", "inside", "cannot be used", "last token differs")
    known = [(each.model, each.counts) for each in found if each.counts is not None]
    if known:
        columns = [Column("subjects by model"), *(Column(name, is_number=True) for name in names)]
        print_table(columns, [_cells(model, counts) for model, counts in known], console())
        if any(counts.last_token_differs for _, counts in known):
            print_text(LAST_TOKEN_DIFFERS, "last token differs: ")
    for model, counts in known:
        for reason in counts.unusable[:_SHOWN]:
            print_text(reason, f"{visible(model)} cannot use: ")
        if len(counts.unusable) > _SHOWN:
            print_line(f"and {len(counts.unusable) - _SHOWN} more; --json names them all")
    unknown = [visible(each.model) for each in found if each.counts is None]
    if unknown:
        print_text(
            f"not known of {', '.join(unknown)}: the tokenizer or the dataset is not here yet",
            "where subjects stand: ",
        )


def _cells(model: str, counts: "SubjectCounts") -> list[Text]:
    numbers = (
        counts.first_token,
        counts.first_several,
        counts.inside,
        len(counts.unusable),
        counts.last_token_differs,
    )
    return [plain(model), *(Text(str(number)) for number in numbers)]
