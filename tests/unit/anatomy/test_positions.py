"""Profiles by position against plain forwards that give everything: every family, and T5."""

import copy

import numpy as np
import pytest
import torch
import transformers
from scipy import stats

from editcollapse.anatomy import positions
from editcollapse.anatomy.encoders import absolute_source, encoder_id, load_encoder
from editcollapse.anatomy.positions import (
    PositionNumbers,
    Stack,
    decoder_stack,
    mean_of,
    profile_rows,
    read_positions,
    watch_stack,
)
from editcollapse.compat import attention_implementation
from editcollapse.errors import ModelError, UnknownFamilyError
from tests.support.cases import TIGHT, Float64Throughout
from tests.support.tiny import unlike_families
from tests.support.toy_tokenizers import word_tokenizer

_ROWS = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [3, 4, 5], [5, 1], [2, 7, 1, 8]]


def plain(model, config, projections, rows, *, has_weights=True):
    """Return residuals, keys and attention of each row, run alone with transformers' own outputs.

    The last residual is missing: transformers gives it behind the final norm.
    """
    found = []
    usual = config._attn_implementation
    config._attn_implementation = "eager" if has_weights else usual
    for row in rows:
        keys = []

        def keep(_, inputs, keys=keys):
            keys.append(inputs[0].view(1, -1, inputs[0].shape[-1]))

        handles = [projection.register_forward_pre_hook(keep) for projection in projections]
        with torch.no_grad():
            ids = torch.tensor([row])
            output = model(ids, output_hidden_states=True, output_attentions=has_weights)
        for handle in handles:
            handle.remove()
        found.append((output.hidden_states[1:-1], keys, output.attentions))
    config._attn_implementation = usual
    return found


def hooks_of(model):
    """Return how many hooks each module has."""
    return [(len(each._forward_hooks), len(each._forward_pre_hooks)) for each in model.modules()]


def check(numbers, found, rows):
    """Compare the numbers of a stack with plain forwards."""
    n_layers = len(found[0][1])
    keys = [torch.cat([each[1][layer][0] for each in found]) for layer in range(n_layers)]
    places = np.concatenate([np.arange(len(row)) for row in rows])
    for n, row in enumerate(rows):
        residuals, own, weights = found[n]
        for layer in range(n_layers):
            for place in range(len(row)):
                here = (n, layer, place)
                key = own[layer][0, place]
                assert numbers.key_norm[here] == pytest.approx(float(key.norm()), rel=TIGHT)
                mean = keys[layer][places != place].mean(dim=0)
                cosine = float(torch.cosine_similarity(key, mean, dim=0))
                assert numbers.key_cosine[here] == pytest.approx(cosine, rel=1e-7, abs=TIGHT)
                if layer < n_layers - 1:
                    norm = float(residuals[layer][0, place].norm())
                    assert numbers.residual_norm[here] == pytest.approx(norm, rel=TIGHT)
                if place == len(row) - 1 or weights is None:
                    assert np.isnan(numbers.attention[here])
                    continue
                looked = weights[layer][0].mean(dim=0)[place + 1 :, place].mean()
                assert numbers.attention[here] == pytest.approx(float(looked), rel=TIGHT)
                later = range(place + 1, len(row))
                uniform = np.mean([1 / (q + 1) for q in later])
                assert numbers.uniform_attention[n, place] == pytest.approx(uniform)
            assert np.isnan(numbers.key_norm[n, layer, len(row) :]).all()


@unlike_families
def test_numbers_are_those_of_plain_forwards(tiny_model, variant, monkeypatch):
    """In groups and padded, norms, keys and attention are those of each text run alone."""
    monkeypatch.setattr(positions, "_TEXTS_AT_ONCE", 3)
    loaded = tiny_model(variant)
    stack = decoder_stack(loaded)
    usual, before = loaded.model.config._attn_implementation, hooks_of(loaded.model)
    with Float64Throughout():
        numbers = read_positions(stack, _ROWS)
        assert loaded.model.config._attn_implementation == usual
        assert hooks_of(loaded.model) == before
        # transformers' own outputs leave hooks behind: on a copy.
        twin = copy.deepcopy(loaded)
        found = plain(
            twin.decoder,
            twin.model.config,
            decoder_stack(twin).projections,
            _ROWS,
            has_weights=stack.has_weights,
        )
    assert stack.has_weights is (variant != "falcon_sequential")
    check(numbers, found, _ROWS)


def test_last_residual_is_the_one_before_the_final_norm(tiny_model):
    """Normed as the model does it, the last residual is the model's last hidden state."""
    loaded = tiny_model("gpt2")
    seen = {}
    watch_stack(decoder_stack(loaded), [_ROWS[0]], lambda *_: None, seen.__setitem__)
    with torch.no_grad():
        expected = loaded.decoder(torch.tensor([_ROWS[0]])).last_hidden_state
        ours = loaded.decoder.ln_f(seen[max(seen)])
    assert torch.allclose(ours, expected, rtol=TIGHT)


def test_attention_is_put_back_after_an_error(tiny_model):
    """Whatever is raised meanwhile, configuration and hooks are as they were."""
    loaded = tiny_model("gpt2")
    stack = decoder_stack(loaded)
    usual = loaded.model.config._attn_implementation

    def fail(*_):
        assert loaded.model.config._attn_implementation == "eager"
        raise KeyError("x")

    with pytest.raises(KeyError):
        watch_stack(stack, _ROWS, fail, fail, fail)
    with pytest.raises(KeyError), attention_implementation(loaded.model.config, "eager"):
        fail()
    assert loaded.model.config._attn_implementation == usual == "sdpa"
    assert not any(module._forward_pre_hooks for module in stack.projections)


