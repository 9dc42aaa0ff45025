"""What nothing refers to goes; a study has lost nothing by that, whether finished or running."""

import os
import shutil
import time
from pathlib import Path

import pytest

from editcollapse.running_studies import running_study
from flows.__main__ import USER_ERROR, main
from tests.support.flow_runs import assert_equal_tables
from tests.support.small_study import N_BATCHES

_DAYS_AGO = time.time() - 10 * 86400


def _files(results: Path) -> set[str]:
    """Return the files of a results folder, without the store's own."""
    found = (path for path in results.rglob("*") if path.is_file())
    return {str(path.relative_to(results)) for path in found if "store" not in path.parts}


def _age(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (_DAYS_AGO, _DAYS_AGO))


def _age_all(results: Path) -> None:
    _age(*(path for path in results.rglob("*") if path.is_file() and not path.is_symlink()))


def _gc(results: Path, *options: str) -> int:
    return main(["gc", "--results", str(results), *options])


@pytest.fixture
def littered(results: Path) -> tuple[Path, set[str]]:
    """Return an old results folder with litter in it, and the names of the litter."""
    artifacts = results / "artifacts"
    litter = {
        artifacts / "updates" / f"{'0' * 32}.safetensors": b"x" * 1500,
        artifacts / "updates" / ".tmpab12.safetensors": b"half",
        artifacts / "rows/edits" / f"{'1' * 32}.parquet": b"no parquet",
        artifacts / "rows/edits" / ".tmpcd34.parquet": b"",
        artifacts / "texts" / f"{'2' * 32}.json": b'["of no study"]',
        results / "records" / "edits-of-another-time": b'{"result": "artifacts/updates/gone.bin"}',
        results / "records" / "edits-cut": b'{"result": "artif',
        results / "locks" / f"{int(_DAYS_AGO)}-1-a.lock": b"",
        results / "results.duckdb.tmp": b"half a copy",
        results / "store" / "editcollapse.rebuild.duckdb": b"half a store",
    }
    for path, content in litter.items():
        path.write_bytes(content)
    names = {str(path.relative_to(results)) for path in litter if "store" not in path.parts}
    locks = (results / "locks").glob("*.lock")
    names |= {str(path.relative_to(results)) for path in locks}
    _age_all(results)
    return results, names


def test_listing_removes_nothing(littered, capsys):
    """Without --remove, kinds, sizes and reasons are shown and every file stays."""
    results, _ = littered
    before = _files(results)
    assert _gc(results) == 0
    assert _files(results) == before
    out = capsys.readouterr().out
    for line in ("rows/edits", "updates", "texts", "records", "locks", "database", "total"):
        assert line in out
    assert "half written when its run was killed" in out
    assert "no row, manifest or record names it" in out
    assert "1.5 kB" in out
    assert "remove them with: python -m flows gc --remove" in out


def test_removing_takes_the_litter_and_nothing_else(littered, study, run_study, first_run, capsys):
    """After gc --remove the study is all cached, and a rebuild gives its tables."""
    results, names = littered
    before = _files(results)
    assert _gc(results, "--remove") == 0
    assert before - _files(results) == names
    assert not (results / "store/editcollapse.rebuild.duckdb").exists()
    assert "removed" in capsys.readouterr().out
    assert run_study(study, results).computed() == 0
    shutil.rmtree(results / "store")
    (results / "results.duckdb").unlink()
    assert main(["rebuild", "--results", str(results)]) == 0
    assert "skipped" not in capsys.readouterr().out
    assert_equal_tables(results, first_run.results)
    assert _gc(results) == 0


def test_fresh_files_stay(littered, capsys):
    """What changed in the last hours is left, and counted."""
    results, _ = littered
    fresh = results / "artifacts/updates" / f"{'0' * 32}.safetensors"
    os.utime(fresh)
    assert _gc(results, "--remove") == 0
    assert fresh.exists()
    assert "1 files that may belong to a run" in capsys.readouterr().out


