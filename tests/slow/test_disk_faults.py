"""A study on a disk that is full or read-only somewhere: told, and finished by the next run."""

import contextlib
import re
import subprocess

import pytest

from editcollapse.errors import EditCollapseError
from editcollapse.study.locks import MANIFESTS
from flows.__main__ import USER_ERROR
from tests.support.disks import disk, read_only, resize
from tests.support.flow_runs import assert_equal_tables, run_command

pytestmark = [pytest.mark.slow, pytest.mark.server]

FULL = {
    "artifacts/texts": "cannot write below .*No space left on device.*finished work is kept",
    "artifacts/updates": "cannot write below .*No space left on device.*finished work is kept",
    "artifacts/rows/edits": "cannot write below .*Free space.*finished work is kept",
    "artifacts/manifests": "cannot write below .*No space left on device.*finished work is kept",
}
"""Folder that is full, and what the user is told."""


@pytest.mark.parametrize("folder", FULL)
def test_full_folder_stops_a_study_that_goes_on_later(
    study, run_study, first_run, tmp_path, folder
):
    """The sentence says what to do; with space again the study ends with the same tables."""
    results = tmp_path / "results"
    with disk(results), disk(results / folder, "4k"):
        (results / folder / "ballast").write_bytes(b"x" * 4096)
        with pytest.raises(EditCollapseError, match=FULL[folder]):
            run_study(study, results)
        resize(results / folder)
        run_study(study, results)
        assert_equal_tables(results, first_run.results)
        assert run_study(study, results).computed() == 0


def test_snapshot_without_space_is_told_and_published_later(study, run_study, first_run, tmp_path):
    """All rows are in their files; with space the report alone runs again."""
    results = tmp_path / "results"
    with contextlib.ExitStack() as mounted:
        mounted.enter_context(disk(results, "2m"))
        for folder in ("artifacts", "locks"):
            mounted.enter_context(disk(results / folder))
        with pytest.raises(EditCollapseError, match=r"could not publish.*rows are safe"):
            run_study(study, results)
        resize(results)
        again = run_study(study, results)
        assert again.computed() == again.computed("report ") == 1
        assert_equal_tables(results, first_run.results)


@pytest.mark.parametrize("with_server", [True, False])
def test_read_only_results_are_told(study, server, tmp_path, with_server):
    """One sentence and exit status 2, with a server and without, and no file of ours."""
    results = tmp_path / "results"
    results.mkdir()
    more = {"PREFECT_API_URL": server} if with_server else {}
    with read_only(results):
        done = run_command("run", study, "--results", results, home=tmp_path, **more)
    assert done.returncode == USER_ERROR
    assert "Traceback" not in done.stderr
    assert re.match(r"error: cannot write .*Read-only file system", done.stderr.splitlines()[-1]), (
        done.stderr
    )
    assert list(results.iterdir()) == []


@pytest.mark.parametrize("folder", ["artifacts", "locks"])
def test_read_only_folder_is_told_and_the_study_goes_on_later(
    study, run_study, first_run, results, folder
):
    """A folder that cannot be written stops a study that needs it; then it ends as any."""
    for path in (results / "results.duckdb", *(results / MANIFESTS).iterdir()):
        subprocess.run(["rm", "-r", str(path)], check=True)
    (results / folder).mkdir(exist_ok=True)
    with read_only(results / folder), pytest.raises(EditCollapseError, match="Read-only"):
        run_study(study, results)
    run_study(study, results)
    assert_equal_tables(results, first_run.results)
