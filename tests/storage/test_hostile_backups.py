"""No archive is believed: what is not whole, or would lead elsewhere, restores nothing."""

import io
import tarfile

import duckdb
import pytest

from editcollapse.errors import ResultsError
from storage.backup import restore
from storage.bags import new_bag
from storage.database import SNAPSHOT, open_store


def _member(tar: tarfile.TarFile) -> str:
    return next(name for name in tar.getnames() if "data/artifacts/rows/datasets/" in name)


HOSTILE = {
    "flipped": ({"data": b"other bytes"}, "not as it lists them"),
    "lacking a file": ({"leave_out": True}, "not as it lists them"),
    "escaping": ({"name": "b/data/../../../escaped"}, "is no whole backup"),
    "absolute": ({"name": "/b/data/../../../absolute"}, "is no whole backup"),
    "a symbolic link": (
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        "is no whole backup",
    ),
    "a link inside": (
        {"type": tarfile.SYMTYPE, "linkname": "x.parquet"},
        "no plain file of a bag",
    ),
    "a hard link": ({"type": tarfile.LNKTYPE, "linkname": "b/bagit.txt"}, "no plain file of a bag"),
    "a device": ({"type": tarfile.CHRTYPE}, "is no whole backup"),
    "a pipe": ({"type": tarfile.FIFOTYPE}, "is no whole backup"),
    "a huge file of holes": (
        {"pax_headers": {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 60)}},
        "is no whole backup",
    ),
}
"""How one member of an archive is changed, and what is said of it."""


@pytest.mark.parametrize("how", HOSTILE)
def test_hostile_archive_is_refused(archive, tmp_path, how):
    """Whatever is wrong with it, nothing is restored, inside the folder or out of it."""
    changes, message = HOSTILE[how]
    hostile = tmp_path / "deep/er/hostile.tar"
    hostile.parent.mkdir(parents=True)
    with tarfile.open(archive) as old, tarfile.open(hostile, "w", format=tarfile.PAX_FORMAT) as new:
        victim = _member(old)
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


@pytest.mark.parametrize("keep", [0, 700, 30_000, -2000])
def test_cut_archive_is_refused(archive, tmp_path, keep):
    """A copy that stopped at any place is not taken for a backup."""
    whole = archive.read_bytes()
    cut = whole[:keep] if keep >= 0 else whole[: whole.rindex(b"manifest-sha256.txt") + keep]
    (tmp_path / "b.tar").write_bytes(cut)
    with pytest.raises(ResultsError, match="is no whole backup"):
        restore(tmp_path / "b.tar", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_archive_of_something_else_is_refused(tmp_path):
    """A bag with other things in it, a text file and a missing file are told apart."""
    with new_bag(tmp_path / "other.tar") as bag:
        bag.add_bytes(b"x", "prefect/profiles.toml")
    with pytest.raises(ResultsError, match="no backup of a results folder: it holds 'prefect'"):
        restore(tmp_path / "other.tar", tmp_path / "restored")
    (tmp_path / "text.tar").write_text("text" * 1000)
    with pytest.raises(ResultsError, match="is no whole backup"):
        restore(tmp_path / "text.tar", tmp_path / "restored")
    with pytest.raises(ResultsError, match=r"no backup .*absent"):
        restore(tmp_path / "absent.tar", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_hostile_database_in_a_backup_is_not_used(archive, tmp_path):
    """A database that reads other files when it is asked is replaced by one of the row files."""
    hostile = tmp_path / "hostile.duckdb"
    with duckdb.connect(hostile) as connection:
        connection.execute(
            "create view ledger as select 'models' as table_name, content as digest, "
            "1 as ingest_order from read_text('/etc/passwd')"
        )
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    with new_bag(tmp_path / "h.tar") as bag:
        bag.add(hostile, SNAPSHOT.name)
        for path in (tmp_path / "b/data/artifacts").rglob("*"):
            if path.is_file():
                bag.add(path, path.relative_to(tmp_path / "b/data").as_posix())
    restore(tmp_path / "h.tar", tmp_path / "restored")
    with open_store(tmp_path / "restored") as connection:
        views = connection.sql("select count(*) from duckdb_views() where view_name = 'ledger'")
        assert views.fetchall() == [(0,)]
        entries = connection.sql("select digest from ledger").fetchall()
    assert all(len(digest) == 32 for (digest,) in entries)
