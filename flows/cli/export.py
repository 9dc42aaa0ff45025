"""The command ``export``: take an edit or a sequence of edits home, for any other tool."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from editcollapse.cli.console import console, plain, print_json, print_line, print_text
from editcollapse.cli.tables import Column, print_table
from editcollapse.errors import EditCollapseError, ModelError, ResultsError, StudyError
from editcollapse.visible import visible
from flows.cli.options import JsonOption, ResultsOption, examples, options_of
from flows.cli.output.console import shown

if TYPE_CHECKING:
    from editcollapse.stored.export import Exported
    from editcollapse.stored.export_options import Base, ExportOptions
    from editcollapse.study.known_updates import KnownEdit, KnownSequence
    from editcollapse.study.results_folder import ResultsFolder
    from storage.known_updates import Wanted

Kind = Literal["weights", "adapter", "factors"]
DtypeKept = Literal["kept", "float32", "bfloat16", "float16", "float64"]
_WHICH = "Which edit"
_HOW = "What is written"
_of_which = options_of(_WHICH)
_of_how = options_of(_HOW)
_ID_DIGITS = 12
_NAMED = 5
"""Candidates that a message names."""

_FLAGS = {
    "dtype": "--dtype",
    "kind": "--as",
    "max_shard_size": "--max-shard-size",
    "model": "--model",
    "overwrite": "--overwrite",
    "rank": "--rank",
}
"""Arguments of the library by the options that give them."""
_ARGUMENT = re.compile(f"`({'|'.join(_FLAGS)})`")

commands = typer.Typer()


@commands.command(
    rich_help_panel="Results",
    epilog=examples(
        "export --list --study demo --subject Pugis",
        "export --subject Pugis --method rome --study demo \\",
        "    --model demo/models/gpt2-induced --output edited",
        "export 8828132460db --as adapter --output adapter",
        "export 3e02e450 --step 100 --model models/gpt2-xl --output after-100",
    ),
)
def export(
    update: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="id of an edit or a sequence, or how it begins"),
    ] = None,
    study: Annotated[str | None, _of_which("STUDY", "name, or how its id begins")] = None,
    model_name: Annotated[str | None, _of_which("NAME", "what the study calls the model")] = None,
    method: Annotated[str | None, _of_which("NAME", "method, or editor of a sequence")] = None,
    subject: Annotated[str | None, _of_which("TEXT", "of a single edit: its subject")] = None,
    case: Annotated[str | None, _of_which("ID", "of a single edit: the dataset's case id")] = None,
    step: Annotated[
        int | None,
        _of_which("N", "of a sequence: the last step that counts (default: the last stored one)"),
    ] = None,
    lists: Annotated[
        bool, typer.Option("--list", help="list what there is", rich_help_panel=_WHICH)
    ] = False,
    output: Annotated[Path | None, _of_how("DIR", "folder to write; empty, or not there")] = None,
    kind: Annotated[
        Kind,
        typer.Option(
            "--as",
            help="weights: a folder that transformers loads; adapter: a LoRA adapter that peft "
            "loads; factors: the bare update",
            rich_help_panel=_HOW,
        ),
    ] = "weights",
    model: Annotated[
        str | None,
        _of_how(
            "PATH_OR_ID",
            "where the unedited model lies: folder, .gguf file or hub id (default: the hub id that "
            "the study names)",
        ),
    ] = None,
    dtype: Annotated[
        DtypeKept,
        _of_how(text="type of what is written; kept: as in the model's files", shows=True),
    ] = "kept",
    rank: Annotated[
        int | None,
        _of_how("N", "of an adapter: keep the update's N largest directions (default: all)"),
    ] = None,
    max_shard_size: Annotated[
        str, _of_how("SIZE", "of one file of weights, such as 500MB", shows=True)
    ] = "5GB",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="an earlier export in the folder may go", rich_help_panel=_HOW
        ),
    ] = False,
    as_json: JsonOption = False,
    results: ResultsOption = "results",
) -> int:
    """Write an edit, or a sequence of edits up to a step, as a folder for other tools."""
    from editcollapse.study.results_folder import results_at
    from storage.known_updates import Wanted

    wanted = Wanted(
        id=update, study=study, model=model_name, method=method, subject=subject, case=case
    )
    folder = results_at(results)
    if lists:
        return _listed(folder, wanted, step, as_json=as_json)
    if output is None:
        raise StudyError("--output is missing: name the folder to write, or --list what there is.")
    known = _one(folder, wanted, step)
    from editcollapse.cli.console import progress_shown

    with _said_with_flags(), progress_shown("starting torch"):
        from editcollapse.stored.export_options import ExportOptions
        from editcollapse.stored.folder import check_free

        options = ExportOptions(
            kind=kind, dtype=dtype, rank=rank, max_shard_size=max_shard_size, overwrite=overwrite
        )
        check_free(output.expanduser(), overwrite=overwrite)
        done = _exported(folder, known, step, model, output, options)
    if as_json:
        print_json(done)
    else:
        _show(done)
    return 0


@contextlib.contextmanager
def _said_with_flags() -> Iterator[None]:
    """Name the options, not the arguments, in the library's messages."""
    try:
        yield
    except EditCollapseError as error:
        error.args = (_ARGUMENT.sub(lambda each: _FLAGS[each[1]], str(error)),)
        raise


