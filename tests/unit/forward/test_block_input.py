"""The entry of the block above an edit is the family's own, computed anew or from known parts."""

import contextlib

import pytest
import torch

from editcollapse.forward.hooked_layer import BlockInput, HookedLayer, overwrite
from editcollapse.rome.edited_model import EditedRows, RankOneInput
from editcollapse.rome.updates import RankOneUpdates
from tests.support.cases import LAYER, TIGHT, Float64Throughout, distance, drawing
from tests.support.tiny import unlike_families


def residual_of(loaded, draw, rows=3, tokens=5):
    """Return a residual stream whose tokens differ in size, and one token without any."""
    scale = 10.0 ** torch.arange(-2, tokens - 2)[:, None]
    residual = draw(rows, tokens, loaded.widths.d_model) * scale
    residual[0, 0] = 0
    return residual


@unlike_families
def test_moved_inputs_equal_the_modules(tiny_model, variant):
    """Every norm and linear map, for every update on every row, and for rows with owners."""
    loaded = tiny_model(variant)
    block_input = BlockInput(loaded, LAYER)
    draw = drawing(7)
    residual = residual_of(loaded, draw)
    dots, direction = draw(4, *residual.shape[:2]), draw(4, residual.shape[2])
    rank_one = RankOneInput(block_input, residual)
    with Float64Throughout():
        found = rank_one.outputs(dots, direction)
        expected = block_input.outputs(residual + dots[..., None] * direction[:, None, None])
    assert len(found) == len(expected) == sum(len(e.projections) for e in loaded.input_norms)
    for ours, theirs in zip(found, expected, strict=True):
        assert distance(ours, theirs) < TIGHT
    owner = torch.tensor([3, 0, 3])
    with Float64Throughout():
        found = rank_one.outputs(dots[0], direction, owner)
        expected = block_input.outputs(residual + dots[0, ..., None] * direction[owner, None])
    for ours, theirs in zip(found, expected, strict=True):
        assert distance(ours, theirs) < TIGHT


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_float32_keeps_its_digits_under_updates_of_any_size(tiny_model, size):
    """Also where an update drowns the residual, as a collapsing one does, or undoes it."""
    loaded = tiny_model("gpt2", "float32")
    block_input = BlockInput(loaded, LAYER)
    draw = drawing(7)
    residual = residual_of(loaded, draw).float()
    dots = size * draw(1, *residual.shape[:2]).float()
    direction = draw(1, residual.shape[2]).float()
    direction[0] = residual[1, 3] / residual[1, 3].norm()
    dots[0, 1, 3] = -0.9 * residual[1, 3].norm()
    found = RankOneInput(block_input, residual).outputs(dots, direction)
    expected = block_input.outputs(residual + dots[..., None] * direction[:, None, None])
    for ours, theirs in zip(found, expected, strict=True):
        assert distance(ours, theirs) < 1e-4


def test_overwritten_rows_take_the_gradient():
    """New rows stand where they belong, and get the gradient of their places alone."""
    draw = drawing(7)
    rows, new = draw(6, 3), draw(2, 3).requires_grad_()
    at, weight = torch.tensor([4, 1]), draw(6, 3)
    expected = rows.clone()
    expected[at] = new.detach()
    found = overwrite(rows, new, at)
    assert torch.equal(found.detach(), expected)
    (found * weight).sum().backward()
    assert torch.equal(new.grad, weight[at])


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("variant", ["gpt2", "gptj", "gemma2", "llama", "phi"])
def test_edited_rows_are_rows_with_their_change_added(tiny_model, variant, dtype):
    """Every row under every update, and under its own, as the whole block gives it."""
    loaded = tiny_model(variant, dtype)
    exact = Float64Throughout() if dtype == "float64" else contextlib.nullcontext()
    tolerance = {"float64": TIGHT, "float32": 1e-4, "bfloat16": 0.1}[dtype]
    with exact:
        for layer in (0, LAYER, loaded.widths.n_layers - 1):
            check_edited_rows(HookedLayer(loaded, layer), tolerance)


def check_edited_rows(hooked, tolerance):
    """Compare rows under updates with the blocks above, run on residuals with the change added."""
    loaded, draw = hooked.loaded, drawing(hooked.layer)
    generator = torch.Generator().manual_seed(hooked.layer)
    ids = torch.randint(0, loaded.widths.n_vocabulary, (3, 6), generator=generator)
    states = hooked.read(ids)
    left, right = draw(2, loaded.widths.d_model), draw(2, loaded.widths.d_key)
    updates = RankOneUpdates(left, right)
    rows = EditedRows(hooked, states)
    expected = []
    for one in range(2):
        change = (states.key.double() @ right[one])[..., None] * left[one]
        moved = hooked.add_to_value(states.residual, states.value, change)
        expected.append(hooked.continue_from(moved))
    each = rows.under_each(updates)
    assert distance(each.double(), torch.cat(expected).double()) < tolerance
    owner = torch.tensor([1, 0, 1])
    own = rows.under_own(updates, owner)
    picked = torch.stack([expected[o][n] for n, o in enumerate(owner.tolist())])
    assert distance(own.double(), picked.double()) < tolerance
