"""The parts of the HTML page: those of the report with their figures, and more."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from reports.beside import imported, published
from reports.cards import Card, worst_cards
from reports.edit_figures import denominator_figure, perplexity_figure
from reports.figures import Figure
from reports.key_figures import finding_figures, key_figures
from reports.profile_figures import layer_figures, profile_figures
from reports.sections import Section, Table, report_sections
from reports.share_figures import incidence_figure, position_figure, skill_figures
from reports.wording import count, interval, number, percent
from storage.figures import StudyFigures
from storage.findings import StudyFindings


@dataclasses.dataclass(frozen=True, slots=True)
class IllustratedSection:
    """A part of the page."""

    section: Section
    figures: tuple[Figure, ...] = ()
    cards: tuple[Card, ...] = ()


def illustrated_sections(
    found: StudyFindings, shown: StudyFigures
) -> tuple[IllustratedSection, ...]:
    """Return a study's page, part by part; parts that a study has nothing to are left out."""
    return tuple(_parts(found, shown))


def _parts(found: StudyFindings, shown: StudyFigures) -> Iterator[IllustratedSection]:
    is_measured = not shown.edits.frame.is_empty()
    for section in report_sections(found):
        if section.name == "denominators":
            if is_measured:
                yield IllustratedSection(_perplexities(shown), (perplexity_figure(shown),))
            yield IllustratedSection(section, (denominator_figure(shown),) if is_measured else ())
        elif section.name == "models":
            yield from _answers(shown)
            yield IllustratedSection(section)
        elif section.name == "incidence" and is_measured:
            yield IllustratedSection(section, (incidence_figure(found),))
        elif section.name == "positions" and is_measured:
            yield IllustratedSection(section, (position_figure(found),))
        elif section.name == "worst":
            yield IllustratedSection(section, cards=worst_cards(found))
        else:
            yield IllustratedSection(section)


def _answers(shown: StudyFigures) -> Iterator[IllustratedSection]:
    """Yield the parts beyond edits and their measurements."""
    if shown.skill.frame.height:
        yield IllustratedSection(_skill(shown), skill_figures(shown))
    if shown.layers.frame.height:
        yield IllustratedSection(_layers(shown), layer_figures(shown))
    if shown.keys.frame.height or shown.anatomy.frame.height:
        yield IllustratedSection(_anatomy(shown), (*key_figures(shown), *finding_figures(shown)))
    if shown.profiles.frame.height:
        yield IllustratedSection(_profiles(shown), profile_figures(shown))
    yield from map(IllustratedSection, published(shown))
    yield from map(IllustratedSection, imported(shown))


def _perplexities(shown: StudyFigures) -> Section:
    figures = ("edits", "before", "median after", "largest finite", "infinite", "undefined")
    return Section(
        name="perplexity",
        title="Perplexity before and after",
        sentences=(),
        table=Table(
            columns=("model", "method", *figures),
            rows=tuple(
                (
                    row["model"],
                    row["method"],
                    count(row["n_edits"]),
                    *(number(row[name]) for name in ("perplexity_before", "median")),
                    number(row["largest_finite"]),
                    count(row["n_infinite"]),
                    count(row["n_undefined"]),
                )
                for row in _rows(shown.perplexities.frame)
            ),
            numeric=frozenset(figures),
        ),
        sql=shown.perplexities.sql,
    )


def _skill(shown: StudyFigures) -> Section:
    figures = (
        "edits",
        "collapsed",
        "AUC",
        "at risk from",
        "flagged that collapsed",
        "collapsed that were flagged",
    )
    return Section(
        name="skill",
        title="What the forecast foresaw",
        sentences=(
            (
                "The forecast knows keys and C alone, no edit: flagged are edits that it calls at "
                "risk or worse by their model's thresholds. On edits that a calibration was taken "
                "from, the figures are in-sample."
            ),
        ),
        table=Table(
            columns=("model", "method", *figures),
            rows=tuple(
                (
                    row["model"],
                    row["method"],
                    count(row["n_edits"]),
                    count(row["n_collapsed"]),
                    number(row["auc"]),
                    number(row["at_risk_at"]),
                    _share(row, "precision"),
                    _share(row, "recall"),
                )
                for row in _rows(shown.skill.frame)
            ),
            numeric=frozenset(figures),
        ),
        sql=shown.skill.sql,
    )


def _share(row: dict[str, Any], name: str) -> str:
    """Return a share with its interval; empty where there is nothing to have a share in."""
    if row[name] is None:
        return ""
    return f"{percent(row[name])} ({interval(row[f'{name}_low'], row[f'{name}_high'])})"


def _layers(shown: StudyFigures) -> Section:
    figures = ("layer (from 0)", "forecasts", "safe", "at risk", "will collapse")
    return Section(
        name="layers",
        title="Forecast by layer",
        sentences=(),
        table=Table(
            columns=("model", "method", *figures),
            rows=tuple(
                (
                    row["model"],
                    row["method"],
                    str(row["layer"]),
                    *(count(row[f"n_{name}"]) for name in ("forecasts", "safe")),
                    *(count(row[f"n_{name}"]) for name in ("at_risk", "will_collapse")),
                )
                for row in _rows(shown.layers.frame)
            ),
            numeric=frozenset(figures),
        ),
        sql=shown.layers.sql,
    )


def _anatomy(shown: StudyFigures) -> Section:
    figures = ("layer (from 0)", "value", "95 % interval", "group", "beside")
    return Section(
        name="anatomy",
        title="Why: the geometry of the keys",
        sentences=(),
        table=Table(
            columns=("model", "observation", *figures, "in words"),
            rows=tuple(
                (
                    row["model"],
                    row["observation"],
                    str(row["layer"]),
                    number(row["value"]),
                    f"{number(row['low'])} to {number(row['high'])}",
                    count(row["n_group"]),
                    count(row["n_others"]),
                    row["statement"],
                )
                for row in _rows(shown.anatomy.frame)
            ),
            numeric=frozenset(figures),
        ),
        sql=shown.anatomy.sql,
    )


def _profiles(shown: StudyFigures) -> Section:
    figures = ("block (from 0)", "texts", "residual norm", "key norm", "key cosine", "attention")
    first = shown.profiles.frame.filter(position=0)
    return Section(
        name="sink",
        title="The first position",
        sentences=(
            "The table has position 0 of each block; SQL under the first figure has the others.",
        ),
        table=Table(
            columns=("model", "stack", *figures),
            rows=tuple(
                (
                    row["model"],
                    row["stack"],
                    str(row["layer"]),
                    count(row["n_texts"]),
                    *(number(row[name]) for name in ("residual_norm", "key_norm", "key_cosine")),
                    number(row["attention"]),
                )
                for row in _rows(first)
            ),
            numeric=frozenset(figures),
        ),
        sql="",
    )


def _rows(frame: Any) -> Iterator[dict[str, Any]]:
    yield from frame.iter_rows(named=True)
