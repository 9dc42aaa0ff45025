"""The command line as a user has it: no server, an empty home, one folder for everything."""

import shlex
import subprocess
import sys

import pytest

from flows.observe.environment import stop_orphans
from tests.support.flow_runs import REPOSITORY, assert_equal_tables, environment, run_command
from tests.support.small_study import METHODS, NOTE

# The demo of CI is such a run too.
pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return an empty home folder."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def done(study, home, tmp_path_factory):
    """Return the small study run without a server, and its results folder."""
    results = tmp_path_factory.mktemp("command") / "results"
    return run_command("run", study, "--results", results, home=home), results


def test_run_without_server_prints_what_it_found(done):
    """The incidence table, the study's note and the place of the results come out."""
    finished, results = done
    assert finished.returncode == 0, finished.stderr
    assert "with a temporary Prefect server" in finished.stdout
    assert "collapse incidence" in finished.stdout
    assert all(method in finished.stdout for method in METHODS)
    assert f"Note: {NOTE}" in finished.stdout
    assert f"results: {results / 'results.duckdb'}" in finished.stdout
    assert "Traceback" not in finished.stderr


def test_next_command_works(done, home):
    """The command that a run proposes answers when it is typed in."""
    finished, _ = done
    (line,) = [line for line in finished.stdout.splitlines() if line.startswith("next:")]
    python, *arguments = shlex.split(line.removeprefix("next:"))
    assert python == "python"
    asked = subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    assert "perplexity_ratio" in asked.stdout
    assert asked.stderr == ""


def test_everything_lies_below_the_results_folder(done, home):
    """Nothing is written to the user's home; Prefect's own files lie in the results folder."""
    _, results = done
    assert list(home.iterdir()) == []
    assert (results / "prefect/prefect.db").is_file()
    assert {path.name for path in results.parent.iterdir()} == {"results"}


def test_run_without_server_has_the_same_tables(done, first_run):
    """Without a server the numbers are those of a run on one."""
    assert_equal_tables(done[1], first_run.results)


def test_run_leaves_no_server(done):
    """The temporary server ends with its run."""
    assert stop_orphans(done[1] / "prefect") == 0
