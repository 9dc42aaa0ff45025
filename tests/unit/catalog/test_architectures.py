"""The table of families: every row is tried on a model, and sizes come from the configuration."""

import pytest

from editcollapse.catalog.architectures import ARCHITECTURES, architecture_of, widths_of
from editcollapse.errors import UnknownFamilyError
from tests.support.tiny import VARIANTS


def test_every_family_has_a_tiny_model(tiny_model):
    """No row of the table goes untested."""
    tried = {tiny_model(variant).architecture.family for variant in VARIANTS}
    assert tried == set(ARCHITECTURES)


@pytest.mark.parametrize("variant", VARIANTS)
def test_sizes_are_those_of_the_weights(tiny_model, variant):
    """Sizes read from config.json, before any weight is loaded, are the loaded model's."""
    loaded = tiny_model(variant)
    widths = loaded.widths
    assert widths.n_layers == len(loaded.blocks)
    assert loaded.weight(0).shape == (widths.d_model, widths.d_key)
    assert loaded.model.get_input_embeddings().weight.shape[0] == widths.n_vocabulary


def test_inner_width_falls_back_to_four_times():
    """GPT-2's files say ``n_inner: null`` and mean 4 D."""
    config = {"model_type": "gpt2", "n_layer": 2, "n_embd": 8, "n_inner": None, "vocab_size": 5}
    assert widths_of(config, "x").d_key == 32


def test_unknown_family_lists_the_known_ones():
    """The message names the nearest families first and says where to add a row."""
    with pytest.raises(
        UnknownFamilyError, match=r"'qwen4' \(here\)\. Known: qwen\d, .*architectures"
    ):
        architecture_of("qwen4", "here")
