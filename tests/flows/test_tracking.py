"""Studies in MLflow: one run a study, with its numbers; and studies that come out whole without."""

import sys

import pytest

from editcollapse.config.study_file import read_study
from editcollapse.config.study_toml import study_toml
from editcollapse.study.plan import plan_study
from editcollapse.study.study_rows import study_rows
from flows.run import tracking
from storage.ask import ask
from tests.support.small_study import N_EDITS, NOTE, write_toml

_ASKED = {"tracking.experiment": "collapses", "collapse.ratio": 1e-9}


@pytest.fixture
def tracked_study(study, tmp_path):
    """Return the small study with a store for MLflow, under the name of the one that has run."""
    spec = study.with_name("tracked.toml")
    return write_toml(spec, **_ASKED, **{"tracking.uri": f"sqlite:///{tmp_path}/mlflow.db"})


def run(study, results):
    """Run a study and return its id."""
    from flows.study import collapse_study

    return collapse_study(read_study(study), str(results))


@pytest.mark.filterwarnings("ignore")
def test_study_is_one_run_of_mlflow(tracked_study, results, tmp_path):
    """Settings, counts and ratios are those of the database; a second time sends nothing."""
    mlflow = pytest.importorskip("mlflow")
    study_id = run(tracked_study, results)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("collapses")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.data.tags["editcollapse.study_id"] == study_id
    assert found.data.tags["mlflow.note.content"] == NOTE
    assert (found.info.run_name, found.info.status) == ("small", "FINISHED")
    assert found.data.params["models.0.name"] == "tiny"
    assert found.data.params["covariance.n_tokens"] == "400"
    assert found.data.params["models.0.source"] == "model"
    metrics = found.data.metrics
    assert (metrics["n_edits"], metrics["n_collapsed"]) == (N_EDITS, N_EDITS)
    query = """
        select method, count(*) as n, quantile_disc(perplexity_ratio, 0.5) as half,
            max(perplexity_ratio) as worst
        from edit_outcomes group by method
    """
    for row in ask(results, query).to_dicts():
        where = f"tiny/{row['method']}"
        assert metrics[f"{where}/n_collapsed"] == row["n"]
        assert metrics[f"{where}/ratio_median"] == row["half"]
        assert metrics[f"{where}/ratio_max"] == row["worst"]
        assert metrics[f"{where}/n_not_finite"] == 0
    files = {each.path for each in client.list_artifacts(found.info.run_id)}
    assert files == {"study.toml", "small.html"}
    assert found.info.artifact_uri.startswith(tmp_path.as_uri())
    run(tracked_study, results)
    (again,) = client.search_runs([experiment.experiment_id])
    assert again.info.end_time == found.info.end_time
    history = client.get_metric_history(again.info.run_id, "n_edits")
    assert len(history) == 1


@pytest.mark.slow
def test_study_comes_out_whole_without_mlflow(tracked_study, results, monkeypatch, caplog):
    """Where it is not installed, or fails, the log says what to do."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    study_id = run(tracked_study, results)
    assert "pip install 'editcollapse[mlflow]'" in caplog.text
    assert study_id in ask(results, "select study_id from studies")["study_id"].to_list()

    class Away:
        def __init__(self, tracking_uri):
            raise ConnectionError(f"{tracking_uri} does not answer")

    caplog.clear()
    fake = type(sys)("mlflow")
    fake.MlflowClient = Away
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    assert run(tracked_study, results) == study_id
    assert "mlflow.db does not answer. Its results are whole" in caplog.text


def test_changed_parameters_are_named(caplog):
    """MLflow keeps what a run has; what is otherwise now is not silent."""
    assert tracking._new({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "0"}, "s") == {"c": "3"}
    assert "these are others now: b." in caplog.text


def test_tracking_is_no_part_of_a_study(study, tracked_study, tmp_path):
    """With it and without it a study has the same id, jobs and rows."""
    plain = plan_study(read_study(study), tmp_path)
    text = tracked_study.read_text().replace("[collapse]\nratio = 1e-09\n", "")
    tracked_study.write_text(text)
    tracked = plan_study(read_study(tracked_study), tmp_path)
    assert tracked.study.tracking is not None
    assert tracked.study_id == plain.study_id
    assert tracked.models[0].moment.key == plain.models[0].moment.key
    assert study_rows(tracked) == study_rows(plain)


def test_long_settings_are_not_cut(study):
    """A parameter that MLflow would refuse says where it stands."""
    ((name, value),) = tracking._flat({"case_ids": ["9" * 7000]}, "dataset")
    assert name == "dataset.case_ids"
    assert value == "too long for MLflow: 7004 characters; study.toml has it"


def test_study_as_toml_reads_the_same(study, tmp_path):
    """Written out and read again a study is the same, with quotes and controls in its texts."""
    spec = read_study(study).model_copy(update={"note": 'a "b"\n\\ \x7f é 𝄞', "tracking": None})
    file = tmp_path / "study.toml"
    file.write_text(study_toml(spec), encoding="utf-8")
    assert read_study(file) == spec
