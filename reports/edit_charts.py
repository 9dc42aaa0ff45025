"""Charts of edits: shares with intervals, perplexity before and after, denominators.

An edit whose perplexity is infinite or undefined has a place of its own at the end of the axis,
and the caption counts them: the edits that matter most are those that no number describes.
"""

import math
from collections.abc import Sequence

import altair as alt
import polars as pl

from editcollapse.rows.collapse_rule import CollapseRule
from reports.figures import (
    OUTCOMES,
    PLACES,
    ROW,
    SKILLS,
    SQUARE,
    AnyChart,
    Entry,
    Figure,
    Legend,
    Panel,
    alike,
    by_model,
    charted,
    colour_legend,
    coloured,
    dash_legend,
    dashed,
    log_axis,
    named_data,
    places_named,
    present,
    reach_of,
    shape_legend,
    shaped,
    titled,
)
from reports.text import count
from storage.ask import StudyFigures, StudyFindings

_PERCENT = ".0%"
_QUANTITIES = tuple(
    zip(SKILLS, ("precision", "recall", "certain_precision", "certain_recall"), strict=True)
)
"""Words and columns of the forecast's skill."""
_ALL = "(all)"


def incidence_figure(found: StudyFindings) -> Figure:
    """Return the shares of edits that collapse the model: a panel a model, a line a method."""
    rows = titled(found.incidence.frame)
    return Figure(
        name="figure-incidence",
        caption="Share of edits that collapse the model (point), 95 % Wilson interval (line).",
        description="Share of edits that collapse the model, by method, with 95 % intervals.",
        panels=tuple(
            Panel(model, interval_chart(part["method"].to_list()), _share_rows(part))
            for model, part in by_model(rows)
        ),
        sql="",
    )


def position_figure(found: StudyFindings) -> Figure:
    """Return the same by position of the subject."""
    rows = places_named(titled(found.positions.frame))
    places = present(rows, "place", PLACES)
    return Figure(
        name="figure-positions",
        caption=(
            "The same by position of the subject: it is the prompt's first token, it begins there "
            "with several tokens, or it stands inside."
        ),
        description=(
            "Share of edits that collapse the model, by method and position of the subject, with "
            "95 % intervals."
        ),
        panels=tuple(
            Panel(
                model,
                interval_chart(part["method"].to_list(), "place", "subject", places),
                _share_rows(part).with_columns(part["place"]),
            )
            for model, part in by_model(rows)
        ),
        sql="",
        legends=(colour_legend("subject", places),),
    )


def skill_figures(shown: StudyFigures) -> tuple[Figure, ...]:
    """Return the forecast's ROC curves and its precision and recall, where edits collapsed."""
    curves = titled(shown.roc.frame)
    if curves.is_empty():
        return ()
    skill = _skill_rows(shown)
    methods = curves["method"].unique().to_list()
    return (
        Figure(
            name="figure-roc",
            caption=(
                "ROC curves of the forecast's bound: share of the collapsed edits that a threshold "
                "catches against the share of the others that it flags too. The diagonal is "
                "chance. Shown where some edits collapsed and some did not."
            ),
            description="ROC curves of the forecast, by method.",
            panels=tuple(
                Panel(
                    model,
                    _roc_chart(part["method"].unique().to_list()),
                    part.select("method", "false_alarms", "caught"),
                )
                for model, part in by_model(curves)
            ),
            sql=shown.roc.sql,
            legends=(dash_legend(methods),),
        ),
        Figure(
            name="figure-skill",
            caption=(
                "Precision and recall of both verdicts with 95 % Wilson intervals; flagged is at "
                "risk or worse."
            ),
            description="Precision and recall of the forecast's verdicts, with 95 % intervals.",
            panels=tuple(
                Panel(
                    "all models" if model == _ALL else model,
                    interval_chart(part["method"].to_list(), "quantity", "share of", SKILLS),
                    part.drop("model"),
                )
                for model, part in by_model(skill)
            ),
            sql="",
            legends=(colour_legend("share of", present(skill, "quantity", SKILLS)),),
        ),
        *_calibration_figures(shown),
    )


