"""Sequences of edits: after how many the model collapses, what lasts, what tells it beforehand."""

from collections.abc import Iterator, Sequence
from typing import Any

from editcollapse.catalog.editors import editor_title
from reports.text import Section, Table, count, interval, listed, number, percent
from storage.ask import StudyFindings
from storage.readers import EditorSequences, editor_sequences_in

QUANTITIES = ("efficacy", "generalization", "locality")
"""Scores whose loss the page shows, in this order."""
SEQUENCE_PARTS = ("sequences", "lasting", "sequence-forecast")
"""Names of the parts."""
_OPEN = "not reached"
_SCOPE = (
    "One model takes all edits, one after the other; an editor's sequences differ in the order of "
    "the requests. A collapse is seen at the first checkpoint at which the rule holds, and lies "
    "after the one before. Shares alive and medians are Kaplan and Meier's, for a sequence that "
    "ends without a collapse counts up to its end; intervals are 95 %, exponential Greenwood, and "
    "Wilson's where all or none are alive."
)
_LASTING = (
    "The same edits right after their own step and at the last checkpoint: means over the edits of "
    "an order, then over the orders; the interval of what is lost is Student's, over the orders."
)
_TELLING = (
    "The change on text is sqrt(tr(D C Dᵀ) / tr(W C Wᵀ)), D being the sum of all updates so far, "
    "the largest over the edited layers: known as soon as an update is, without an evaluation. The "
    "bound for an editor is the smallest change at which another editor had collapsed the same "
    "model, so that no editor is judged by itself. The lead is how many edits before the collapse "
    "was seen the bound was reached."
)


def sequence_headline(rows: Sequence[EditorSequences]) -> str:
    """Return how many sequences collapsed, which editor's first, and which editors' never.

    ``Of 36 sequences of 200 edits 20 collapsed; first: ROME after 5 edits (median 10); never:
    AlphaEdit and ENCORE.`` Names are as the study file gives them: untrusted text.

    Args:
        rows: of one study; at least one.
    """
    n_orders, n_collapsed = (sum(row.n_orders for row in rows), sum(r.n_collapsed for r in rows))
    lengths = {row.n_edits for row in rows}
    reach = f"{'' if len(lengths) == 1 else 'up to '}{count(max(lengths))}"
    sequences = f"{count(n_orders)} {'sequence' if n_orders == 1 else 'sequences'} of {reach} edits"
    if not n_collapsed:
        return f"None of {sequences} collapsed its model."
    parts = [f"Of {sequences} {count(n_collapsed)} collapsed"]
    several = len({row.model for row in rows}) > 1
    first = min((row for row in rows if row.earliest is not None), key=_earliest)
    median = "" if first.median is None else f" (median {count(first.median)})"
    on = f" on {first.model}" if several else ""
    parts.append(f"first: {editor_title(first.editor)}{on} after {_edits(first.earliest)}{median}")
    editors = dict.fromkeys(row.editor for row in rows)
    never = [
        editor_title(name)
        for name in editors
        if not any(row.n_collapsed for row in rows if row.editor == name)
    ]
    if never:
        parts.append(f"never: {listed(never)}")
    return f"{'; '.join(parts)}."


def _earliest(row: EditorSequences) -> int:
    return row.earliest or 0


def _edits(n_edits: int | None) -> str:
    return "1 edit" if n_edits == 1 else f"{count(n_edits)} edits"


def sequences(found: StudyFindings) -> Iterator[Section]:
    """Yield the parts on sequences, where a study has them."""
    rows = editor_sequences_in(found.sequences.frame)
    if not rows:
        return
    yield _collapses(found, rows)
    if found.sequence_success.frame.height:
        yield _success(found)
    yield _forecast(found)