def test_family_without_weights_has_null_attention(tiny_model):
    """Where no weights come back the columns are empty, and all others filled."""
    loaded = tiny_model("gpt2")
    stack = decoder_stack(loaded)

    class NoWeights(torch.nn.Module):
        """An attention by another name."""

    blocks = tuple(NoWeights() for _ in stack.blocks)
    silent = Stack(stack.name, stack.module, stack.config, blocks, stack.projections)
    assert silent.attentions == (None, None, None)
    seen = []
    watch_stack(silent, _ROWS, lambda *_: None, None, lambda *found: seen.append(found))
    assert seen == []
    numbers = read_positions(stack, _ROWS)
    numbers.attention[:] = np.nan
    rows = list(profile_rows(numbers, "m", "tiny", "t", "decoder"))
    assert {(row.attention, row.attention_low, row.uniform_attention) for row in rows} == {
        (None, None, None)
    }
    assert all(row.residual_norm > 0 for row in rows)


def test_rows_are_means_over_the_texts_that_reach_a_position():
    """Student's t by hand; a position that one text reaches has no row; no later token, NULL."""
    nan = np.nan
    there = np.array([[[1.0, 4.0, 7.0]], [[2.0, 6.0, nan]], [[6.0, nan, nan]]])
    attention = np.array([[[0.5, 0.25, nan]], [[0.3, nan, nan]], [[nan, nan, nan]]])
    uniform = np.array([[0.4, 0.3, nan], [0.5, nan, nan], [nan, nan, nan]])
    numbers = PositionNumbers(there, 2 * there, there / 10, attention, uniform)
    first, second = profile_rows(numbers, "m", "tiny", "t", "decoder")
    assert (first.position, first.n_texts, first.residual_norm, first.key_norm) == (0, 3, 3.0, 6.0)
    reach = stats.t.ppf(0.975, 2) * np.std([1, 2, 6], ddof=1) / 3**0.5
    assert first.residual_norm_low == pytest.approx(3 - reach)
    assert first.residual_norm_high == pytest.approx(3 + reach)
    assert first.attention == pytest.approx(0.4)
    assert first.attention_high == pytest.approx(0.4 + stats.t.ppf(0.975, 1) * 0.1)
    assert first.uniform_attention == pytest.approx(0.45)
    assert (second.position, second.n_texts, second.residual_norm) == (1, 2, 5.0)
    assert second.attention is None
    assert second.uniform_attention is None
    assert mean_of(np.array([nan, 1.0])) is None


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    """Return the folder of a tiny random T5, saved whole."""
    folder = tmp_path_factory.mktemp("encoders") / "t5"
    tokenizer = word_tokenizer(start=False)
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=4, d_ff=24, num_layers=3, num_heads=4
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_encoder_numbers_are_those_of_plain_forwards(t5):
    """Keys are the input of wo; padding is masked; a token looks at all tokens of its text."""
    encoder = load_encoder(str(t5), encoder_id(str(t5)), "cpu")
    assert encoder.source == "t5"
    numbers = read_positions(encoder.stack, _ROWS)
    model = transformers.T5EncoderModel.from_pretrained(t5, attn_implementation="eager").eval()
    projections = [block.layer[1].DenseReluDense.wo for block in model.encoder.block]
    found = plain(model, model.encoder.config, projections, _ROWS)
    for name in ("key_norm", "residual_norm", "attention"):  # float32
        assert np.isfinite(getattr(numbers, name)[0, :, :8]).all()
    wide = [
        ([r.double() for r in residuals], [k.double() for k in keys], [w.double() for w in weights])
        for residuals, keys, weights in found
    ]
    check_float32(numbers, wide)


def check_float32(numbers, found):
    """Compare what is float32 to float32's rounding."""
    for n, row in enumerate(_ROWS):
        residuals, keys, weights = found[n]
        for layer, key in enumerate(keys):
            here = (n, layer, slice(len(row)))
            assert np.allclose(numbers.key_norm[here], key[0].norm(dim=1), rtol=1e-5)
            if layer < len(residuals):
                expected = residuals[layer][0].norm(dim=1)
                assert np.allclose(numbers.residual_norm[here], expected, rtol=1e-5)
            looked = weights[layer][0].mean(dim=0)
            for place in range(len(row) - 1):
                later = float(looked[place + 1 :, place].mean())
                assert numbers.attention[n, layer, place] == pytest.approx(later, rel=1e-5)
                assert numbers.uniform_attention[n, place] == 1 / len(row)


def test_encoder_is_known_by_content(t5, tmp_path, tiny_folder):
    """Its id is of the files; what changed meanwhile, what is a decoder, or no model is refused."""
    import shutil

    moved = shutil.copytree(t5, tmp_path / "moved")
    assert encoder_id(str(moved)) == encoder_id(str(t5))
    assert absolute_source("google-t5/t5-small") == "google-t5/t5-small"
    assert absolute_source(str(moved)) == str(moved)
    with pytest.raises(ModelError, match="changed while the study ran"):
        load_encoder(str(moved), "0" * 32, "cpu")
    with pytest.raises(UnknownFamilyError, match="family 'gpt2'; encoders that can be read: t5"):
        encoder_id(str(tiny_folder("gpt2")))
    with pytest.raises(ModelError, match="no model folder"):
        encoder_id(str(tmp_path / "none"))
    weights = moved / "model.safetensors"
    weights.rename(moved / "pytorch_model.bin")
    with pytest.raises(ModelError, match="Pickles are never loaded"):
        encoder_id(str(moved))
