"""Results folders: paths stay below; remote files are fetched anew when they have changed."""

import filelock
import fsspec
import pytest

from editcollapse.errors import ArtifactError, ResultsError
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore, create_text
from editcollapse.study.results_folder import LOCKS, results_at, results_name, safe_path


@pytest.fixture
def url(tmp_path, monkeypatch):
    """Return the URL of an empty remote folder: fsspec's file system in memory."""
    monkeypatch.setenv("EDITCOLLAPSE_CACHE", str(tmp_path / "cache"))
    name = f"memory://{tmp_path.name}/results"
    yield name
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../up",
        "a/../../up",
        "~/home",
        "",
        "a\\b",
        "c:/x",
        "s3://bucket/x",
        "a\nb",
        "a\x00b",
    ],
)
def test_path_that_leaves_the_folder_is_refused(path, tmp_path):
    """No record, manifest or ledger can name a file outside; the sentence says what to do."""
    with pytest.raises(ArtifactError, match="tampered"):
        safe_path(path)
    with pytest.raises(ArtifactError):
        results_at(tmp_path).fetch(path)
    with pytest.raises(ValueError, match="tampered"):
        ArtifactRef(digest="0", path=path, n_bytes=1)


def test_link_out_of_the_folder_is_not_followed(tmp_path):
    """A symbolic link in a results folder cannot make a file outside one of its artifacts."""
    outside = tmp_path / "secret.json"
    outside.write_text("{}")
    results = tmp_path / "results"
    (results / "artifacts").mkdir(parents=True)
    (results / "artifacts/link.json").symlink_to(outside)
    with pytest.raises(OSError, match="leads out"):
        results_at(results).fetch("artifacts/link.json")
    (results / "inside").symlink_to(tmp_path)
    with pytest.raises(OSError, match="leads out"):
        results_at(results).fetch("inside/secret.json")


@pytest.mark.parametrize("written", ["{}", "{}/", "{}/../results", "file://{}"])
def test_results_folder_has_one_name(tmp_path, written):
    """However a folder is written, keys of locks and jobs name it the same way."""
    folder = tmp_path / "results"
    assert results_name(written.format(folder)) == str(folder)


def test_unknown_protocol_is_explained(tmp_path):
    """A URL that no package knows is told in one sentence."""
    with pytest.raises(ResultsError, match=r"nowhere://x/y names no place"):
        results_at("nowhere://x/y")


def test_remote_artifact_reaches_another_machine(url, tmp_path, monkeypatch):
    """What one machine has put, a machine with an empty mirror reads."""
    ref = ArtifactStore(url).put_json("texts", ["a", "b"])
    monkeypatch.setenv("EDITCOLLAPSE_CACHE", str(tmp_path / "other"))
    assert ArtifactStore(url).json(ref) == ["a", "b"]


def test_store_with_folders(tmp_path, monkeypatch):
    """Where a store has folders they are made: here fsspec's own view of a disk."""
    monkeypatch.setenv("EDITCOLLAPSE_CACHE", str(tmp_path / "cache"))
    store = ArtifactStore(f"local://{tmp_path}/far/results")
    ref = store.put_json("texts", ["a"])
    assert (tmp_path / "far/results" / ref.path).is_file()
    assert store.results.list("artifacts") == [ref.path]


@pytest.mark.parametrize("damage", ["delete", "truncate", "flip"])
def test_remote_damage_is_found(url, damage):
    """A remote file that is gone, shorter or changed is not whole, whatever the mirror holds."""
    store = ArtifactStore(url)
    ref = store.put_json("texts", ["a", "b"])
    assert store.is_whole(ref)
    fs, path = fsspec.filesystem("memory"), f"{url}/{ref.path}"
    data = fs.cat_file(path)
    if damage == "delete":
        fs.rm_file(path)
    else:
        fs.pipe_file(path, data[:-1] if damage == "truncate" else b"X" + data[1:])
    assert not store.is_whole(ref)
    with pytest.raises(ArtifactError, match="Run the study again"):
        store.json(ref)


def test_damaged_mirror_is_fetched_again(url):
    """A bit that flips on this machine costs a download, not a computation."""
    store = ArtifactStore(url)
    ref = store.put_json("texts", ["a", "b"])
    (store.here / ref.path).write_text("garbage")
    assert store.json(ref) == ["a", "b"]


def test_file_is_created_once(url, tmp_path, monkeypatch):
    """Of two machines that leave a manifest, the first one's stays, and the second is told."""
    assert create_text(results_at(url), "artifacts/manifests/unit.json", "first")
    monkeypatch.setenv("EDITCOLLAPSE_CACHE", str(tmp_path / "other"))
    other = results_at(url)
    assert not create_text(other, "artifacts/manifests/unit.json", "second")
    assert other.fetch("artifacts/manifests/unit.json").read_text() == "first"
    assert not list(other.here.rglob(".*.json"))


def test_lock_of_a_remote_folder_is_this_machines(url):
    """Processes of one machine take turns at a unit; nothing of a lock is uploaded."""
    results_folder = results_at(url)
    waited = []
    with results_folder.alone("unit", lambda: None):
        second = filelock.FileLock(results_folder.here / LOCKS / "unit.lock", timeout=0)
        with pytest.raises(filelock.Timeout):
            second.acquire()
        assert results_folder.list(LOCKS) == []
    with results_folder.alone("unit", lambda: waited.append(True)):
        assert waited == []
