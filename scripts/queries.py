"""Queries of ``scripts/sql``, asked of the rows that are checked in."""

from pathlib import Path

import polars as pl

from storage.ask import ask

_QUERIES = Path(__file__).parent / "sql"


def ask_own(results: Path, query: str) -> pl.DataFrame:
    """Return the answer of the query of that name."""
    return ask(results, (_QUERIES / f"{query}.sql").read_text(encoding="utf-8"))
