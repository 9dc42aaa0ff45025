"""The demo study's rows, checked in: its results in two seconds, without running it.

``python -m scripts.demo_rows FOLDER`` makes a results folder of them; with ``--take`` it writes the
checked-in rows anew from a folder that ``make demo`` has filled, and the studies whose tables the
documents show (of sequences: ``sequence``, ``sequence_demo`` and ``sequence_real``). All of the
folder's studies are taken.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from editcollapse.errors import ResultsError
from editcollapse.fingerprints import digest_bytes
from editcollapse.rows.frames import schema_of
from editcollapse.rows.study import NATURAL_KEYS
from editcollapse.study.results_folder import results_at
from storage.database import SNAPSHOT, open_snapshot
from storage.ingest import ROWS_FOLDER, RowsFile
from storage.publish import rebuild

ROWS = Path(__file__).parent.parent / "demo" / "rows"
"""One Parquet file for each table that has rows."""
_OF_A_MACHINE = {"provenance"}
"""Tables that say where and when something ran, which is nobody else's business."""


def unpack(results: Path) -> Path:
    """Make a results folder of the checked-in rows and publish it.

    Args:
        results: a folder that holds no results yet; made if it is not there.

    Returns:
        The path of its ``results.duckdb``.

    Raises:
        ResultsError: the folder holds results, or cannot be written.
    """
    if (results / SNAPSHOT).exists() or (results / ROWS_FOLDER).exists():
        raise ResultsError(
            f"the demo study's rows were to be unpacked to {results}, which holds results already. "
            "Name a folder that does not."
        )
    files = []
    try:
        for path in sorted(ROWS.glob("*.parquet")):
            data = path.read_bytes()
            digest = digest_bytes(data)
            file = RowsFile(path.stem, ROWS_FOLDER / path.stem / f"{digest}.parquet", digest)
            (results / file.path).parent.mkdir(parents=True)
            (results / file.path).write_bytes(data)
            files.append(file)
    except OSError as error:
        raise ResultsError(
            f"cannot write to {results}: {error.strerror}. Name a folder that can be written."
        ) from error
    rebuild(results_at(results), files)
    return results / SNAPSHOT


def take(results: Path) -> None:
    """Write the checked-in rows anew from what a results folder has published.

    Raises:
        ResultsError: the folder has no results.
    """
    with open_snapshot(results) as connection:
        frames: dict[str, pl.DataFrame] = {
            table: connection.sql(f"from {table} order by {', '.join(keys)}").pl()
            for table, keys in NATURAL_KEYS.items()
            if table not in _OF_A_MACHINE
        }
    frames["sequence_scores"] = _compared(frames["sequence_scores"])
    ROWS.mkdir(exist_ok=True)
    for old in ROWS.glob("*.parquet"):
        old.unlink()
    for table, frame in frames.items():
        if frame.height:
            own = [column for column in frame.columns if column in schema_of(table)]
            frame.select(own).write_parquet(
                ROWS / f"{table}.parquet", compression="zstd", compression_level=19
            )


def _compared(scores: pl.DataFrame) -> pl.DataFrame:
    """Return the scores that a view reads: each final one, and the immediate one beside it."""
    final = scores.filter(pl.col("moment") == "final")
    immediate = scores.filter(pl.col("moment") == "immediate").join(
        final,
        left_on=["sequence_id", "request_id", "step"],
        right_on=["sequence_id", "request_id", "edited_at"],
        how="semi",
    )
    return pl.concat([final, immediate]).sort(NATURAL_KEYS["sequence_scores"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Unpack the rows, or take them from a folder; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.demo_rows", description=__doc__)
    parser.add_argument("folder", type=Path, help="results folder")
    parser.add_argument("--take", action="store_true", help="write demo/rows from this folder")
    options = parser.parse_args(arguments)
    try:
        if options.take:
            take(options.folder)
        else:
            sys.stdout.write(f"{unpack(options.folder)}\n")
    except ResultsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
