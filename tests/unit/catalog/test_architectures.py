"""The table of families: every row is tried on a model, and sizes come from the configuration."""

import re
from itertools import takewhile
from pathlib import Path

import pytest

from editcollapse.catalog.architectures import ARCHITECTURES, architecture_of, widths_of
from editcollapse.errors import UnknownFamilyError
from tests.support.tiny import VARIANTS


def test_every_family_has_a_tiny_model(tiny_model):
    """No row of the table goes untested."""
    tried = {tiny_model(variant).architecture.family for variant in VARIANTS}
    assert tried == set(ARCHITECTURES)


@pytest.mark.parametrize(("page", "column"), [("README.md", "models"), ("docs/method.md", "W")])
def test_docs_name_every_family(page, column):
    """The tables of families have those of the code, no more and no less, each once."""
    lines = (Path(__file__).parents[3] / page).read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| family | {column}"))
    rows = takewhile(bool, lines[start + 2 :])
    named = [name for row in rows for name in re.findall(r"\w+", row.split("|")[1])]
    assert sorted(named) == sorted(ARCHITECTURES)


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
        architecture_of({"model_type": "qwen4"}, "here")


@pytest.mark.parametrize("field", ["num_experts", "num_local_experts"])
@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral"])
def test_experts_are_refused_with_the_reason(family, field):
    """There is no one MLP matrix to edit; nobody is told to add a row."""
    with pytest.raises(UnknownFamilyError, match="mixture of experts, 8 in a block") as refused:
        architecture_of({"model_type": family, field: 8}, "here")
    assert "Add a row" not in str(refused.value)


@pytest.mark.parametrize(
    ("model_type", "fields", "reason"),
    [
        ("opt", {"do_layer_norm_before": False}, "as opt-350m"),
        ("opt", {"hidden_size": 1024, "word_embed_proj_dim": 512}, "another width"),
        ("bloom", {"apply_residual_connection_post_layernorm": True}, "adds to the normed stream"),
        ("bloom", {"slow_but_exact": True}, "slice by slice"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "attends to both sides"),
    ],
)
def test_models_that_cannot_be_edited_soundly_are_refused(model_type, fields, reason):
    """A known family's odd models are refused by their config.json, before any weight is read."""
    with pytest.raises(UnknownFamilyError, match=f"^here .*{reason}"):
        architecture_of({"model_type": model_type} | fields, "here")
    usual = {"model_type": model_type, "hidden_size": 1024, "word_embed_proj_dim": 1024}
    assert architecture_of(usual, "here").family == model_type


@pytest.mark.parametrize("name", ["n_embed", "hidden_size"])
def test_either_name_of_a_size_is_read(name):
    """BLOOM's files say n_embed or hidden_size; its K is always 4 D."""
    found = widths_of({"model_type": "bloom", "n_layer": 2, name: 8, "vocab_size": 5}, "x")
    assert (found.n_layers, found.d_model, found.d_key) == (2, 8, 32)
