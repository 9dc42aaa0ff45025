"""The parts of a report: sentences, a table with the SQL that it answers, a picture of intervals.

The HTML page and the Markdown artifact are two renderings of the same sections. Nothing here is
escaped: that is the renderings' business.
"""

import dataclasses
from collections.abc import Iterator

from reports import sentences
from reports.wording import POSITIONS, RULE, count, interval, number, percent
from storage.findings import StudyFindings


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """Cells as text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[str] = frozenset()
    """Columns that are set flush right."""


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """One line of a picture: a share and its interval, fractions 0-1."""

    label: str
    share: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """One part of a report."""

    name: str
    """Anchor in the page."""
    title: str
    sentences: tuple[str, ...]
    table: Table
    sql: str
    """Answers with the table's rows; empty where no single query does."""
    intervals: tuple[Interval, ...] = ()


def report_sections(found: StudyFindings) -> tuple[Section, ...]:
    """Return a study's report, part by part."""
    from reports.comparing import comparison  # these are made of the parts above
    from reports.guarded import guarded

    return (
        _incidence(found),
        _positions(found),
        *comparison(found),
        *guarded(found),
        _denominators(found),
        _worst(found),
        _models(found),
        _settings(found),
    )


def incidence_table(found: StudyFindings) -> Table:
    """Return collapse incidence by model and method."""
    return Table(
        columns=("model", "method", *_SHARES),
        rows=tuple(
            (row["model"], row["method"], *_share_cells(row))
            for row in found.incidence.frame.iter_rows(named=True)
        ),
        numeric=frozenset(_SHARES),
    )


_SHARES = ("collapsed", "share", "95 % interval", "worst perplexity ratio")


def _share_cells(row: dict[str, float]) -> tuple[str, ...]:
    return (
        f"{count(int(row['n_collapsed']))} of {count(int(row['n_edits']))}",
        percent(row["share"]),
        interval(row["wilson_low"], row["wilson_high"]),
        number(row["max_perplexity_ratio"]),
    )


def _incidence(found: StudyFindings) -> Section:
    return Section(
        name="incidence",
        title="How often edits collapse the model",
        sentences=(RULE, *sentences.coverage(found), *sentences.incidence(found)),
        table=incidence_table(found),
        sql=found.incidence.sql,
        intervals=tuple(
            Interval(
                f"{row['model']}, {row['method']}",
                row["share"],
                row["wilson_low"],
                row["wilson_high"],
            )
            for row in found.incidence.frame.iter_rows(named=True)
        ),
    )


def _positions(found: StudyFindings) -> Section:
    return Section(
        name="positions",
        title="By place of the subject",
        sentences=(),
        table=Table(
            columns=("model", "method", "subject", *_SHARES),
            rows=tuple(
                (
                    row["model"],
                    row["method"],
                    POSITIONS.get(row["subject_position"], row["subject_position"] or ""),
                    *_share_cells(row),
                )
                for row in found.positions.frame.iter_rows(named=True)
            ),
            numeric=frozenset(_SHARES),
        ),
        sql=found.positions.sql,
    )


def _denominators(found: StudyFindings) -> Section:
    figures = ("edits", "smallest", "median", "largest", "median relative update")
    return Section(
        name="denominators",
        title="Denominators",
        sentences=tuple(sentences.denominators(found)),
        table=Table(
            columns=("model", "method", "outcome", *figures),
            rows=tuple(
                (
                    row["model"],
                    row["method"],
                    row["outcome"],
                    count(row["n_edits"]),
                    *(number(row[name]) for name in ("minimum", "median", "maximum")),
                    number(row["median_relative_update_norm"]),
                )
                for row in found.denominators.frame.iter_rows(named=True)
            ),
            numeric=frozenset(figures),
        ),
        sql=found.denominators.sql,
    )


def _worst(found: StudyFindings) -> Section:
    figures = ("before", "perplexity", "ratio", "|denominator|")
    return Section(
        name="worst",
        title="The most damaging edits",
        sentences=tuple(sentences.worst(found)),
        table=Table(
            columns=("model", "method", "prompt", "target", *figures),
            rows=tuple(
                (
                    row["model"],
                    row["method"],
                    row["prompt"].replace("{}", row["subject"]),
                    row["target_new"],
                    number(row["perplexity_before"]),
                    number(row["perplexity"]),
                    number(row["perplexity_ratio"]),
                    number(row["abs_denominator"]),
                )
                for row in found.worst.frame.iter_rows(named=True)
            ),
            numeric=frozenset(figures),
        ),
        sql=found.worst.sql,
    )


def _models(found: StudyFindings) -> Section:
    figures = (
        "layer (from 0)",
        "layers",
        "parameters",
        "unedited perplexity",
        "C tokens",
        "damping",
    )
    return Section(
        name="models",
        title="Models and second moments",
        sentences=(),
        table=Table(
            columns=("model", "source", "family", "dtype", "settings", "C from", *figures),
            rows=tuple(
                (
                    row["model"],
                    *(row[name] or "" for name in ("source", "family", "dtype")),
                    row["layer_source"] or "",
                    ": ".join(
                        part for part in (row["covariance"], row["covariance_source"]) if part
                    ),
                    str(row["layer"]),
                    count(row["n_layers"]),
                    count(row["n_parameters"]),
                    number(row["perplexity_before"]),
                    count(row["covariance_tokens"]),
                    number(row["damping"]),
                )
                for row in found.models.frame.iter_rows(named=True)
            ),
            numeric=frozenset(figures),
        ),
        sql=found.models.sql,
    )


def _settings(found: StudyFindings) -> Section:
    return Section(
        name="settings",
        title="Settings",
        sentences=(),
        table=Table(columns=("setting", "value"), rows=tuple(_setting_rows(found))),
        sql=found.settings.sql,
    )


def _setting_rows(found: StudyFindings) -> Iterator[tuple[str, str]]:
    yield "study", found.name
    if found.description:
        yield "description", found.description
    yield "study id", found.study_id
    yield "methods", ", ".join(found.methods)
    yield "dataset", f"{found.dataset} ({found.schema}), {count(found.n_requests)} requests edited"
    yield "perplexity texts", f"{found.text_set}, {count(found.n_texts)} texts"
    yield "context templates", found.templates
    yield "seed", str(found.seed)
    yield "version of the numbers", str(found.numerics)
