"""A study goes on from a restored backup; the commands say what they did."""

import pytest

from flows.__main__ import USER_ERROR, main
from tests.support.flow_runs import assert_equal_tables
from tests.support.small_study import N_BATCHES


def _restored(first_run, tmp_path, *options):
    target, results = str(tmp_path / "b.tar"), tmp_path / "restored"
    assert main(["backup", target, "--results", str(first_run.results), *options]) == 0
    assert main(["restore", target, "--results", str(results)]) == 0
    return results


@pytest.mark.slow
def test_study_is_all_cached_after_a_backup_with_tensors(
    study, run_study, first_run, tmp_path, capsys
):
    """With tensors no unit is computed again; the report's page is made anew."""
    results = _restored(first_run, tmp_path, "--tensors")
    backed_up, restored = capsys.readouterr().out.splitlines()
    assert backed_up.startswith("backup: ")
    assert restored.startswith("restored to ")
    assert_equal_tables(results, first_run.results)
    again = run_study(study, results)
    assert again.computed() == again.computed("report ") == 1


@pytest.mark.slow
def test_study_computes_tensors_again_after_a_backup_without(study, run_study, first_run, tmp_path):
    """Without tensors the rows are there at once, and the study makes the same updates again."""
    results = _restored(first_run, tmp_path)
    assert_equal_tables(results, first_run.results)
    again = run_study(study, results)
    assert again.computed("edit ") == N_BATCHES
    assert again.computed("evaluate ") == 0
    assert_equal_tables(results, first_run.results)


def test_damage_is_told_with_exit_status_1(results, tmp_path, capsys):
    """A backup, and a restore, that lack a row file do not end as if all were well."""
    damaged = min((results / "artifacts/rows/measurements").iterdir())
    damaged.write_bytes(b"other bytes")
    assert main(["backup", str(tmp_path / "b.tar"), "--results", str(results)]) == 1
    assert f"left out, missing or damaged: {damaged.relative_to(results)}" in (
        capsys.readouterr().out
    )
    assert main(["restore", str(tmp_path / "b.tar"), "--results", str(tmp_path / "r")]) == 1
    assert "skipped" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_nothing_there_is_explained(command, tmp_path, capsys):
    """Neither command leaves a traceback where there is nothing to work on."""
    assert main([command, str(tmp_path / "b.tar"), "--results", str(tmp_path / "r")]) == USER_ERROR
    assert capsys.readouterr().err.startswith("error: no")
