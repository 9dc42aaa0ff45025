"""Forecast a batch of edits: keys, denominators and bounds of every method, and no optimisation.

For each request one short row a context template runs up to the edited layer, no further than the
subject's last token (``forward.keys``). What comes out has the ids of the edits, and equals what
the edits themselves report (``rome.updates.UpdateDiagnostics``).
"""

import dataclasses
import logging
from collections.abc import Sequence

import torch

from editcollapse.catalog.methods import distinct_rules, method_of
from editcollapse.covariance.second_moment import MomentSolver
from editcollapse.forecast.bounds import KeyFacts, LayerGeometry, UpdateBounds, update_bounds
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.keys import read_keys
from editcollapse.forward.rewrites import Rewrite, Unusable, build_rewrites
from editcollapse.models.loading import LoadedModel
from editcollapse.rows.study import ForecastRow, PositionRow
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.environment import ProvenanceClock
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import EditJob, ForecastJob, Manifest
from editcollapse.study.sweep import SweepJob
from editcollapse.units.edit import position_row
from editcollapse.units.geometry import kept_geometry
from editcollapse.units.prepare import load

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Forecast:
    """Forecast rows of a batch before any of it is edited."""

    rows: tuple[ForecastRow, ...]
    """Method by method, each in the requests' order."""
    positions: tuple[PositionRow, ...]
    unusable: tuple[Unusable, ...]
    """Requests that this model cannot take."""


def forecast_edits(loaded: LoadedModel, geometry: LayerGeometry, edits: EditJob) -> Forecast:
    """Return the forecast of a batch.

    Args:
        loaded: the job's model.
        geometry: C, and the edited layer's norms.
        edits: requests, methods, templates and settings; its ``moment`` is not read.
    """
    hooked = HookedLayer(loaded, edits.model.layer)
    rewrites, unusable = build_rewrites(loaded.encoder, edits.templates, edits.requests)
    rows: list[ForecastRow] = []
    if rewrites:
        budget = tokens_per_forward(loaded.device, loaded.size(hooked.layer), "evaluation")
        with torch.no_grad():
            facts = KeyFacts.of(hooked, read_keys(hooked, rewrites, budget))
        rows = forecast_rows(edits, rewrites, facts, geometry)
    positions = tuple(position_row(edits.model.model_id, rewrite) for rewrite in rewrites)
    return Forecast(tuple(rows), positions, tuple(unusable))


def forecast_rows(
    edits: EditJob, rewrites: Sequence[Rewrite], facts: KeyFacts, geometry: LayerGeometry
) -> list[ForecastRow]:
    """Return one row a method and request, method by method.

    Args:
        edits: methods and settings.
        rewrites: B requests of the job in tokens.
        facts: their keys and values.
        geometry: C, and the edited layer's norms.
    """
    rows: list[ForecastRow] = []
    clamp = edits.model.values.clamp_factor
    bounds: dict[str, UpdateBounds] = {}
    for name, first in distinct_rules(edits.methods).items():
        if name == first:
            bounds[name] = update_bounds(facts, method_of(name), geometry, clamp)
        rows += _rows(edits, name, rewrites, facts, bounds[first], geometry.solver)
    return rows


@float32_products()
def forecast_batch(job: ForecastJob) -> Manifest:
    """Return the rows of a batch's forecast and of its positions.

    Requests that this model cannot take are named in ``Manifest.unusable`` and leave no row.

    Raises:
        MomentError: C has no Cholesky factor.
        ArtifactError: C's file is missing or has changed.
    """
    clock = job.clock("forecast", job.edits.model)
    store, edits = ArtifactStore(job.results), job.edits
    loaded = load(edits.model)
    found = forecast_edits(loaded, kept_geometry(store, loaded, edits), edits)
    for each in found.unusable:
        logger.warning("%s: %s", edits.model.spec.name, each.reason)
    return forecast_manifest(job, clock, found, str(loaded.device))


def forecast_manifest(
    job: ForecastJob | SweepJob, clock: ProvenanceClock, found: Forecast, device: str
) -> Manifest:
    """Return a job's forecasts and positions as a manifest, written.

    Args:
        job: of the unit.
        clock: started with it.
        found: at its layer or layers.
        device: that it ran on.

    Raises:
        ResultsError: the folder cannot be written.
    """
    store = ArtifactStore(job.results)
    summary = f"{len(found.rows)} forecasts of {job.label}"
    provenance = clock.row(summary, len(found.rows), device)
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("forecasts", found.rows),
            store.put_rows("positions", found.positions),
            store.put_rows("provenance", [provenance]),
        ),
        unusable=tuple((each.request.request_id, each.reason) for each in found.unusable),
    )


def _rows(
    edits: EditJob,
    method: str,
    rewrites: Sequence[Rewrite],
    facts: KeyFacts,
    bounds: UpdateBounds,
    solver: MomentSolver,
) -> list[ForecastRow]:
    """Return one row a request, for one method."""
    model, settings_id = edits.model, edits.model.settings_id
    bare, prefixed = facts.bare_key, facts.prefixed_key
    found = bounds.directions
    columns = {
        "denominator": found.denominator,
        "rho": found.rho,
        "bare_key_norm": bare.norm(dim=1),
        "prefixed_key_norm": prefixed.norm(dim=1),
        "key_cosine": torch.cosine_similarity(bare, prefixed, dim=1),
        "bare_key_dot": found.bare_dot,
        "prefixed_key_dot": found.prefixed_dot,
        "bare_value_norm": facts.bare_value.norm(dim=1),
        "numerator_bound": bounds.numerator_bound,
        "certified_bound": bounds.certified_bound,
        "relative_bound": bounds.relative_bound,
        "text_change_bound": bounds.text_change_bound,
    }
    table = torch.stack(list(columns.values()), dim=1).tolist()
    return [
        ForecastRow(
            edit_id=edits.edit_id(method, rewrite.request.request_id),
            model_id=model.model_id,
            request_id=rewrite.request.request_id,
            method=method,
            layer=model.layer,
            layer_source=model.layer_source,
            covariance_id=edits.covariance_id,
            template_set_id=edits.template_set_id,
            settings_id=settings_id,
            n_tokens=solver.n_tokens,
            tokens_per_d_key=solver.tokens_per_d_key,
            **dict(zip(columns, numbers, strict=True)),
        )
        for rewrite, numbers in zip(rewrites, table, strict=True)
    ]
