"""Options that several commands share, each declared once, and what they mean together."""

import contextlib
import dataclasses
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from editcollapse.cli import options as library_options
from editcollapse.errors import EditCollapseError, StudyError
from editcollapse.rows.collapse_rule import DEFAULT_RULE, CollapseRule, Measure

if TYPE_CHECKING:
    from editcollapse.config.spec import CollapseSpec

NAME = "editcollapse"
PROGRAM = NAME if Path(sys.argv[0]).stem == NAME else "python -m flows"
"""What the user has typed before the command's name."""

FROM_RESULTS = "results"

DType = Literal["float32", "bfloat16", "float16", "float64"]
StartToken = Literal["tokenizer", "never", "always"]

ResultsOption = Annotated[
    str,
    typer.Option(
        metavar="DIR",
        help="results folder, or a URL such as s3://bucket/folder; everything a study writes lies "
        "below it",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="print JSON and nothing else; inf and nan are texts in it"),
]

_RULE_PANEL = "When an edit counts as a collapse"
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="where perplexity is above this; inf: never (default: the study's own, or "
        f"{DEFAULT_RULE.threshold:g})",
        rich_help_panel=_RULE_PANEL,
    ),
]
RatioOption = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="or above so many times the unedited model's; inf: never (default: the study's own, "
        f"or {DEFAULT_RULE.ratio:g})",
        rich_help_panel=_RULE_PANEL,
    ),
]
MeasureOption = Annotated[
    Measure | None,
    typer.Option(
        help="perplexity of the texts: mean over them (published), exp of their mean NLL, or "
        f"median over them (default: the study's own, or {DEFAULT_RULE.measure})",
        rich_help_panel=_RULE_PANEL,
    ),
]

EDIT_PANEL = "One edit"
CHAT_TEMPLATE = "put prompts into the tokenizer's chat template, as the user's message"


def options_of(panel: str) -> Callable[..., Any]:
    """What makes options of one panel, which show their defaults or not."""

    def option(metavar: str | None = None, text: str | None = None, *, shows: bool = False) -> Any:
        return typer.Option(metavar=metavar, help=text, rich_help_panel=panel, show_default=shows)

    return option


_of_edit = options_of(EDIT_PANEL)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OneEdit:
    """The edit that the options name, its model, and where its C comes from."""

    model: Annotated[
        str, _of_edit("PATH_OR_ID", "local folder, .gguf file or Hugging Face hub id")
    ] = ""
    prompt: Annotated[str, _of_edit("TEXT", "rewrite prompt with {} for the subject")] = ""
    subject: Annotated[str, _of_edit("TEXT", "the entity whose fact is edited")] = ""
    target: Annotated[str, _of_edit("TEXT", "the object to be written")] = ""
    layer: Annotated[
        int | None, _of_edit("N", "block to edit (default: the study's or preset's)")
    ] = None
    covariance: Annotated[
        str | None,
        _of_edit(
            "SOURCE",
            "where C comes from: results (what a study in --results uses; the default of one "
            "edit), samples (what the model itself writes), identity, published statistics (.npz "
            "or .safetensors), or a corpus: a text file or a hub dataset id",
        ),
    ] = None
    tokens: Annotated[int, _of_edit("N", "of a corpus or of samples", shows=True)] = 100_000
    damping: Annotated[
        float, _of_edit("X", "added to C's diagonal, in units of its mean", shows=True)
    ] = 0.0
    revision: Annotated[str | None, _of_edit("REVISION", "branch, tag or commit on the hub")] = None
    dtype: Annotated[DType, _of_edit(shows=True)] = "float32"
    start_token: Annotated[
        StartToken, _of_edit(text="whether a start token (BOS) opens prompts", shows=True)
    ] = "tokenizer"
    chat_template: Annotated[bool, _of_edit(text=CHAT_TEMPLATE)] = False
    results: ResultsOption = "results"

    @property
    def is_from_results(self) -> bool:
        """Whether C is that of a study in the results folder."""
        return self.covariance in {None, FROM_RESULTS}


