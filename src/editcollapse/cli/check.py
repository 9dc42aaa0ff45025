"""The command ``check``: is an edited model, whoever made it, still alive?"""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editcollapse.cli import options
from editcollapse.cli.options import examples, with_options
from editcollapse.rows.collapse_rule import DEFAULT_RULE, Measure

if TYPE_CHECKING:
    from editcollapse.config.check import CheckSpec
    from editcollapse.judging.findings import CheckFindings, RequestScores, TensorChange
    from editcollapse.rows.collapse_rule import CollapseRule

COLLAPSED = 3
"""Exit status where the edited model has collapsed, or is likely to."""
EXAMPLES = (
    "check openai-community/gpt2 ./edited --name after-100-edits",
    "check demo/models/gpt2-induced ./adapter --texts demo/texts.jsonl",
    "check BASE EDITED --facts facts.json --covariance corpus.txt --tokens 50000",
    "check BASE EDITED --no-perplexity --json",
)
EXIT = (
    "exit status: 0 alive, or nothing differs; 3 collapsed, or likely to; with --strict also 3 at "
    "risk or not known; 2 a mistake"
)
_DEAD = ("collapsed", "will collapse")
_DOUBTFUL = ("at risk", "not known")
_LAYERS = 12
"""Tensors that are printed at most, those that change most on text first."""
_MEASURED, _RULE, _TEXT_CHANGE = "What is measured", "When it counts as a collapse", "The change"


def _option(panel: str, metavar: str | None, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text, rich_help_panel=panel)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AskedCheck:
    """A check as the command is asked for it."""

    base: Annotated[
        str, typer.Argument(metavar="BASE", help="the model before: folder, .gguf file or hub id")
    ]
    edited: Annotated[
        str,
        typer.Argument(
            metavar="EDITED",
            help="the model after: likewise, or a LoRA adapter's folder, or a .safetensors file of "
            "changes by weight name",
        ),
    ]
    name: Annotated[
        str, typer.Option(metavar="TEXT", help="what to call it in results", show_default=False)
    ] = ""
    texts: Annotated[
        str | None,
        _option(
            _MEASURED,
            "FILE",
            "perplexity texts: JSON, JSONL or plain text (default: texts.jsonl beside the folder "
            "models that BASE lies in, else the package's neutral English)",
        ),
    ] = None
    perplexity: Annotated[
        bool, _option(_MEASURED, None, "run both models on the texts; without: a forecast alone")
    ] = True
    facts: Annotated[
        str | None,
        _option(_MEASURED, "FILE", "edit requests whose success is scored before and after"),
    ] = None
    limit: Annotated[
        int | None, _option(_MEASURED, "N", "of the facts, only the first so many")
    ] = None
    covariance: Annotated[
        str,
        _option(
            _TEXT_CHANGE,
            "SOURCE",
            "what the change on text is taken over: texts, a corpus (a text file or a hub dataset "
            "id), samples (what BASE writes), statistics of one layer (.npz or .safetensors), or "
            "none",
        ),
    ] = "texts"
    tokens: Annotated[
        int, _option(_TEXT_CHANGE, "N", "of a corpus or of samples, so many at most")
    ] = 100_000
    threshold: Annotated[
        float | None, _option(_RULE, "X", "where perplexity is above this; inf: never")
    ] = DEFAULT_RULE.threshold
    ratio: Annotated[
        float | None, _option(_RULE, "X", "or above so many times BASE's; inf: never")
    ] = DEFAULT_RULE.ratio
    measure: Annotated[
        Measure, _option(_RULE, None, "of the texts: mean, exp of the mean NLL, or median")
    ] = DEFAULT_RULE.measure
    strict: Annotated[
        bool, _option(_RULE, None, "exit status 3 also where it is at risk or not known")
    ] = False
    base_revision: Annotated[
        str | None, typer.Option(metavar="TEXT", help="branch, tag or commit of BASE on the hub")
    ] = None
    edited_revision: Annotated[
        str | None, typer.Option(metavar="TEXT", help="branch, tag or commit of EDITED on the hub")
    ] = None
    dtype: options.Dtype = "float32"
    start_token: options.StartToken = "tokenizer"
    chat_template: options.ChatTemplate = False

    def spec(self) -> "CheckSpec":
        """The check.

        Raises:
            StudyError: an option is out of range.
        """
        import math

        from pydantic import ValidationError

        from editcollapse.config.check import CheckSpec
        from editcollapse.errors import StudyError

        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        bounds = {name: fields.pop(name) for name in ("threshold", "ratio")}
        rule = {
            name: None if bound is None or math.isinf(bound) else bound
            for name, bound in bounds.items()
        }
        fields["collapse"] = rule | {"measure": fields.pop("measure")}
        del fields["strict"]
        if fields["texts"] is None:
            from editcollapse.cli.edit import texts_for

            fields["texts"] = str(texts_for(self.base))
        try:
            return CheckSpec.model_validate(fields).with_absolute_paths(Path.cwd())
        except ValidationError as error:
            found = [
                f"--{str(each['loc'][-1]).replace('_', '-')} {each['input']!r}: {each['msg']}"
                for each in error.errors()
            ]
            raise StudyError(f"{'; '.join(found)}.") from error


@dataclasses.dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check has found, for ``--json``."""

    name: str
    verdict: str
    why: str
    rule: "CollapseRule"
    perplexity_ratio: float | None
    text_change: float | None
    """The largest of any linear weight."""
    findings: "CheckFindings"


def add_check(app: typer.Typer) -> None:
    """Add the command to the wheel's app: nothing is stored."""
    shown = [f"editcollapse {each}" for each in EXAMPLES]
    app.command("check", epilog=examples(*shown, EXIT))(
        with_options(AskedCheck, "asked", required=("base", "edited"))(check)
    )


