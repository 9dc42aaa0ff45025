"""Half weights with float32 keys, deltas and updates; TF32 only where it is asked for."""

import shutil
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file

from editcollapse.catalog.methods import METHODS
from editcollapse.config.spec import ModelSpec
from editcollapse.covariance.second_moment import MomentSolver
from editcollapse.errors import StudyError
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.models.loading import load_model
from editcollapse.rome.updates import rank_one_updates
from editcollapse.rome.values import optimise_values
from editcollapse.runtime.precision import _switches, float32_products
from tests.support.cases import LAYER, REQUESTS, TEMPLATES, settings

TOLERANCE = {"bfloat16": 0.05, "float16": 0.01}
"""Relative, for keys and values: some roundings of 2^-8 and 2^-11 on the way to the layer."""
SIGNS = 0.3
"""Relative, for deltas: Adam's first step is a sign, and a gradient near zero may take the other:
one of 64 entries that does is a distance of 0.25."""
_BASE = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def switches():
    """Return the state of torch's switches."""
    return [getattr(holder, name) for holder, name in _switches()]


@pytest.fixture(autouse=True)
def _switches_as_before(monkeypatch):
    """Leave torch's switches and the environment as they were."""
    monkeypatch.delenv("EDITCOLLAPSE_TF32", raising=False)
    before = switches()
    yield
    for (holder, name), value in zip(_switches(), before, strict=True):
        setattr(holder, name, value)


def test_products_are_float32_and_switches_come_back():
    """A program that allows TF32 has it off inside and on again afterwards, also on an error."""
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    before = switches()
    with float32_products(), float32_products():
        assert switches() == ["ieee", "ieee", "ieee"]
    assert switches() == before

    @float32_products()
    def fails():
        assert switches() == ["ieee", "ieee", "ieee"]
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fails()
    assert switches() == before


def test_tf32_on_request(monkeypatch):
    """EDITCOLLAPSE_TF32=1 allows it on accelerators; the CPU's products stay float32."""
    monkeypatch.setenv("EDITCOLLAPSE_TF32", "1")
    with float32_products():
        assert switches() == ["tf32", "tf32", "ieee"]
    monkeypatch.setenv("EDITCOLLAPSE_TF32", "0")
    with float32_products():
        assert switches() == ["ieee", "ieee", "ieee"]
    monkeypatch.setenv("EDITCOLLAPSE_TF32", "yes")
    with pytest.raises(StudyError, match="EDITCOLLAPSE_TF32 is 'yes'; it must be 0 or 1"):
        float32_products().__enter__()


def test_units_in_two_threads():
    """The first to leave does not take the switches from the one that still runs."""
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    inside, leave = threading.Event(), threading.Event()

    def first():
        with float32_products():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(10)
    with float32_products():
        leave.set()
        thread.join(10)
        assert switches() == ["ieee", "ieee", "ieee"]
    assert switches()[0] == "tf32"


@pytest.fixture(params=["bfloat16", "float16"])
def pair(request, tiny_folder, tmp_path):
    """Return a half model, and the float32 model of the same rounded weights; and the type."""

    def load(variant):
        folder = shutil.copytree(tiny_folder(variant), tmp_path / variant)
        path = folder / "model.safetensors"
        weights = load_file(path)
        half = _BASE[request.param]
        rounded = {name: weight.to(half).to(torch.float32) for name, weight in weights.items()}
        save_file(rounded, path, metadata={"format": "pt"})
        return tuple(
            load_model(ModelSpec(name="m", source=str(folder), dtype=dtype), "cpu")
            for dtype in (request.param, "float32")
        )

    return load, request.param


def edited(loaded, steps):
    """Return the target values of the test requests, and one method's updates."""
    rewrites, _ = build_rewrites(loaded.encoder, TEMPLATES, REQUESTS)
    hooked = HookedLayer(loaded, LAYER)
    values = optimise_values(hooked, rewrites, settings(steps=steps))
    updates, _ = rank_one_updates(
        values, METHODS["rome"], MomentSolver(None), loaded.weight(LAYER), 4.0
    )
    return values, updates


def relative(found, expected):
    """Return the distance of two tensors over the size of the second."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("variant", ["gpt2", "llama", "gemma2"])
def test_half_weights(pair, variant):
    """What is read and solved is float32 or better and finite, and near the float32 model's."""
    load, dtype = pair
    half, single = load(variant)
    assert str(half.dtype) == f"torch.{dtype}"
    found, found_updates = edited(half, 2)
    expected, expected_updates = edited(single, 2)
    near = TOLERANCE[dtype]
    for name, tolerance in (("prompt_keys", near), ("prompt_values", near), ("delta", SIGNS)):
        tensor = getattr(found, name)
        assert tensor.dtype == torch.float32, name
        assert bool(torch.isfinite(tensor).all()), name
        assert relative(tensor, getattr(expected, name)) < tolerance, name
    for name in ("left", "right"):
        tensor = getattr(found_updates, name)
        assert tensor.dtype == torch.float64, name
        assert bool(torch.isfinite(tensor).all()), name
    assert relative(found_updates.right, expected_updates.right) < near
    norms = [updates.left.norm(dim=1) for updates in (found_updates, expected_updates)]
    assert relative(*norms) < near
    assert relative(found.loss.total, expected.loss.total) < near