def _calibration_figures(shown: StudyFigures) -> tuple[Figure, ...]:
    """Return the calibration curve of P(collapse), where thresholds have one."""
    bins = shown.calibration.frame
    if bins.is_empty():
        return ()
    return (
        Figure(
            name="figure-calibration",
            caption=(
                "Calibration of P(collapse): share of the edits that collapsed, with 95 % Wilson "
                "intervals, against the mean P(collapse) of ten bins. On the diagonal it came true "
                "as often as it said."
            ),
            description="Share of edits that collapsed against the P(collapse) foreseen.",
            panels=tuple(
                Panel(
                    model,
                    _calibration_chart(),
                    part.drop("model").with_columns(pl.lit(OUTCOMES[0]).alias("word")),
                )
                for model, part in by_model(bins)
            ),
            sql=shown.calibration.sql,
        ),
    )


def interval_chart(
    methods: Sequence[str], group: str = "", title: str = "", order: Sequence[str] = ()
) -> AnyChart:
    """Return a chart of shares (column ``share``) and their intervals (``low``, ``high``).

    Args:
        methods: of the chart's lines, a line each; as papers write them.
        group: column that the lines of a method are told apart by; empty for one line a method.
        title: what the legend calls it.
        order: its values, which are words of ours.
    """
    base = alt.Chart(named_data()).encode(
        x=alt.X(
            "low:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=_PERCENT)
        ),
        y=alt.Y("method:N", sort=None, title=None),
        color=coloured(group, title, order, columns=1) if group else alike(),
    )
    if group:
        base = base.encode(yOffset=alt.YOffset(f"{group}:N", sort=list(order)))
    said = [
        alt.Tooltip("method:N"),
        *([alt.Tooltip(f"{group}:N", title=title)] if group else []),
        alt.Tooltip("count:N", title="edits"),
        alt.Tooltip("share:Q", format=".1%"),
        alt.Tooltip("low:Q", format=".1%"),
        alt.Tooltip("high:Q", format=".1%"),
    ]
    reach = base.mark_rule(strokeWidth=2).encode(x2="high:Q", tooltip=said)
    point = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=alt.X("share:Q"), shape=shaped(()).legend(None), tooltip=said
    )
    return charted(reach, point, height=ROW * max(len(methods), 2))


def _share_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Return method, share, interval and counts in words."""
    return rows.select(
        "method",
        "share",
        pl.col("wilson_low").alias("low"),
        pl.col("wilson_high").alias("high"),
        pl.format("{} of {}", "n_collapsed", "n_edits").alias("count"),
        pl.lit(OUTCOMES[0]).alias("word"),
    )


def _skill_rows(shown: StudyFigures) -> pl.DataFrame:
    """Return a row for each model, method and quantity that is known, of methods with collapses."""
    rows = titled(shown.skill.frame.filter(pl.col("n_collapsed") > 0))
    return pl.concat(
        rows.select(
            "model",
            "method",
            pl.lit(word).alias("quantity"),
            pl.col(column).alias("share"),
            pl.col(f"{column}_low").alias("low"),
            pl.col(f"{column}_high").alias("high"),
            pl.format("{} of {} collapsed", "n_collapsed", "n_edits").alias("count"),
        )
        for word, column in _QUANTITIES
    ).drop_nulls("share")


def _diagonal() -> alt.Chart:
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=[{"start": 0, "end": 1}]))
        .mark_rule(strokeDash=[3, 3], strokeWidth=1)
        .encode(x=alt.X("start:Q"), y=alt.Y("start:Q"), x2="end:Q", y2="end:Q")
    )
    return chart


def _calibration_chart() -> AnyChart:
    share, shown = alt.Scale(domain=[0, 1]), alt.Axis(format=_PERCENT)
    said = ["foreseen:Q", "observed:Q", "low:Q", "high:Q", alt.Tooltip("n_edits:Q", title="edits")]
    base = alt.Chart(named_data()).encode(
        x=alt.X("foreseen:Q", title="P(collapse)", scale=share, axis=shown),
        y=alt.Y("low:Q", title="collapsed", scale=share, axis=shown),
        color=alike(),
    )
    reach = base.mark_rule(strokeWidth=2).encode(y2="high:Q", tooltip=said)
    point = base.mark_point(filled=True, size=70, opacity=1).encode(
        y=alt.Y("observed:Q"), tooltip=said
    )
    return charted(_diagonal(), reach, point, height=SQUARE)


def _roc_chart(methods: Sequence[str]) -> AnyChart:
    share = alt.Scale(domain=[0, 1])
    chance = _diagonal()
    curve = (
        alt.Chart(named_data())
        .mark_line(interpolate="linear", strokeWidth=2, clip=True)
        .encode(
            x=alt.X(
                "false_alarms:Q",
                title="others flagged",
                scale=share,
                axis=alt.Axis(format=_PERCENT),
            ),
            y=alt.Y(
                "caught:Q", title="collapsed caught", scale=share, axis=alt.Axis(format=_PERCENT)
            ),
            strokeDash=dashed(methods),
            tooltip=["method:N", "false_alarms:Q", "caught:Q"],
        )
    )
    return charted(chance, curve, height=SQUARE)


def share_cells(words: Sequence[str], n_methods: int) -> AnyChart:
    """Return a chart of shares as cells that are darker the larger they are.

    Args:
        words: over its columns, ``|`` between their lines; values of ``quantity``.
        n_methods: lines, each a ``method`` of the rows, with their ``share`` and ``word``.
    """
    base = alt.Chart(named_data()).encode(
        x=alt.X(
            "quantity:N",
            sort=words,
            title=None,
            scale=alt.Scale(domain=words),
            axis=alt.Axis(
                orient="top",
                labelAngle=0,
                labelExpr="split(datum.label, '|')",
                labelLimit=0,
                labelFontSize=10,
                labelOverlap=False,
                labelPadding=16,
                grid=False,
                domain=False,
                ticks=False,
            ),
        ),
        y=alt.Y(
            "method:N", sort=None, title=None, axis=alt.Axis(grid=False, domain=False, ticks=False)
        ),
        tooltip=["method:N", alt.Tooltip("share:Q", format=".1%")],
    )
    cells = base.mark_rect(cornerRadius=2).encode(
        color=alike(),
        opacity=alt.Opacity(
            "share:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 0.6]), legend=None
        ),
    )
    return charted(
        cells,
        base.mark_text().encode(text=alt.Text("share:Q", format=".0%")),
        height=round(1.2 * ROW * n_methods),
    )


_SPREAD = 3
"""Lines' heights that the points of a method are spread over."""
_FINITE, _INFINITE, _UNDEFINED = _KINDS = ("finite", "infinite", "undefined")
_SIZE = 28
MARGIN = 1.2
"""How far beyond the rule of collapse an axis goes, at least."""
_GOLDEN = 0.6180339887498949
_SHAPES = ("circle", "triangle-right", "cross")


