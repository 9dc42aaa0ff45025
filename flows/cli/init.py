"""The command ``init``: a study file for one's own model and facts."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editcollapse.cli.console import print_json, print_line
from editcollapse.errors import StudyError
from flows.cli.asked_study import AskedStudy
from flows.cli.options import PROGRAM, JsonOption, examples, said_with_flags, with_options
from flows.cli.output.console import shown

if TYPE_CHECKING:
    from editcollapse.study.own_study import OwnStudy

commands = typer.Typer()


@dataclasses.dataclass(frozen=True, slots=True)
class WrittenStudy:
    """A study file and what its inputs were found to be, for ``--json``."""

    file: str
    study: str
    model: str
    family: str
    n_layers: int
    layer: int
    layer_source: str
    """Where it stands; ``unpublished`` where it is by depth."""
    schema: str
    """Of the dataset."""
    n_requests: int
    n_rejected: int
    covariance: str
    text_set: str
    n_texts: int
    support: str | None
    """A sentence where C will have too few tokens for verdicts."""


@commands.command(
    rich_help_panel="Studies",
    epilog=examples(
        "init demo/models/gpt2-induced demo/counterfact.json --covariance demo/corpus.txt",
        "init openai-community/gpt2-xl facts.jsonl --limit 100 -o xl.toml",
    ),
)
@with_options(AskedStudy, "asked", without=("study", "model", "dataset"))
def init(
    asked: AskedStudy,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="local folder or Hugging Face hub id")
    ],
    dataset: Annotated[
        str,
        typer.Argument(metavar="DATASET", help="edit requests: CounterFact or zsRE, JSON or JSONL"),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="the study file (default: the study's name with .toml, in this folder)",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a file that is there")] = False,
    as_json: JsonOption = False,
) -> int:
    """Write a study file for your model and facts, with its inputs checked; runs nothing."""
    from editcollapse.study.own_study import own_study, study_file_text

    with said_with_flags():
        own = own_study(dataclasses.replace(asked, model=model, dataset=dataset).inputs())
    path = output or Path(f"{own.study.name}.toml")
    if path.exists() and not force:
        raise StudyError(
            f"{path} is there already. Give --force to replace it, or another -o FILE."
        )
    text = study_file_text(own, path.absolute().parent)
    try:
        path.write_text(text, encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise StudyError(f"{path} cannot be written: {error}. Give another -o FILE.") from error
    written = _written(own, path)
    if as_json:
        print_json(written)
    else:
        for line in _lines(written):
            print_line(line)
    return 0


def _written(own: "OwnStudy", path: Path) -> WrittenStudy:
    """What was found and where it was written."""
    from editcollapse.forecast.verdicts import support_warning

    (model,) = own.study.models
    return WrittenStudy(
        file=str(path),
        study=own.study.name,
        model=model.name,
        family=own.files.architecture.family,
        n_layers=own.files.widths.n_layers,
        layer=model.layer or 0,
        layer_source=own.layer_source,
        schema=own.requests.schema,
        n_requests=len(own.requests.records),
        n_rejected=len(own.requests.rejections),
        covariance=own.study.covariance.in_words(model.statistics),
        text_set=own.texts.name,
        n_texts=len(own.texts.texts),
        support=support_warning(own.study.covariance.n_tokens, own.files.widths.d_key)
        if own.study.covariance.kind == "corpus"
        else None,
    )


def _lines(found: WrittenStudy) -> Iterator[str]:
    """Yield what was found, where it is written, and what to do next."""
    by_depth = found.layer_source == "unpublished"
    source = "by depth, none is published" if by_depth else found.layer_source
    rejected = f", {found.n_rejected} records rejected" if found.n_rejected else ""
    file = shown(found.file)
    yield f"model:      {found.model}: {found.family}, {found.n_layers} layers"
    yield f"layer:      {found.layer} ({source})"
    yield f"dataset:    {found.n_requests} usable requests, {found.schema}{rejected}"
    yield f"covariance: {found.covariance}"
    if found.support is not None:
        yield f"            {found.support}"
    yield f"texts:      {found.n_texts} of {found.text_set}"
    yield f"written:    {file}"
    yield f"next:       {PROGRAM} plan {file}      what it would run, and its memory"
    yield f"            {PROGRAM} forecast {file}  which edits would collapse the model"
    yield f"            {PROGRAM} run {file}       make the edits and measure them"
