"""All layers of a model in one pass, beside one pass a layer: C, and forecasts of a batch.

Both sides are ours: the reference is what a sweep would be without ``units.sweep``: the forecast
and the second moment of each layer alone.
"""

import torch

from benchmarks import ours
from benchmarks.cases import Case
from benchmarks.results import Agreement, Comparison, Results
from benchmarks.works import Size, distance, in_turn
from editcollapse.covariance.second_moment import SecondMoment, measure_moments, put_moment
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.study.jobs import EditJob, ForecastJob, Manifest
from editcollapse.study.sweep import SweepJob
from editcollapse.units.forecast import forecast_batch
from editcollapse.units.sweep import sweep_batch

_WORK = "sweep of all layers"


def sweep(case: Case, size: Size, found: Results) -> None:
    """Compare C of all layers, then a batch's forecasts at all layers, with one pass a layer."""
    moments = _covariance(case, size, found)
    jobs = [_at_layer(case, size, layer, each) for layer, each in enumerate(moments)]
    apart: list[Manifest] = []
    together: list[Manifest] = []

    def one_a_layer(_repeat: int) -> int:
        apart[:] = [forecast_batch(ForecastJob.of(job)) for job in jobs]
        return size.n_ours * len(jobs)

    def all_layers(_repeat: int) -> int:
        together[:] = [sweep_batch(SweepJob.of(jobs))]
        return size.n_ours * len(jobs)

    one_a_layer(0)  # where there is room, C's factors are kept by both
    rates = in_turn(case, size.repeats, one_a_layer, all_layers)
    note = f"the first figure is our own forecast of each of {len(jobs)} layers alone"
    found.comparisons.append(Comparison(_WORK, case.name, "requests x layers/s", *rates, note))
    bounds = [
        torch.cat(
            [case.store.frame(each.rows[0])["text_change_bound"].to_torch() for each in those]
        )
        for those in (together, apart)
    ]
    far = distance(bounds[0].log(), bounds[1].log())
    found.agreements.append(Agreement(case.name, "forecasts of all layers", far, len(bounds[0])))


def _covariance(case: Case, size: Size, found: Results) -> list[SecondMoment]:
    """Compare C of all layers from one pass with a pass each; return C of each layer."""
    layers = list(range(case.loaded.widths.n_layers))
    budget = tokens_per_forward(case.loaded.device, case.loaded.size(layers[-1]), "moment")
    n_tokens = max(size.n_tokens, 2 * case.loaded.widths.d_key)
    kept: list[SecondMoment] = []

    def measured(some: list[int]) -> list[SecondMoment]:
        return measure_moments(
            case.loaded,
            some,
            case.inputs.documents,
            n_tokens=n_tokens,
            max_length=case.loaded.encoder.max_length,
            tokens_per_batch=budget,
        )

    def one_a_layer(_repeat: int) -> int:
        for layer in layers:
            measured([layer])
        return n_tokens * len(layers)

    def all_layers(_repeat: int) -> int:
        kept[:] = measured(layers)
        return n_tokens * len(layers)

    rates = in_turn(case, size.repeats, one_a_layer, all_layers)
    note = f"the first figure is our own pass for each of {len(layers)} layers alone"
    found.comparisons.append(
        Comparison("covariance of all layers", case.name, "tokens x layers/s", *rates, note)
    )
    return kept


def _at_layer(case: Case, size: Size, layer: int, moment: SecondMoment) -> EditJob:
    """Return the job of our batch at another layer, with its C stored."""
    job = ours.edit_job(case, case.inputs.requests[: size.n_ours], ("rome",))
    stored = put_moment(case.store, moment)
    return job.model_copy(
        update={
            "model": job.model.model_copy(update={"layer": layer}),
            "moment": stored,
            "covariance_id": f"benchmark {stored.digest}",
            "damping": 1e-3,  # few tokens may leave C singular
        }
    )