def perplexity_figure(shown: StudyFigures) -> Figure:
    """Return each edit's perplexity: a panel a model, a strip a method."""
    edits = _undefined_named(titled(shown.edits.frame))
    limits = pl.Series(
        [_collapses_at(part, shown.rule) for _, part in by_model(edits)], dtype=pl.Float64
    )
    low, high = reach_of(
        pl.concat([edits["perplexity"], edits["perplexity_before"], MARGIN * limits.drop_nulls()])
    )
    ends = (low, 10 * high if _is_odd(edits["perplexity"]) else high)
    rows = brought_in(edits, "perplexity", ends)
    outcomes = present(rows, "outcome", OUTCOMES)
    return Figure(
        name="figure-perplexity",
        caption=(
            "Perplexity of the edited model, one point an edit, beside the unedited model's (solid "
            "line) and the rule of collapse (dashed line). Logarithmic; height within a strip says "
            f"nothing. {_drawn(edits)}{odd(edits, 'perplexity', _SIGNS)}"
        ),
        description="Perplexity of the edited models by method, beside the unedited model's.",
        panels=tuple(
            Panel(model, _strips(part, shown.rule, ends, outcomes), _texts(part, "jitter"))
            for model, part in by_model(rows)
        ),
        sql=shown.edits.sql,
        legends=(
            colour_legend("edits", outcomes),
            Legend(
                "lines",
                (
                    Entry("unedited model", "soft", "line"),
                    Entry("rule of collapse", "mark", "line", DASH),
                ),
            ),
        ),
    )


def denominator_figure(shown: StudyFigures) -> Figure:
    """Return |denominator| against the ratio of perplexities, coloured by subject position."""
    everything = shown.edits.frame
    has_one = everything.filter(pl.col("abs_denominator").is_not_null())
    edits = places_named(_undefined_named(titled(has_one)))
    across = reach_of(edits["abs_denominator"])
    limits = pl.Series(
        [ratio_at(part, shown.rule) for _, part in by_model(edits)], dtype=pl.Float64
    )
    low, high = reach_of(pl.concat([edits["perplexity_ratio"], MARGIN * limits.drop_nulls()]))
    up = (low, 10 * high if _is_odd(edits["perplexity_ratio"]) else high)
    rows = brought_in(brought_in(edits, "perplexity_ratio", up), "abs_denominator", across)
    places = present(rows, "place", PLACES)
    return Figure(
        name="figure-denominators",
        caption=(
            "|denominator| of the update against the factor by which perplexity grows, one point "
            "an edit, coloured by position of the subject, shaped by method; both logarithmic. "
            f"Above the dashed line an edit counts as collapse. {_drawn(everything)}"
            f"{_without_one(everything)}"
            f"{odd(edits, 'perplexity_ratio')}{odd(edits, 'abs_denominator')}"
        ),
        description=(
            "Denominators against ratios of perplexities: small denominators with large ratios are "
            "at the upper left."
        ),
        panels=tuple(
            Panel(model, _scatter(part, shown.rule, across, up, places), _texts(part, "place"))
            for model, part in by_model(rows)
        ),
        sql=shown.edits.sql,
        legends=(
            colour_legend("subject", places),
            shape_legend(edits["method"].unique().to_list()),
            Legend("line", (Entry("rule of collapse", "mark", "line", DASH),)),
        ),
    )


