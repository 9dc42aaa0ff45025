"""Independent edits: each row of a batch carries its own rank-one update; weights stay as they are.

``(W + left rightᵀ) k = W k + left (right · k)``, so an edited layer's value changes by
``left (right · k)`` at every token and nothing else does. What the next block reads of it directly
is known products and that one direction.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from editcollapse.forward.hooked_layer import BlockInput, HookedLayer, LayerStates
from editcollapse.forward.weight_changes import LayerChange, WeightChanges, added
from editcollapse.models.loading import LoadedModel, widened
from editcollapse.rome.updates import RankOneUpdates

Updates = RankOneUpdates | WeightChanges
"""Independent edits of a batch: of one layer by rank one, or of any layers by any rank."""


class RankOneInput:
    """A block's entry under inputs that are moved along one direction each.

    For LayerNorm, with the mean taken out of the input h and of the direction r,
    ``W LN(h + c r) + a = s (W g h + c W g r) + (W b + a)`` with g, b the norm's weight and bias,
    a the map's bias, and 1/s the root of the mean square of h + c r (and eps). RMS norms are the
    same without mean and b. W g h is computed once for all c and r.

    Args:
        block_input: of the block.
        residual: unmoved inputs of N rows, (N, T, D), float32 or float64.
    """

    def __init__(self, block_input: BlockInput, residual: Tensor) -> None:
        self._block_input = block_input
        self._centred = _centred(residual) if block_input.centred else residual
        self._exact = torch.float32 if residual.device.type == "mps" else torch.float64
        self._square = self._centred.to(self._exact).square().sum(dim=-1)  # (N, T)
        self._bases = self._products(self._centred)
        self._constants = [
            _constant(norm, projection)
            for norm, projections in block_input.parts
            for projection in projections
        ]

    def outputs(self, dots: Tensor, direction: Tensor, owner: Tensor | None = None) -> list[Tensor]:
        """Return the outputs of every linear map, (E, N, T, out) each; (N, T, out) with owners.

        Args:
            dots: how far each token moves, (E, N, T); (N, T) where rows have owners.
            direction: (E, D).
            owner: int64 (N,): each row's direction; None where every row is moved along each.
        """
        moved = _centred(direction) if self._block_input.centred else direction
        along = self._products(moved)
        exact = moved.to(self._exact)
        size = exact.square().sum(dim=-1)  # (E,)
        if owner is None:
            cross = torch.einsum("ntd,ed->ent", self._centred.to(self._exact), exact)
            size = size[:, None, None]
            along = [each[:, None, None] for each in along]
        else:
            cross = torch.einsum("ntd,nd->nt", self._centred.to(self._exact), exact[owner])
            size = size[owner, None]
            along = [each[owner, None] for each in along]
        far = dots.to(self._exact)
        square = (self._square + 2 * far * cross + far.square() * size).clamp(min=0)
        scales = []
        for norm, projections in self._block_input.parts:
            scale = torch.ones_like(square)
            if not isinstance(norm, nn.Identity):
                scale = (square / moved.shape[-1] + _eps(norm)).rsqrt()
            scales += [(scale, scale * far)] * len(projections)
        found = []
        for (scale, step), base, r, constant in zip(
            scales, self._bases, along, self._constants, strict=True
        ):
            here = scale.to(base)[..., None]
            output = here * base if constant is None else torch.addcmul(constant, here, base)
            found.append(output.addcmul_(step.to(base)[..., None], r))
        return found

    def _products(self, vectors: Tensor) -> list[Tensor]:
        """Return W g x for every linear map, (..., out) each."""
        found = []
        for norm, projections in self._block_input.parts:
            weight: Any = getattr(norm, "weight", None)
            gained = vectors
            if weight is not None:
                gained = vectors * (1 + weight if self._block_input.from_one else weight)
            for projection in projections:
                bias: Any = projection.bias
                product = projection(gained)
                found.append(product if bias is None else product - bias)
        return found


def _centred(vectors: Tensor) -> Tensor:
    return vectors - vectors.mean(dim=-1, keepdim=True)


def _constant(norm: nn.Module, projection: nn.Module) -> Tensor | None:
    """Return W b + a, (out,): what a map gives where its norm's input has no spread."""
    shift, bias = getattr(norm, "bias", None), getattr(projection, "bias", None)
    constant: Tensor | None = bias if shift is None else projection(shift)
    return constant


def _eps(norm: nn.Module) -> float:
    """Return the epsilon of a norm."""
    family: Any = norm
    eps = getattr(norm, "eps", None)
    return float(family.variance_epsilon if eps is None else eps)


