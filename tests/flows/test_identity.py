"""A study has the same ids on any machine and in any folder, and its results can be moved."""

import shutil
from pathlib import Path

import pytest

from editcollapse.config.study_file import read_study
from editcollapse.study.plan import plan_study
from storage.ask import ask
from tests.support.flow_runs import assert_equal_tables
from tests.support.small_study import write_study

_IDS = (
    "select study_id from studies order by all",
    "select edit_id, model_id, request_id from edits order by all",
    "select model_id, fingerprint from models order by all",
    "select evaluation_id, text_set_digest from evaluations order by all",
    "select covariance_id, source_digest from covariances order by all",
    "select unit_id from provenance order by all",
)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """Return the file of the same study in another folder, its model's folder named otherwise."""
    return write_study(tmp_path_factory.mktemp("elsewhere") / "deep/er", model="renamed")


@pytest.mark.slow
def test_study_elsewhere_has_the_same_ids(elsewhere, run_study, first_run, tmp_path, monkeypatch):
    """Another folder, working directory and name of the model's folder change no id."""
    monkeypatch.chdir(tmp_path)
    run = run_study(elsewhere, Path("here"))
    assert run.study_id == first_run.study_id
    for query in _IDS:
        assert ask(Path("here"), query).equals(ask(first_run.results, query)), query


@pytest.mark.slow
def test_results_folder_can_be_moved(study, run_study, first_run, tmp_path):
    """In a results folder that was moved, with nothing left at the old place, all is cached."""
    old, new = tmp_path / "old", tmp_path / "new" / "place"
    run_study(study, old)
    new.parent.mkdir()
    old.rename(new)
    assert run_study(study, new).computed() == 0
    assert not old.exists()
    assert_equal_tables(new, first_run.results)


@pytest.mark.slow
def test_results_serve_a_copy_of_the_study(elsewhere, run_study, results):
    """The study file and its inputs may move too: what was computed for them stays cached."""
    again = run_study(elsewhere, results)
    assert again.computed() == again.computed("record ") + again.computed("report ")


def test_no_absolute_path_in_what_is_published(first_run, study):
    """No published table holds a path of this machine."""
    for table in ask(first_run.results, "select table_name from duckdb_tables()")["table_name"]:
        text = ask(first_run.results, f"from {table}").write_ndjson()
        assert str(study.parent) not in text, table
        assert str(first_run.results) not in text, table


def test_study_id_follows_content(study, tmp_path):
    """One more word in a text is another study."""
    before = plan_study(read_study(study), tmp_path).study_id
    changed = shutil.copytree(study.parent, tmp_path / "inputs") / "texts.json"
    changed.write_text(changed.read_text().replace("near", "in", 1))
    after = plan_study(read_study(changed.with_name("study.toml")), tmp_path).study_id
    assert after != before