def outcomes_named(edits: pl.DataFrame) -> pl.DataFrame:
    """Return edits with ``outcome`` in words."""
    collapsed, others = map(pl.lit, OUTCOMES)
    return edits.with_columns(
        pl.when(pl.col("is_collapsed")).then(collapsed).otherwise(others).alias("outcome")
    )


def _undefined_named(edits: pl.DataFrame) -> pl.DataFrame:
    """Return edits with their outcome in words; numbers that are missing are undefined."""
    numbers = pl.col("abs_denominator", "perplexity", "perplexity_before", "perplexity_ratio")
    return outcomes_named(edits).with_columns(numbers.fill_null(math.nan))


def brought_in(edits: pl.DataFrame, column: str, ends: tuple[float, float]) -> pl.DataFrame:
    """Return edits with ``drawn_<column>`` inside an axis, ``kind_<column>``, ``said_<column>``."""
    value, low, high = pl.col(column), *ends
    kind = (
        pl.when(value.is_nan())
        .then(pl.lit(_UNDEFINED))
        .when(value.is_infinite())
        .then(pl.lit(_INFINITE))
        .otherwise(pl.lit(_FINITE))
    )
    drawn = pl.when(kind == _FINITE).then(value.fill_nan(low).clip(low, high)).otherwise(high)
    said = pl.when(kind == _FINITE).then(value.round_sig_figs(4).cast(pl.String)).otherwise(kind)
    return edits.with_columns(
        kind.alias(f"kind_{column}"),
        drawn.alias(f"drawn_{column}"),
        said.alias(f"said_{column}"),
        # Multiples of the golden ratio spread evenly whatever the number of rows.
        (pl.int_range(pl.len()) * _GOLDEN % 1.0).alias("jitter"),
    )


def _texts(rows: pl.DataFrame, *more: str) -> pl.DataFrame:
    """Return the columns that a panel draws and prints of each edit."""
    own = [name for name in rows.columns if name.startswith(("drawn_", "kind_", "said_"))]
    return rows.select("method", "subject", "target_new", "outcome", *own, *more)


def _is_odd(values: pl.Series) -> bool:
    return not values.is_finite().all()


def _drawn(edits: pl.DataFrame) -> str:
    """Return how many of the measured edits are drawn."""
    n_measured = edits["n_measured"][0] if edits.height else 0
    if edits.height == n_measured:
        return f"All {count(n_measured)} measured edits."
    n_collapsed = int(edits["is_collapsed"].sum())
    return (
        f"{count(edits.height)} of {count(n_measured)} measured edits drawn: "
        f"{count(n_collapsed)} of the {count(edits['n_collapsed'][0])} that collapse, and of the "
        "others in proportion."
    )


def _without_one(edits: pl.DataFrame) -> str:
    """Return how many of the edits drawn elsewhere divide by nothing: only rank-one methods do."""
    n_edits = edits["abs_denominator"].null_count()
    return f" {count(n_edits)} of them have no denominator and no point here." if n_edits else ""


_SIGNS = (" (triangle)", " (cross)")


def odd(edits: pl.DataFrame, column: str, signs: tuple[str, str] = ("", "")) -> str:
    """Return how many points stand at an end of the axis because no number says where.

    Args:
        edits: those drawn.
        column: what the axis shows.
        signs: which symbols infinite and undefined edits have, where they have their own.
    """
    values, name = edits[column], column.replace("_", " ").replace("abs ", "")
    n_infinite, n_undefined = int(values.is_infinite().sum()), int(values.is_nan().sum())
    n_zero = int((values == 0).sum())
    parts = [
        *([f"{count(n_infinite)} infinite{signs[0]}"] if n_infinite else []),
        *([f"{count(n_undefined)} undefined{signs[1]}"] if n_undefined else []),
    ]
    said = f" {name.capitalize()} at the far end: {', '.join(parts)}." if parts else ""
    return said + (f" {name.capitalize()} 0, at the near end: {count(n_zero)}." if n_zero else "")


