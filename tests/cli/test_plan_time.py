"""How long a plan says that a study takes: by jobs of its models that ran here, or not known."""

import json
import shutil

import pytest

from flows.__main__ import main
from flows.cli.output.time_outlook import time_in_words
from storage.ask import ask
from tests.support.small_study import BATCH_SIZE, METHODS, N_REQUESTS, write_toml


@pytest.fixture
def planned(study, tmp_path, capsys):
    """Return a function that plans a changed small study: its model, from JSON, and its lines."""
    inputs = shutil.copytree(study.parent, tmp_path / "inputs")

    def plan(results, **changes):
        file = write_toml(inputs / "study.toml", **changes)
        assert main(["plan", str(file), "--results", str(results), "--json"]) == 0
        (model,) = json.loads(capsys.readouterr().out)["models"]
        assert main(["plan", str(file), "--results", str(results)]) == 0
        return model, " ".join(capsys.readouterr().out.split())

    return plan


def by_kind(model):
    """Return the seconds of what is left, by kind of unit."""
    return {unit["kind"]: unit["seconds"] for unit in model["units"]}


def test_what_never_ran_has_no_time(planned, tmp_path):
    """An empty folder: nothing is guessed, and what to do is said."""
    model, lines = planned(tmp_path / "empty")
    assert set(by_kind(model).values()) == {None}
    assert model["time"]["seconds"] is None
    assert "not known yet: no job of this model has run on this machine" in lines
    assert "`limit` under [dataset]" in lines


def test_what_is_cached_takes_no_time(planned, first_run):
    """Nothing is left of a study that has run."""
    model, lines = planned(first_run.results)
    assert set(by_kind(model).values()) == {0.0}
    assert model["time"]["seconds"] == 0.0
    assert "nothing is left to run" in lines


def test_time_is_that_of_the_jobs_that_ran(planned, first_run):
    """Other batches of the same model: seconds an edit times the edits that are left."""
    model, lines = planned(first_run.results, batch_size=2 * BATCH_SIZE)
    n_edits = N_REQUESTS * len(METHODS)
    took = ask(
        first_run.results,
        "select kind, sum(duration_s) as seconds, sum(n_items)::int as n_items from provenance "
        "where kind in ('edits', 'evaluation') group by kind",
    )
    expected = {
        row["kind"]: n_edits * row["seconds"] / row["n_items"] for row in took.iter_rows(named=True)
    }
    found = by_kind(model)
    assert found["edit batches"] == pytest.approx(expected["edits"])
    assert found["evaluation batches"] == pytest.approx(expected["evaluation"])
    assert found["covariance"] == 0.0
    assert model["time"]["unknown"] == ["texts of the worst"]  # of which none has been written
    assert model["time"]["seconds"] == pytest.approx(sum(expected.values()))
    assert model["time"]["device"] == "cpu"
    assert "jobs of this model on cpu; and not known yet: texts of the worst" in lines


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [
        ({"methods": ["rome"]}, {"edit batches", "evaluation batches", "texts of the worst"}),
        ({"seed": 7}, {"unedited model", "evaluation batches", "texts of the worst"}),
    ],
    ids=["methods", "measured on other prefixes"],
)
def test_jobs_of_another_kind_tell_nothing(planned, first_run, changes, unknown):
    """Fewer methods make an edit dearer, other texts a measurement: neither is scaled."""
    model, _ = planned(first_run.results, **changes)
    assert set(model["time"]["unknown"]) == unknown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (40.4, "40 s"),
        (119, "119 s"),
        (180, "3 min"),
        (7100, "118 min"),
        (7200, "2 h"),
        (2 * 86400, "2 days"),
        (86400, "24 h"),
    ],
)
def test_times_in_words(seconds, words):
    """Two figures, more or less: it is an estimate."""
    assert time_in_words(seconds) == words
