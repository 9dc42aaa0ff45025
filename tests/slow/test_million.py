"""A million measurements, taken in by the real builder: how long answers take."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from editcollapse.catalog.methods import METHODS
from editcollapse.fingerprints import digest, digest_file
from editcollapse.rows.frames import frame_of, schema_of
from editcollapse.study.results_folder import results_at
from storage.database import open_snapshot
from storage.ingest import ROWS_FOLDER, RowsFile
from storage.publish import publish
from tests.storage.conftest import make_row

pytestmark = pytest.mark.slow
N_MODELS = 10
N_REQUESTS = 20_000
N_FILES = 8
N_ASKED = 7
LIMIT_S = 0.2
"""For the whole of ``collapse_incidence``, median of several, the file's pages being in memory."""
_POSITIONS = ("first_token", "first_several", "inside")


def write(results: Path, table: str, frame: pl.DataFrame) -> RowsFile:
    """Write a frame as a row file, named by its bytes."""
    folder = results / ROWS_FOLDER / table
    folder.mkdir(parents=True, exist_ok=True)
    frame.select(list(schema_of(table))).write_parquet(folder / "draft")
    found = digest_file(folder / "draft")
    (folder / "draft").rename(folder / f"{found}.parquet")
    return RowsFile(table, ROWS_FOLDER / table / f"{found}.parquet", found)


def filled(table: str, n_rows: int, **columns: object) -> pl.DataFrame:
    """Return rows of a table: one row's values, but for the columns that are given."""
    base = frame_of(table, [make_row(table)])
    given = [pl.Series(name, value) for name, value in columns.items()]
    plain = pl.select(pl.int_range(n_rows).alias("place")).join(base, how="cross").drop("place")
    return plain.with_columns(*given).cast(dict(base.schema))


def write_many(results: Path, n_models: int, n_requests: int) -> list[str]:
    """Write and take in a study that edits each request in each model by each method.

    Returns the ids of its edits.
    """
    generator = np.random.default_rng(0)
    models = [digest("model", index) for index in range(n_models)]
    requests = [digest("request", index) for index in range(n_requests)]
    methods = list(METHODS)
    settings = json.dumps(
        {
            "note": "",
            "methods": methods,
            "models": [{"name": models[0]}],
            "templates": {"kind": "generated"},
        }
    )
    files = [
        write(results, "studies", filled("studies", 1, name=["many"], settings=[settings])),
        write(results, "datasets", filled("datasets", 1)),
        write(results, "covariances", filled("covariances", 1)),
        write(results, "models", filled("models", n_models, model_id=models)),
        write(
            results,
            "study_models",
            filled("study_models", n_models, model_id=models, name=models),
        ),
        write(
            results,
            "base_perplexities",
            filled("base_perplexities", n_models, model_id=models, perplexity=[20.0] * n_models),
        ),
        write(
            results,
            "requests",
            filled("requests", n_requests, request_id=requests, record_index=range(n_requests)),
        ),
    ]
    pairs = pl.DataFrame({"model_id": models}).join(
        pl.DataFrame({"request_id": requests}), how="cross"
    )
    places = generator.choice(_POSITIONS, len(pairs))
    files += [
        write(
            results,
            "positions",
            filled("positions", len(pairs), **pairs.to_dict(), subject_position=places),
        ),
        write(
            results, "base_measurements", filled("base_measurements", len(pairs), **pairs.to_dict())
        ),
    ]
    edits = pairs.join(pl.DataFrame({"method": methods}), how="cross").with_row_index("number")
    edits = edits.with_columns(
        edit_id=pl.concat_str("model_id", "request_id", "method").map_elements(
            digest, return_dtype=pl.String
        )
    ).drop("number")
    perplexities = 20.0 * np.exp(generator.standard_exponential(len(edits)) ** 2)
    perplexities[generator.random(len(edits)) < 0.001] = np.inf
    step = -(-len(edits) // N_FILES)
    for start in range(0, len(edits), step):
        part = edits[start : start + step]
        measured = perplexities[start : start + step]
        files += [
            write(results, "edits", filled("edits", len(part), **part.to_dict())),
            write(
                results, "study_edits", filled("study_edits", len(part), edit_id=part["edit_id"])
            ),
            write(
                results,
                "measurements",
                filled("measurements", len(part), edit_id=part["edit_id"], perplexity=measured),
            ),
        ]
    assert publish(results_at(results)).n_files == len(files)
    return edits["edit_id"].to_list()


@pytest.fixture(scope="module")
def million(tmp_path_factory) -> Path:
    """Return a results folder with a million measured edits."""
    results = tmp_path_factory.mktemp("million") / "results"
    start = time.perf_counter()
    n_edits = len(write_many(results, N_MODELS, N_REQUESTS))
    print(f"\n{n_edits:,} edits written and taken in: {time.perf_counter() - start:.0f} s")
    assert n_edits == 1_000_000
    return results


def seconds(results: Path, sql: str) -> float:
    """Return the median time that a query takes, in seconds, and print it."""
    with open_snapshot(results) as connection:
        connection.sql(sql).pl()
        taken = []
        for _ in range(N_ASKED):
            start = time.perf_counter()
            connection.sql(sql).pl()
            taken.append(time.perf_counter() - start)
    median = statistics.median(taken)
    print(f"{sql}: {1000 * median:.0f} ms ({1000 * min(taken):.0f} to {1000 * max(taken):.0f})")
    return median


def test_incidence_of_a_million_measurements_is_quick(million):
    """collapse_incidence over a million measurements takes less than 200 ms."""
    assert seconds(million, "from collapse_incidence") < LIMIT_S
