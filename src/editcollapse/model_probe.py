"""Rows of mixed length run through a model in two ways: as its table row says, and by its own code.

All comparisons are made in float64 on the CPU: not every accelerator has that type.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from editcollapse.editing import EditedRows, written_into_weights
from editcollapse.models import LoadedModel
from editcollapse.products import plain_products
from editcollapse.sites import EditSite
from editcollapse.stand_ins import watch_projection
from editcollapse.tokens import pad_right
from editcollapse.updates import RankOneUpdates

_UPDATE_SHARE = 0.5
"""Norm of the probing update's effect in units of the values' own norm: far above rounding."""

_BITS = {8: torch.int64, 4: torch.int32, 2: torch.int16}


class Probe:
    """Rows of mixed length run through the model, against which the checks compare.

    Args:
        loaded: the model; its weights are the same, bit for bit, afterwards.
        rows: token ids.
        layers: zero-based blocks to check.
        tolerance: largest difference in units of the largest expected entry.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        rows: list[tuple[int, ...]],
        layers: tuple[int, ...],
        tolerance: float,
    ) -> None:
        self.loaded = loaded
        self.rows = rows
        self.layers = layers
        self.tolerance = tolerance
        self.ids = pad_right(rows, loaded.device)
        sizes = torch.tensor([len(row) for row in rows])
        self.real = torch.arange(self.ids.shape[1]) < sizes[:, None]  # on the CPU
        self.logits = self._logits(self.ids)
        self.sums = self._checksums()
        self.restored = True

    def hooks(self) -> tuple[bool, str]:
        """Each layer's projection runs once in a forward, from width K to width D."""
        widths, wrong = self.loaded.widths, []
        for layer, projection in self._projections():
            with watch_projection(projection) as seen:
                self._logits(self.ids)
            expected = ((*self.ids.shape, widths.d_key), (*self.ids.shape, widths.d_model))
            if (tuple(seen.key.shape), tuple(seen.value.shape)) != expected:
                wrong.append(layer)
        fired = f"{len(self.layers) - len(wrong)} of {len(self.layers)} layers"
        detail = f"keys of width {widths.d_key} and values of width {widths.d_model} at {fired}."
        return not wrong, detail

    def orientation(self) -> tuple[bool, str]:
        """The value is W k + b, with W turned as the row declares."""
        far = []
        for layer, projection in self._projections():
            with watch_projection(projection) as seen:
                self._logits(self.ids)
            bias = getattr(projection, "bias", None)
            by_hand = _exact(seen.key) @ _exact(self.loaded.weight(layer)).T
            by_hand = by_hand if bias is None else by_hand + _exact(bias)
            far.append(self._distance(seen.value, by_hand))
        return self._verdict(far, "values and W k + b by hand differ by")

    def split_run(self) -> tuple[bool, str]:
        """Blocks up to the layer and blocks above it are together the whole model."""
        far = []
        for layer in self.layers:
            site = EditSite(self.loaded, layer)
            states = site.read(self.ids)
            hidden = site.continue_from(states.residual)
            far.append(self._distance(self.loaded.logits(hidden), self.logits))
        return self._verdict(far, "logits of the two halves and of the whole model differ by")

    def rank_one_update(self) -> tuple[bool, str]:
        """An update carried by the rows is the same update written into the weights."""
        far, moved = [], []
        for layer in self.layers:
            site = EditSite(self.loaded, layer)
            states = site.read(self.ids)
            update = self._update(_exact(states.key)[self.real], _exact(states.value)[self.real])
            owner = torch.zeros(len(self.ids), dtype=torch.int64, device=self.ids.device)
            hidden = EditedRows(site, states).under_own(update, owner)
            found = self.loaded.logits(hidden)
            saved = self.loaded.weight(layer).clone()
            with written_into_weights(self.loaded, layer, update, 0):
                expected = self._logits(self.ids)
            self.restored &= torch.equal(self.loaded.weight(layer), saved)
            far.append(self._distance(found, expected))
            moved.append(self._distance(self.logits, expected))
        passed, detail = self._verdict(far, "logits by row and by written weights differ by")
        effective = min(moved) > max(far)
        return (
            passed and effective,
            f"{detail[:-1]}; the update itself moves them by {min(moved):.1e}.",
        )

    def products(self) -> tuple[bool, str]:
        """Products packed in advance, with their activations, are what the family's modules do."""
        with plain_products(self.loaded.model) as n_packed:
            far = [self._distance(self.logits, self._logits(self.ids))]
        return self._verdict(far, f"logits with and without {n_packed} packed products differ by")

    def weights_untouched(self) -> tuple[bool, str]:
        """The edited weights came back bit for bit; all others have the same sum of bits."""
        pairs = zip(self._checksums(), self.sums, strict=True)
        same = sum(now == before for now, before in pairs)
        detail = f"{same} of {len(self.sums)} parameters hold the bits that they held before."
        return self.restored and same == len(self.sums), detail

    def right_padding(self) -> tuple[bool, str]:
        """A row has the same logits alone as among longer rows."""
        far = []
        for n, row in enumerate(self.rows):
            alone = self._logits(torch.tensor([row], device=self.ids.device))[0]
            scale = float(alone.abs().max())
            far.append(float((self.logits[n, : len(row)] - alone).abs().max()) / scale)
        return self._verdict(far, "logits of a row alone and in a padded batch differ by")

    def head(self) -> tuple[bool, str]:
        """The head on the decoder's states gives the model's own logits."""
        states = self.loaded.decoder(input_ids=self.ids, use_cache=False).last_hidden_state
        far = [self._distance(self.loaded.logits(states), self.logits)]
        cap = getattr(self.loaded.model.config, "final_logit_softcapping", None)
        capped = "" if cap is None else f" (soft cap {cap:g})"
        return self._verdict(far, f"logits of the head{capped} and of the model differ by")

    def _projections(self) -> Iterator[tuple[int, nn.Module]]:
        for layer in self.layers:
            yield layer, self.loaded.down_projection(layer)

    def _checksums(self) -> list[int]:
        """Return each parameter's sum of bits: a copy of a large model would be too much."""
        return [
            int(parameter.detach().view(_BITS[parameter.element_size()]).sum(dtype=torch.int64))
            for parameter in self.loaded.model.parameters()
        ]

    def _logits(self, ids: Tensor) -> Tensor:
        """Return the model's own logits, (N, T, V)."""
        logits: Tensor = self.loaded.model(input_ids=ids, use_cache=False).logits
        return _exact(logits)

    def _update(self, keys: Tensor, values: Tensor) -> RankOneUpdates:
        """Return one update that reads the mean key and writes a visible, uneven value."""
        key = keys.mean(dim=0)
        right = key / key.norm()
        effect = (keys @ right).abs().mean()
        size = _UPDATE_SHARE * values.norm(dim=1).mean() / effect
        left = torch.linspace(-1.0, 2.0, values.shape[1], dtype=torch.float64)
        return RankOneUpdates((size * left / left.norm())[None], right[None])

    def _distance(self, found: Tensor, expected: Tensor) -> float:
        """Return the largest difference at real tokens, in units of the largest expected entry."""
        ours, theirs = _exact(found)[self.real], _exact(expected)[self.real]
        return float((ours - theirs).abs().max() / theirs.abs().max())

    def _verdict(self, far: list[float], what: str) -> tuple[bool, str]:
        worst = max(far, key=lambda value: (value != value, value))  # noqa: PLR0124  nan is worst
        return worst < self.tolerance, f"{what} {worst:.1e} at most."


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()