class EditedRows:
    """Rows under many independent edits: what no edit changes is worked out once.

    Args:
        hooked: the edited layer.
        states: unedited states of N rows of T tokens.
    """

    @torch.no_grad()
    def __init__(self, hooked: HookedLayer, states: LayerStates) -> None:
        self._hooked = hooked
        # Only what is read again: the states themselves may go.
        self._residual = states.residual
        self._value = states.value if hooked.reads_value else None
        self._key = widened(states.key)
        self._block_input: RankOneInput | None = None
        # An edit moves the residual along one direction, unless a norm stands between the value
        # and the stream. Half types round each product: there a sum of two is another number.
        is_exact = states.residual.dtype in {torch.float32, torch.float64}
        if hooked.n_above and is_exact and not hooked.reads_value:
            self._block_input = RankOneInput(hooked.block_input, states.residual)

    @torch.no_grad()
    def unedited(self) -> Tensor:
        """Return the states after the final norm, (N, T, D)."""
        return self._hooked.continue_from(self._residual)

    @torch.no_grad()
    def under_each(self, updates: Updates) -> Tensor:
        """Return the states after the final norm of every row under every update, (E·N, T, D).

        Args:
            updates: E updates, of no layer below the hooked one; row e·N + n of the result is row n
                under update e.
        """
        start, hooked, n_edits = self._residual, self._hooked, len(updates)
        if isinstance(updates, WeightChanges):
            n_rows = len(start)
            owner = torch.arange(n_edits, device=start.device).repeat_interleave(n_rows)
            return self._with_changes(updates, owner, n_edits)
        dots = updates.right.to(self._key) @ self._key.flatten(0, 1).T
        dots = dots.view(n_edits, *start.shape[:2])  # (E, N, T)
        left = updates.left.to(dots)
        moved = hooked.in_stream(dots)
        if self._value is None and start.dtype == dots.dtype:
            residual = torch.addcmul(start, moved[..., None], left[:, None, None])  # in one pass
            residual = residual.flatten(0, 1)
        else:
            value = None if self._value is None else self._value.repeat(n_edits, 1, 1)
            change = (dots[..., None] * left[:, None, None]).flatten(0, 1)
            residual = hooked.add_to_value(start.repeat(n_edits, 1, 1), value, change)
            del change  # not kept while the blocks run
        return self._run(residual, moved, left, None)

    @torch.no_grad()
    def under_own(self, updates: Updates, owner: Tensor) -> Tensor:
        """Return the states after the final norm where each row has its own update, (N, T, D).

        Args:
            updates: E updates, of no layer below the hooked one.
            owner: int64 (N,): each row's update.
        """
        if isinstance(updates, WeightChanges):
            return self._with_changes(updates, owner, None)
        dots = torch.einsum("ntk,nk->nt", self._key, updates.right.to(self._key)[owner])
        left = updates.left.to(dots)
        change = dots[..., None] * left[owner, None]
        residual = self._hooked.add_to_value(self._residual, self._value, change)
        del change  # not kept while the blocks run
        return self._run(residual, self._hooked.in_stream(dots), left, owner)

    def _with_changes(self, updates: WeightChanges, owner: Tensor, n_edits: int | None) -> Tensor:
        """Return the states under changes of any layers: rows under each of some, or their own."""
        hooked, residual, value = self._hooked, self._residual, self._value
        above: Sequence[LayerChange] = updates.layers
        if updates.lowest == hooked.layer:
            above = updates.layers[1:]
            if n_edits is None:
                change = updates.layers[0].of_own(self._key, owner)
            else:
                change = updates.layers[0].of_each(self._key).flatten(0, 1)
                residual = residual.repeat(n_edits, 1, 1)
                value = None if value is None else value.repeat(n_edits, 1, 1)
            residual = hooked.add_to_value(residual, value, change)
            del change  # not kept while the blocks run
        elif n_edits is not None:
            residual = residual.repeat(n_edits, 1, 1)
        with added(hooked.loaded, above, owner):
            return hooked.continue_from(residual)

    def _run(self, residual: Tensor, dots: Tensor, left: Tensor, owner: Tensor | None) -> Tensor:
        """Run the blocks above on edited residuals, most of the first one's entry known."""
        if self._block_input is None:
            return self._hooked.continue_from(residual)
        rows = residual.shape[:2]
        outputs = self._block_input.outputs(dots, left, owner)
        next_block = self._hooked.block_input.given(
            [each.view(*rows, each.shape[-1]) for each in outputs]
        )
        del outputs  # the view holds them until they are read
        return self._hooked.continue_from(residual, next_block=next_block)


@contextmanager
def written_into_weights(
    loaded: LoadedModel, layer: int, updates: RankOneUpdates, index: int
) -> Iterator[None]:
    """Write one update into the weights, and put the saved weights back at the end.

    For checks and export only: studies never write to weights.
    """
    weight = loaded.weight(layer)
    saved = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.add_(updates.matrix(index).to(weight))
        yield
    finally:
        with torch.no_grad():
            weight.copy_(saved)
