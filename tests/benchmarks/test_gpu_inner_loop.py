"""Every way of a pass of v* gives the same loss and gradient, and none waits where it must not."""

import contextlib
import dataclasses
import json

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu import inner_loop, inner_loop_ways
from benchmarks.gpu.case import GpuOrder, build_case
from benchmarks.models import SHAPES, Shape

_LLAMA = {
    "num_hidden_layers": 6,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "intermediate_size": 96,
}
_GPT2 = {"n_layer": 6, "n_embd": 64, "n_head": 4}
_WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "item")
"""What makes an accelerator wait, and numbers from the CPU."""


@pytest.fixture(params=["llama", "gpt2"])
def case(monkeypatch, request):
    """Return three edits of a model with blocks between the entry block and the last one."""
    config, fields = {"llama": ("LlamaConfig", _LLAMA), "gpt2": ("GPT2Config", _GPT2)}[
        request.param
    ]
    monkeypatch.setitem(SHAPES, "deep", Shape(config, 512, 256, fields, ""))
    order = GpuOrder(
        shape="deep",
        dtype="float32",
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


def test_all_ways_agree(case):
    """But for CUDA graphs, for which this is not the place; the model's blocks are as before."""
    found = inner_loop.measure(case)
    assert [each.way for each in found] == ["eager", "read late", "compile", "cuda graph"]
    for each in found[:3]:
        assert each.note == ""
        assert each.difference < 1e-5
        assert each.cost.seconds.median > 0
    assert (found[3].note, found[3].cost) == ("needs CUDA", None)
    assert all(block._compiled_call_impl is None for block in case.loaded.blocks)
    assert len({len(row) for row in inner_loop.table(found)}) == 1
    plain = json.loads(json.dumps([dataclasses.asdict(each) for each in found]))
    assert plain[0]["cost"]["seconds"]["n_repeats"] == 1


def test_failing_and_wrong_ways_are_told_and_the_others_go_on(case):
    """The error's first line; how far off; no time for either."""

    @contextlib.contextmanager
    def broken(loop, delta):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")
        yield

    @contextlib.contextmanager
    def wrong(loop, delta):
        with inner_loop_ways.read_late(loop, delta) as run:
            yield lambda: (run()[0], run()[1] * 2)

    @contextlib.contextmanager
    def frozen(loop, delta):
        with inner_loop_ways.read_late(loop, loop.start.clone().requires_grad_()) as run:
            yield run

    ways = {"broken": broken, "wrong": wrong, "frozen": frozen, "eager": inner_loop_ways.eager}
    first, second, third, fourth = inner_loop.measure(case, ways)
    assert first.note == "RuntimeError: operation not permitted"
    assert second.note == "wrong: differs by 1.0e+00, 1e-03 is allowed"
    assert third.note.startswith("wrong: differs by ")  # it does not follow the deltas
    assert first.cost is second.cost is third.cost is None
    assert fourth.cost is not None


class _Operators(TorchDispatchMode):
    """Keeps the names of operators that run, and whether an index was of truth values."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func._overloadpacket.__name__)
        if "index" in func._overloadpacket.__name__:
            indices = [each for part in args if isinstance(part, list) for each in part]
            assert all(each is None or each.dtype == torch.int64 for each in indices)
        return func(*args, **(kwargs or {}))


def test_a_queued_pass_waits_for_nothing(case):
    """No number is read and nothing comes from the CPU, forwards and backwards."""
    loop = inner_loop_ways.Loop.of(case)
    delta = loop.start.clone().requires_grad_()
    inner_loop_ways.queued(loop, delta)  # masks are made once
    with _Operators() as seen:
        inner_loop_ways.queued(loop, delta)
    assert {"bmm", "_softmax", "_softmax_backward_data"} <= seen.names
    assert not seen.names & set(_WAITING)
