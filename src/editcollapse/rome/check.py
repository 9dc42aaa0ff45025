"""Verify a family's row of the architecture table on loaded weights, and state a model's facts.

A row is a claim about another project's code. Each check computes one thing in two ways, on rows of
mixed length: as the row says, and by the model's own forward. All comparisons are made in float64
on the CPU: not every accelerator has that type.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.module_views import watch_projection
from editcollapse.models.loading import LoadedModel
from editcollapse.models.packed_linear import plain_products
from editcollapse.models.tokenization import pad_right
from editcollapse.rome.edited_model import EditedRows, written_into_weights
from editcollapse.rome.updates import RankOneUpdates
from editcollapse.runtime.environment import Report, reporter, tell


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts of a model that matter to edits."""

    source: str
    family: str
    n_layers: int
    d_model: int
    d_key: int
    n_vocabulary: int
    n_parameters: int
    dtype: str
    parallel_residual: bool
    """Whether attention and MLP read the same residual stream."""
    projection: str
    """What the down projection is: Conv1D, whose weight is stored as (K, D), or Linear."""
    tied_head: bool
    start_token: str | None
    """What opens every prompt; None where a subject can be the sequence's first token."""
    first_token: str
    """What stands at position 0 of the probing text."""
    quantization: str | None = None
    """What the weights were dequantised from; None where they were plain numbers."""

    def lines(self) -> list[str]:
        """Return the facts for people."""
        residual = "parallel" if self.parallel_residual else "sequential"
        head = "tied to the embedding" if self.tied_head else "of its own"
        first = (
            f"the start token {self.start_token!r}: no subject is the sequence's first token"
            if self.start_token is not None
            else f"the text's own first token, here {self.first_token!r}: a subject can stand there"
        )
        sizes = f"{self.n_layers} layers, D {self.d_model}, K {self.d_key}"
        dtype = self.dtype
        if self.quantization is not None:
            dtype += f" dequantised from {self.quantization}"
        return [
            f"{self.source}: family {self.family}, {self.n_parameters:,} parameters, {dtype}",
            f"{sizes}, vocabulary {self.n_vocabulary}",
            f"{residual} residual, {self.projection} down projection, head {head}",
            f"position 0 holds {first}",
        ]


def facts_of(loaded: LoadedModel, first_id: int) -> ModelFacts:
    """Return the facts of a model: family, sizes, dtype, module paths.

    Args:
        loaded: the model.
        first_id: first token of a probing text.
    """
    row = loaded.architecture
    model: Any = loaded.model
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return ModelFacts(
        source=loaded.source,
        family=row.family,
        n_layers=loaded.widths.n_layers,
        d_model=loaded.widths.d_model,
        d_key=loaded.widths.d_key,
        n_vocabulary=loaded.widths.n_vocabulary,
        n_parameters=loaded.n_parameters,
        dtype=str(loaded.dtype).removeprefix("torch."),
        parallel_residual=loaded.is_parallel,
        projection="Conv1D" if row.transposed else "Linear",
        tied_head=head is embedding,
        start_token=loaded.encoder.start_token,
        first_token=str(loaded.encoder.tokenizer.convert_ids_to_tokens(first_id)),
        quantization=loaded.quantization,
    )


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
        self.doing = loaded.name
        """The check that runs, in words."""
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
        for layer in self._reported():
            hooked = HookedLayer(self.loaded, layer)
            states = hooked.read(self.ids)
            hidden = hooked.continue_from(states.residual)
            far.append(self._distance(self.loaded.logits(hidden), self.logits))
        return self._verdict(far, "logits of the two halves and of the whole model differ by")

    def rank_one_update(self) -> tuple[bool, str]:
        """An update carried by the rows is the same update written into the weights."""
        far, moved = [], []
        for layer in self._reported():
            hooked = HookedLayer(self.loaded, layer)
            states = hooked.read(self.ids)
            update = self._update(_exact(states.key)[self.real], _exact(states.value)[self.real])
            owner = torch.zeros(len(self.ids), dtype=torch.int64, device=self.ids.device)
            hidden = EditedRows(hooked, states).under_own(update, owner)
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

    def _reported(self) -> Iterator[int]:
        """Yield the layers, and report each as one that the present check is done with."""
        report = reporter(self.doing, "layer")
        for done, layer in enumerate(self.layers, start=1):
            yield layer
            report(done, len(self.layers))

    def _projections(self) -> Iterator[tuple[int, nn.Module]]:
        for layer in self._reported():
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


_TEXTS = (
    "The capital of France is Paris, and it lies on the Seine.",
    "One more thing: a river",
    "I",
)
_TOLERANCE = {
    torch.float64: 1e-5,
    torch.float32: 1e-3,
    torch.float16: 2e-2,
    torch.bfloat16: 1e-1,
}
"""Largest difference in units of the largest expected entry. A float64 model still casts to float32
inside some families; a 16-bit one rounds each block to 3 (bfloat16: 2) digits."""


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One claim about the model."""

    name: str
    passed: bool
    detail: str
    """One sentence: what was compared, and how far apart it was."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelCheck:
    """Facts of a model and what was verified on it."""

    facts: ModelFacts
    tolerance: float
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def lines(self) -> list[str]:
        """Return the facts and one line a check, for people."""
        verdict = (
            f"all {len(self.checks)} checks passed"
            if self.passed
            else f"{sum(not check.passed for check in self.checks)} of {len(self.checks)} checks "
            "failed: the row in catalog/architectures.py does not describe this model"
        )
        return [
            *self.facts.lines(),
            *(
                f"{'ok    ' if check.passed else 'FAILED'}  {check.name}: {check.detail}"
                for check in self.checks
            ),
            f"{verdict} (tolerance {self.tolerance:g} in {self.facts.dtype})",
        ]


@torch.no_grad()
def check_model(loaded: LoadedModel, layer: int | None = None) -> ModelCheck:
    """Check a model's row in the architecture table; return what holds and what does not.

    Args:
        loaded: the model; its weights are the same, bit for bit, afterwards.
        layer: zero-based block to check; every block where left out.

    Raises:
        ModelError: the model has no such layer.
    """
    layers = range(loaded.widths.n_layers) if layer is None else (layer,)
    for index in layers:
        loaded.down_projection(index)  # refuses a layer that is not there
    rows = [row for row in map(loaded.encoder.sequence, _TEXTS) if row]
    rows = [row[: loaded.encoder.max_length] for row in rows]
    tolerance = _TOLERANCE[loaded.dtype]
    probe = Probe(loaded, rows, tuple(layers), tolerance)
    steps: dict[str, Callable[[], tuple[bool, str]]] = {
        "hooks": probe.hooks,
        "orientation": probe.orientation,
        "split run": probe.split_run,
        "rank-one update": probe.rank_one_update,
        "products": probe.products,
        "weights untouched": probe.weights_untouched,
        "right padding": probe.right_padding,
        "head": probe.head,
    }
    checks = []
    for number, (name, step) in enumerate(steps.items(), start=1):
        probe.doing = f"{loaded.name}: check {number} of {len(steps)}, {name}"
        tell(Report(probe.doing))
        checks.append(_run(name, step))
    return ModelCheck(
        facts=facts_of(loaded, rows[0][0]),
        tolerance=tolerance,
        checks=tuple(checks),
    )


def _run(name: str, step: Callable[[], tuple[bool, str]]) -> Check:
    """Return one check; a row that is wrong may make torch itself raise."""
    try:
        passed, detail = step()
    except (AttributeError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        return Check(name, passed=False, detail=f"{type(error).__name__}: {reason}.")
    return Check(name, passed, detail)
