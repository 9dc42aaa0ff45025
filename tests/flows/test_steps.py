"""What a progress bar counts: as many jobs from the first to the last, cached or not."""

import shutil

import pytest

from editcollapse.config.spec import EvaluationSpec
from editcollapse.config.study_file import read_study
from editcollapse.runtime.environment import OVERALL, listening
from tests.support.small_study import write_toml, write_tuning_study


@pytest.fixture
def watched(backend, tmp_path):
    """Return a function that runs a flow and returns what it reported of its jobs."""

    def run(flow, *arguments):
        reports = []

        def listen(report):
            if report.what == OVERALL:
                reports.append((report.done, report.total))

        with listening(listen):
            flow(*arguments)
        return reports

    return run


def assert_listed(reports):
    """Check that the total stays, and that all jobs are done at the end; return it."""
    done = [each for each, _ in reports]
    assert done == sorted(done)
    (total,) = {total for _, total in reports}
    assert (done[0], done[-1], done.count(total)) == (0, total, 1)
    return total


@pytest.mark.parametrize(
    "changes",
    [
        {"covariance.kind": "samples", "covariance.source": None, "covariance.n_tokens": 300},
        *(
            pytest.param(changes, marks=pytest.mark.slow)
            for changes in (
                {"evaluation.continuations": 2},
                {"guard.policy": "refuse", "guard.at_risk_at": 5.0, "guard.collapse_at": 1e9},
                {},
                {"covariance.kind": "identity", "covariance.source": None},
                {"covariance.stop_change": 2.5, "covariance.shard_tokens": 30},
                {"guard.policy": "prefix", "guard.at_risk_at": 5.0, "guard.collapse_at": 1e9},
            )
        ),
    ],
    ids=["samples", "continuations", "refusing", "plain", "identity", "stop rule", "prefixing"],
)
def test_study_does_the_jobs_that_it_lists(study, watched, tmp_path, changes):
    """In an empty folder, and again when all is cached: the same total."""
    from flows.study import collapse_study

    inputs = shutil.copytree(study.parent, tmp_path / "inputs")
    spec = read_study(write_toml(inputs / "study.toml", **{"dataset.limit": 3}, **changes))
    results = str(tmp_path / "results")
    first, again = (assert_listed(watched(collapse_study, spec, results)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    "name",
    [
        *("precompute", "sweep", "reevaluate"),
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("forecast", "anatomy")),
    ],
)
def test_every_flow_does_the_jobs_that_it_lists(study, results, watched, name):
    """After a study: what it left is counted as well, and nothing else."""
    from flows.anatomy import collapse_anatomy
    from flows.forecast_flow import collapse_forecast
    from flows.precompute import precompute_covariance
    from flows.reevaluation import reevaluate
    from flows.sweep_flow import layer_sweep

    spec, where = read_study(study), str(results)
    flows = {
        "precompute": (precompute_covariance, spec, where),
        "forecast": (collapse_forecast, spec, where),
        "sweep": (layer_sweep, spec, "all", where),
        "anatomy": (collapse_anatomy, spec, where),
        "reevaluate": (reevaluate, spec, EvaluationSpec(texts=spec.evaluation.texts), where),
    }
    assert_listed(watched(*flows[name]))


@pytest.mark.slow
def test_tuning_does_the_jobs_that_it_lists(watched, tmp_path):
    """Whatever facts are known and whatever wins, in an empty folder and again."""
    from editcollapse.study.tuning import TuningSpec
    from flows.tuning_flow import tune_settings

    spec = read_study(write_tuning_study(tmp_path / "inputs"))
    asked = (spec, TuningSpec(trials=4, layers="1"), str(tmp_path / "results"))
    first, again = (assert_listed(watched(tune_settings, *asked)) for _ in range(2))
    assert first == again