def test_what_a_running_study_wrote_stays_however_old(littered):
    """Rows that wait for their first entry for days are younger than the study that wrote them."""
    results, _ = littered
    held = results / "artifacts/rows/edits" / f"{'1' * 32}.parquet"
    older = results / "artifacts/updates" / f"{'0' * 32}.safetensors"
    with running_study(results):
        (lock,) = (results / "locks/studies").iterdir()
        began = time.time() - 5 * 86400
        lock.rename(lock.with_name(f"{int(began)}-1-a.lock"))
        os.utime(held, (began + 60, began + 60))
        assert _gc(results, "--remove") == 0
        assert held.exists()
        assert not older.exists()
    assert _gc(results, "--remove") == 0
    assert not held.exists()


def test_unrecorded_units_go_only_when_asked_for(results, study, run_study, first_run, capsys):
    """Shards and sums of a C that is made go with --unrecorded; the study stays all cached."""
    _age_all(results)
    sums = results / "artifacts/sums"
    assert _gc(results, "--remove") == 0
    assert "units without a row in the database" in capsys.readouterr().out
    assert list(sums.iterdir())
    assert _gc(results, "--remove", "--unrecorded") == 0
    assert not list(sums.iterdir())
    assert not list((results / "records").glob("shard-*"))
    assert run_study(study, results).computed() == 0
    assert_equal_tables(results, first_run.results)


def test_unrecorded_units_are_safe_from_gc_while_a_study_runs(results, capsys):
    """--unrecorded is refused beside a running study, in one sentence."""
    with running_study(results):
        assert _gc(results, "--unrecorded") == USER_ERROR
    assert "a study runs in" in capsys.readouterr().err


def test_killed_study_goes_on_after_gc(results, study, run_study, first_run):
    """Units whose rows were never recorded are kept: the study computes none of them again."""
    shutil.rmtree(results / "store")
    (results / "results.duckdb").unlink()
    from storage.writer import ingest

    ingest(results, [])  # as a run leaves it that was killed before its first entry
    for path in (results / "artifacts/rows").glob("stud*/*"):
        path.unlink()
    _age_all(results)
    assert _gc(results, "--remove") == 0
    again = run_study(study, results)
    assert again.computed("edit ") == again.computed("evaluate ") == 0
    assert len([name for name, _ in again.tasks if name.startswith("edit ")]) == N_BATCHES
    assert_equal_tables(results, first_run.results)


def test_links_are_not_followed(littered, tmp_path):
    """Neither a link to a file nor one to a folder leads gc out of the results folder."""
    results, _ = littered
    outside = tmp_path / "outside"
    outside.mkdir()
    precious = outside / f"{'3' * 32}.safetensors"
    precious.write_bytes(b"precious")
    _age(precious)
    (results / "artifacts/linked").symlink_to(outside)
    (results / "artifacts/updates" / f"{'4' * 32}.safetensors").symlink_to(precious)
    (results / "records/linked").symlink_to(precious)
    assert _gc(results, "--remove", "--older-than", "0") == 0
    assert precious.read_bytes() == b"precious"
    assert (results / "artifacts/updates" / f"{'4' * 32}.safetensors").is_symlink()


def test_files_of_the_user_stay(littered):
    """A file whose name is not one that we give is nobody's litter."""
    results, _ = littered
    notes = [results / "artifacts/notes.txt", results / "artifacts/updates/mine.safetensors"]
    for path in notes:
        path.write_text("mine")
    _age(*notes)
    assert _gc(results, "--remove") == 0
    assert all(path.exists() for path in notes)


def test_folder_without_a_database_is_refused(results, capsys):
    """Without its ledger nobody knows which rows are needed: nothing is removed."""
    shutil.rmtree(results / "store")
    before = _files(results)
    assert _gc(results, "--remove", "--older-than", "0") == USER_ERROR
    assert "python -m flows rebuild" in capsys.readouterr().err
    assert _files(results) == before


def test_hours_must_be_a_number(capsys):
    """A negative age, or none, is told by the command line."""
    for hours in ("-1", "nan", "soon"):
        assert main(["gc", "--older-than", hours]) == USER_ERROR
        assert "error: Invalid value for '--older-than'" in capsys.readouterr().err
