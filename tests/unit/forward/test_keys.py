"""Keys of several layers from one forward that ends at the highest of them."""

import threading

import pytest
import torch

from editcollapse.errors import ModelError
from editcollapse.forward.keys import KeyReader
from tests.support.cases import TEXTS, TIGHT, Float64Throughout, distance
from tests.support.tiny import N_LAYERS, unlike_families


def full_forward_keys(loaded, layer, ids):
    """Return what goes into a down projection while the whole model runs."""
    seen = []
    handle = loaded.down_projection(layer).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    try:
        loaded.model(input_ids=ids, use_cache=False)
    finally:
        handle.remove()
    (key,) = seen
    return key


def ids_of(loaded, index):
    """Return one text as a row of ids."""
    return torch.tensor([loaded.encoder.sequence(TEXTS[index])])


@unlike_families
def test_keys_are_those_of_a_full_forward(tiny_model, variant):
    """Asked in any order, keys are what the down projections take in a full forward."""
    loaded = tiny_model(variant)
    ids = ids_of(loaded, 1)
    layers = (2, 0, 1)
    with Float64Throughout():
        found = KeyReader(loaded, layers).read(ids)
        for layer, keys in zip(layers, found, strict=True):
            assert distance(keys, full_forward_keys(loaded, layer, ids)) < TIGHT


@pytest.mark.parametrize("variant", ["gpt2", "gpt_neox_parallel", "gemma2"])
def test_nothing_above_the_highest_key_runs(tiny_model, variant):
    """Of the highest layer's block the down projection does not run, nor does a block above."""
    loaded = tiny_model(variant)
    ran = []
    watched = {
        "projection 0": loaded.down_projection(0),
        "projection 1": loaded.down_projection(1),
        **{f"block {layer}": loaded.blocks[layer] for layer in range(2, N_LAYERS)},
    }
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        for name, module in watched.items()
    ]
    try:
        KeyReader(loaded, (0, 1)).read(ids_of(loaded, 0))
    finally:
        for handle in handles:
            handle.remove()
    assert ran == ["projection 0"]


def test_model_is_left_as_it_was(tiny_model):
    """Reading changes no module of the model and leaves no hook."""
    loaded = tiny_model("llama")
    before = {name: id(module) for name, module in loaded.model.named_modules()}
    KeyReader(loaded, (0, 2)).read(ids_of(loaded, 0))
    assert {name: id(module) for name, module in loaded.model.named_modules()} == before
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in loaded.model.modules()
    )


def test_readers_in_threads_do_not_meet(tiny_model):
    """Two readers of one model, each in its thread, read what each reads alone."""
    loaded = tiny_model("gpt2")
    rows = [ids_of(loaded, index) for index in (1, 3)]
    expected = [KeyReader(loaded, (0, 1)).read(row) for row in rows]
    different = []

    def read(place):
        reader = KeyReader(loaded, (0, 1))
        for _ in range(50):
            found = reader.read(rows[place])
            if not all(map(torch.equal, found, expected[place])):
                different.append(place)

    threads = [threading.Thread(target=read, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert different == []


def test_layer_that_is_not_there_is_named(tiny_model):
    """A layer out of range is refused with the range."""
    with pytest.raises(ModelError, match="it has layers 0 to 2"):
        KeyReader(tiny_model("gpt2"), (1, 3))
