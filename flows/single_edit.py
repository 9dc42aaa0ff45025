"""One edit of the command line as a study: its spec, and how studies here edit its model."""

import argparse
import contextlib
import dataclasses
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from editcollapse.config.spec import (
    CovarianceSpec,
    DatasetSpec,
    EvaluationSpec,
    GuardSpec,
    StudySpec,
)
from editcollapse.config.study_file import with_absolute_paths
from editcollapse.data.requests import EditRequest
from editcollapse.errors import StudyError
from editcollapse.models.files import digest_model, locate_model
from editcollapse.study.jobs import KnownSetup
from editcollapse.study.results_folder import place_of
from flows.edit_reading import (
    asked_covariance,
    asked_model,
    asked_request,
    known_setup,
    preset_order,
)
from flows.forecast_options import FROM_RESULTS
from flows.run.guard_steps import published_folder

_TEXTS = "texts.jsonl"
_NOT_IN_NAMES = re.compile(r"[^\w.-]")
_LONGEST_NAME = 80


@dataclasses.dataclass(frozen=True, slots=True)
class SingleEdit:
    """A study of one request, and what is known of the model that it edits."""

    study: StudySpec
    known: KnownSetup | None
    """Layer, settings, templates and C of studies in the results folder; None where the study's
    own count."""


@contextlib.contextmanager
def single_edit(options: argparse.Namespace) -> Iterator[SingleEdit]:
    """Give the study of the edit that the command line names; its request lies in a file meanwhile.

    Raises:
        EditCollapseError: the model, C or texts are missing, or an option is wrong.
    """
    request = asked_request(options)
    if options.acts_at is not None and options.guard is None:
        raise StudyError(
            "--acts-at was given without --guard; say what the guard is to do, such as --guard "
            "refuse, or leave it out."
        )
    files = locate_model(options.model, options.revision)
    name = _NOT_IN_NAMES.sub("_", Path(files.source).name)[:_LONGEST_NAME]
    spec = asked_model(options).model_copy(update={"name": name})
    model_id = digest_model(files, spec).model_id
    known = None
    if options.covariance == FROM_RESULTS:
        known = known_setup(published_folder(place_of(options.results)), model_id, options)
    layer = known.layer if known else preset_order(spec, model_id, files, options.layer).layer
    covariance = CovarianceSpec(kind="identity") if known else asked_covariance(options)
    guard = None
    if options.guard is not None:
        guard = GuardSpec(policy=options.guard, acts_at=options.acts_at or "at risk")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one_edit.json"
        path.write_text(_record(request), encoding="utf-8")
        parts = ("edit", request.request_id[:8], options.method, options.guard)
        study = StudySpec(
            name="-".join(part for part in parts if part),
            description="One edit, asked for on the command line.",
            methods=(options.method,),
            models=(spec.model_copy(update={"layer": layer}),),
            dataset=DatasetSpec(path=str(path)),
            covariance=covariance,
            evaluation=EvaluationSpec(texts=_texts(options, Path(files.folder))),
            guard=guard,
        )
        yield SingleEdit(with_absolute_paths(study, Path.cwd()), known)


def _record(request: EditRequest) -> str:
    """Return the request as a file of one flat record."""
    fields = {
        "subject": request.subject,
        "template": request.prompt,
        "target_new": request.target_new,
    }
    return json.dumps([fields], ensure_ascii=False)


def _texts(options: argparse.Namespace, model: Path) -> str:
    """Return the path of the perplexity texts: as asked, else those that the model came with."""
    if options.texts is not None:
        return str(options.texts)
    found = model.resolve().parent.parent / _TEXTS
    if model.resolve().parent.name == "models" and found.is_file():
        return str(found)
    raise StudyError(
        f"no texts to measure perplexity on: --texts was not given, and {options.model} has none "
        "beside it. Give a JSON, JSONL or plain text file: --texts FILE."
    )