def _collapses_at(part: pl.DataFrame, rule: CollapseRule) -> float | None:
    """Return the perplexity above which an edit of a model collapses it; None where none is."""
    before = part["perplexity_before"][0]
    if not math.isfinite(before):
        return None
    bounds = [] if rule.ratio is None else [rule.ratio * before]
    # A model that stands above the threshold unedited is judged by the ratio alone.
    if rule.threshold is not None and before <= rule.threshold:
        bounds.append(rule.threshold)
    return float(min(bounds)) if bounds else None


def ratio_at(part: pl.DataFrame, rule: CollapseRule) -> float | None:
    """Return the ratio of perplexities above which a model counts as collapsed; None: none is.

    Args:
        part: rows of one model, with ``perplexity_before``.
        rule: of the collapse.
    """
    limit = _collapses_at(part, rule)
    return None if limit is None else limit / float(part["perplexity_before"][0])


DASH = "5 4"
"""Of the line of the rule of collapse: lengths drawn and left out."""


def _line(channel: str, at: float) -> alt.Chart:
    """Return a line across a chart at a number of ours."""
    where = alt.X("at:Q") if channel == "x" else alt.Y("at:Q")
    data = alt.InlineData(values=[{"at": at, "word": OUTCOMES[0]}])
    line: alt.Chart = alt.Chart(data).mark_rule(strokeWidth=1.5).encode(where)
    return line


def rule_line(channel: str, at: float, title: str | None, words: Sequence[str]) -> alt.Chart:
    """Return the line of the rule of collapse across a chart.

    Its colour has the title and the words of the points' legend: layers have one legend together.
    """
    dash = [int(length) for length in DASH.split()]
    line: alt.Chart = (
        _line(channel, at)
        .mark_rule(strokeWidth=1.5, strokeDash=dash)
        .encode(coloured("word", title, words))
    )
    return line


def _strips(
    part: pl.DataFrame, rule: CollapseRule, ends: tuple[float, float], outcomes: list[str]
) -> AnyChart:
    points = (
        alt.Chart(named_data())
        .mark_point(filled=True, size=_SIZE, opacity=0.7)
        .encode(
            x=log_axis("x", "drawn_perplexity", "perplexity", ends),
            y=alt.Y("method:N", sort=None, title=None),
            yOffset=alt.YOffset("jitter:Q", scale=alt.Scale(domain=[-0.3, 1.3])),
            color=coloured("outcome", None, outcomes),
            shape=_kind_shape("kind_perplexity"),
            tooltip=_said("perplexity"),
        )
    )
    known = part["perplexity_before"][0]
    lines = [_line("x", known)] if math.isfinite(known) else []
    limit = _collapses_at(part, rule)
    if limit is not None:
        lines.append(rule_line("x", limit, None, outcomes))
    height = ROW * _SPREAD * part["method"].n_unique()
    return charted(*lines, points, height=height)


def _scatter(
    part: pl.DataFrame,
    rule: CollapseRule,
    across: tuple[float, float],
    up: tuple[float, float],
    places: list[str],
) -> AnyChart:
    points = (
        alt.Chart(named_data())
        .mark_point(size=_SIZE, opacity=0.75)
        .encode(
            x=log_axis("x", "drawn_abs_denominator", "|denominator|", across),
            y=log_axis("y", "drawn_perplexity_ratio", "perplexity after / before", up),
            color=coloured("place", "subject", places),
            shape=shaped(part["method"].unique().to_list()),
            tooltip=_said("abs_denominator", "perplexity_ratio"),
        )
    )
    at = ratio_at(part, rule)
    lines = [] if at is None else [rule_line("y", at, "subject", places)]
    return charted(*lines, points, height=SQUARE)


def _kind_shape(column: str) -> alt.Shape:
    return alt.Shape(
        f"{column}:N", legend=None, scale=alt.Scale(domain=list(_KINDS), range=list(_SHAPES))
    )


def _said(*columns: str) -> list[alt.Tooltip]:
    words = ("method", "subject", "target_new", "outcome")
    return [
        *(alt.Tooltip(f"{word}:N", title=word.replace("_", " ")) for word in words),
        *(alt.Tooltip(f"said_{each}:N", title=each.replace("_", " ")) for each in columns),
    ]
