"""A sweep is a forecast of each layer alone: every family, float64."""

import dataclasses

import polars as pl
import pytest
import torch

from editcollapse.catalog.methods import METHODS
from editcollapse.covariance.second_moment import MomentSolver
from editcollapse.errors import StudyError
from editcollapse.forecast.bounds import KeyFacts, LayerGeometry
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.keys import read_keys
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.models.loading import forget_models
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import ForecastJob
from editcollapse.study.plan import plan_study
from editcollapse.study.sweep import SWEPT, SweepJob, plan_sweep
from editcollapse.units import geometry
from editcollapse.units.forecast import forecast_batch, forecast_edits, forecast_rows
from editcollapse.units.prepare import prepare_templates
from editcollapse.units.sweep import read_layer_keys, sweep_batch
from tests.support.cases import REQUESTS, TEMPLATES, TIGHT, Float64Throughout, settings, some_moment
from tests.support.study_files import write_study
from tests.support.tiny import N_LAYERS, unlike_families
from tests.support.units import measured_moment
from tests.unit.units.test_forecast import order_of

_LAYERS = tuple(range(N_LAYERS))


def at_layer(edits, layer):
    """Return the job of a batch at another layer."""
    return edits.model_copy(update={"model": edits.model.model_copy(update={"layer": layer})})


def assert_equal_rows(ours, expected):
    """Check that two lists of forecasts have the same ids and, to rounding, the same numbers."""
    assert [row.edit_id for row in ours] == [row.edit_id for row in expected]
    for one, other in zip(ours, expected, strict=True):
        for field in dataclasses.fields(one):
            found, wanted = getattr(one, field.name), getattr(other, field.name)
            if isinstance(wanted, float):
                assert found == pytest.approx(wanted, rel=TIGHT, abs=TIGHT), field.name
            else:
                assert found == wanted, field.name


@pytest.mark.parametrize("budget", [40, 4096])
@unlike_families
def test_sweep_is_the_forecast_of_each_layer(tiny_model, variant, budget):
    """Ids and numbers of all methods at every layer are those of the layer alone.

    With the small budget the rows of one edit run in different forwards.
    """
    loaded = tiny_model(variant)
    rewrites, _ = build_rewrites(loaded.encoder, TEMPLATES, REQUESTS)
    solver = MomentSolver(some_moment(loaded.widths.d_key))
    with Float64Throughout():
        swept = read_layer_keys(loaded, _LAYERS, rewrites, budget)
        for layer, keys in zip(_LAYERS, swept, strict=True):
            edits = at_layer(order_of(settings()), layer)
            geometry = LayerGeometry.of(HookedLayer(loaded, layer), solver)
            alone = forecast_edits(loaded, geometry, edits)
            with torch.no_grad():
                facts = keys.facts(loaded, layer)
            assert_equal_rows(forecast_rows(edits, rewrites, facts, geometry), alone.rows)


@pytest.mark.parametrize("variant", ["gpt2", "llama", "gemma2"])
def test_values_follow_from_the_mean_key(tiny_model, variant):
    """The mean of the values over the contexts is the value of the mean key, bias included."""
    loaded = tiny_model(variant)
    rewrites, _ = build_rewrites(loaded.encoder, TEMPLATES, REQUESTS)
    (keys,) = read_layer_keys(loaded, [1], rewrites)
    hooked = HookedLayer(loaded, 1)
    with torch.no_grad():
        ours = keys.facts(loaded, 1)
        expected = KeyFacts.of(hooked, read_keys(hooked, rewrites))
    for name in ("bare_key", "prefixed_key", "bare_value", "prefixed_value"):
        found, wanted = getattr(ours, name), getattr(expected, name)
        assert torch.allclose(found, wanted, rtol=TIGHT, atol=TIGHT), name


