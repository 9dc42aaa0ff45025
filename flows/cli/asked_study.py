"""Which study a command is asked for: a study file, or a model and a dataset in its place."""

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editcollapse.catalog.editors import EDITORS
from editcollapse.catalog.methods import METHODS
from editcollapse.errors import StudyError
from editcollapse.visible import visible
from flows.cli.options import (
    CHAT_TEMPLATE,
    FROM_RESULTS,
    DType,
    OneEdit,
    StartToken,
    flag_of,
    given_flags,
    options_of,
    said_with_flags,
    with_options,
)
from flows.cli.output.console import shown

if TYPE_CHECKING:
    from editcollapse.config.spec import StudySpec
    from editcollapse.study.own_study import OwnInputs
    from editcollapse.study.results_folder import ResultsFolder

OWN_PANEL = "Your model and dataset, in place of a study file"
_PARTS = ("--prompt", "--subject", "--target")


_own = options_of(OWN_PANEL)

StudyArgument = Annotated[
    Path | None,
    typer.Argument(metavar="STUDY.toml", help="study file, such as studies/demo.toml"),
]
DatasetOption = Annotated[
    str,
    _own(
        "FILE",
        "edit requests: CounterFact, zsRE, KnowEdit or QAEdit, JSON or JSONL; with --model, all",
    ),
]
LimitOption = Annotated[int | None, _own("N", "only the first so many usable requests")]
MethodOption = Annotated[
    list[str] | None,
    _own(
        "NAME",
        f"{', '.join((*METHODS, *EDITORS))}; may be given several times (default: rome and c_rome)",
    ),
]
TextsOption = Annotated[
    str | None,
    _own("FILE", "perplexity texts (default: 50 texts of neutral English of the package)"),
]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AskedStudy:
    """A study as a command is asked for it."""

    study: StudyArgument = None
    model: Annotated[str, _own("PATH_OR_ID", "local folder, .gguf file or Hugging Face hub id")] = (
        ""
    )
    dataset: DatasetOption = ""
    layer: Annotated[int | None, _own("N", "block to edit (default: published, or by depth)")] = (
        None
    )
    limit: LimitOption = None
    method: MethodOption = None
    covariance: Annotated[
        str | None,
        _own(
            "SOURCE",
            "where C comes from: a text file or a hub dataset id, samples (what the model itself "
            "writes), identity, or published statistics, .npz or .safetensors (default: the hub's "
            "Salesforce/wikitext)",
        ),
    ] = None
    tokens: Annotated[int, _own("N", "of a corpus", shows=True)] = 100_000
    damping: Annotated[
        float, _own("X", "added to C's diagonal, in units of its mean", shows=True)
    ] = 0.0
    texts: TextsOption = None
    revision: Annotated[str | None, _own("REVISION", "branch, tag or commit on the hub")] = None
    dtype: Annotated[DType, _own(shows=True)] = "float32"
    start_token: Annotated[
        StartToken, _own(text="whether a start token (BOS) opens prompts", shows=True)
    ] = "tokenizer"
    chat_template: Annotated[bool, _own(text=CHAT_TEMPLATE)] = False

    def inputs(self) -> "OwnInputs":
        """What the library makes a study of.

        Raises:
            StudyError: C is asked from a results folder.
        """
        from editcollapse.study.own_study import OwnInputs

        said: dict[str, Any] = {
            each.name: getattr(self, each.name)
            for each in dataclasses.fields(self)
            if each.name not in {"study", "method"}
        }
        if self.covariance == FROM_RESULTS:
            raise StudyError(
                "--covariance results is for one edit: a study measures its own C, which is not "
                "measured again where it is cached. Name a text file, or leave --covariance out."
            )
        return OwnInputs(methods=tuple(self.method or ()), **said)

    def words(self) -> str:
        """The study as a command names it again: the file, or the options that were given."""
        if self.study is not None:
            return shlex.quote(shown(self.study))
        given = [
            (flag_of(each.name), value)
            for each in dataclasses.fields(self)
            if (found := getattr(self, each.name)) != each.default
            for value in (found if isinstance(found, list) else [found])
        ]
        return " ".join(
            flag if value is True else f"{flag} {shlex.quote(visible(str(value)))}"
            for flag, value in given
        )

    def spec(self) -> "StudySpec":
        """The study, with absolute paths.

        Raises:
            StudyError: a study file and a model or dataset are named, or neither whole.
            EditCollapseError: what is named cannot be used.
        """
        if self.study is not None:
            flags = given_flags(self, but=("study",))
            if flags:
                raise StudyError(
                    f"a study file and {', '.join(flags)} were given: the file says it all. Write "
                    "it there, or leave the file out."
                )
            from editcollapse.config.study_file import read_study

            return read_study(self.study)
        missing = [name for name in ("model", "dataset") if not getattr(self, name)]
        if missing:
            raise StudyError(
                f"no study: {' and '.join(f'--{name}' for name in missing)} not given. Name a "
                "study file, or --model and --dataset."
            )
        from editcollapse.study.own_study import own_study

        with said_with_flags():
            return own_study(self.inputs()).study


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOptions:
    """What makes a command of one edit one of a dataset's edits."""

    study: StudyArgument = None
    dataset: DatasetOption = ""
    limit: LimitOption = None
    method: MethodOption = None
    texts: TextsOption = None


with_study = with_options(AskedStudy, "asked")
"""Gives a command the study file, and the options in its place, as its parameter ``asked``."""
with_dataset = with_options(DatasetOptions, "many")
"""Gives a command of one edit a study file, or a dataset's edits, as its parameter ``many``."""


def study_or_edit(many: DatasetOptions, one: OneEdit, what: str) -> AskedStudy | None:
    """The study of a command that is of a study or of one edit; None where it is of an edit.

    Args:
        many: the study file or dataset, where one was named.
        one: the edit; an empty text is one that was not given.
        what: the command, for messages.

    Raises:
        StudyError: more than one of them is named, or none whole.
    """
    of_one = [flag for flag in given_flags(one) if flag in _PARTS]
    if many.study is not None or many.dataset:
        if of_one:
            of_many = "a study file" if many.study is not None else "--dataset"
            raise StudyError(
                f"{of_many} and {of_one[0]} were given; a {what} is of either. Leave one out."
            )
        shared = {
            each.name: getattr(record, each.name)
            for record in (many, one)
            for each in dataclasses.fields(record)
            if each.name in {field.name for field in dataclasses.fields(AskedStudy)}
        }
        return AskedStudy(**shared)
    unused = given_flags(many)
    if unused:
        raise StudyError(f"{unused[0]} is for the edits of a --dataset, and none was named.")
    missing = [flag for flag in ("--model", *_PARTS) if flag not in given_flags(one)]
    if missing:
        raise StudyError(
            f"nothing to {what}: {', '.join(missing)} not given. Name a study file; or --model "
            "and --dataset; or --model, --prompt, --subject and --target of one edit."
        )
    return None


def opened(asked: AskedStudy, results: str) -> "tuple[StudySpec, ResultsFolder]":
    """A study that is asked for, and its results folder.

    Raises:
        StudyError: the study file cannot be used, or nothing whole is named.
        ResultsError: the results folder cannot.
        EditCollapseError: what the options name cannot be used.
    """
    from editcollapse.study.results_folder import results_at

    return asked.spec(), results_at(results)
