"""On a device that is really full work is split, and the results are the same."""

import contextlib
import logging

import pytest
import torch

from benchmarks.gpu.case import Sizes, case_of
from benchmarks.models import SHAPES, random_model
from editcollapse.errors import DeviceMemoryError
from editcollapse.evaluation.perplexity import text_nll
from editcollapse.rome.updates import RankOneUpdates
from editcollapse.rome.values import optimise_values
from editcollapse.runtime.devices import free_bytes, is_out_of_memory, release
from editcollapse.runtime.oom import GroupLimit, oom_split
from tests.gpu.places import moved

_EDITS = 12
_CAPACITY = 8 << 30
"""Of the emulated device; nothing of it is touched that is not used."""
_SPARE = {"tiny": 0, "small": 2 << 20}
"""Bytes that the allocator may keep in blocks that are too small."""


@pytest.fixture
def case(accelerator):
    """Return a small random model on the device, with edits and texts, and the device.

    In float64: Adam's first step is the sign of a gradient, which rounding turns where it is small.
    """
    sizes = Sizes(n_edits=_EDITS, n_texts=12, n_tokens=512, steps=2)
    models = {
        shape: random_model(SHAPES[shape], dtype=torch.float64, device="cpu")
        for shape in ("tiny", "small")
    }
    with accelerator(_CAPACITY) as device:
        # A real allocator gives out blocks: work has to take many of them to be split.
        shape = "tiny" if _is_emulated(device) else "small"
        yield case_of(shape, moved(models[shape], device, torch.float64), sizes), device


def peak_of(work, device):
    """Return what a piece of work gives, and its peak bytes on top of what was there."""
    release(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    found = work()
    torch.cuda.synchronize(device)
    return found, torch.cuda.max_memory_allocated(device) - before


@contextlib.contextmanager
def filled(device, room):
    """Leave only some bytes of the device free: what is there, and no more, may be taken."""
    release(device)
    if _is_emulated(device):
        block = torch.empty(free_bytes(device) - room, dtype=torch.uint8, device=device)
        yield
        del block
        return
    # What the driver calls free is not to be had to the last block: the allocator is held instead.
    most = torch.cuda.memory_reserved(device) + room
    whole = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(most / whole, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def _is_emulated(device):
    return torch.cuda.get_device_name(device) == "emulated"


def some_updates(case):
    """Return an update for every edit, float64 on the CPU."""
    draw = torch.Generator().manual_seed(0)
    widths = case.loaded.widths
    left = torch.randn(_EDITS, widths.d_model, generator=draw, dtype=torch.float64)
    right = torch.randn(_EDITS, widths.d_key, generator=draw, dtype=torch.float64)
    return RankOneUpdates(left, right / right.norm(dim=1, keepdim=True))


def test_perplexity_on_a_full_device(case, caplog):
    """Texts and edited models are split until they fit; no number changes."""
    case, device = case
    updates = some_updates(case)

    def measure():
        return text_nll(case.hooked, case.texts, updates, tokens_per_forward=1 << 15)

    whole, peak = peak_of(measure, device)
    with (
        filled(device, peak // 3 + _SPARE[case.shape]),
        caplog.at_level(logging.WARNING, logger="editcollapse.runtime.oom"),
    ):
        split = measure()
    assert any("out of memory" in record.getMessage() for record in caplog.records)
    assert torch.allclose(split, whole, rtol=1e-9)


def test_target_values_on_a_full_device(case, caplog):
    """A batch of edits is split, each edit optimised once more at most; no delta changes."""
    case, device = case
    runs = []

    def optimise(group):
        runs.append(len(group))
        rewrites = [case.rewrites[b] for b in group]
        return optimise_values(case.hooked, rewrites, case.values).delta.cpu()

    def tokens(group):
        return sum(case.rewrites[b].pass_tokens for b in group)

    whole, peak = peak_of(lambda: optimise(range(_EDITS)), device)
    limit = GroupLimit(device, "v* of one edit")
    with (
        filled(device, peak // 3 + _SPARE[case.shape]),
        caplog.at_level(logging.WARNING, logger="editcollapse.runtime.oom"),
    ):
        parts = list(oom_split(range(_EDITS), optimise, limit, tokens))
    assert runs[1] == _EDITS, "the whole batch was tried first"
    assert len(parts) > 1
    assert [b for group, _ in parts for b in group] == list(range(_EDITS))
    assert torch.allclose(torch.cat([part for _, part in parts]), whole, rtol=1e-9, atol=1e-9)


def test_one_edit_that_does_not_fit(case):
    """The error says what was asked and what is free; afterwards the device works as before."""
    case, device = case
    _, peak = peak_of(lambda: optimise_values(case.hooked, case.rewrites[:1], case.values), device)
    limit = GroupLimit(device, "v* of one edit")
    with (
        filled(device, peak // 8),
        pytest.raises(DeviceMemoryError, match=r"v\* of one edit .* GiB are free") as caught,
    ):
        list(
            oom_split(
                [0],
                lambda _: optimise_values(case.hooked, case.rewrites[:1], case.values),
                limit,
            )
        )
    assert is_out_of_memory(caught.value)
    release(device)
    found = optimise_values(case.hooked, case.rewrites[:1], case.values)
    assert bool(torch.isfinite(found.delta).all())
