"""Missing and corrupted files are noticed, named and made again; nothing else is."""

import pytest

from editcollapse.study.locks import MANIFESTS
from flows.__main__ import main
from tests.support.flow_runs import assert_equal_tables, units_computed
from tests.support.small_study import N_BATCHES


def _delete(path):
    path.unlink()


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def _empty(path):
    path.write_bytes(b"")


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _scribble(path):
    path.write_bytes(b"\x00no record\xff")


@pytest.mark.slow
def test_damaged_artifacts_are_computed_again(study, run_study, results, first_run, caplog):
    """Deleted, cut and flipped artifacts cost their own units once; a warning names each file."""
    artifacts = results / "artifacts"
    updates = sorted((artifacts / "updates").iterdir())
    measured = sorted((artifacts / "rows/measurements").iterdir())
    (moment,) = (artifacts / "moments").iterdir()
    damage = zip(
        [*updates[:3], measured[0], moment], [_delete, _truncate, _flip, _flip, _empty], strict=True
    )
    damaged = []
    for path, how in damage:
        how(path)
        damaged.append(path.relative_to(results).as_posix())
    again = run_study(study, results)
    assert again.computed("edit ") == 3
    assert again.computed("evaluate ") == 1
    assert again.computed("covariance ") == 1
    assert again.computed("templates ") == again.computed("unedited ") == 0
    assert sum(units_computed(results).values()) == len(units_computed(results)) + 5
    assert all(path in caplog.text for path in damaged)
    assert "computing again, damaged or missing" in caplog.text
    assert_equal_tables(results, first_run.results)
    assert run_study(study, results).computed() == 0


@pytest.mark.slow
def test_damaged_manifests_are_computed_again(study, run_study, results, first_run):
    """A manifest that is deleted, cut, empty or garbage costs its own unit and no other."""
    found = sorted((results / MANIFESTS).glob("edits-*"))
    for path, how in zip(found, [_delete, _truncate, _empty, _scribble], strict=True):
        how(path)
    again = run_study(study, results)
    assert again.computed("edit ") == N_BATCHES
    assert again.computed("evaluate ") == 0
    assert_equal_tables(results, first_run.results)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [_delete, _scribble])
def test_lost_snapshot_is_published_again(study, run_study, results, first_run, damage):
    """Without a readable results.duckdb only the report runs."""
    damage(results / "results.duckdb")
    again = run_study(study, results)
    assert again.computed() == again.computed("report ") == 1
    assert_equal_tables(results, first_run.results)


def test_rebuild_equals_what_was_recorded(results, first_run, capsys):
    """The row files alone give the tables that the study recorded, row by row."""
    (results / "results.duckdb").unlink()
    (results / "artifacts/rows/edits/.killed.parquet").write_bytes(b"half of a f")
    assert main(["rebuild", "--results", str(results)]) == 0
    assert capsys.readouterr().out.startswith("rebuilt from")
    assert_equal_tables(results, first_run.results)


def test_rebuild_names_a_damaged_row_file(results, capsys):
    """A rebuild leaves out a corrupted file, says which, and takes in the others."""
    damaged = min((results / "artifacts/rows/measurements").iterdir())
    _flip(damaged)
    assert main(["rebuild", "--results", str(results)]) == 0
    assert str(damaged) in capsys.readouterr().out
