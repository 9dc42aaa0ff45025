"""Every way of attention computes the same, and one that fails or is wrong is told."""

import dataclasses
import json

import pytest
import torch

from benchmarks.gpu import attention, attention_ways
from benchmarks.gpu.attention_block import block_of, expected
from benchmarks.gpu.case import GpuOrder, build_case
from benchmarks.models import SHAPES, Shape

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
    order = GpuOrder(
        shape=shape,
        dtype=dtype,
        device="cpu",
        edits=3,
        reference_edits=1,
        repeats=1,
        texts=2,
        tokens=None,
        steps=2,
        json=None,
    )
    return build_case(order)


@pytest.mark.parametrize(("shape", "dtype"), [("grouped", "bfloat16"), ("tiny", "float32")])
def test_all_ways_are_right_and_timed(monkeypatch, shape, dtype):
    """FlexAttention has really run; results hold in JSON, and in a table."""
    calls = []
    original = attention_ways.flex_attention

    def counted(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(attention_ways, "flex_attention", counted)
    found = attention.measure(case(monkeypatch, dtype, shape))
    assert [each.variant for each in found] == ["packed", "sdpa", "sdpa by segment", "flex"]
    assert calls
    for each in found:
        assert each.note == ""
        assert 0 < each.difference < (3e-2 if dtype == "bfloat16" else 1e-5)
        assert each.cost.seconds.median > 0
        assert each.n_edits == 3
    assert len({len(row) for row in attention.table(found)}) == 1
    plain = json.loads(json.dumps([dataclasses.asdict(each) for each in found]))
    assert plain[3]["cost"]["seconds"]["n_repeats"] == 1


def test_failing_and_wrong_ways_are_told_and_the_others_go_on(monkeypatch):
    """The error's first line; how far off; no time for either."""

    def broken(_):
        raise RuntimeError("out of shared memory\nand more")

    def wrong(block):
        run = attention_ways.packed(block)
        return lambda *states: run(*states) * 1.1

    variants = {"broken": broken, "wrong": wrong, "packed": attention_ways.packed}
    first, second, third = attention.measure(case(monkeypatch), variants)
    assert first.note == "RuntimeError: out of shared memory"
    assert second.note == "wrong: differs by 1.0e-01, 1e-03 is allowed"
    assert first.cost is second.cost is None
    assert third.cost is not None
    assert attention.table((first,))[1][2] == ""


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
