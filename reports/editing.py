"""What a method costs: whether edits that spare their model still write the fact, and no more."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from editcollapse.catalog.editors import editor_title
from editcollapse.rows.study import POSITIONS
from reports.edit_charts import share_cells
from reports.figures import (
    PLACES,
    SHARES,
    Figure,
    Panel,
    by_model,
    places_named,
    present,
    titled,
)
from reports.text import Section, Table, count, percent
from storage.ask import StudyFindings

_COLUMNS = (
    ("collapse_share", "collapse share"),
    ("efficacy", "efficacy, bare prompt"),
    ("efficacy_prefixed", "efficacy, prefixed"),
    ("generalization", "generalization"),
    ("locality", "locality"),
    ("portability", "portability"),
    ("es", "ES"),
    ("ps", "PS"),
    ("ns", "NS"),
)
"""Columns of the query and of the table; portability only where it is measured."""
_DRAWN = (
    ("collapse_share", "collapse|share"),
    ("efficacy", "efficacy,|bare"),
    ("efficacy_prefixed", "efficacy,|prefixed"),
    ("generalization", "general-|ization"),
    ("locality", "locality"),
)
"""Of these, what the figure shows, and the words under it in lines."""
_APART = 0.2
"""Efficacies on the bare prompt and behind a prefix that differ by so much are told."""
_TOLD = 4
"""At most, those farthest apart first."""
_SCOPE = (
    "Means over the edits. Efficacy: share of the new object's tokens that the edited model says "
    "next, on the bare rewrite prompt and behind the context templates; generalization: on "
    "paraphrases; locality: tokens on neighboring prompts that stay as they were (EasyEdit); "
    "portability, where the dataset asks for it: on prompts of what follows from it (KnowEdit). "
    "ES, PS and NS: shares of rewrite, paraphrase and neighborhood prompts with the right object "
    "likelier (CounterFact)."
)


def editing(found: StudyFindings) -> Iterator[Section]:
    """Yield the part, where edits are measured."""
    rows = list(found.editing.frame.iter_rows(named=True))
    if not rows:
        return
    split = sorted((row for row in rows if _apart(row) >= _APART), key=_apart, reverse=True)
    columns = [
        each
        for each in _COLUMNS
        if each[0] != "portability" or any(row["portability"] is not None for row in rows)
    ]
    names = tuple(name for _, name in columns)
    yield Section(
        name="editing",
        title="Does it still edit?",
        sentences=(_SCOPE, *map(_told, split[:_TOLD])),
        table=Table(
            columns=("model", "method", "subject", "edits", *names),
            rows=tuple(
                (
                    row["model"],
                    editor_title(row["method"]),
                    _place(row),
                    count(row["n_edits"]),
                    *(_share(row[column]) for column, _ in columns),
                )
                for row in rows
            ),
            numeric=frozenset(("edits", *names)),
        ),
        sql=found.editing.sql,
    )


def _place(row: dict[str, Any]) -> str:
    """Return the position of the subject in words."""
    return POSITIONS.get(row["subject_position"], row["subject_position"] or "")


def _share(value: float | None) -> str:
    """Return a share in percent; empty where it was not measured."""
    return "" if value is None else percent(value)


def _apart(row: dict[str, Any]) -> float:
    """Return how far efficacies on the bare prompt and behind a prefix are apart."""
    prefixed = row["efficacy_prefixed"]
    return 0.0 if prefixed is None else abs(float(prefixed) - float(row["efficacy"]))


def _told(row: dict[str, Any]) -> str:
    """Return how such edits differ on the bare prompt and behind a prefix."""
    return (
        f"{editor_title(row['method'])} on {row['model']}, subject {_place(row)}: "
        f"{percent(row['collapse_share'])} collapse; efficacy is {percent(row['efficacy'])} on the "
        f"bare prompt and {percent(row['efficacy_prefixed'])} behind the context templates."
    )


def editing_figure(found: StudyFindings) -> Figure:
    """Return the same as shaded cells: a panel a model and position, a line a method."""
    rows = places_named(titled(found.editing.frame))
    places = present(rows, "place", PLACES)
    return Figure(
        name="figure-editing",
        caption=(
            "What each method does to the model (first column, better low) and whether it edits "
            "(the others, better high), by position of the subject."
        ),
        description="Collapse share, efficacy, generalization and locality by method.",
        panels=tuple(
            Panel(
                f"{place}: {count(own['n_edits'].max())} edits a method",  # type: ignore[arg-type]  # counts are integers
                share_cells([words for _, words in _DRAWN], own.height),
                _long(own),
                model,
            )
            for model, part in by_model(rows)
            for place in places
            for own in [part.filter(pl.col("place") == place)]
            if own.height
        ),
        sql="",
    )


def _long(rows: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each method and share that is measured."""
    bad, good = SHARES
    return pl.concat(
        rows.select(
            "method",
            pl.lit(words).alias("quantity"),
            pl.lit(bad if column == "collapse_share" else good).alias("word"),
            pl.col(column).alias("share"),
        )
        for column, words in _DRAWN
    ).drop_nulls("share")
