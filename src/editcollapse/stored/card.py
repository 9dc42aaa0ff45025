"""The model card of an export: what was edited, how, and what it did to the model.

Texts of data sets and of other cards are untrusted: in the card they are code, and in its header
JSON strings, which are YAML too.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterator

from editcollapse import __version__
from editcollapse.catalog.editors import editor_title
from editcollapse.forecast.verdicts import in_words
from editcollapse.stored.licences import Licence
from editcollapse.study.known_updates import Damage, UpdateFacts
from editcollapse.visible import visible

_BACKTICKS = re.compile(r"`+")


@dataclasses.dataclass(frozen=True, slots=True)
class CardFrame:
    """What a card says of the export itself."""

    what: str
    """One sentence: what lies in the folder."""
    base: str
    """Hub id, or the bare name of a folder or file."""
    licence: Licence
    library: str
    """That loads it: transformers, peft or safetensors."""
    relation: str | None
    """To the base model, in the hub's words: finetune or adapter."""
    usage: str
    """Python that loads it."""
    notes: tuple[str, ...]
    """A sentence each: what was rounded, cut off or dequantised."""


def card_text(facts: UpdateFacts, frame: CardFrame) -> str:
    """Return the text of a model card.

    Args:
        facts: of the update.
        frame: of the export.
    """
    return "\n".join([*_header(frame), *_title(facts, frame), *_body(facts, frame)]) + "\n"


def request_line(facts: UpdateFacts) -> str:
    """Return what was edited, for people: prompt and target, or how many edits."""
    if facts.prompt is None:
        order = "at once" if facts.at_once else "one after the other"
        many = f"{facts.n_edits} edits {order}"
        return many if facts.step is None else f"{many}, up to step {facts.step}"
    prompt = facts.prompt.replace("{}", facts.subject or "")
    return visible(f"{prompt} -> {facts.target_new}")


def _header(frame: CardFrame) -> Iterator[str]:
    """Yield the card's YAML."""
    licence = frame.licence
    yield "---"
    for name, value in (
        ("license", licence.license),
        ("license_name", licence.license_name),
        ("license_link", licence.license_link),
        ("base_model", frame.base),
        ("base_model_relation", frame.relation),
        ("library_name", frame.library),
        ("pipeline_tag", "text-generation" if frame.relation else None),
    ):
        if value is not None:
            yield f"{name}: {json.dumps(value)}"
    yield "tags:"
    yield from ("- model-editing", "- editcollapse")
    yield "---"


def _title(facts: UpdateFacts, frame: CardFrame) -> Iterator[str]:
    yield ""
    yield f"# {_code(frame.base)} edited by {_cell(editor_title(facts.method))}"
    yield ""
    yield frame.what
    if facts.damage.collapsed:
        yield ""
        yield (
            "**This edit has collapsed the model**: by the default rule its perplexity on plain "
            "text is that of a ruined model. It is of use for looking at the collapse alone."
        )


def _body(facts: UpdateFacts, frame: CardFrame) -> Iterator[str]:
    yield from _section("Edit", _edit_rows(facts))
    yield from _section("Settings", ((each.name, _code(each.value)) for each in facts.settings))
    rows = list(_damage_rows(facts.damage))
    yield from _section("Measured", rows)
    if not rows:
        yield from ("", "## Measured", "", "Not measured.")
    yield from _section("Forecast before the edit", _verdict_rows(facts))
    yield from ("", "## Use", "", "```python", frame.usage.rstrip("\n"), "```")
    if frame.notes:
        yield ""
        yield from (f"- {note}" for note in frame.notes)
    yield ""
    yield f"Written by editcollapse {__version__}; `editcollapse.json` says the same to programs."


def _section(title: str, rows: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> Iterator[str]:
    """Yield a table under a heading; nothing where it has no rows."""
    found = list(rows)
    if not found:
        return
    yield from ("", f"## {title}", "", "| | |", "|---|---|")
    for name, value in found:
        yield f"| {_cell(name)} | {value} |"


def _edit_rows(facts: UpdateFacts) -> Iterator[tuple[str, str]]:
    if facts.prompt is not None:
        yield "subject", _code(facts.subject or "")
        yield "prompt", _code(facts.prompt)
        yield "target", _code(facts.target_new or "")
        if facts.target_true is not None:
            yield "target before", _code(facts.target_true)
    else:
        yield "edits", f"{facts.n_edits}, at once" if facts.at_once else str(facts.n_edits)
        for each in facts.at_once:
            filled = each.prompt.replace("{}", each.subject)
            yield "fact", f"{_code(filled)} -> {_code(each.target_new)}"
        if facts.step is not None:
            yield "after step", str(facts.step)
    yield "method", f"{_cell(editor_title(facts.method))} ({_code(facts.method)})"
    yield "layers", ", ".join(map(str, facts.layers))
    if facts.study is not None:
        yield "study", _code(facts.study)


def _damage_rows(damage: Damage) -> Iterator[tuple[str, str]]:
    if damage.perplexity is not None:
        texts = "" if damage.text_set is None else f" on {_code(damage.text_set)}"
        yield f"perplexity{texts}", f"{damage.perplexity:.6g}"
    if damage.perplexity_before is not None:
        yield "perplexity of the unedited model", f"{damage.perplexity_before:.6g}"
        if damage.perplexity is not None:
            yield "ratio", f"{damage.perplexity / damage.perplexity_before:.4g}"
    if damage.collapsed is not None:
        yield "collapsed, by the default rule", "yes" if damage.collapsed else "no"
    for name, value in (
        ("efficacy", damage.efficacy),
        ("generalization", damage.generalization),
        ("locality", damage.locality),
        ("change of the layer's output on text, relative", damage.text_change),
        ("norm of the update over that of W", damage.relative_update_norm),
    ):
        if value is not None:
            yield name, f"{value:.4g}"


def _verdict_rows(facts: UpdateFacts) -> Iterator[tuple[str, str]]:
    if facts.verdict is not None:
        yield "verdict", in_words(facts.verdict)
    if facts.text_change_bound is not None and math.isfinite(facts.text_change_bound):
        yield "bound of the text change", f"{facts.text_change_bound:.4g}"


def _cell(text: str) -> str:
    """Return our own words as a table's cell has them."""
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    """Return a text as code: nothing in it is markup."""
    shown = visible(text).replace("|", "\\|")
    longest = max((len(run) for run in _BACKTICKS.findall(shown)), default=0)
    fence = "`" * (longest + 1)
    blank = " " if longest or not shown.strip() else ""
    return f"{fence}{blank}{shown}{blank}{fence}"
