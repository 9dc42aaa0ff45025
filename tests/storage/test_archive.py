"""A backup is whole or not there; what is restored has the same rows; no archive is believed."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from editcollapse.errors import ResultsError
from editcollapse.rows.study import ROW_TYPES
from storage import archive as module
from storage.archive import INDEX, back_up, restore
from storage.ask import ask
from storage.database import SNAPSHOT
from tests.storage.conftest import make_row


def _names(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def _tables(results: Path) -> dict[str, list[tuple[object, ...]]]:
    return {name: ask(results, f"from {name} order by all").rows() for name in ROW_TYPES}


def test_restored_rows_are_the_same(original, archive, tmp_path):
    """Every table comes back, also where of two rows with one key the later one counts."""
    results = tmp_path / "deep/restored"
    assert restore(archive, results).skipped == ()
    assert _tables(results) == _tables(original.results)
    assert ask(results, "select source from models").rows() == [("d",)]
    assert (results / "artifacts/manifests/edits-1.json").is_file()
    assert (results / "records/edits-1").is_file()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["restored"]


def test_tensors_are_added_when_asked_for(original, archive, tmp_path):
    """Tensors are left out, or all in."""
    assert back_up(original.results, tmp_path / "with.tar", tensors=True).left_out == ()
    (more,) = set(_names(tmp_path / "with.tar")) - set(_names(archive))
    assert more.startswith("artifacts/updates/")
    restore(tmp_path / "with.tar", tmp_path / "restored")
    assert (tmp_path / "restored" / more).read_bytes() == b"tensors"


def test_nothing_of_the_machine_is_in_a_backup(archive):
    """Neither user nor folder names are in the archive's members."""
    with tarfile.open(archive) as tar:
        assert {(entry.uid, entry.gid, entry.uname, entry.gname) for entry in tar} == {
            (0, 0, "", "")
        }


def test_damaged_and_missing_files_are_named(finished, tmp_path):
    """A file that is not whole is not backed up silently."""
    damaged = finished.write("models", make_row("models", model_id="m2"))
    gone = finished.write("models", make_row("models", model_id="m3"))
    finished.publish()
    (finished.results / damaged.path).write_bytes(b"other bytes")
    (finished.results / gone.path).unlink()
    report = back_up(finished.results, tmp_path / "b.tar")
    assert set(report.left_out) == {damaged.path.as_posix(), gone.path.as_posix()}
    skipped = restore(tmp_path / "b.tar", tmp_path / "r").skipped
    assert {each.path.stem for each in skipped} == {damaged.digest, gone.digest}


def test_linked_files_and_files_of_the_user_are_not_backed_up(finished, tmp_path):
    """A link in the folder does not carry a file from outside into an archive."""
    file = finished.write("models", make_row("models", model_id="m2"))
    path = finished.results / file.path
    secret = tmp_path / "secret"
    path.rename(secret)
    path.symlink_to(secret)
    (finished.results / "artifacts/linked").symlink_to(tmp_path)
    (finished.results / "artifacts/notes.txt").write_text("mine")
    back_up(finished.results, tmp_path / "b.tar")
    names = _names(tmp_path / "b.tar")
    assert file.path.as_posix() not in names
    assert not [name for name in names if "linked" in name or "notes" in name]


def test_failed_backup_leaves_nothing(finished, tmp_path, monkeypatch):
    """Where writing fails half-way, neither the file nor a draft of it is there."""

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_is_whole", refuse)
    place = tmp_path / "backups"
    with pytest.raises(ResultsError, match=r"cannot write .*b\.tar: No space left on device"):
        back_up(finished.results, place / "b.tar")
    assert list(place.iterdir()) == []


def test_backup_replaces_no_file(original, tmp_path):
    """An existing file, a link in its place, another suffix and an empty folder are refused."""
    (tmp_path / "b.tar").write_text("mine")
    (tmp_path / "link.tar").symlink_to(tmp_path / "nowhere")
    for name, message in (
        ("b.tar", "is there already"),
        ("link.tar", "is there already"),
        ("b.zip", r"is a \.tar file, not 'b\.zip'"),
    ):
        with pytest.raises(ResultsError, match=message):
            back_up(original.results, tmp_path / name)
    assert (tmp_path / "b.tar").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(ResultsError, match="nothing to back up"):
        back_up(tmp_path, tmp_path / "c.tar")


