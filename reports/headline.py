"""What a study found, in one to three sentences of plain text: for reports, run pages and logs."""

from collections.abc import Iterator
from typing import Any

from editcollapse.catalog.editors import editor_title
from editcollapse.rows.collapse_rule import DEFAULT_RULE, Measure, otherwise
from reports.sequences import sequence_headline
from reports.text import count, listed
from storage.ask import StudyFindings
from storage.readers import editor_sequences_in

_PLACED = {
    "first_token": "first-token edits of {}",
    "first_several": "edits of {} whose subject of several tokens opens the prompt",
    "inside": "edits of {} whose subject stands inside the prompt",
}
"""Edits by place of the subject, of a model, in words."""
_FEW = 3
"""Models that are named; of more, their number."""
_DECISIONS = (
    ("n_made", "made {} as asked"),
    ("n_switched", "switched {} to another method"),
    ("n_prefixed", "put a text before the prompt of {}"),
    ("n_refused", "refused {}"),
)


def headline(found: StudyFindings) -> str:
    """Return what a study found: where edits collapse its models most, and which methods do not.

    ``ROME collapsed 51 of 55 first-token edits of gpt2-induced (49 by exp(mean NLL)) and 77 of 384
    edits in all; C-ROME none of 384.`` Names of models are as the study file gives them: untrusted
    text, which whoever shows it makes plain.

    Args:
        found: the findings of one study; its counts by position and its guard's are read.
    """
    return " ".join(_sentences(found))


def _sentences(found: StudyFindings) -> Iterator[str]:
    rows = list(found.positions.frame.iter_rows(named=True))
    yield from map(_guarded, found.guard.frame.iter_rows(named=True))
    sequences = editor_sequences_in(found.sequences.frame)
    if sequences:
        yield sequence_headline(sequences)
    if not rows:
        if found.n_edits or not sequences:
            yield "No edit is measured yet." if found.n_edits else "No edit was made."
        elif found.rule != DEFAULT_RULE:
            yield _rule(found)
        return
    methods = [
        *(name for name in found.methods if any(row["method"] == name for row in rows)),
        *dict.fromkeys(row["method"] for row in rows if row["method"] not in found.methods),
    ]
    collapses = any(row["n_collapsed"] for row in rows)
    measure = found.rule.measure
    yield _collapsed(rows, methods, measure) if collapses else _spared(rows, methods)
    if found.n_measured < found.n_edits:
        yield f"So far {count(found.n_measured)} of {count(found.n_edits)} edits are measured."
    if found.rule != DEFAULT_RULE:
        yield _rule(found)


def _rule(found: StudyFindings) -> str:
    """Return the rule of collapse as a sentence."""
    said = found.rule.sentence()
    return f"{said[0].upper()}{said[1:]}."


def _guarded(row: dict[str, Any]) -> str:
    """Return what a guard did with the edits of one model that one method was asked for."""
    done = [words.format(count(row[name])) for name, words in _DECISIONS if row[name]]
    return (
        f"Of {count(row['n_asked'])} {editor_title(row['method'])} edits of {row['model']} the "
        f"guard {listed(done)}."
    )


def _collapsed(rows: list[dict[str, Any]], methods: list[str], measure: Measure) -> str:
    """Return where the worst method collapses most, and how often each other method does."""
    worst = max(rows, key=lambda row: (row["wilson_low"], row["n_collapsed"]))
    named = _PLACED.get(worst["subject_position"], "edits of {}").format(worst["model"])
    first = f"{editor_title(worst['method'])} collapsed {_of(worst)} {named}"
    first += otherwise(worst, measure)
    whole = _whole(rows, worst["method"])
    if whole["n_edits"] > worst["n_edits"]:
        first += f" and {_of(whole)} edits in all"
    alike: dict[str, list[str]] = {}
    for name in methods:
        if name != worst["method"]:
            alike.setdefault(_of(_whole(rows, name)), []).append(editor_title(name))
    others = [f"{listed(names)} {share}" for share, names in alike.items()]
    return f"{'; '.join([first, *others])}."


def _whole(rows: list[dict[str, Any]], method: str) -> dict[str, int]:
    """Return a method's counts over all models and places."""
    own = [row for row in rows if row["method"] == method]
    return {name: sum(int(row[name]) for row in own) for name in ("n_collapsed", "n_edits")}


def _of(row: dict[str, Any]) -> str:
    """Return so many of how many."""
    n_collapsed = int(row["n_collapsed"])
    return f"{count(n_collapsed) if n_collapsed else 'none'} of {count(int(row['n_edits']))}"


def _spared(rows: list[dict[str, Any]], methods: list[str]) -> str:
    """Return that no edit collapses its model."""
    n_edits = sum(int(row["n_edits"]) for row in rows)
    models = list(dict.fromkeys(row["model"] for row in rows))
    named = f"any of the {count(len(models))} models" if len(models) > _FEW else " or ".join(models)
    return (
        f"None of {count(n_edits)} {listed([editor_title(name) for name in methods])} edits "
        f"collapsed {named}."
    )
