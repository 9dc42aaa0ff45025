"""The demo study, run and forecast: the forecast tells which ROME edits collapse the model."""

from __future__ import annotations

import pytest

from editcollapse.config.study_file import read_study
from flows.__main__ import main
from storage.ask import ask
from tests.support.flow_runs import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.server]
_AUC = 0.99
_ROUNDING = 1 + 1e-5
"""The edits are float32."""


@pytest.fixture(scope="module")
def demo(run_study, tmp_path_factory):
    """Return the results of the demo study, forecast and calibrated."""
    from flows.forecast_flow import collapse_forecast

    study = REPOSITORY / "studies" / "demo.toml"
    results = tmp_path_factory.mktemp("demo") / "results"
    run_study(study, results)
    collapse_forecast(read_study(study), str(results))
    assert main(["calibrate", "--results", str(results)]) == 0
    return results


def test_collapse_of_rome_is_forecast(demo):
    """By model, and all models together, a collapsed edit has the larger bound."""
    frame = ask(demo, "from forecast_skill where method = 'rome' order by model")
    found = {row["model"]: row for row in frame.rows(named=True)}
    assert set(found) == {"(all)", "gpt2-control", "gpt2-induced", "llama-induced"}
    assert found["gpt2-control"]["n_collapsed"] == 0
    assert found["gpt2-control"]["n_flagged"] == 0
    for model in ("(all)", "gpt2-induced", "llama-induced"):
        assert found[model]["n_collapsed"] > 20, model
        assert found[model]["auc"] >= _AUC, model
        assert found[model]["recall"] >= _AUC, model
        assert found[model]["certain_precision"] > 0.9, model


def test_consistent_keys_are_foreseen_to_be_safe(demo):
    """No edit of the other methods collapses, and none is flagged."""
    frame = ask(
        demo, "from forecast_skill where method in ('c_rome', 'p_rome') and model = '(all)'"
    )
    assert frame["n_collapsed"].to_list() == frame["n_flagged"].to_list() == [0, 0]


def test_no_edit_of_the_demo_exceeds_its_bound(demo):
    """The certificate holds for every measured edit, and some reach it."""
    (largest, n) = ask(demo, "select max(bound_reached), count(*) from forecast_outcomes").row(0)
    assert n > 1000
    assert 0.99 < largest < _ROUNDING


def test_default_stays_below_every_collapse_of_the_demo(demo):
    """No collapse of the demo models would be called safe without a calibration."""
    from editcollapse.forecast.defaults import default_thresholds

    smallest = ask(demo, "select smallest_collapsed from forecast_calibrations").to_series()
    assert len(smallest) == 2  # nothing collapsed the control
    assert default_thresholds().at_risk_at < smallest.min()