def test_restore_needs_an_empty_folder(original, archive, tmp_path):
    """A folder with content is left as it is; an empty one may be used."""
    with pytest.raises(ResultsError, match="is there already and not empty"):
        restore(archive, original.results)
    (tmp_path / "empty").mkdir()
    restore(archive, tmp_path / "empty")
    assert (tmp_path / "empty" / SNAPSHOT).is_file()


HOSTILE = {
    "flipped": ({"data": b"other bytes"}, "has not the bytes of its name"),
    "lacking a file": ({"leave_out": True}, "names other files than it holds"),
    "escaping": ({"name": "artifacts/../../escaped"}, "is no whole backup"),
    "absolute": ({"name": "/artifacts/absolute"}, "is no whole backup"),
    "a file of another kind": ({"name": "prefect/profiles.toml"}, "no plain file of a results"),
    "a symbolic link": ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "no whole backup"),
    "a link inside": ({"type": tarfile.SYMTYPE, "linkname": "x.parquet"}, "no plain file"),
    "a hard link": ({"type": tarfile.LNKTYPE, "linkname": INDEX}, "no plain file"),
    "a device": ({"type": tarfile.CHRTYPE}, "is no whole backup"),
    "a pipe": ({"type": tarfile.FIFOTYPE}, "is no whole backup"),
    "a huge file of holes": (
        {"pax_headers": {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 60)}},
        "is no whole backup",
    ),
    "a database": ({"name": SNAPSHOT.name}, "no plain file of a results folder"),
}
"""How one member of an archive is changed, and what is said of it."""


@pytest.mark.parametrize("how", HOSTILE)
def test_hostile_archive_is_refused(archive, tmp_path, how):
    """Whatever is wrong with it, nothing is restored, inside the folder or out of it."""
    changes, message = HOSTILE[how]
    hostile = tmp_path / "deep/er/hostile.tar"
    hostile.parent.mkdir(parents=True)
    with tarfile.open(archive) as old, tarfile.open(hostile, "w", format=tarfile.PAX_FORMAT) as new:
        victim = next(name for name in old.getnames() if "rows/datasets/" in name)
        for member in old:
            data = old.extractfile(member).read()
            if member.name == victim:
                if "leave_out" in changes:
                    continue
                data = changes.get("data", data)
                for name in changes.keys() - {"data"}:
                    setattr(member, name, changes[name])
            member.size = len(data) if member.isreg() else 0
            new.addfile(member, io.BytesIO(data))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ResultsError, match=message):
        restore(hostile, tmp_path / "deep/er/restored")
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "index", [b"no json", b"{}", b"[1]", b'{"files": [1], "left_out": []}', b"[" * 100_000, None]
)
def test_index_is_not_believed(tmp_path, index):
    """An index that is missing, no list of names, or names what is not there restores nothing."""
    content = index
    if content is None:
        content = json.dumps({"files": ["artifacts/texts/gone.json"], "left_out": []}).encode()
    member = tarfile.TarInfo(INDEX)
    member.size = len(content)
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.addfile(member, io.BytesIO(content))
    with pytest.raises(ResultsError, match=f"is no whole backup: its {INDEX}"):
        restore(tmp_path / "b.tar", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize("keep", [0, 700, 30_000, 0.5, 0.9])
def test_cut_archive_is_refused(archive, tmp_path, keep):
    """A copy that stopped at any place is not taken for a backup."""
    whole = archive.read_bytes()
    end = whole.rindex(INDEX.encode())
    (tmp_path / "b.tar").write_bytes(whole[: keep if isinstance(keep, int) else int(keep * end)])
    with pytest.raises(ResultsError, match="is no whole backup"):
        restore(tmp_path / "b.tar", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_other_files_are_refused(tmp_path):
    """A text file and a missing file are told apart."""
    (tmp_path / "text.tar").write_text("text" * 1000)
    with pytest.raises(ResultsError, match="is no whole backup"):
        restore(tmp_path / "text.tar", tmp_path / "restored")
    with pytest.raises(ResultsError, match=r"no backup .*absent"):
        restore(tmp_path / "absent.tar", tmp_path / "restored")
