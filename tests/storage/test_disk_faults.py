"""A full or read-only disk is told in a sentence, and costs no row."""

import shutil

import pytest

from editcollapse.errors import ResultsError
from storage.backup import back_up
from storage.database import STORE, publish_snapshot
from storage.litter import litter_of, remove_litter
from storage.queries import ask
from storage.rebuild import rebuild
from storage.writer import ingest
from tests.storage.conftest import Folder, make_row
from tests.support.disks import disk, read_only, resize

_N_ROWS = 3000
_FULL = r"No space left on device.*(Free space|mend the cause)"


@pytest.fixture(scope="module")
def many_rows():
    """Return rows that take more than a megabyte."""
    return [make_row("models", model_id=f"m{index}" * 100) for index in range(_N_ROWS)]


@pytest.mark.parametrize("size", ["4k", "16k", "300k", "1m"])
def test_full_store_keeps_nothing_by_halves(many_rows, tmp_path, size):
    """Whatever step of making or filling the store fails, the next call with space does it all."""
    folder = Folder(tmp_path / "results")
    file = folder.write("models", *many_rows)
    with disk(folder.results / STORE.parent, size):
        with pytest.raises(ResultsError, match=_FULL):
            ingest(folder.results, [file])
        resize(folder.results / STORE.parent)
        assert ingest(folder.results, [file]).n_rows == _N_ROWS
        publish_snapshot(folder.results)
        assert ask(folder.results, "select count(*) from models").item() == _N_ROWS


@pytest.mark.parametrize("size", ["4k", "16k", "300k", "4m"])
def test_full_disk_stops_a_rebuild_and_leaves_the_old_store(many_rows, tmp_path, size):
    """The old store stays until the new one is whole, and no draft of it takes up space."""
    folder = Folder(tmp_path / "results")
    folder.write("models", *many_rows)
    with disk(folder.results / STORE.parent, size):
        with pytest.raises(ResultsError, match=r"No space left on device.*[Ff]ree space|mend"):
            rebuild(folder.results)
        names = {path.name for path in (folder.results / STORE.parent).iterdir()}
        assert names <= {"editcollapse.lock"}
        resize(folder.results / STORE.parent)
        assert rebuild(folder.results).n_rows == _N_ROWS


def test_snapshot_that_does_not_fit_leaves_the_old_one(folder, many_rows, tmp_path):
    """Readers keep what they had; the rows are in the store and published with the next call."""
    publish_snapshot(folder.results)
    with disk(tmp_path / "small", "16m"):
        results = shutil.copytree(folder.results, tmp_path / "small/results")
        # The store stands on a disk of its own: only the snapshot has no space.
        with disk(tmp_path / "large"):
            shutil.move(results / STORE.parent, tmp_path / "large/store")
            (results / STORE.parent).symlink_to(tmp_path / "large/store")
            ingest(results, [Folder(results).write("models", *many_rows)])
            free = shutil.disk_usage(tmp_path / "small").free
            (tmp_path / "small/ballast").write_bytes(b"x" * (free - (2 << 20)))
            with pytest.raises(ResultsError, match=r"could not publish.*No space left on device"):
                publish_snapshot(results)
            assert ask(results, "select count(*) from models").item() == 0
            assert not list(results.glob("*.tmp*"))
            (tmp_path / "small/ballast").unlink()
            resize(tmp_path / "small")
            publish_snapshot(results)
            assert ask(results, "select count(*) from models").item() == _N_ROWS


def test_backup_that_does_not_fit_leaves_nothing(archive, original, tmp_path):
    """No file under its name, and no draft of it."""
    assert archive.stat().st_size > 1 << 20
    with disk(tmp_path / "small", "1m") as small:
        with pytest.raises(ResultsError, match=r"cannot write .*b\.tar: No space left on device"):
            back_up(original.results, small / "b.tar")
        assert list(small.iterdir()) == []


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (publish_snapshot, r"cannot write to .*store: Read-only file system"),
        (rebuild, r"cannot write to .*store: Read-only file system"),
        (lambda results: ingest(results, []), r"cannot write to .*store: Read-only file system"),
        (
            lambda results: back_up(results, results.parent / "b.tar"),
            r"cannot write to .*store: Read-only file system",
        ),
    ],
    ids=["publish", "rebuild", "ingest", "backup"],
)
def test_read_only_folder_is_told(finished, what, message):
    """Whoever has to write says so; whoever reads does not notice."""
    with read_only(finished.results):
        with pytest.raises(ResultsError, match=message):
            what(finished.results)
        assert ask(finished.results, "select count(*) from models").item() > 0


def test_litter_that_cannot_be_removed_is_told(finished):
    """Gc names the first file that stays, and how far it got."""
    (finished.results / "artifacts/rows/models/.tmp1.parquet").write_bytes(b"")
    with (
        read_only(finished.results / "artifacts"),
        litter_of(finished.results, older_than_s=-1) as found,
        pytest.raises(ResultsError, match=r"cannot remove artifacts.*Read-only file system"),
    ):
        remove_litter(finished.results, found.litter)
