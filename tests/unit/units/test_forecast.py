"""A forecast is what the edit will report, and no edit exceeds its bound: every family, float64."""

import dataclasses

import pytest
import torch

from editcollapse.catalog.methods import METHODS
from editcollapse.config.spec import ModelSpec
from editcollapse.covariance.held_out import factored
from editcollapse.covariance.second_moment import (
    HalvedSum,
    MomentSolver,
    RunningSum,
    SecondMoment,
)
from editcollapse.forecast.bounds import KeyFacts, LayerGeometry, text_changes, update_bounds
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.models.loading import forget_models
from editcollapse.rome.updates import rank_one_updates
from editcollapse.rome.values import optimise_values
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import EditJob, ForecastJob, ModelSetup
from editcollapse.study.plan import plan_study
from editcollapse.units.edit import edit_batch
from editcollapse.units.forecast import forecast_batch, forecast_edits
from editcollapse.units.prepare import prepare_templates
from tests.support.cases import (
    LAYER,
    REQUESTS,
    TEMPLATES,
    TIGHT,
    Float64Throughout,
    settings,
    some_moment,
)
from tests.support.study_files import write_study
from tests.support.tiny import unlike_families
from tests.support.units import measured_moment

_ROUNDING = 1 + 1e-12


def order_of(values, requests=REQUESTS):
    """Return the job of a batch by all methods; neither results nor C's file are used."""
    spec = ModelSpec(name="tiny", source="tiny", dtype="float64")
    model = ModelSetup(
        spec=spec, model_id="m", layer=LAYER, layer_source="study file", values=values
    )
    return EditJob(
        results="unused",
        model=model,
        methods=tuple(METHODS),
        templates=TEMPLATES,
        template_set_id="t",
        covariance_id="c",
        damping=0.0,
        moment=None,
        requests=tuple(requests),
        batch_index=0,
        batch_label="1 of 1",
    )


@pytest.mark.parametrize("clamp", [0.05, 4.0])
@unlike_families
def test_forecast_is_what_the_edit_reports(tiny_model, variant, clamp):
    """Denominators, rho, dots, norms and ROME's bound are the edit's; no update exceeds its own.

    With the small clamp, delta is cut: the bound is then nearly reached.
    """
    loaded = tiny_model(variant)
    solver = MomentSolver(some_moment(loaded.widths.d_key))
    geometry = LayerGeometry.of(HookedLayer(loaded, LAYER), solver)
    values = settings(steps=4, clamp_factor=clamp, learning_rate=1.0)
    rewrites, _ = build_rewrites(loaded.encoder, TEMPLATES, REQUESTS)
    with Float64Throughout():
        found = forecast_edits(loaded, geometry, order_of(values))
        optimised = optimise_values(HookedLayer(loaded, LAYER), rewrites, values)
    assert len(found.rows) == len(METHODS) * len(REQUESTS)
    for name, method in METHODS.items():
        rows = [row for row in found.rows if row.method == name]
        _, made = rank_one_updates(optimised, method, solver, loaded.weight(LAYER), clamp)
        equal = {
            "denominator": made.denominator,
            "rho": made.rho,
            "bare_key_dot": made.bare_key_dot,
            "prefixed_key_dot": made.prefixed_key_dot,
            "bare_key_norm": made.bare_key_norm,
            "prefixed_key_norm": made.prefixed_key_norm,
            "key_cosine": made.key_cosine,
            "bare_value_norm": made.bare_value_norm,
        }
        if method.divide_with == "bare":
            equal["certified_bound"] = made.update_norm_bound
        for field, expected in equal.items():
            ours = torch.tensor([getattr(row, field) for row in rows], dtype=torch.float64)
            assert torch.allclose(ours, expected, rtol=TIGHT, atol=TIGHT), (name, field)
        for row, norm, relative in zip(
            rows, made.update_norm, made.relative_update_norm, strict=True
        ):
            assert float(norm) <= row.certified_bound * _ROUNDING, (name, row)
            assert float(relative) <= row.relative_bound * _ROUNDING, (name, row)
    if clamp < 1:  # a bound that is far off would hold as well, and say nothing
        rome = rank_one_updates(optimised, METHODS["rome"], solver, loaded.weight(LAYER), clamp)[1]
        assert bool(optimised.clamp_hit.any())
        assert float((rome.update_norm / rome.update_norm_bound).max()) > 0.99


def test_bound_of_a_zero_denominator_is_infinite(tiny_model):
    """Where a subject's keys are orthogonal nothing is certified."""
    widths = tiny_model("gpt2").widths
    bare, prefixed = torch.zeros(2, 1, widths.d_key, dtype=torch.float64)
    bare[0, 0] = prefixed[0, 1] = 1.0
    value = torch.ones(1, widths.d_model, dtype=torch.float64)
    facts = KeyFacts(bare, prefixed, value, 3 * value)
    geometry = LayerGeometry(MomentSolver(None), 2.0, 2.0)
    assert float(update_bounds(facts, METHODS["rome"], geometry, 4.0).relative_bound) == torch.inf
    found = update_bounds(facts, METHODS["c_rome"], geometry, 4.0)
    root = widths.d_model**0.5
    assert float(found.numerator_bound) == pytest.approx(4 * root + 2 * root)
    assert float(found.relative_bound) == pytest.approx(3 * root)


@pytest.fixture
def planned(tiny_folder, tmp_path, monkeypatch):
    """Return the first batch of a small study that holds a request nobody can take."""
    monkeypatch.setenv("EDITCOLLAPSE_DEVICE", "cpu")
    study = write_study(tmp_path / "study", tiny_folder("gpt2"), batch_size=8)
    plan = plan_study(study, tmp_path / "results")
    (model,) = plan.models
    templates = prepare_templates(model.templates)
    (edits,) = plan.edit_jobs(model, templates, measured_moment(plan, model, templates))
    yield edits
    forget_models()