@pytest.fixture
def study(tiny_folder, tmp_path, monkeypatch):
    """Return the plan of a small study that holds a request nobody can take."""
    monkeypatch.setenv("EDITCOLLAPSE_DEVICE", "cpu")
    yield plan_study(
        write_study(tmp_path / "study", tiny_folder("gpt2"), batch_size=8), tmp_path / "results"
    )
    forget_models()


@pytest.fixture
def swept(study):
    """Return the one batch of the study's sweep, with C of each layer measured on its own."""
    (model,) = plan_sweep(study, "all").models
    templates = prepare_templates(model.layers[0].templates)
    moments = [
        measured_moment(dataclasses.replace(study, models=(each,)), each, templates)
        for each in model.layers
    ]
    (job,) = model.jobs(templates, moments)
    return job


@pytest.mark.parametrize("kept_bytes", [0, geometry.KEPT_BYTES])
def test_units_agree_row_by_row(swept, monkeypatch, kept_bytes):
    """The unit's rows are those of a forecast unit a layer, also where no factor of C is kept."""
    monkeypatch.setattr(geometry, "KEPT_BYTES", kept_bytes)
    store = ArtifactStore(swept.results)
    together = sweep_batch(swept)
    assert [edits.model.layer for edits in swept.layers] == list(_LAYERS)
    apart = [forecast_batch(ForecastJob.of(edits)) for edits in swept.layers]
    assert {one.unusable for one in apart} == {together.unusable}
    assert len(together.unusable) == 1

    def frame(manifest, table):
        (ref,) = [ref for ref in manifest.rows if ref.table == table]
        return store.frame(ref)

    assert all(frame(one, "positions").equals(frame(together, "positions")) for one in apart)
    ours = frame(together, "forecasts")
    expected = pl.concat([frame(one, "forecasts") for one in apart])
    assert ours.height == N_LAYERS * len(METHODS) * len(REQUESTS)
    for name, kind in expected.schema.items():
        if kind.is_float():
            near = (ours[name] - expected[name]).abs() <= TIGHT * (1 + expected[name].abs())
            assert near.all(), name
        else:
            assert ours[name].equals(expected[name]), name


def test_key_of_a_sweep_is_its_content(swept):
    """Methods that a study compares do not count; layers and requests do."""
    fewer = [edits.model_copy(update={"methods": ("rome",)}) for edits in swept.layers]
    assert SweepJob.of(fewer).key == swept.key
    assert SweepJob.of(swept.layers[:2]).key != swept.key
    less = [edits.model_copy(update={"requests": edits.requests[:1]}) for edits in swept.layers]
    assert SweepJob.of(less).key != swept.key


def test_layer_of_the_study_keeps_its_settings(study):
    """Where the study edits, a sweep has its job; other layers say that they were swept."""
    (model,) = plan_sweep(study, "0-1").models
    assert model.layer_numbers == (0, 1)
    assert model.layers[1] is study.models[0]
    assert model.layers[0].setup.layer_source == SWEPT
    assert model.layers[0].templates.key == study.models[0].templates.key
    assert {each.layers for each in model.covariance_plans()} == {(0, 1)}


def test_entries_of_one_model_are_one_sweep(study):
    """A study that edits a model at two layers sweeps it once."""
    (one,) = study.models
    (whole,) = plan_sweep(study, "all").models
    both = dataclasses.replace(study, models=(one, whole.layers[2]))
    found = plan_sweep(both, "all")
    assert len(found.study.models) == len(found.models) == 1
    assert found.of(one).layers[2] is whole.layers[2]


def test_statistics_of_one_layer_are_refused(study):
    """Published statistics are of one layer: a sweep says which layers have no C."""
    covariance = study.study.covariance.model_copy(update={"kind": "statistics"})
    known = dataclasses.replace(
        study, study=study.study.model_copy(update={"covariance": covariance})
    )
    with pytest.raises(StudyError, match=r"C of layers 0, 2 of tiny.*--layers 1"):
        plan_sweep(known, "all")
    assert plan_sweep(known, "1").models[0].layer_numbers == (1,)
