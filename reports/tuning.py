"""The page of a tuning: the preset to paste, before and after, and every setting that was tried."""

import dataclasses
from collections.abc import Sequence

import altair as alt
import polars as pl

from editcollapse import __version__
from editcollapse.catalog.methods import method_title
from editcollapse.fingerprints import digest
from editcollapse.rows.tuning import TuningTrialRow
from editcollapse.runtime.environment import git_commit
from editcollapse.study.artifacts import put_text
from editcollapse.study.results_folder import ResultsFolder
from editcollapse.study.tuning import (
    GREEDY,
    HELD_OUT,
    METHOD,
    TUNING,
    best_first,
    best_trial,
    preset_block,
)
from reports.figures import (
    DARK,
    LIGHT,
    ROLES,
    SQUARE,
    TRIALS,
    AnyChart,
    Figure,
    Panel,
    charted,
    colour_legend,
    coloured,
    named_data,
    panel_json,
)
from reports.index import list_report, tuning_path
from reports.page import IllustratedSection, figure_numbers, page_scripts
from reports.runs import Fact, duration, short_commit
from reports.templates import template
from reports.text import Section, Table, count, json_block, number, percent
from storage.ask import query_text
from storage.database import literal
from storage.readers import FactCounts, fact_counts, tuning_trials

