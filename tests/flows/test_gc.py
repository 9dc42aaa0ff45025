"""Tensors go by kind and age; a study has lost nothing by that."""

import os
import time
from pathlib import Path

import pytest

from flows.__main__ import USER_ERROR, main
from tests.support.flow_runs import assert_equal_tables

_DAYS_AGO = time.time() - 10 * 86_400


def _files(results: Path) -> set[str]:
    found = (path for path in results.rglob("*") if path.is_file())
    return {str(path.relative_to(results)) for path in found}


def _age_all(results: Path) -> None:
    for path in results.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (_DAYS_AGO, _DAYS_AGO))


def _gc(results: Path, *options: str) -> int:
    return main(["gc", "--results", str(results), *options])


@pytest.fixture
def old(results: Path) -> tuple[Path, set[str]]:
    """Return an old results folder with drafts in it, and their names."""
    drafts = (
        results / "artifacts/updates/.tmpab12.safetensors",
        results / "artifacts/rows/edits/.tmpcd34.parquet",
        results / "results.duckdb.tmp",
    )
    for path in drafts:
        path.write_bytes(b"half")
    _age_all(results)
    return results, {str(path.relative_to(results)) for path in drafts}


def test_listing_removes_nothing(old, capsys):
    """Without --remove, kinds and sizes are shown and every file stays."""
    results, _ = old
    before = _files(results)
    assert _gc(results) == 0
    assert _files(results) == before
    out = capsys.readouterr().out
    for word in ("sums", "updates", "drafts", "total", "gc --remove"):
        assert word in out


def test_drafts_go_alone(old):
    """What killed runs left half written goes, and nothing else."""
    results, drafts = old
    before = _files(results)
    assert _gc(results, "--kind", "drafts", "--remove") == 0
    assert before - _files(results) == drafts


@pytest.mark.slow
def test_kind_goes_by_age_and_the_study_is_the_same(old, study, run_study, first_run, capsys):
    """Sums of a C that is made go; the study computes no edit again and has equal tables."""
    results, _ = old
    assert list((results / "artifacts/sums").iterdir())
    assert _gc(results, "--kind", "sums", "--older-than", "11d", "--remove") == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert _gc(results, "--kind", "sums", "--older-than", "7d", "--remove") == 0
    assert not list((results / "artifacts/sums").iterdir())
    again = run_study(study, results)
    assert again.computed("edit ") == again.computed("evaluate ") == 0
    assert_equal_tables(results, first_run.results)


@pytest.mark.slow
def test_all_kinds_can_be_computed_again(old, study, run_study, first_run):
    """Without any tensor the same study ends with the same tables."""
    results, _ = old
    assert _gc(results, "--remove") == 0
    assert not list(results.rglob("*.safetensors"))
    run_study(study, results)
    assert_equal_tables(results, first_run.results)


def test_what_a_study_uses_stays(old, study, run_study):
    """A run sets the time of what it uses: none of that is old afterwards."""
    results, _ = old
    run_study(study, results)
    before = _files(results)
    assert _gc(results, "--kind", "updates", "--kind", "moments", "--remove") == 0
    assert _files(results) == before


@pytest.mark.parametrize("options", [["--older-than", "23h"], ["--kind", "rows"]])
def test_results_and_young_files_are_safe(results, capsys, options):
    """Less than a day, and kinds that are results, are refused in one sentence."""
    before = _files(results)
    assert _gc(results, "--remove", *options) == USER_ERROR
    assert capsys.readouterr().err.startswith("error: ")
    assert _files(results) == before


def test_links_and_files_of_the_user_stay(old, tmp_path):
    """Neither links nor files whose names are not ours are garbage."""
    results, _ = old
    precious = tmp_path / f"{'3' * 32}.safetensors"
    precious.write_bytes(b"precious")
    os.utime(precious, (_DAYS_AGO, _DAYS_AGO))
    (results / "artifacts/linked").symlink_to(tmp_path)
    link = results / "artifacts/updates" / f"{'4' * 32}.safetensors"
    link.symlink_to(precious)
    mine = results / "artifacts/updates/mine.safetensors"
    mine.write_text("mine")
    os.utime(mine, (_DAYS_AGO, _DAYS_AGO))
    assert _gc(results, "--remove") == 0
    assert precious.read_bytes() == b"precious"
    assert link.is_symlink()
    assert mine.exists()


def test_age_must_be_one(capsys):
    """An age without a unit, or none, is told by the command line."""
    for age in ("-1", "7", "soon"):
        assert main(["gc", "--older-than", age]) == USER_ERROR
        assert "is no age" in capsys.readouterr().err