def with_one_edit(
    *, is_required: bool, has_layer: bool = True
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the options of one edit, which it takes as its parameter ``asked``.

    Args:
        is_required: whether the command is of one edit in any case.
        has_layer: whether the edit is at one layer.
    """
    required = ("model", "prompt", "subject", "target") if is_required else ()
    return with_options(
        OneEdit, "asked", required=required, without=() if has_layer else ("layer",)
    )


with_options = library_options.with_options
"""Gives a command an option for each field of a dataclass; here for the commands of the project."""


def given_flags(asked: Any, *, but: Sequence[str] = ()) -> list[str]:
    """The options whose fields are not at their defaults, as they are typed.

    Args:
        asked: a record of ``with_options``.
        but: fields that do not count.
    """
    return [
        flag_of(each.name)
        for each in dataclasses.fields(asked)
        if each.name not in but and getattr(asked, each.name) != each.default
    ]


def flag_of(field: str) -> str:
    """The option of a field, as it is typed: ``--start-token`` of ``start_token``."""
    return f"--{field.replace('_', '-')}"


def rule_of(
    stated: CollapseRule, threshold: float | None, ratio: float | None, measure: Measure | None
) -> CollapseRule:
    """When an edit counts as a collapse: as the options say, else as the study states it.

    Args:
        stated: the rule of the study that is asked about.
        threshold: perplexity above which an edit has collapsed; inf: it does not count.
        ratio: or times the unedited model's perplexity; inf: it does not count.
        measure: which figure of the texts is their perplexity.

    Raises:
        StudyError: a limit is no number above 0.
    """
    return CollapseRule(
        _limit("--threshold", threshold, stated.threshold),
        _limit("--ratio", ratio, stated.ratio),
        measure or stated.measure,
    )


def as_spec(rule: CollapseRule) -> "CollapseSpec":
    """A collapse rule as a flow takes it."""
    from editcollapse.config.spec import CollapseSpec

    return CollapseSpec(threshold=rule.threshold, ratio=rule.ratio, measure=rule.measure)


def _limit(flag: str, given: float | None, stated: float | None) -> float | None:
    """A limit of the rule; None switches it off."""
    if given is None:
        return stated
    if not given > 0:
        raise StudyError(f"{flag} {given:g}: it has to be a number above 0, or inf for none.")
    return None if math.isinf(given) else given


_FLAGS = {
    "acts_at": "--acts-at",
    "budget_minutes": "--budget",
    "chat_template": "--chat-template",
    "covariance": "--covariance",
    "covariance.source": "--covariance",
    "damping": "--damping",
    "dtype": "--dtype",
    "edits": "--edit",
    "exported": "--exported",
    "facts": "--n-facts",
    "items": "--items",
    "layer": "--layer",
    "max_texts": "--max-texts",
    "methods": "--method",
    "n_tokens": "--tokens",
    "policy": "--guard",
    "prompt": "--prompt",
    "revision": "--revision",
    "sample": "--sample",
    "sequences": "--sequence",
    "shots": "--shots",
    "source": "--model",
    "start_token": "--start-token",
    "subject": "--subject",
    "target": "--target",
    "tasks": "--tasks",
    "texts": "--texts",
    "tokens": "--tokens",
    "trials": "--trials",
    "worst": "--worst",
}
"""Fields of a study file by the options that they are made from."""
_FIELD = re.compile(r"`([a-z_0-9.]+)`(?: in the study file)?")


@contextlib.contextmanager
def said_with_flags() -> Iterator[None]:
    """Name the options, not the fields, in messages about a study that options made.

    Raises:
        StudyError: an option is out of its field's range.
    """
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as error:
        found = [
            f"{_flag('.'.join(map(str, each['loc'])))} {each['input']!r}: {each['msg']}"
            for each in error.errors()
        ]
        raise StudyError(f"{'; '.join(found)}.") from error
    except EditCollapseError as error:
        error.args = (_FIELD.sub(lambda each: _flag(each[1], each[0]), str(error)),)
        raise


def _flag(field: str, otherwise: str = "") -> str:
    """The option of a field, which may stand in a table of the study file: ``covariance.damping``.

    Args:
        field: its name.
        otherwise: what to say where no option is its own; the field where left out.
    """
    last = field.rpartition(".")[2]
    return _FLAGS.get(field) or _FLAGS.get(last) or otherwise or field


def examples(*lines: str) -> str:
    """A command's examples for the end of its help.

    Args:
        lines: each one call without the program's name; a line that starts with a blank goes on
            from the one before.
    """
    shown = (line if line.startswith((" ", "\n")) else f"{PROGRAM} {line}" for line in lines)
    return escape("\n".join(("examples:", *shown)))
