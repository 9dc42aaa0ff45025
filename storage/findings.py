"""What a study has found: the answers that its report is made of, each with its SQL to copy."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from editcollapse.errors import ResultsError, StudyError, nearest_first
from storage.database import open_snapshot
from storage.queries import query_text
from storage.transactions import literal


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A query of one study and what it gave."""

    sql: str
    """Runs as it stands: the study's id is written out."""
    frame: pl.DataFrame


@dataclasses.dataclass(frozen=True, slots=True)
class StudyFindings:
    """One study as it is published. All texts are as the study and its files gave them."""

    study_id: str
    name: str
    description: str
    note: str
    methods: tuple[str, ...]
    templates: str
    """Kind of the context templates."""
    seed: int
    numerics: int
    dataset: str
    schema: str
    n_records: int
    n_rejected: int
    text_set: str
    n_texts: int
    n_requests: int
    """Requests with at least one edit."""
    n_edits: int
    n_measured: int
    settings: Answer
    """Query ``study``."""
    models: Answer
    """Query ``study_models``."""
    incidence: Answer
    """Query ``incidence_by_method``."""
    positions: Answer
    """Query ``incidence_by_position``."""
    denominators: Answer
    """Query ``denominators_by_outcome``."""
    worst: Answer
    """Query ``study_run``."""
    comparison: Answer
    """Query ``compare_in_study``; empty with one method and one model."""
    guard: Answer
    """Query ``guard_in_study``; empty where the study has no guard."""


def findings(results: Path, study_id: str) -> StudyFindings:
    """Return what a study has found, as last published.

    Args:
        results: the results folder.
        study_id: an id of table ``studies``.

    Raises:
        ResultsError: there are no results yet, or they do not hold this study.
    """
    with open_snapshot(results) as connection:
        study = answer_for(connection, "study", study_id)
        if study.frame.is_empty():
            raise ResultsError(
                f"{results} holds no study with the id {study_id}. "
                'python -m flows sql "from studies" lists them.'
            )
        row = study.frame.row(0, named=True)
        settings: dict[str, Any] = json.loads(row["settings"])
        return StudyFindings(
            study_id=study_id,
            name=row["name"],
            description=row["description"],
            note=settings["note"],
            methods=tuple(settings["methods"]),
            templates=settings["templates"]["kind"],
            seed=row["seed"],
            numerics=row["numerics"],
            dataset=row["dataset"],
            schema=row["schema_name"],
            n_records=row["n_records"],
            n_rejected=row["n_rejected"],
            text_set=row["text_set"],
            n_texts=row["n_texts"],
            n_requests=row["n_requests"],
            n_edits=row["n_edits"],
            n_measured=row["n_measured"],
            settings=study,
            models=answer_for(connection, "study_models", study_id),
            incidence=answer_for(connection, "incidence_by_method", study_id),
            positions=answer_for(connection, "incidence_by_position", study_id),
            denominators=answer_for(connection, "denominators_by_outcome", study_id),
            worst=answer_for(connection, "worst_edits", study_id),
            comparison=answer_for(connection, "compare_in_study", study_id),
            guard=answer_for(connection, "guard_in_study", study_id),
        )


def find_study(results: Path, wanted: str = "") -> str:
    """Return the id of a study that is named by name or id; left out, the only one there is.

    Raises:
        ResultsError: there are no results yet, or no study in them.
        StudyError: no study has such a name or id, or several have.
    """
    with open_snapshot(results) as connection:
        known: pl.DataFrame = connection.sql(query_text("studies")).pl()
    if known.is_empty():
        raise ResultsError(f"no study is recorded in {results} yet. Run one: python -m flows run")
    is_asked = (pl.col("name") == wanted) | (pl.col("study_id") == wanted)
    found = known.filter(is_asked) if wanted else known
    if found.is_empty():
        names = nearest_first(wanted, known["name"].unique().to_list())
        raise StudyError(f"no study {wanted!r} in {results}. Known: {names}.")
    if found.height > 1:
        listed = ", ".join(
            f"{row['name']} {row['study_id']} ({row['n_edits']} edits)"
            for row in found.iter_rows(named=True)
        )
        asked = f"{wanted!r} names {found.height} studies" if wanted else "which study?"
        raise StudyError(f"{asked} in {results}: {listed}. Give an id.")
    return str(found["study_id"].item())


def answer_for(connection: duckdb.DuckDBPyConnection, name: str, study_id: str) -> Answer:
    """Return a named query's answer for one study."""
    text = query_text(name)
    frame: pl.DataFrame = connection.sql(text, params={"study_id": study_id}).pl()
    return Answer(text.strip().replace("$study_id", literal(study_id)), frame)