def _exported(
    folder: "ResultsFolder",
    known: "KnownEdit | KnownSequence",
    step: int | None,
    model: str | None,
    output: Path,
    options: "ExportOptions",
) -> "Exported":
    """Read an update back and write it.

    Raises:
        EditCollapseError: it is not stored, the model is not found, or the folder is taken.
    """
    from editcollapse.stored.export import export_update
    from editcollapse.stored.reading import chosen_state, read_edit, read_sequence
    from editcollapse.study.artifacts import ArtifactStore
    from editcollapse.study.known_updates import KnownEdit
    from storage.known_updates import edit_facts, sequence_facts
    from storage.publish import folder_to_read

    store: ArtifactStore = ArtifactStore(folder.name)
    readable = folder_to_read(folder)
    base = _base(known, model, options.kind)
    if isinstance(known, KnownEdit):
        found, facts = read_edit(store, known), edit_facts(readable, known)
    else:
        state = chosen_state(store, known, step)
        found = read_sequence(store, known, state, base.weight)
        facts = sequence_facts(readable, known, state.step, state.n_edits)
    return export_update(found, base, facts, output, options)


def _base(known: "KnownEdit | KnownSequence", model: str | None, kind: str) -> "Base":
    """The unedited model, or what is known of it where weights are not wanted.

    Raises:
        ModelError: it is not found, or another one.
    """
    from editcollapse.catalog.architectures import architecture_of
    from editcollapse.stored.export_options import Base
    from editcollapse.stored.models import base_model

    try:
        return Base.of(base_model(known.spec, known.model_id, model))
    except ModelError:
        if kind == "weights" or model is not None:
            raise
    row = architecture_of({"model_type": known.family}, known.spec.source)
    return Base(known.spec.source, known.spec.revision, row, None)


def _found(
    folder: "ResultsFolder", wanted: "Wanted", step: int | None
) -> "tuple[list[KnownEdit], list[KnownSequence]]":
    """The single edits and the sequences that the options name.

    Raises:
        ResultsError: there are no results yet.
    """
    from storage.known_updates import known_edits, known_sequences
    from storage.publish import folder_to_read

    readable = folder_to_read(folder)
    is_single = wanted.subject is not None or wanted.case is not None
    edits = known_edits(readable, wanted) if step is None else []
    return edits, [] if is_single else known_sequences(readable, wanted)


