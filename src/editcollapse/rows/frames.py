"""Rows as Polars frames: the schema of a frame is read from its row type, never written twice."""

import dataclasses
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from editcollapse.rows.study import ROW_TYPES

_DTYPES: dict[Any, pl.DataType] = {
    str: pl.String(),
    int: pl.Int64(),
    float: pl.Float64(),
    bool: pl.Boolean(),
    list[int]: pl.List(pl.Int64()),
    list[float]: pl.List(pl.Float64()),
}


def schema_of(table: str) -> dict[str, pl.DataType]:
    """Return column name to Polars type for one table of ``study.ROW_TYPES``."""
    hints = typing.get_type_hints(ROW_TYPES[table])
    fields = dataclasses.fields(ROW_TYPES[table])
    return {field.name: _DTYPES[_without_none(hints[field.name])] for field in fields}


def frame_of(table: str, rows: Iterable[Any]) -> pl.DataFrame:
    """Return the rows of one table as a frame with the table's schema.

    Args:
        table: a name of ``study.ROW_TYPES``.
        rows: instances of that table's row type.

    Raises:
        TypeError: a row is of another type.
    """
    expected = ROW_TYPES[table]
    names = [field.name for field in dataclasses.fields(expected)]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        if type(row) is not expected:
            raise TypeError(f"table {table} holds {expected.__name__}, got {type(row).__name__}")
        for name in names:
            columns[name].append(getattr(row, name))
    return pl.DataFrame(columns, schema=schema_of(table))


def rows_of(table: str, frame: pl.DataFrame) -> Sequence[Any]:
    """Return a frame's rows as instances of the table's row type."""
    row_type = ROW_TYPES[table]
    return [row_type(**record) for record in frame.iter_rows(named=True)]


def _without_none(hint: Any) -> Any:
    """Return ``X`` for ``X | None``; any other hint unchanged."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        (kept,) = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return kept
    return hint
