"""A full or read-only disk is told in a sentence, and costs no row."""

import os
import shutil
import time

import pytest

from editcollapse.errors import ResultsError
from editcollapse.study.results_folder import results_at
from storage.archive import back_up
from storage.ask import ask
from storage.database import SNAPSHOT
from storage.garbage import find_garbage, remove_garbage
from storage.publish import publish, rebuild
from tests.storage.conftest import Folder, make_row
from tests.support.disks import disk, read_only, resize

_N_ROWS = 3000
_FULL = r"No space left on device.*[Ff]ree space"


@pytest.fixture(scope="module")
def many_rows():
    """Return rows that take more than a megabyte in a database, and less in a file."""
    return [make_row("models", model_id=f"m{index}" * 100) for index in range(_N_ROWS)]


@pytest.mark.parametrize("left", [4 << 10, 16 << 10, 300 << 10, 1 << 20])
@pytest.mark.parametrize("build", [publish, rebuild])
def test_full_disk_keeps_what_was_published(folder, many_rows, tmp_path, left, build):
    """Whatever step fails, readers keep what they had, and the next call with space has all."""
    with disk(tmp_path / "small", "32m") as small:
        shutil.copytree(folder.results, small / "results")
        filled = Folder(small / "results")
        filled.write("models", *many_rows)
        ballast = small / "ballast"
        ballast.write_bytes(b"x" * (shutil.disk_usage(small).free - left))
        with pytest.raises(ResultsError, match=_FULL):
            build(results_at(filled.results))
        assert ask(filled.results, "select count(*) from models").item() == 0
        assert not list(filled.results.glob("*.tmp*"))
        ballast.unlink()
        resize(small)
        assert build(results_at(filled.results)).n_rows == _N_ROWS
        assert ask(filled.results, "select count(*) from models").item() == _N_ROWS


def test_first_publication_on_a_full_disk_leaves_nothing(many_rows, tmp_path):
    """Where nothing was published before, nothing is there afterwards."""
    with disk(tmp_path / "small", "8m") as small:
        filled = Folder(small / "results")
        filled.write("models", *many_rows)
        free = shutil.disk_usage(small).free
        (small / "ballast").write_bytes(b"x" * (free - (64 << 10)))
        with pytest.raises(ResultsError, match=_FULL):
            filled.publish()
        assert not list(filled.results.glob("results*"))


def test_backup_that_does_not_fit_leaves_nothing(finished, tmp_path, many_rows):
    """No file under its name, and no draft of it."""
    for name in range(8):
        finished.write("models", *many_rows[name::8])
    with disk(tmp_path / "small", "32k") as small:
        with pytest.raises(ResultsError, match=r"cannot write .*b\.tar: No space left on device"):
            back_up(finished.results, small / "b.tar")
        assert list(small.iterdir()) == []


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda results: publish(results_at(results)), r"cannot write .*Read-only file system"),
        (lambda results: rebuild(results_at(results)), r"cannot write .*Read-only file system"),
        (
            lambda results: back_up(results, results / "b.tar"),
            r"cannot write .*b\.tar: Read-only file system",
        ),
    ],
    ids=["publish", "rebuild", "backup"],
)
def test_read_only_folder_is_told(finished, what, message):
    """Whoever has to write says so; whoever reads does not notice."""
    finished.write("studies", make_row("studies", study_id="new"))
    with read_only(finished.results):
        with pytest.raises(ResultsError, match=message):
            what(finished.results)
        assert ask(finished.results, "select count(*) from models").item() > 0
    assert (finished.results / SNAPSHOT).is_file()


def test_garbage_that_cannot_be_removed_is_told(finished):
    """Gc names the first file that stays, and how far it got."""
    draft = finished.results / "artifacts/rows/models/.tmp1.parquet"
    draft.write_bytes(b"")
    long_ago = time.time() - 10 * 86_400
    os.utime(draft, (long_ago, long_ago))
    found = find_garbage(finished.results)
    assert [each.kind for each in found] == ["drafts"]
    with (
        read_only(finished.results / "artifacts"),
        pytest.raises(ResultsError, match=r"cannot remove artifacts.*Read-only file system"),
    ):
        remove_garbage(finished.results, found)