_TEMPLATE = "tuning.html.j2"
_END = "</html>"
_SETTINGS = (
    ("layer", "layer (from 0)"),
    ("learning_rate", "learning rate"),
    ("steps", "steps"),
    ("clamp_factor", "clamp factor"),
    ("weight_decay", "weight decay"),
)
"""Columns that are tuned, and their names."""
_SCORES = (
    ("objective", "objective"),
    ("efficacy", "efficacy"),
    ("efficacy_prefix_mean", "behind a text"),
    ("first_token_efficacy_prefix_mean", "first token, behind a text"),
    ("generalization", "paraphrases"),
    ("locality", "locality"),
    ("clamp_share", "at the clamp"),
)
"""Columns of shares, and their names."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Titled:
    """What the page says of itself."""

    name: str
    tuning_id: str
    description: str
    preset: str


def known_in_words(counts: FactCounts) -> str:
    """Return which of the facts the model knows, and what they are used for."""
    rule = (
        "says the true object word by word"
        if counts.known_by == GREEDY
        else "gives the true object a higher probability than the new one (too few say it word by "
        "word)"
    )
    more = f" {count(counts.n_left_over)} more are known and not needed." * bool(counts.n_left_over)
    return (
        f"Of {count(counts.n_asked)} facts the unedited model does not know "
        f"{count(counts.n_unknown)}, which are left out; known is where it {rule}. "
        f"{count(counts.n_tuning)} are tuned on, {count(counts.n_held_out)} held out.{more}"
    )


def tuning_headline(rows: Sequence[TuningTrialRow]) -> str:
    """Return what a tuning found, in plain text.

    Args:
        rows: its trials.
    """
    best = best_trial(rows)
    said = (
        f"{best.model}: layer {best.layer}, {best.steps} steps of {best.learning_rate:g}, clamp "
        f"factor {best.clamp_factor:g}, weight decay {best.weight_decay:g}."
    )
    after = _held_out(rows, best.trial, METHOD)
    before = _held_out(rows, 0, METHOD)
    if after is None or before is None:
        return f"{said} It is not measured on held-out facts yet."
    if best.trial == 0:
        return (
            f"{said} This is what a study takes without a tuning: nothing that was tried is "
            f"better. {_scored(after)}"
        )
    return f"{said} {_scored(after)} Without a tuning, layer {before.layer}: {_listed(before)}."


def _scored(row: TuningTrialRow) -> str:
    return (
        f"On {count(row.n_facts)} facts not used for tuning {method_title(row.method)} has "
        f"{_listed(row)}."
    )


def _listed(row: TuningTrialRow) -> str:
    parts = (
        ("efficacy", row.efficacy),
        ("on first-token subjects behind a text", row.first_token_efficacy_prefix_mean),
        ("on paraphrases", row.generalization),
        ("locality", row.locality),
    )
    said = ", ".join(f"{name} {value:.2f}" for name, value in parts if value is not None)
    return f"{said}, and damages {row.n_damaged} of {row.n_facts}"


def _held_out(rows: Sequence[TuningTrialRow], trial: int, method: str) -> TuningTrialRow | None:
    own = (row for row in rows if (row.part, row.trial, row.method) == (HELD_OUT, trial, method))
    return next(own, None)


def compared(rows: Sequence[TuningTrialRow]) -> list[TuningTrialRow]:
    """Return the held-out rows of trial 0 and of the best trial, in the order of a table."""
    best = best_trial(rows).trial
    own = [row for row in rows if row.part == HELD_OUT and row.trial in {0, best}]
    return sorted(own, key=lambda row: (row.method == METHOD, row.trial))


def furthest(rows: Sequence[TuningTrialRow]) -> list[TuningTrialRow]:
    """Return each trial at the last rung that it reached, the best first."""
    last: dict[int, TuningTrialRow] = {}
    for row in rows:
        if row.part == TUNING and (row.trial not in last or row.rung > last[row.trial].rung):
            last[row.trial] = row
    rungs = sorted({row.rung for row in last.values()}, reverse=True)
    return [
        row for rung in rungs for row in best_first([r for r in last.values() if r.rung == rung])
    ]


def tuning_figure(rows: Sequence[TuningTrialRow]) -> Figure:
    """Return the objective by layer and by each setting, a point a trial, the best marked."""
    best = best_trial(rows).trial
    words = {0: TRIALS[1], best: TRIALS[0]}
    shown = [
        {
            **dataclasses.asdict(row),
            "word": words.get(row.trial, TRIALS[2]),
        }
        for row in furthest(rows)
    ]
    frame = pl.DataFrame(
        [
            {name: row[name] for name in ("trial", "objective", "n_facts", "word", *_names())}
            for row in shown
        ]
    )
    return Figure(
        name="figure-tuning",
        caption=(
            "Objective of each trial by its layer and its settings, on the facts of the last rung "
            "that it reached; larger points are of more facts. 0 where an edit does damage."
        ),
        description="Objective by layer, learning rate, steps, clamp factor and weight decay.",
        panels=tuple(
            Panel(
                "",
                _points(title),
                frame.select(
                    "trial",
                    "objective",
                    "n_facts",
                    "word",
                    pl.col(name).cast(pl.Float64).alias("level"),
                ),
            )
            for name, title in _SETTINGS
        ),
        sql="",
        legends=(colour_legend("trial", TRIALS),),
    )


def _names() -> tuple[str, ...]:
    return tuple(name for name, _ in _SETTINGS)


def _points(title: str) -> AnyChart:
    return charted(
        alt.Chart(named_data())
        .mark_circle(opacity=0.8)
        .encode(
            x=alt.X(
                "level:O",
                title=title,
                axis=alt.Axis(labelAngle=0),
                scale=alt.Scale(type="band", paddingInner=0.6, paddingOuter=0.3),
            ),
            xOffset=alt.XOffset("trial:N"),
            y=alt.Y("objective:Q", scale=alt.Scale(domain=[0, 1])),
            color=coloured("word", None, TRIALS),
            size=alt.Size("n_facts:Q", legend=None, scale=alt.Scale(range=[40, 160])),
            tooltip=[
                "trial:N",
                "level:O",
                alt.Tooltip("objective:Q", format=".3f"),
                alt.Tooltip("n_facts:Q", title="facts"),
            ],
        ),
        height=SQUARE,
    )


def _table(rows: Sequence[TuningTrialRow], *, has_method: bool) -> Table:
    figures = (
        *(title for _, title in _SETTINGS),
        "facts",
        *(title for _, title in _SCORES),
        "worst ratio",
        "seconds",
    )
    first = ("trial", "method") if has_method else ("trial",)
    return Table(
        columns=(*first, *figures),
        rows=tuple(
            (
                str(row.trial),
                *((method_title(row.method),) if has_method else ()),
                *(f"{getattr(row, name):g}" for name in _names()),
                count(row.n_facts),
                *(_share(getattr(row, name)) for name, _ in _SCORES),
                number(row.worst_ratio),
                number(row.seconds),
            )
            for row in rows
        ),
        numeric=frozenset(figures),
    )


def _share(value: float | None) -> str:
    return "" if value is None else percent(value)


def _parts(
    rows: Sequence[TuningTrialRow], counts: FactCounts, tuning_id: str
) -> tuple[IllustratedSection, ...]:
    sql = query_text("tuning_trials").replace("$tuning_id", literal(tuning_id)).strip()
    return (
        IllustratedSection(
            Section(
                name="before-and-after",
                title="Before and after, on facts not used for tuning",
                sentences=(known_in_words(counts),),
                table=_table(compared(rows), has_method=True),
                sql="",
            )
        ),
        IllustratedSection(
            Section(
                name="trials",
                title="What was tried",
                sentences=(
                    (
                        "Trial 0 is what a study takes without a tuning. Halving: half of "
                        "the trials on a few facts, the better third on twice as many; then "
                        "neighbours of the best, one setting one level up or down."
                    ),
                ),
                table=_table(furthest(rows), has_method=False),
                sql=sql,
            ),
            (tuning_figure(rows),),
        ),
    )


def tuning_html(
    name: str, tuning_id: str, rows: Sequence[TuningTrialRow], counts: FactCounts
) -> str:
    """Return a tuning as a page.

    Args:
        name: of the tuning.
        tuning_id: likewise.
        rows: its trials.
        counts: its facts.
    """
    page = template(
        _TEMPLATE,
        count=count,
        panel_json=lambda panel: json_block(panel_json(panel)),
        percent=percent,
        rule_digest=digest,  # of the page that it extends
    )
    parts = _parts(rows, counts, tuning_id)
    return page.render(
        study=_Titled(name, tuning_id, "", preset_block(best_trial(rows))),
        headline=tuning_headline(rows),
        facts=(Fact("work", f"{duration(tried_seconds(rows))} of edits and their evaluation"),),
        numbers=figure_numbers(parts),
        parts=parts,
        scripts=page_scripts(),
        kept=frozenset({"before-and-after", "trials"}),
        roles=ROLES,
        light=LIGHT,
        dark=DARK,
        version=__version__,
        commit=short_commit(git_commit() or ""),
    )


def tried_seconds(rows: Sequence[TuningTrialRow]) -> float:
    """Return what all trials took: rows of tuning hold those of the rungs before."""
    own = [row for row in rows if row.part == HELD_OUT and row.method == METHOD]
    return sum(row.seconds for row in (*furthest(rows), *own))


def write_tuning_report(folder: ResultsFolder, name: str, tuning_id: str, fact_set_id: str) -> str:
    """Write the page of a tuning from what is published, whole or not at all, and list it.

    Args:
        folder: the results, with a published snapshot on this machine.
        name: of the tuning; it names the file.
        tuning_id: of table ``tuning_trials``.
        fact_set_id: of table ``tuning_facts``.

    Returns:
        The page's path below the results folder.

    Raises:
        ResultsError: the tuning has no results yet, or the place cannot be written.
        StudyError: no trial has been measured.
    """
    rows, counts = tuning_trials(folder.here, tuning_id), fact_counts(folder.here, fact_set_id)
    path = tuning_path(name)
    put_text(folder, path, tuning_html(name, tuning_id, rows, counts))
    list_report(folder, path, name, tuning_headline(rows))
    return path


def has_tuning_report(folder: ResultsFolder, name: str, tuning_id: str) -> bool:
    """Return whether there is a whole page of this very tuning."""
    try:
        text = folder.fetch(tuning_path(name)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    mark = f'<meta name="tuning-id" content="{tuning_id}">'
    return mark in text and text.rstrip().endswith(_END)