def test_units_agree_row_by_row(planned):
    """The forecast unit's rows have the ids, numbers and positions of the edit unit's."""
    store = ArtifactStore(planned.results)
    before, after = forecast_batch(ForecastJob.of(planned)), edit_batch(planned)
    assert before.unusable == after.unusable
    assert len(before.unusable) == 1

    def frames(manifest):
        return {ref.table: store.frame(ref) for ref in manifest.rows}

    forecast, edited = frames(before), frames(after)
    assert forecast["positions"].equals(edited["positions"])
    both = edited["edits"].join(forecast["forecasts"], on="edit_id", suffix="_forecast")
    assert both.height == edited["edits"].height
    shared = {"denominator", "rho", "key_cosine", "bare_value_norm", "bare_key_dot"}
    for name in shared:
        assert (both[name] - both[f"{name}_forecast"]).abs().max() < TIGHT, name
    assert (both["update_norm"] <= both["certified_bound"] * _ROUNDING).all()
    assert (both["text_change"] > 0).all()
    assert (both["text_change"] <= both["text_change_bound"] * _ROUNDING).all()
    for name in ("model_id", "layer", "layer_source", "settings_id", "covariance_id", "method"):
        assert both[name].equals(both[f"{name}_forecast"].alias(name)), name


def test_studies_share_a_forecast(planned):
    """A forecast is of every method, so it does not depend on those that a study compares."""
    other = planned.model_copy(update={"methods": ("rome",)})
    assert ForecastJob.of(other).key == ForecastJob.of(planned).key
    fewer = planned.model_copy(update={"requests": planned.requests[:1]})
    assert ForecastJob.of(fewer).key != ForecastJob.of(planned).key


def test_other_clamp_is_another_forecast(tiny_model):
    """The bound is proportional to the clamp for the methods that write delta itself."""
    loaded = tiny_model("llama")
    geometry = LayerGeometry.of(HookedLayer(loaded, LAYER), MomentSolver(None))
    one, two = (
        forecast_edits(loaded, geometry, order_of(dataclasses.replace(settings(), clamp_factor=c)))
        for c in (2.0, 4.0)
    )
    for a, b in zip(one.rows, two.rows, strict=True):
        assert a.edit_id != b.edit_id
        assert a.text_change_bound == pytest.approx(a.relative_bound, rel=1e-12)  # C is left out
        if METHODS[a.method].value_from == "bare":
            assert b.certified_bound == pytest.approx(2 * a.certified_bound, rel=1e-12)


@pytest.mark.parametrize("damping", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("variant", ["gpt2", "llama", "gemma2"])
def test_text_changes_by_no_more_than_its_bound(tiny_model, variant, damping):
    """Over the very keys of C, (W' - W) k is as large as stored with the edit, and below the bound.

    Damped or not: a damped C solves, the plain one measures.
    """
    loaded = tiny_model(variant)
    weight = loaded.weight(LAYER).double()
    keys = torch.randn(200, loaded.widths.d_key, dtype=torch.float64, generator=_generator())
    moment = keys.T @ keys / len(keys)
    solver = MomentSolver(moment, damping)
    geometry = LayerGeometry.of(HookedLayer(loaded, LAYER), solver)
    values = settings(steps=4, clamp_factor=0.05, learning_rate=1.0)
    rewrites, _ = build_rewrites(loaded.encoder, TEMPLATES, REQUESTS)
    with Float64Throughout():
        found = forecast_edits(loaded, geometry, order_of(values))
        optimised = optimise_values(HookedLayer(loaded, LAYER), rewrites, values)
    before = (keys @ weight.T).square().sum(dim=1).mean().sqrt()
    for name, method in METHODS.items():
        updates, made = rank_one_updates(optimised, method, solver, weight, 0.05)
        rows = [row for row in found.rows if row.method == name]
        changes = text_changes(made.update_norm, updates.right, geometry)
        for b, row in enumerate(rows):
            change = (keys @ updates.matrix(b).T).square().sum(dim=1).mean()
            part = float(made.update_norm[b]) / row.certified_bound
            found_change = float(change.sqrt() / before)
            assert float(changes[b]) == pytest.approx(found_change, rel=TIGHT)
            assert found_change == pytest.approx(part * row.text_change_bound, rel=TIGHT)
            assert found_change <= row.text_change_bound * _ROUNDING


@pytest.mark.parametrize("damping", [0.0, 1.0])
def test_bound_is_raised_by_what_the_halves_show(tiny_model, damping):
    """Over tokens that u does not know the layer changes by more, and the bound says how much."""
    loaded = tiny_model("gpt2")
    width, hooked = loaded.widths.d_key, HookedLayer(loaded, LAYER)
    keys = torch.randn(4 * width, width, dtype=torch.float64, generator=_generator())
    halves = HalvedSum.empty(width, keys.device)
    for part in keys.split(2 * width):
        running = RunningSum(width, keys.device)
        running.add_keys_(part)
        halves.add_shard_(running.total())
    solver = factored(SecondMoment.of(halves), damping)
    plain = MomentSolver(keys.T @ keys / len(keys), damping)
    raised, own = (
        forecast_edits(loaded, LayerGeometry.of(hooked, each), order_of(settings())).rows
        for each in (solver, plain)
    )
    for row, other in zip(raised, own, strict=True):
        assert row.certified_bound == pytest.approx(other.certified_bound, rel=TIGHT)
        assert row.text_change_bound > 1.01 * other.text_change_bound
        assert (row.n_tokens, row.tokens_per_d_key) == (4 * width, 4.0)


def _generator():
    return torch.Generator().manual_seed(11)
