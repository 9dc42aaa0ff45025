"""Forecast a batch of edits at many layers from one forward of each of its rows.

A key depends on the blocks below its layer alone. So the forward that reads the highest layer's key
passes all others on its way; of each it leaves k0 and the sum over the context templates, from
which the values follow: the mean of W k + b over the templates is W kbar + b.

The rows are those of a forecast of each layer alone (``forecasting``).
"""

import dataclasses
import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from editcollapse.forecast.bounds import KeyFacts
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.keys import KeyReader, subject_tails
from editcollapse.forward.rewrites import Rewrite, build_rewrites
from editcollapse.models.loading import LoadedModel, widened
from editcollapse.rows.study import ForecastRow
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import Manifest
from editcollapse.study.sweep import SweepJob
from editcollapse.units.edit import position_row
from editcollapse.units.forecast import Forecast, forecast_manifest, forecast_rows
from editcollapse.units.geometry import kept_geometry
from editcollapse.units.prepare import load

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LayerKeys:
    """Keys of B rewrites at one layer; float32 (float64 for a float64 model), on its device."""

    bare_key: Tensor
    """k0, (B, K)."""
    prefixed_key: Tensor
    """kbar, (B, K): mean over all contexts, the bare one included."""

    def facts(self, loaded: LoadedModel, layer: int) -> KeyFacts:
        """Return keys and values as bounds want them."""
        projection = loaded.down_projection(layer)
        bare, prefixed = (
            widened(projection(key.to(loaded.dtype))).cpu().double()
            for key in (self.bare_key, self.prefixed_key)
        )
        return KeyFacts(
            bare_key=self.bare_key.cpu().double(),
            prefixed_key=self.prefixed_key.cpu().double(),
            bare_value=bare,
            prefixed_value=prefixed,
        )


@torch.no_grad()
def read_layer_keys(
    loaded: LoadedModel,
    layers: Sequence[int],
    rewrites: Sequence[Rewrite],
    tokens_per_forward: int = 4096,
) -> list[LayerKeys]:
    """Return the keys of B rewrites at some layers; each row runs once, to the highest of them.

    Args:
        loaded: the model.
        layers: zero-based blocks, each once.
        rewrites: B of them, with the same P context templates.
        tokens_per_forward: tokens in one forward at most; a shared token counts too.
    """
    hooked = HookedLayer(loaded, max(layers))
    reader = KeyReader(loaded, layers)
    n_prompts = len(rewrites[0].prompts)
    empty = torch.zeros(
        (len(rewrites), loaded.widths.d_key), dtype=loaded.dtype, device=loaded.device
    )
    bare, total = ([widened(empty).clone() for _ in layers] for _ in range(2))
    for index, tails, ends in subject_tails(hooked, rewrites, tokens_per_forward):
        found = reader.read_ends(tails.ids, ends, tails.prefix())
        # Slot by slot, in which an edit has one row: sums are the same however threads run.
        for slot in range(n_prompts):
            mine = (index % n_prompts == slot).nonzero()[:, 0]
            owner = index[mine] // n_prompts
            for layer_index, key in enumerate(found):
                wide = widened(key[mine])
                total[layer_index][owner] += wide
                if slot == 0:
                    bare[layer_index][owner] = wide
    return [LayerKeys(each, whole / n_prompts) for each, whole in zip(bare, total, strict=True)]


@float32_products()
def sweep_batch(job: SweepJob) -> Manifest:
    """Return the rows of a batch's forecasts at every layer, and of its positions.

    Requests that this model cannot take are named in ``Manifest.unusable`` and leave no row.

    Raises:
        MomentError: C of a layer has no Cholesky factor.
        ArtifactError: a file of C is missing or has changed.
    """
    clock = job.clock("sweep", job.layers[0].model)
    store, first = ArtifactStore(job.results), job.layers[0]
    loaded = load(first.model)
    rewrites, unusable = build_rewrites(loaded.encoder, first.templates, first.requests)
    for each in unusable:
        logger.warning("%s: %s", first.model.spec.name, each.reason)
    rows: list[ForecastRow] = []
    if rewrites:
        layers = [edits.model.layer for edits in job.layers]
        budget = tokens_per_forward(loaded.device, loaded.size(max(layers)), "evaluation")
        keys = read_layer_keys(loaded, layers, rewrites, budget)
        for edits, found in zip(job.layers, keys, strict=True):
            with torch.no_grad():
                facts = found.facts(loaded, edits.model.layer)
            rows += forecast_rows(edits, rewrites, facts, kept_geometry(store, loaded, edits))
    positions = tuple(position_row(first.model.model_id, rewrite) for rewrite in rewrites)
    forecast = Forecast(tuple(rows), positions, tuple(unusable))
    return forecast_manifest(job, clock, forecast, str(loaded.device))
