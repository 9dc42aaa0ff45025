"""Every way of attention computes the same, and one that fails or is wrong is told."""

import pytest
import torch

from benchmarks.gpu import attention, attention_ways
from benchmarks.gpu.attention_block import block_of, expected
from benchmarks.gpu.attention_ways import VARIANTS
from benchmarks.gpu.case import Sizes, build_case
from benchmarks.gpu.figures import FigureFile
from benchmarks.gpu.reporting import Reporter
from benchmarks.models import SHAPES, Shape

CPU = torch.device("cpu")
_FIELDS = {
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
}


def case(monkeypatch, dtype="float32", shape="grouped"):
    """Return three edits of a model with four heads on two of keys, or of another."""
    monkeypatch.setitem(SHAPES, "grouped", Shape("LlamaConfig", 512, 256, _FIELDS, ""))
    return build_case(shape, dtype, CPU, Sizes(3, 2, 256, 2))


def figures(monkeypatch, tmp_path, variants, **other):
    """Return what is written of some ways, by what it is of."""
    one = case(monkeypatch, **other)
    report = Reporter(FigureFile(tmp_path / "figures"), one.shape, one.dtype)
    attention.measure(one, variants, report, n_repeats=1)
    return {each.what: each for each in report.file.read()}


@pytest.mark.parametrize(("shape", "dtype"), [("grouped", "bfloat16"), ("tiny", "float32")])
def test_all_ways_are_right_and_timed(monkeypatch, tmp_path, shape, dtype):
    """FlexAttention has really run; each way says how far it is from float64."""
    calls = []
    original = attention_ways.flex_attention

    def counted(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(attention_ways, "flex_attention", counted)
    found = figures(monkeypatch, tmp_path, VARIANTS, shape=shape, dtype=dtype)
    names = ["packed", "sdpa", "sdpa by segment", "flex"]
    assert list(found) == [f"attention of a block, {name}" for name in names]
    assert calls
    for each in found.values():
        assert each.value > 0
        assert each.note.startswith("3 edits, ")
        assert float(each.note.split()[-1]) < (3e-2 if dtype == "bfloat16" else 1e-5)


def test_failing_and_wrong_ways_are_told_and_the_others_go_on(monkeypatch, tmp_path):
    """The error's first line; how far off; no time for either."""

    def broken(_):
        raise RuntimeError("out of shared memory\nand more")

    def wrong(block):
        run = attention_ways.packed(block)
        return lambda *states: run(*states) * 1.1

    monkeypatch.setitem(VARIANTS, "broken", broken)
    monkeypatch.setitem(VARIANTS, "wrong", wrong)
    found = figures(monkeypatch, tmp_path, ("broken", "wrong", "packed"))
    first, second, third = (
        found[f"attention of a block, {name}"] for name in ("broken", "wrong", "packed")
    )
    assert first.note == "RuntimeError: out of shared memory"
    assert second.note == "WrongError: differs by 1.0e-01, 1e-03 is allowed"
    assert first.value is second.value is None
    assert third.value > 0


@pytest.mark.parametrize("quantity", range(4))
def test_one_wrong_row_is_seen(monkeypatch, quantity):
    """In the result or any gradient; no number is no agreement either."""
    block = block_of(case(monkeypatch))
    leaves = block.query, block.key, block.value
    result = attention_ways.packed(block)(*leaves)
    found = [result.detach(), *torch.autograd.grad(result, leaves, block.gradient)]
    truth = expected(block)
    assert truth.difference(found) < 1e-5
    found[quantity][-1] *= 2
    assert truth.difference(found) > 1e-3
    found[quantity][-1] = torch.nan
    assert not truth.difference(found) <= 1e-3