def check(asked: AskedCheck, *, as_json: options.AsJson = False) -> int:
    """Judge an edited model of any making: what differs, what it changes on text, is it alive?"""
    os.environ.setdefault("TQDM_DISABLE", "1")
    from editcollapse.cli.console import progress_shown
    from editcollapse.judging.inputs import check_inputs

    spec = asked.spec()
    inputs = check_inputs(spec)
    with progress_shown("starting torch"):
        from editcollapse.judging.check import check_edited
        from editcollapse.runtime.settings import settings

        found = check_edited(inputs, settings().device)
    show(found, inputs.name, spec.collapse.rule, as_json=as_json)
    return status_of(found.verdict(spec.collapse.rule), strict=asked.strict)


def status_of(verdict: str, *, strict: bool) -> int:
    """Return the exit status of a verdict.

    Args:
        verdict: of ``judging.findings``.
        strict: whether a doubt counts as a collapse.
    """
    return COLLAPSED if verdict in _DEAD or (strict and verdict in _DOUBTFUL) else 0


def show(found: "CheckFindings", name: str, rule: "CollapseRule", *, as_json: bool) -> None:
    """Print what a check has found.

    Args:
        found: all of it.
        name: what the edited model is called.
        rule: when it counts as collapsed.
        as_json: nothing but JSON.
    """
    from editcollapse.cli.console import console, plain, print_json, print_text
    from editcollapse.cli.tables import Column, print_table

    if as_json:
        before, after = (
            None if each is None else rule.perplexity_of(each)
            for each in (found.before, found.after)
        )
        change = None if before is None or after is None else after / before
        largest = None if found.largest is None else found.largest.text_change
        verdict, why = found.verdict(rule), found.why(rule)
        print_json(CheckReport(name, verdict, why, rule, change, largest, found))
        return
    for label, text in _lines(found, name, rule):
        print_text(text, label)
    shown = _most_changed(found)
    if not shown:
        return
    print_text("")
    columns = [Column("tensor", shrinks="is cut"), Column("part")]
    columns += [
        Column(each, is_number=True)
        for each in ("entries changed", "|D| / |W|", "largest", "effective rank", "text change")
    ]
    print_table(columns, [[plain(cell) for cell in _cells(each)] for each in shown], console())
    if len(found.changes) > len(shown):
        print_text(f"and {len(found.changes) - len(shown)} more tensors (--json lists all)")


def _lines(found: "CheckFindings", name: str, rule: "CollapseRule") -> Iterator[tuple[str, str]]:
    from editcollapse.forecast.verdicts import in_words
    from editcollapse.visible import visible

    yield "check:      ", f"{visible(name)} ({found.kind}), made from {visible(found.base)}"
    n_changed = len(found.changes)
    more = "" if not n_changed else f", by {found.relative_norm:.3g} of their norm"
    yield "differs:    ", f"{n_changed} of {found.n_tensors} tensors{more}"
    if found.settings_changed:
        yield "            ", f"configuration: {', '.join(map(visible, found.settings_changed))}"
    largest = found.largest
    if largest is not None:
        unknown = f"; not known of {found.n_unknown} others" if found.n_unknown else ""
        yield (
            "on text:    ",
            (
                f"at most {largest.text_change:.3g} times a map's output, by "
                f"{visible(largest.tensor)} ({found.covariance}, {largest.n_tokens} tokens)"
                f"{unknown}"
            ),
        )
    if found.before is not None and found.after is not None:
        before, after = rule.perplexity_of(found.before), rule.perplexity_of(found.after)
        yield (
            "perplexity: ",
            (
                f"{before:.4g} before, {after:.4g} after, {after / before:.4g} times as large, on "
                f"{visible(str(found.text_set))}"
            ),
        )
    yield from _fact_lines(found)
    if found.differs and found.before is not None and found.forecast.probability is not None:
        yield "forecast:   ", f"{in_words(found.forecast.verdict)}: {found.forecast.why}"
    for note in found.notes:
        yield "note:       ", visible(note)
    yield "verdict:    ", f"{in_words(found.verdict(rule))}. {found.why(rule)}"


def _fact_lines(found: "CheckFindings") -> Iterator[tuple[str, str]]:
    before = [each for each in found.scores if each.side == "before"]
    after = [each for each in found.scores if each.side == "after"]
    if not after:
        return
    said = ", ".join(
        f"{name} {_mean(before, name)} before, {_mean(after, name)} after"
        for name in ("efficacy", "generalization")
    )
    yield "facts:      ", f"{len(after)}: {said}, locality {_mean(after, 'locality')}"


def _mean(scores: "list[RequestScores]", field: str) -> str:
    values = [getattr(each, field) for each in scores if getattr(each, field) is not None]
    return f"{fmean(values):.3g}" if values else "not measured"


def _most_changed(found: "CheckFindings") -> "list[TensorChange]":
    """Return the tensors that change most on text, then those by norm, a few."""

    def order(each: "TensorChange") -> tuple[bool, float]:
        change = each.text_change
        return (change is None, -(each.relative_norm if change is None else change))

    return sorted(found.changes, key=order)[:_LAYERS]


def _cells(each: "TensorChange") -> Iterator[str]:
    yield each.tensor
    yield each.part
    yield f"{each.n_changed / each.n_entries:.0%}"
    yield f"{each.relative_norm:.3g}"
    yield f"{each.max_abs:.3g}"
    yield "-" if each.effective_rank is None else f"{each.effective_rank:.1f}"
    yield "not known" if each.text_change is None else f"{each.text_change:.3g}"