def _one(
    folder: "ResultsFolder", wanted: "Wanted", step: int | None
) -> "KnownEdit | KnownSequence":
    """The one update that the options name.

    Raises:
        ResultsError: there is none, or there are several.
    """
    edits, sequences = _found(folder, wanted, step)
    found: list[KnownEdit | KnownSequence] = [*edits, *sequences]
    if not found:
        raise ResultsError(
            f"no edit and no sequence in {folder.name} is as asked. --list, with fewer options, "
            "shows what there is."
        )
    if len(found) > 1:
        some = (f"{_id_of(each)[:_ID_DIGITS]} {visible(each.label)}" for each in found[:_NAMED])
        named = "; ".join(some)
        more = len(found) - _NAMED
        raise ResultsError(
            f"which one? {len(found)} are as asked: {named}"
            f"{f'; and {more} more' if more > 0 else ''}. Give an id, or more options."
        )
    return found[0]


def _id_of(known: "KnownEdit | KnownSequence") -> str:
    from editcollapse.study.known_updates import KnownEdit

    return known.edit_id if isinstance(known, KnownEdit) else known.sequence_id


def _listed(folder: "ResultsFolder", wanted: "Wanted", step: int | None, *, as_json: bool) -> int:
    """Print what the options name."""
    edits, sequences = _found(folder, wanted, step)
    if as_json:
        print_json([*edits, *sequences])
        return 0
    if not edits and not sequences:
        print_text(f"no edit and no sequence in {folder.name} is as asked")
    if edits:
        _list_edits(edits)
    if sequences:
        _list_sequences(folder, sequences)
    return 0


def _list_edits(edits: "Sequence[KnownEdit]") -> None:
    from reports.text import number

    columns = [
        *map(Column, ("edit", "study", "model", "method", "request")),
        Column("ppl ratio", is_number=True),
        Column("stored"),
    ]
    rows = [
        [
            plain(each.edit_id[:_ID_DIGITS]),
            plain(each.study),
            plain(each.spec.name),
            plain(each.method),
            plain(f"{each.prompt.replace('{}', each.subject)} -> {each.target_new}"),
            plain("" if each.perplexity_ratio is None else number(each.perplexity_ratio)),
            plain("no" if each.update_digest is None else "yes"),
        ]
        for each in edits
    ]
    print_table(columns, rows, console())
    if any(each.update_digest is None for each in edits):
        print_text(
            "stored no: single edits of full rank (RECT, fine-tuning) are measured and dropped; a "
            "sequence of one edit keeps them"
        )


def _list_sequences(folder: "ResultsFolder", sequences: "Sequence[KnownSequence]") -> None:
    from editcollapse.stored.reading import sequence_states
    from editcollapse.study.artifacts import ArtifactStore

    store = ArtifactStore(folder.name)
    columns = [
        *map(Column, ("sequence", "study", "model", "editor")),
        Column("order", is_number=True),
        Column("edits", is_number=True),
        Column("stored after steps"),
    ]
    rows = []
    for each in sequences:
        steps = ", ".join(str(s.step) for s in sequence_states(store, each.sequence_id))
        n_edits = "" if each.n_edits is None else str(each.n_edits)
        rows.append(
            [
                plain(each.sequence_id[:_ID_DIGITS]),
                plain(each.study),
                plain(each.spec.name),
                plain(each.editor),
                plain(str(each.order_seed)),
                plain(n_edits),
                plain(steps),
            ]
        )
    print_table(columns, rows, console())


def _show(done: "Exported") -> None:
    """Print what an export has left."""
    for label, text in _lines(done):
        print_text(text, label)
    print_line(f"folder:  {shown(done.folder)}")


def _lines(done: "Exported") -> Iterator[tuple[str, str]]:
    yield "update:  ", visible(done.label)
    size = f"{done.n_bytes / 1e6:.3g} MB"
    yield "written: ", f"{done.kind}, {len(done.files)} files, {size}"
    for each in done.layers:
        rank = "" if each.rank is None else f"rank {each.rank}, "
        cut = f", cut off {each.cut:.3g} of it" if each.cut else ""
        yield "         ", f"layer {each.layer}: {rank}rounded by {each.rounded:.2g} of dW{cut}"
    for note in done.notes:
        yield "note:    ", visible(note)
