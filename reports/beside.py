"""Parts of the page that lay others' figures beside ours: published ones, and imported runs."""

from collections.abc import Iterator

from reports.sections import Section, Table
from reports.wording import count, number
from storage.figures import StudyFigures

_SCORES = (
    "efficacy",
    "generalization",
    "locality",
    "efficacy_score",
    "paraphrase_score",
    "neighborhood_score",
)


def published(shown: StudyFigures) -> Iterator[Section]:
    """Yield published figures of the study's models, where the same quantity was measured here."""
    rows = list(shown.published.frame.iter_rows(named=True))
    if not rows:
        return
    figures = ("published", "edits here", "smallest", "median", "largest")
    yield Section(
        name="published",
        title="Published figures beside ours",
        sentences=(
            (
                "Ours are all edits of the same model in these results, of this study and of "
                "others, by method and second moment where the source does not say."
            ),
        ),
        table=Table(
            columns=("source", "model", "quantity", "method", "C", *figures, "remark"),
            rows=tuple(
                (
                    f"{row['work']}, {row['place']}",
                    row["model"],
                    row["metric"],
                    row["method"] or "",
                    row["covariance"] or "",
                    _with_unit(row["published_value"], row["unit"]),
                    count(row["n_edits"]),
                    *(number(row[name]) for name in ("minimum", "median", "maximum")),
                    row["remark"] or "",
                )
                for row in rows
            ),
            numeric=frozenset(figures),
        ),
        sql=shown.published.sql,
    )


def imported(shown: StudyFigures) -> Iterator[Section]:
    """Yield imported runs beside this study, by the measures that both have."""
    rows = list(shown.imported.frame.iter_rows(named=True))
    if not rows:
        return
    figures = ("edits", *(name.replace("_", " ") for name in _SCORES))
    yield Section(
        name="imported",
        title="Imported runs beside this study",
        sentences=(),
        table=Table(
            columns=("run", "origin", "model", "method", *figures),
            rows=tuple(
                (
                    row["run"],
                    row["origin"],
                    row["model"] or "",
                    row["method"] or "",
                    count(row["n_edits"]),
                    *(number(row[name]) for name in _SCORES),
                )
                for row in rows
            ),
            numeric=frozenset(figures),
        ),
        sql=shown.imported.sql,
    )


def _with_unit(value: float, unit: str) -> str:
    """Return a figure with its unit, where it has one."""
    return number(value) if unit in {"none", ""} else f"{number(value)} {unit}"
