"""What edits achieve where the model writes by itself, beside their teacher-forced scores."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from editcollapse.catalog.editors import editor_title
from reports.edit_charts import share_cells
from reports.figures import SHARES, Figure, Panel, by_model, titled
from reports.text import Section, Table, count, number, percent
from storage.ask import StudyFindings

_SCOPE = (
    "Means over the edits that were asked. Teacher-forced: share of the new object's tokens that "
    "are the likeliest, each behind those before it. Free: the model writes by itself, always the "
    "likeliest token; exact: its answer is the new object after normalisation (WILD); contains: "
    "the answer has the object in it. Same tokens: neighborhood prompts behind which the very "
    "tokens of the unedited model are written. Fluency is the n-gram entropy in bits."
)
_COLUMNS = (
    ("efficacy", "efficacy, teacher-forced", "efficacy,|forced"),
    ("exact_efficacy", "exact", "efficacy,|exact"),
    ("contains_efficacy", "contains", "efficacy,|contains"),
    ("judged_efficacy", "judged", "efficacy,|judged"),
    ("generalization", "generalization, teacher-forced", ""),
    ("exact_generalization", "exact on paraphrases", ""),
    ("contains_generalization", "contains on paraphrases", ""),
    ("locality", "locality, teacher-forced", "locality,|forced"),
    ("generated_locality", "same tokens", "same|tokens"),
)
"""Columns of the query, of the table, and words in lines over the figure's cells
where it has them."""


def free_answers(found: StudyFindings) -> Iterator[Section]:
    """Yield the part, where edits have answered freely."""
    frame = found.answers.frame
    if frame.is_empty():
        return
    columns = [each for each in _COLUMNS if frame[each[0]].count()]
    names = tuple(name for _, name, _ in columns)
    fluency = ("fluency before", "after") if frame["ngram_entropy"].count() else ()
    judge = ("judge",) if frame["judge"].count() else ()
    figures = ("edits", *names, *fluency)
    yield Section(
        name="free-answers",
        title="What does it write by itself?",
        sentences=(_SCOPE,),
        table=Table(
            columns=("model", "method", "context", *judge, *figures),
            rows=tuple(
                (
                    row["model"],
                    editor_title(row["method"]),
                    row["context"],
                    *((row["judge"] or "",) if judge else ()),
                    count(row["n_edits"]),
                    *("" if row[name] is None else percent(row[name]) for name, *_ in columns),
                    *(_fluency(row) if fluency else ()),
                )
                for row in frame.iter_rows(named=True)
            ),
            numeric=frozenset(figures),
        ),
        sql=found.answers.sql,
    )


def _fluency(row: dict[str, Any]) -> tuple[str, str]:
    before, after = row["ngram_entropy_before"], row["ngram_entropy"]
    return number(before), number(after)


def answers_figure(found: StudyFindings) -> Figure:
    """Return the same as shaded cells: a panel a model, a line a method and context."""
    rows = titled(found.answers.frame)
    columns = [each for each in _COLUMNS if each[2] and rows[each[0]].count()]
    words = [shown for *_, shown in columns]
    lines = rows.with_columns(pl.concat_str("method", pl.lit(", "), "context").alias("line"))
    return Figure(
        name="figure-free-answers",
        caption=(
            "Teacher-forced scores beside what the model writes by itself, by method and context "
            "of the question. All better high."
        ),
        description="Shares of edits that take effect, teacher-forced and in free generation.",
        panels=tuple(
            Panel(model, share_cells(words, own.height), _long(own, columns))
            for model, own in by_model(lines)
        ),
        sql="",
    )


def _long(rows: pl.DataFrame, columns: list[tuple[str, str, str]]) -> pl.DataFrame:
    """Return a row for each line and share that is measured."""
    return pl.concat(
        rows.select(
            pl.col("line").alias("method"),
            pl.lit(words).alias("quantity"),
            pl.lit(SHARES[1]).alias("word"),
            pl.col(column).alias("share"),
        )
        for column, _, words in columns
    ).drop_nulls("share")
