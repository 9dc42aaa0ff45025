"""Small real rows, real Parquet files and real DuckDB files in a temporary folder."""

import dataclasses
import functools
import os
import shutil
import time
import types
import typing
from pathlib import Path

import pytest

from editcollapse.catalog.editors import EDITORS
from editcollapse.fingerprints import digest_file
from editcollapse.rows.collapse_rule import DEFAULT_RULE
from editcollapse.rows.frames import frame_of
from editcollapse.rows.study import ROW_TYPES
from editcollapse.study.results_folder import results_at
from storage.archive import back_up
from storage.ingest import ROWS_FOLDER, RowsFile
from storage.publish import publish, rebuild

_DEFAULTS = {str: "x", int: 1, float: 0.5, bool: False, list[int]: [1, 2]}
_IDS = {
    "study_id": "study-1",
    "model_id": "model-1",
    "dataset_id": "dataset-1",
    "evaluation_id": "evaluation-1",
    "template_set_id": "templates-1",
    "covariance_id": "covariance-1",
    "settings_id": "settings-1",
    "request_id": "request-1",
    "edit_id": "edit-1",
    "settings": "{}",
    "collapse_threshold": DEFAULT_RULE.threshold,
    "collapse_ratio": DEFAULT_RULE.ratio,
}
_RANK_ONE = {
    "numerator_norm": 0.5,
    "denominator": 0.5,
    "rho": 0.5,
    "bare_key_norm": 0.5,
    "prefixed_key_norm": 0.5,
    "key_cosine": 0.5,
    "bare_key_dot": 0.5,
    "prefixed_key_dot": 0.5,
    "delta_norm": 0.5,
    "bare_value_norm": 0.5,
    "update_norm_bound": 0.5,
    "loss_kl": 0.5,
    "loss_weight_decay": 0.5,
    "clamp_hit": False,
    "update_digest": "x",
    "update_row": 1,
}
"""What an edit has whose method is no other editor."""


def make_row(table, **values):
    """Return a row of a table; ids and the rule go together, optional fields are None.

    An edit by a rank-one method has what such an edit has.
    """
    if table == "edits" and values.get("method") not in EDITORS:
        values = _RANK_ONE | values
    hints = _hints(table)
    filled = {}
    for field in dataclasses.fields(ROW_TYPES[table]):
        hint = hints[field.name]
        default = None if isinstance(hint, types.UnionType) else _DEFAULTS[hint]
        filled[field.name] = values.pop(field.name, _IDS.get(field.name, default))
    assert not values, f"{table} has no {sorted(values)}"
    return ROW_TYPES[table](**filled)


@functools.cache
def _hints(table):
    """Return the types of a table's fields."""
    return typing.get_type_hints(ROW_TYPES[table])


@dataclasses.dataclass(frozen=True)
class Folder:
    """A results folder under construction."""

    results: Path

    def write(self, table, *rows) -> RowsFile:
        """Write rows to a row file where a worker would."""
        folder = self.results / ROWS_FOLDER / table
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / "draft"
        frame_of(table, rows).write_parquet(draft)
        found = digest_file(draft)
        now = time.time_ns()  # the file system's own times are coarser
        os.utime(draft, ns=(now, now))
        draft.rename(folder / f"{found}.parquet")
        return RowsFile(table, ROWS_FOLDER / table / f"{found}.parquet", found)

    def add_study(self, *, methods=("rome", "c_rome"), perplexities=(5.0,), before=5.0, **scores):
        """Publish a study: an edit for each method and perplexity, None where not measured."""
        requests = [f"request-{index}" for index in range(len(perplexities))]
        edits = [
            make_row("edits", edit_id=f"{method}-{request}", method=method, request_id=request)
            for method in methods
            for request in requests
        ]
        measured = [
            make_row("measurements", edit_id=f"{method}-{request}", perplexity=perplexity, **scores)
            for method in methods
            for request, perplexity in zip(requests, perplexities, strict=True)
            if perplexity is not None
        ]
        named = [
            make_row("requests", request_id=r, record_index=i, subject=f"subject of {r}")
            for i, r in enumerate(requests)
        ]
        placed = [make_row("positions", request_id=r, subject_position="inside") for r in requests]
        base = [make_row("base_measurements", request_id=r, **scores) for r in requests]
        for table, rows in (
            ("studies", [make_row("studies", name="small")]),
            ("models", [make_row("models")]),
            ("study_models", [make_row("study_models", name="tiny")]),
            ("datasets", [make_row("datasets", name="facts")]),
            ("covariances", [make_row("covariances", kind="identity")]),
            ("edits", edits),
            ("study_edits", [make_row("study_edits", edit_id=edit.edit_id) for edit in edits]),
            ("requests", named),
            ("positions", placed),
            ("measurements", measured),
            ("base_perplexities", [make_row("base_perplexities", perplexity=before)]),
            ("base_measurements", base),
        ):
            self.write(table, *rows)
        self.publish()

    def publish(self):
        """Let readers see what was written; return what was added."""
        return publish(results_at(self.results))

    def rebuild(self, files=None):
        """Build the database anew; return what was taken in."""
        return rebuild(results_at(self.results), files)


@pytest.fixture(scope="session")
def empty_results(tmp_path_factory):
    """Return a results folder with a published database without rows: made once."""
    results = tmp_path_factory.mktemp("empty") / "results"
    publish(results_at(results))
    return results


@pytest.fixture(scope="session")
def folder_at(empty_results):
    """Return a maker of results folders with an empty database."""

    def make(parent):
        shutil.copytree(empty_results, parent / "results")
        return Folder(parent / "results")

    return make


@pytest.fixture
def folder(tmp_path, folder_at):
    """Return a results folder with an empty database."""
    return folder_at(tmp_path)


@pytest.fixture(scope="session")
def original(tmp_path_factory, folder_at):
    """Return a results folder with a study, rows recorded twice, a manifest, a record, tensors."""
    folder = folder_at(tmp_path_factory.mktemp("original"))
    folder.add_study(perplexities=(5.0, float("inf")))
    for name in ("a", "b", "c", "d"):
        folder.write("models", make_row("models", source=name))
    folder.publish()
    results = folder.results
    tensors = results / "artifacts/updates/x.safetensors"
    tensors.parent.mkdir(parents=True)
    tensors.write_bytes(b"tensors")
    named = tensors.rename(tensors.with_name(f"{digest_file(tensors)}.safetensors"))
    text = f'{{"path": "{named.relative_to(results).as_posix()}"}}'
    for path in (results / "artifacts/manifests/edits-1.json", results / "records/edits-1"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture(scope="session")
def archive(original, tmp_path_factory):
    """Return a backup of it."""
    path = tmp_path_factory.mktemp("archive") / "b.tar"
    back_up(original.results, path)
    return path


@pytest.fixture
def finished(original, tmp_path):
    """Return a copy of the folder that a test may change."""
    return Folder(shutil.copytree(original.results, tmp_path / "finished"))


@pytest.fixture(name="make_row")
def make_row_fixture():
    """Return the maker of rows."""
    return make_row
