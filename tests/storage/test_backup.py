"""A backup is whole or not there; what is restored has the same rows; no archive is believed."""

import subprocess
import tarfile
import threading
from pathlib import Path

import duckdb
import pytest

from editcollapse.errors import ResultsError
from editcollapse.rows.study import ROW_TYPES
from storage import backup as module
from storage.backup import back_up, restore
from storage.database import SNAPSHOT, StoreBusyError, open_store
from storage.litter import litter_of
from storage.queries import ask
from storage.references import read_sources
from tests.storage.conftest import make_row


def _models(results: Path) -> list[tuple[str]]:
    return ask(results, "select source from models").rows()


def _names(archive: Path) -> set[str]:
    with tarfile.open(archive) as tar:
        return set(tar.getnames())


def _all_tables(results: Path) -> dict[str, list[tuple[object, ...]]]:
    with open_store(results) as connection:
        return {name: connection.sql(f"from {name} order by all").pl().rows() for name in ROW_TYPES}


def test_restored_rows_are_the_same(original, archive, tmp_path):
    """Every table comes back, also where of two rows with one key the later one counts."""
    restored = restore(archive, tmp_path / "deep/restored")
    assert restored.skipped == ()
    assert _all_tables(tmp_path / "deep/restored") == _all_tables(original.results)
    assert _models(tmp_path / "deep/restored") == [("d",)]
    assert [source.path.name for source in read_sources(tmp_path / "deep/restored")] == [
        "edits-1.json",
        "edits-1",
    ]
    names = {path.name for path in (tmp_path / "deep").iterdir()}
    assert names == {"restored"}


def test_backup_can_be_checked_without_us(archive, tmp_path):
    """It is a BagIt bag: tar and sha256sum are enough to check and read it."""
    subprocess.run(["tar", "xf", archive], cwd=tmp_path, check=True)
    subprocess.run(
        ["sha256sum", "--check", "--quiet", "manifest-sha256.txt"], cwd=tmp_path / "b", check=True
    )
    assert (tmp_path / "b/bagit.txt").read_text().startswith("BagIt-Version: 1.0\n")
    with duckdb.connect(tmp_path / "b/data/results.duckdb", read_only=True) as connection:
        assert connection.sql("select count(*) from edits").fetchall() == [(4,)]


def test_tensors_are_added_when_asked_for(original, archive, tmp_path):
    """Tensors are left out, or all in."""
    assert back_up(original.results, tmp_path / "with.tar", tensors=True).left_out == ()
    (more,) = {name.partition("/")[2] for name in _names(tmp_path / "with.tar")} - {
        name.partition("/")[2] for name in _names(archive)
    }
    assert more.startswith("data/artifacts/updates/")
    restore(tmp_path / "with.tar", tmp_path / "restored")
    assert all(source.is_whole for source in read_sources(tmp_path / "restored"))


def test_nothing_of_the_machine_is_in_a_backup(archive):
    """Neither user nor folder names are in the archive's members."""
    with tarfile.open(archive) as tar:
        assert {(entry.uid, entry.gid, entry.uname, entry.gname) for entry in tar} == {
            (0, 0, "", "")
        }


def test_damaged_and_missing_files_are_named(finished, tmp_path):
    """A file that is not whole is not backed up silently."""
    damaged = finished.add("models", make_row("models", model_id="m2"))
    gone = finished.add("models", make_row("models", model_id="m3"))
    (finished.results / damaged.path).write_bytes(b"other bytes")
    (finished.results / gone.path).unlink()
    report = back_up(finished.results, tmp_path / "b.tar")
    assert set(report.left_out) == {damaged.path.as_posix(), gone.path.as_posix()}
    assert {
        skipped.path.stem for skipped in restore(tmp_path / "b.tar", tmp_path / "r").skipped
    } == {
        damaged.digest,
        gone.digest,
    }


def test_linked_file_is_not_backed_up(finished, tmp_path):
    """A link in the folder does not carry a file from outside into an archive."""
    file = finished.add("models", make_row("models", model_id="m2"))
    path = finished.results / file.path
    secret = tmp_path / "secret"
    path.rename(secret)
    path.symlink_to(secret)
    assert back_up(finished.results, tmp_path / "b.tar").left_out == (file.path.as_posix(),)


def test_failed_backup_leaves_nothing(finished, tmp_path, monkeypatch):
    """Where writing fails half-way, neither the file nor a draft of it is there."""

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_is_whole", refuse)
    place = tmp_path / "backups"
    with pytest.raises(ResultsError, match=r"cannot write .*b\.tar: No space left on device"):
        back_up(finished.results, place / "b.tar")
    assert list(place.iterdir()) == []
    assert not list((finished.results / "store").glob(".backup*"))


def test_backup_replaces_no_file(original, tmp_path):
    """An existing file, or a link in its place, is left alone."""
    (tmp_path / "b.tar").write_text("mine")
    (tmp_path / "link.tar").symlink_to(tmp_path / "nowhere")
    for name in ("b.tar", "link.tar"):
        with pytest.raises(ResultsError, match="is there already"):
            back_up(original.results, tmp_path / name)
    assert (tmp_path / "b.tar").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_target_is_a_tar_file(original, tmp_path):
    """Another suffix would promise another format."""
    with pytest.raises(ResultsError, match=r"is a \.tar file, not 'b\.zip'"):
        back_up(original.results, tmp_path / "b.zip")


def test_folder_without_database_is_refused(tmp_path):
    """There is nothing to back up."""
    with pytest.raises(ResultsError, match="nothing to back up"):
        back_up(tmp_path, tmp_path / "b.tar")


def test_study_can_record_while_a_backup_is_written(finished, tmp_path, monkeypatch):
    """The store is held for its copy alone; gc is kept out for the whole of the backup."""
    copying, recorded = threading.Event(), threading.Event()
    is_whole = module._is_whole

    def slowly(path):
        copying.set()
        assert recorded.wait(timeout=60)
        return is_whole(path)

    monkeypatch.setattr(module, "_is_whole", slowly)
    thread = threading.Thread(target=back_up, args=(finished.results, tmp_path / "b.tar"))
    thread.start()
    try:
        assert copying.wait(timeout=60)
        finished.add("models", make_row("models", model_id="later"))
        with pytest.raises(StoreBusyError, match="is being backed up"), litter_of(finished.results):
            pass
    finally:
        recorded.set()
        thread.join()
    restore(tmp_path / "b.tar", tmp_path / "restored")
    assert _models(tmp_path / "restored") == [("d",)]


def test_restore_needs_an_empty_place(original, archive, tmp_path):
    """A folder with content is left as it is; an empty one may be used."""
    with pytest.raises(ResultsError, match="is there already and not empty"):
        restore(archive, original.results)
    (tmp_path / "empty").mkdir()
    restore(archive, tmp_path / "empty")
    assert (tmp_path / "empty" / SNAPSHOT).is_file()
