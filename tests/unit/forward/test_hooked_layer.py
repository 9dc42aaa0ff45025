"""The seam at the edited layer: two halves are the whole model, and nothing of it is changed."""

import pytest
import torch

from editcollapse.errors import ModelError
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.module_views import watch_projection
from editcollapse.models.tokenization import pad_right
from tests.support.cases import LAYER, TEXTS, TIGHT, Float64Throughout, distance
from tests.support.tiny import N_LAYERS, unlike_families


def rows_of(loaded):
    """Return the test texts as rows of ids, of mixed length."""
    return [loaded.encoder.sequence(text) for text in TEXTS]


@unlike_families
def test_two_halves_are_the_whole(tiny_model, variant):
    """Reading at a layer and continuing from it gives the full forward's logits, at every layer."""
    loaded = tiny_model(variant)
    ids = pad_right(rows_of(loaded), loaded.device)
    with Float64Throughout(), torch.no_grad():
        expected = loaded.model(input_ids=ids, use_cache=False).logits
        for layer in range(N_LAYERS):
            hooked = HookedLayer(loaded, layer)
            states = hooked.read(ids)
            assert states.key.shape == (*ids.shape, loaded.widths.d_key)
            assert states.value.shape == (*ids.shape, loaded.widths.d_model)
            found = loaded.logits(hooked.continue_from(states.residual))
            assert distance(found, expected) < TIGHT


@unlike_families
def test_right_padding_changes_nothing(tiny_model, variant):
    """Rows of mixed length padded together give each row's own logits, without any mask."""
    loaded = tiny_model(variant)
    rows = rows_of(loaded)
    ids = pad_right(rows, loaded.device)
    assert len(set(map(len, rows))) > 1
    with Float64Throughout(), torch.no_grad():
        together = loaded.model(input_ids=ids, use_cache=False).logits
        for n, row in enumerate(rows):
            alone = loaded.model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
            assert distance(together[n, : len(row)], alone) < TIGHT


@unlike_families
def test_value_is_the_weight_applied_to_the_key(tiny_model, variant):
    """The value is W k + b with W in the declared orientation; also where W is square."""
    loaded = tiny_model(variant)
    states = HookedLayer(loaded, LAYER).read(pad_right(rows_of(loaded), loaded.device))
    bias = getattr(loaded.down_projection(LAYER), "bias", None)
    expected = states.key @ loaded.weight(LAYER).T + (0 if bias is None else bias)
    assert distance(states.value, expected) < TIGHT
    if loaded.widths.d_key == loaded.widths.d_model:
        assert distance(states.value, states.key @ loaded.weight(LAYER)) > 0.1


@unlike_families
def test_change_of_value_equals_hook_on_the_projection(tiny_model, variant):
    """A change added to the value at the seam is one added by a hook in the full model."""
    loaded = tiny_model(variant)
    hooked = HookedLayer(loaded, LAYER)
    ids = pad_right(rows_of(loaded), loaded.device)
    generator = torch.Generator().manual_seed(1)
    shape = (*ids.shape, loaded.widths.d_model)
    change = torch.randn(shape, generator=generator, dtype=torch.float64)
    with Float64Throughout(), torch.no_grad():
        states = hooked.read(ids)
        with hooked.projection.register_forward_hook(
            lambda _module, _inputs, out: out + change.view_as(out)
        ):
            expected = loaded.model(input_ids=ids, use_cache=False).logits
        found = loaded.logits(
            hooked.continue_from(hooked.add_to_value(states.residual, states.value, change))
        )
    assert distance(found, expected) < TIGHT


def test_hooks_are_removed_and_blocks_restored(tiny_model):
    """After a read, and after one that fails, the model has no hook and its own blocks."""
    loaded = tiny_model("llama")
    blocks = list(loaded.blocks)
    hooked = HookedLayer(loaded, LAYER)
    hooked.read(torch.tensor([[3, 4]]))
    with pytest.raises(IndexError):
        hooked.read(torch.tensor([[10**6]]))
    with pytest.raises(RuntimeError), watch_projection(hooked.projection, torch.Size([1, 2])):
        raise RuntimeError
    assert not hooked.projection._forward_hooks
    assert all(now is before for now, before in zip(loaded.blocks, blocks, strict=True))


@pytest.mark.parametrize("layer", [-1, N_LAYERS])
def test_no_such_layer(tiny_model, layer):
    """A layer that the model does not have is refused with those that it has."""
    with pytest.raises(ModelError, match="it has layers 0 to 2"):
        HookedLayer(tiny_model("gpt2"), layer)
