"""Options that several commands have: which model, which edit, where C comes from."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import typer

from editcollapse.catalog.editors import EditorName

DtypeChoice = Literal["float32", "float64", "bfloat16", "float16"]
StartTokenChoice = Literal["tokenizer", "never", "always"]

_MODEL, _EDIT, _C = "Model", "Edit", "Second moment C"

Model = Annotated[
    str,
    typer.Option(
        metavar="PATH_OR_ID",
        help="Local folder, .gguf file or Hugging Face hub id.",
        rich_help_panel=_MODEL,
        show_default=False,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Branch, tag or commit on the hub.", rich_help_panel=_MODEL),
]
Dtype = Annotated[
    DtypeChoice, typer.Option(help="Type of the weights as loaded.", rich_help_panel=_MODEL)
]
StartToken = Annotated[
    StartTokenChoice,
    typer.Option(
        help="Whether a start token (BOS) opens prompts: as the tokenizer does, never, or always.",
        rich_help_panel=_MODEL,
    ),
]
ChatTemplate = Annotated[
    bool,
    typer.Option(
        "--chat-template",
        help="Put prompts into the tokenizer's chat template, as the user's message.",
        rich_help_panel=_MODEL,
    ),
]
Prompt = Annotated[
    str,
    typer.Option(
        metavar="TEXT",
        help="Rewrite prompt with {} for the subject.",
        rich_help_panel=_EDIT,
        show_default=False,
    ),
]
Subject = Annotated[
    str,
    typer.Option(
        metavar="TEXT",
        help="The entity whose fact is edited.",
        rich_help_panel=_EDIT,
        show_default=False,
    ),
]
Target = Annotated[
    str,
    typer.Option(
        metavar="TEXT",
        help="The object to be written.",
        rich_help_panel=_EDIT,
        show_default=False,
    ),
]
Layer = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Zero-based block to edit, or the last one of a joint editor's unpublished list; the "
        "model's published one where left out.",
        rich_help_panel=_EDIT,
    ),
]
Method = Annotated[
    EditorName,
    typer.Option(
        help="Who makes it: a rank-one method, a joint editor of several layers, or fine-tuning.",
        rich_help_panel=_EDIT,
    ),
]
Covariance = Annotated[
    str,
    typer.Option(
        metavar="SOURCE",
        help="Where C comes from: a corpus (a text file or a hub dataset id), statistics (.npz or "
        ".safetensors), samples (what the model itself writes), or identity.",
        rich_help_panel=_C,
        show_default=False,
    ),
]
Tokens = Annotated[int, typer.Option(metavar="N", help="Of a corpus, at most.", rich_help_panel=_C)]
Damping = Annotated[
    float,
    typer.Option(
        metavar="X", help="Added to C's diagonal, in units of its mean.", rich_help_panel=_C
    ),
]
SafeBelow = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Call no edit safe whose probability of collapse is this or more (default: as "
        "calibrated; 0.05 where nothing is).",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def examples(*lines: str) -> str:
    """Return the epilog that shows how a command is called, a line each."""
    return "\n\n".join(("Examples:", *lines))


def with_options(
    record: type[Any],
    parameter: str,
    *,
    required: Sequence[str] = (),
    without: Sequence[str] = (),
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command an option for each field of a dataclass, which it takes as one parameter.

    Args:
        record: the dataclass; its fields are annotated as Typer wants options.
        parameter: the command's parameter that is a record.
        required: fields whose options have to be given.
        without: fields that are left at their defaults.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        fields = [each for each in dataclasses.fields(record) if each.name not in without]
        names = {each.name for each in fields}

        @functools.wraps(command)
        def called(**given: Any) -> int:
            asked = record(**{name: given.pop(name) for name in names})
            return command(**{parameter: asked}, **given)

        ours = [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=each.type,
                default=inspect.Parameter.empty if each.name in required else each.default,
            )
            for each in fields
        ]
        others = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for each in inspect.signature(command).parameters.values()
            if each.name != parameter
        ]
        called.__signature__ = inspect.Signature([*ours, *others])  # type: ignore[attr-defined]
        return called

    return decorate
