"""Packed products are the plain ones, and follow the weights that they stand for."""

import copy

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from editcollapse.compat import has_packed_products
from editcollapse.config.spec import ModelSpec
from editcollapse.models.loading import load_model
from editcollapse.models.packed_linear import (
    PackedLinear,
    PackedMatrix,
    absorb_activation_,
    pack_products_,
    plain_products,
)
from tests.support.tiny import unlike_families

pytestmark = pytest.mark.skipif(
    not has_packed_products(), reason="no packed products in this torch"
)

_ROUNDING = 1e-5
"""float32, relative to the largest entry."""
_N_ROWS = (1, 3, 64)


def close(found, expected):
    """Return whether two results are the same to float32's rounding."""
    return bool((found - expected).abs().max() <= _ROUNDING * expected.abs().max())


def gradient(module, rows):
    """Return the gradient of a module's squared output in its rows."""
    asked = rows.clone().requires_grad_()
    module(asked).square().sum().backward()
    return asked.grad


def linear(kind, *, bias=True, seed=0):
    """Return a frozen map from 24 to 40, as either class stores it."""
    made = Conv1D(40, 24) if kind == "conv1d" else nn.Linear(24, 40, bias=bias)
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        nn.init.normal_(parameter, generator=generator)
    return made.requires_grad_(False)


class Block(nn.Module):
    """An MLP as families write them."""

    def __init__(self, activation):
        super().__init__()
        self.up, self.act, self.down = nn.Linear(24, 40), activation, nn.Linear(40, 24)
        self.requires_grad_(False)

    def forward(self, hidden):
        """Return the MLP's output."""
        return self.down(self.act(self.up(hidden)))


@pytest.mark.parametrize("n_rows", _N_ROWS)
@pytest.mark.parametrize(("kind", "bias"), [("linear", True), ("linear", False), ("conv1d", True)])
def test_product_and_gradient_are_the_plain_ones(kind, bias, n_rows):
    """Both directions, for both ways of storing a matrix, whatever the shape in front."""
    plain = linear(kind, bias=bias)
    packed = PackedLinear(plain)
    rows = torch.randn(2, n_rows, 24)
    assert close(packed(rows), plain(rows))
    assert close(gradient(packed, rows), gradient(plain, rows))


@pytest.mark.parametrize("kind", ["linear", "conv1d"])
def test_changed_weights_are_packed_again(kind):
    """Weights written in place are those of the next product and of the next gradient."""
    plain = linear(kind)
    packed = PackedLinear(plain)
    rows = torch.randn(5, 24, requires_grad=True)
    packed(rows).sum().backward()
    packed(rows.detach())
    before = rows.grad.clone()
    rows.grad = None
    with torch.no_grad():
        plain.weight.add_(torch.randn_like(plain.weight))
    assert close(packed(rows.detach()), plain(rows.detach()))
    packed(rows).sum().backward()
    assert not close(rows.grad, before)
    matrix = plain.weight if kind == "linear" else plain.weight.T
    assert close(rows.grad, torch.ones(5, 40) @ matrix)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_take_the_plain_product(dtype, monkeypatch):
    """Only float32 is packed: anything else is what the module itself gives, bit for bit."""
    monkeypatch.setattr(PackedMatrix, "times", lambda *_: pytest.fail("packed"))
    plain = linear("linear").to(dtype)
    rows = torch.randn(3, 24, dtype=dtype)
    assert torch.equal(PackedLinear(plain)(rows), plain(rows))


def test_only_frozen_float32_maps_are_packed():
    """A matrix that takes gradients, and one of another type, stay as they are."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).double(), nn.Linear(4, 4))
    model.requires_grad_(False)
    model[0].weight.requires_grad_()
    assert pack_products_(model) == 1
    assert [type(part) for part in model] == [nn.Linear, nn.Linear, PackedLinear]


@pytest.mark.parametrize(
    "activation",
    [nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU(), nn.ReLU()],
    ids=["erf", "tanh", "silu", "relu"],
)
def test_absorbed_activation_is_applied_once(activation):
    """With and without a gradient a product gives what product and activation gave."""
    plain = Block(activation)
    packed = copy.deepcopy(plain)
    assert pack_products_(packed) == 2
    assert absorb_activation_(packed, "up", "act")
    rows = torch.randn(7, 24)
    assert close(packed(rows), plain(rows))
    assert close(gradient(packed, rows), gradient(plain, rows))


def test_unknown_activation_stays_where_it_is():
    """What the kernel cannot apply is applied by its own module."""
    packed = Block(nn.Mish())
    pack_products_(packed)
    assert not absorb_activation_(packed, "up", "act")
    assert isinstance(packed.act, nn.Mish)


def test_own_modules_come_back():
    """For a while a model has its own modules again, and afterwards the packed ones."""
    packed = Block(nn.GELU())
    own = (packed.up, packed.act, packed.down)
    pack_products_(packed)
    absorb_activation_(packed, "up", "act")
    views = (packed.up, packed.act, packed.down)
    with plain_products(packed) as n_packed:
        assert n_packed == 2
        assert all(
            one is two for one, two in zip((packed.up, packed.act, packed.down), own, strict=True)
        )
    assert all(
        one is two for one, two in zip((packed.up, packed.act, packed.down), views, strict=True)
    )


@unlike_families
def test_loaded_model_computes_with_packed_products(tiny_folder, variant):
    """Every family's model gives the logits that its own modules give."""
    source = str(tiny_folder(variant))
    loaded = load_model(ModelSpec(name=variant, source=source, dtype="float32"), "cpu")
    ids = torch.randint(0, loaded.model.config.vocab_size, (3, 9))
    with torch.no_grad():
        packed = loaded.model(input_ids=ids).logits
        with plain_products(loaded.model) as n_packed:
            plain = loaded.model(input_ids=ids).logits
    assert n_packed > 0
    assert close(packed, plain)


def test_models_of_other_types_are_not_packed(tiny_model):
    """A float64 model has its own modules."""
    with plain_products(tiny_model("gpt2").model) as n_packed:
        assert n_packed == 0