def _collapses(found: StudyFindings, rows: Sequence[EditorSequences]) -> Section:
    figures = (
        "collapsed",
        "median edits until collapse",
        "95 % interval",
        "earliest",
        "latest",
        "alive at the end",
        "final efficacy",
        "change on text at the end",
    )
    said = found.rule.sentence()
    return Section(
        name=SEQUENCE_PARTS[0],
        title="Sequences of edits",
        sentences=(
            sequence_headline(rows),
            f"{said[0].upper()}{said[1:]}.",
            _SCOPE,
            *_guarded(rows),
            *_unusable(rows),
        ),
        table=Table(
            columns=("model", "editor", *figures),
            rows=tuple(
                (
                    row.model,
                    editor_title(row.editor),
                    f"{count(row.n_collapsed)} of {count(row.n_orders)}",
                    _reached(row.median),
                    f"{_reached(row.median_low)} to {_reached(row.median_high)}",
                    _reached(row.earliest),
                    _reached(row.latest),
                    f"{percent(row.alive)} ({interval(row.lower, row.upper)})",
                    "" if row.final_efficacy is None else percent(row.final_efficacy),
                    number(row.text_change),
                )
                for row in rows
            ),
            numeric=frozenset(figures),
        ),
        sql=found.sequences.sql,
    )


def _reached(n_edits: int | None) -> str:
    """Return a number of edits; where not enough sequences collapsed, that it is not reached."""
    return _OPEN if n_edits is None else count(n_edits)


def _guarded(rows: Sequence[EditorSequences]) -> Iterator[str]:
    """Yield of how many sequences a guard kept a step out."""
    n_guarded = sum(row.n_guarded for row in rows)
    if n_guarded:
        yield (
            f"In {count(n_guarded)} {'sequence' if n_guarded == 1 else 'sequences'} the guard "
            "skipped, stopped or rolled back a step. Where it ends a sequence, that sequence is "
            "censored before it might have collapsed: its editor looks more alive than it is."
        )


def _unusable(rows: Sequence[EditorSequences]) -> Iterator[str]:
    """Yield how many requests each model cannot take."""
    for model, n_unusable in {row.model: row.n_unusable for row in rows if row.n_unusable}.items():
        yield (
            f"Of the requests {count(n_unusable)} cannot be taken by {model}: table rejections has "
            "the reasons."
        )


def _success(found: StudyFindings) -> Section:
    figures = ("edits", "orders", "at once", "at the end", "lost (95 % interval)")
    return Section(
        name=SEQUENCE_PARTS[1],
        title="Do the edits of a sequence last?",
        sentences=(_LASTING,),
        table=Table(
            columns=("model", "editor", "score", *figures),
            rows=tuple(
                (
                    row["model"],
                    editor_title(row["editor"]),
                    row["quantity"],
                    count(row["n_edits"]),
                    count(row["n_orders"]),
                    percent(row["immediate"]),
                    percent(row["final"]),
                    _lost(row),
                )
                for row in _rows(found.sequence_success.frame)
            ),
            numeric=frozenset(figures),
        ),
        sql=found.sequence_success.sql,
    )


def _lost(row: dict[str, Any]) -> str:
    """Return what is lost, with its interval where there are several orders."""
    lost = percent(row["lost"])
    if row["lost_low"] is None:
        return lost
    return f"{lost} ({interval(row['lost_low'], row['lost_high'])})"


def _forecast(found: StudyFindings) -> Section:
    figures = (
        "bound",
        "sequences",
        "collapsed",
        "caught",
        "missed",
        "false alarms",
        "neither",
        "median lead",
    )
    counts = ("n_caught", "n_missed", "n_false_alarms", "n_quiet")
    return Section(
        name=SEQUENCE_PARTS[2],
        title="Does the change on text tell the collapse of a sequence?",
        sentences=(_TELLING,),
        table=Table(
            columns=("model", "held-out editor", *figures),
            rows=tuple(
                (
                    row["model"],
                    editor_title(row["editor"]),
                    "none" if row["bound"] is None else number(row["bound"]),
                    count(row["n_sequences"]),
                    count(row["n_collapsed"]),
                    *(count(row[name]) for name in counts),
                    number(row["median_lead"]),
                )
                for row in _rows(found.sequence_forecast.frame)
            ),
            numeric=frozenset(figures),
        ),
        sql=found.sequence_forecast.sql,
    )


def _rows(frame: Any) -> Iterator[dict[str, Any]]:
    yield from frame.iter_rows(named=True)
