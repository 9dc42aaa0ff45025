"""Every shortcut gives what the plain procedure gives."""

import pytest
import torch
import transformers
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from editcollapse.catalog.methods import METHODS
from editcollapse.covariance.second_moment import MomentSolver
from editcollapse.evaluation.perplexity import EncodedTexts, label_nll
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.keys import read_keys
from editcollapse.forward.packed_attention import splits_attention
from editcollapse.forward.prefix_cache import SharedContexts
from editcollapse.forward.rewrites import build_rewrites, pass_groups
from editcollapse.models.loading import fuse_activations_
from editcollapse.rome.updates import rank_one_updates, solved_directions
from editcollapse.rome.value_loss import token_losses
from editcollapse.rome.values import optimise_values
from tests.equivalence import test_edits_against_reference as plain
from tests.support.cases import (
    LAYER,
    REQUESTS,
    TEMPLATES,
    TIGHT,
    Float64Throughout,
    distance,
    settings,
    some_moment,
)
from tests.support.tiny import VARIANTS, unlike_families, write_model

_OWN_ATTENTION = {"gptj", "gpt_neo", "bloom", "falcon", "stablelm"}
"""Families whose attention transformers does not route through its interface."""


def rewrites_of(loaded, templates=TEMPLATES, requests=REQUESTS):
    """Return requests in tokens."""
    return build_rewrites(loaded.encoder, templates, requests)[0]


@pytest.mark.parametrize("variant", ["gpt2", "gptj", "gemma3_text", "mistral"])
@pytest.mark.parametrize("layer", [0, 1])
def test_bare_template_alone(tiny_model, variant, layer, monkeypatch):
    """Rows that share nothing run their own prefixes, and equal the reference."""
    monkeypatch.setattr(plain, "TEMPLATES", ("{}",))
    loaded = tiny_model(variant)
    with Float64Throughout():
        moment = some_moment(loaded.widths.d_key)
        plain.check(loaded, settings(steps=3), moment, TIGHT, layer=layer)


@unlike_families
def test_one_edit_alone(tiny_model, variant):
    """A batch of one, whose rows share all that is left of its subject, equals the reference."""
    loaded = tiny_model(variant)
    with Float64Throughout():
        moment = some_moment(loaded.widths.d_key)
        plain.check(loaded, settings(steps=3), moment, TIGHT, requests=REQUESTS[2:3])


def test_families_without_the_attention_interface(tiny_model):
    """Those families, and no others, take the usual attention."""
    models = [tiny_model(name) for name in VARIANTS]
    without = {each.architecture.family for each in models if not splits_attention(each)}
    assert without == _OWN_ATTENTION


def test_attention_is_put_back(tiny_model):
    """After an optimisation, and after one that fails, a model attends as it did."""
    loaded = tiny_model("gpt2")
    usual = loaded.model.config._attn_implementation

    def fail(_done, _total):
        raise KeyboardInterrupt

    optimise_values(HookedLayer(loaded, LAYER), rewrites_of(loaded), settings(steps=2))
    assert loaded.model.config._attn_implementation == usual
    with pytest.raises(KeyboardInterrupt):
        optimise_values(HookedLayer(loaded, LAYER), rewrites_of(loaded), settings(), fail)
    assert loaded.model.config._attn_implementation == usual


@pytest.mark.parametrize("tokens_per_forward", [1, 40, 4096])
@unlike_families
def test_keys_alone_are_the_keys_of_an_edit(tiny_model, variant, tokens_per_forward):
    """Keys, bare values and denominators without optimisation are those of a full edit."""
    loaded = tiny_model(variant)
    hooked = HookedLayer(loaded, LAYER)
    rewrites = rewrites_of(loaded)
    solver = MomentSolver(some_moment(loaded.widths.d_key))
    with Float64Throughout():
        keys = read_keys(hooked, rewrites, tokens_per_forward)
        values = optimise_values(hooked, rewrites, settings(steps=1))
    assert distance(keys.prompt_keys, values.prompt_keys) < TIGHT
    assert distance(keys.bare_value, values.bare_value) < TIGHT
    for method in METHODS.values():
        found = solved_directions(keys.bare_key, keys.prefixed_key, method, solver)
        full = rank_one_updates(values, method, solver, loaded.weight(LAYER), 4.0)[1]
        assert distance(found.denominator, full.denominator) < TIGHT
        assert distance(found.rho, full.rho) < TIGHT


def test_what_slots_share_ends_before_every_subject(tiny_model):
    """The shared prefix is the longest common one, cut at the first subject's last token."""
    loaded = tiny_model("gpt2")
    rows = [(5, 6, 7, 8), (1, 2), (5, 6, 7, 9), (3, 4)]
    shared = SharedContexts(HookedLayer(loaded, LAYER), rows, [3, 1, 2, 1], 2, above=True)
    assert shared.sizes(torch.arange(4)).tolist() == [2, 0, 2, 0]
    assert shared.mask(torch.arange(2)).tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize("variant", ["gpt2", "gptj", "gpt_neo", "phi"])
