"""Files of results: named by content, written whole or not at all, and checked when read."""

import os
import subprocess
import sys

import polars as pl
import pytest
import torch

from editcollapse.errors import ArtifactError, ResultsError
from editcollapse.fingerprints import digest_file
from editcollapse.rows.study import StudyEditRow
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore


@pytest.fixture
def store(tmp_path):
    """Return a store below an empty folder."""
    return ArtifactStore(tmp_path / "results")


def put(store, kind):
    """Write one artifact of a kind; return its reference and how to read it."""
    if kind == "tensors":
        return store.put_tensors("t", {"a": torch.arange(6.0).view(2, 3)}), store.tensors
    if kind == "rows":
        return store.put_rows("study_edits", [StudyEditRow("s", "e")]), store.frame
    return store.put_json("texts", ["ä", "b"]), store.json


KINDS = ("tensors", "rows", "json")


def test_round_trips(store):
    """What is written is read again: tensors of any layout, rows with their schema, data."""
    tensor = torch.arange(12, dtype=torch.float64).view(3, 4)
    views = {"turned": tensor.T, "part": tensor[:, 1], "half": tensor.to(torch.bfloat16)}
    found = store.tensors(store.put_tensors("t", views))
    assert set(found) == set(views)
    assert all(torch.equal(found[name], view) for name, view in views.items())
    assert store.tensors(store.put_tensors("t", {})) == {}
    ref = store.put_rows("study_edits", [StudyEditRow("s", "e")])
    assert ref.table == "study_edits"
    assert store.frame(ref).rows() == [("s", "e")]
    empty = store.frame(store.put_rows("study_edits", []))
    assert empty.schema == {"study_id": pl.String, "edit_id": pl.String}
    assert store.json(store.put_json("texts", ["ä", {"b": 1}])) == ["ä", {"b": 1}]


@pytest.mark.parametrize("kind", KINDS)
def test_same_content_same_file(store, kind):
    """Equal content is one file, named by the digest of its bytes, below the results folder."""
    (first, _), (second, _) = put(store, kind), put(store, kind)
    assert first == second
    path = store.here / first.path
    assert not os.path.isabs(first.path)  # noqa: PTH117  a string, not a path
    assert digest_file(path) == first.digest == path.stem
    assert path.stat().st_size == first.n_bytes
    assert list(path.parent.iterdir()) == [path]
    assert ArtifactRef.model_validate_json(first.model_dump_json()) == first


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "delete"])
def test_damage_is_found(store, kind, damage):
    """A flipped bit, a cut or a missing file is found before anything is read from it."""
    ref, read = put(store, kind)
    assert store.is_whole(ref)
    path = store.here / ref.path
    data = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    elif damage == "flip":
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    else:
        path.write_bytes(data[: len(data) // 2 if damage == "truncate" else 0])
    assert not store.is_whole(ref)
    found = "missing" if damage == "delete" else "changed since it was written"
    with pytest.raises(ArtifactError, match=f"{found}\\. Run the study again"):
        read(ref)
    again, _ = put(store, kind)  # writing it again mends it
    assert again == ref
    assert store.is_whole(ref)


def test_failed_write_leaves_nothing(store):
    """What cannot be written leaves no file, whole or part."""
    with pytest.raises(TypeError):
        store.put_json("texts", {"a": object()})
    with pytest.raises(TypeError):
        store.put_rows("study_edits", ["no row"])
    shared = torch.zeros(4)
    with pytest.raises(RuntimeError, match="share memory"):
        store.put_tensors("t", {"a": shared, "b": shared})
    assert not [path for path in store.here.rglob("*") if path.is_file()]


_FULL_DISK = """
import pathlib, resource, sys, torch
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.errors import ResultsError
from editcollapse.outcomes import StudyEditRow
store = ArtifactStore(pathlib.Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for write in (
    lambda: store.put_tensors("t", {"a": torch.zeros(5000)}),
    lambda: store.put_rows("study_edits", [StudyEditRow(str(n), str(7 * n)) for n in range(2000)]),
    lambda: store.put_json("texts", list(range(5000))),
):
    try:
        write()
    except ResultsError as error:
        print(error)
"""


def test_full_disk_is_told_and_leaves_nothing(tmp_path):
    """Where the disk takes no more, each writer says so in one sentence and leaves no part."""
    command = [sys.executable, "-c", _FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(KINDS)
    for line in lines:
        assert "File too large" in line
        assert "choose another folder with --results" in line
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_folder_that_cannot_be_written(tmp_path):
    """A results folder that is a file is refused with what to do."""
    (tmp_path / "results").write_text("a file")
    with pytest.raises(ResultsError, match=r"cannot write below .* choose another folder"):
        ArtifactStore(tmp_path / "results").put_json("texts", [])


def test_reference_holds_no_machine(store):
    """A reference is the same wherever the results folder lies."""
    ref, _ = put(store, "json")
    other, _ = put(ArtifactStore(store.here.parent / "elsewhere"), "json")
    assert ref == other