def test_fused_activation_is_the_family_s_own(tmp_path, variant):
    """The one-kernel GELU gives the logits of the spelled-out one, and replaces it everywhere."""
    folder = write_model(variant, tmp_path / variant)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    ids = torch.arange(12).view(2, 6)
    with torch.no_grad():
        before = model(input_ids=ids).logits
        assert fuse_activations_(model) == model.config.num_hidden_layers
        after = model(input_ids=ids).logits
    assert fuse_activations_(model) == 0
    assert distance(after, before) < TIGHT


def test_both_spelled_out_activations_are_the_fused_one():
    """gelu_new and gelu_fast are the tanh GELU, far into both tails."""
    x = torch.linspace(-30, 30, 4001, dtype=torch.float64)
    expected = F.gelu(x, approximate="tanh")
    for name in ("NewGELUActivation", "FastGELUActivation"):
        found = getattr(transformers.activations, name)()(x)
        assert float((found - expected).abs().max()) < 1e-9, name


@pytest.mark.parametrize("variant", ["gpt2", "gptj", "phi", "gemma2", "llama"])
@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_head_in_blocks_equals_all_logits(tiny_model, variant, block, monkeypatch):
    """Blocks of the vocabulary give the cross entropy of all logits: biases and caps included."""
    monkeypatch.setattr("editcollapse.evaluation.perplexity._LOGITS_ON_CPU", block)
    monkeypatch.setattr("editcollapse.evaluation.perplexity._STATES", 5)
    loaded = tiny_model(variant)
    generator = torch.Generator().manual_seed(3)
    shape = (13, loaded.widths.d_model)
    states = 30 * torch.randn(shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, loaded.widths.n_vocabulary, (13,), generator=generator)
    expected = F.cross_entropy(loaded.logits(states), labels, reduction="none")
    assert distance(label_nll(loaded, states, labels), expected) < TIGHT


def test_head_in_blocks_keeps_what_is_not_finite(tiny_model, monkeypatch):
    """A broken model's infinite states stay visible, as they do with all logits."""
    monkeypatch.setattr("editcollapse.evaluation.perplexity._LOGITS_ON_CPU", 8)
    loaded = tiny_model("gpt2")
    states = torch.ones((2, loaded.widths.d_model), dtype=torch.float64)
    states[1, 0] = torch.inf
    found = label_nll(loaded, states, torch.tensor([1, 2]))
    assert torch.isfinite(found[0])
    assert not torch.isfinite(found[1])


def test_written_out_gradient_is_autograd_s():
    """NLL, KL and their gradient are what autograd makes of the formulas."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    logits, labels = draw(7, 11).requires_grad_(), torch.randint(0, 11, (4,), generator=generator)
    before, weights = torch.log_softmax(draw(3, 11), dim=1), (draw(4), draw(3))
    log_probs = torch.log_softmax(logits, dim=1)
    nll = -log_probs[:4].gather(1, labels[:, None])[:, 0]
    kl = F.kl_div(before, log_probs[4:], log_target=True, reduction="none").sum(dim=1)
    (nll @ weights[0] + kl @ weights[1]).backward()
    used = logits.detach().clone().requires_grad_()
    found = token_losses(used * 1.0, labels, before)
    (found[0] @ weights[0] + found[1] @ weights[1]).backward()
    for ours, expected in zip(found, (nll, kl, log_probs[4:]), strict=True):
        assert distance(ours.detach(), expected.detach()) < TIGHT
    assert distance(used.grad, logits.grad) < TIGHT


def test_texts_of_one_length_run_together():
    """Under many models nothing is padded; under one, small groups are filled up."""
    rows = tuple((1,) * size for size in (3, 3, 4, 4, 4, 9))
    texts = EncodedTexts(rows, ())
    many = [(start, {len(row) for row in group}) for start, group in texts.groups(64, 1000)]
    assert many == [(0, {3}), (2, {4}), (5, {9})]
    assert [len(group) for _, group in texts.groups(64, 1)] == [5, 1]
    assert [len(group) for _, group in texts.groups(6, 1000)] == [2, 1, 1, 1, 1]


def test_edits_run_in_groups_of_like_size(tiny_model):
    """Groups hold every edit once, within the budget, and none is a small rest."""
    rewrites = rewrites_of(tiny_model("gpt2"), requests=REQUESTS * 8)
    sizes = [rewrite.pass_tokens for rewrite in rewrites]
    for budget in (1, 60, 400, 100_000):
        groups = pass_groups(rewrites, budget)
        assert sorted(b for group in groups for b in group) == list(range(len(rewrites)))
        totals = [sum(sizes[b] for b in group) for group in groups]
        for group, total in zip(groups, totals, strict=True):
            assert len(group) == 1 or total <= budget
            assert [sizes[b] for b in group] == sorted(sizes[b] for b in group)
        assert len(groups) == 1 or min(totals) >= min(max(totals) / 2, *sizes)
    assert len(pass_groups(rewrites, 100_000)) == 1
