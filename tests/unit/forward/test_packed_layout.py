"""Rows of a batch lie in rectangles, however many suffix tokens each of them has."""

import dataclasses

import pytest
import torch

from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.keys import read_keys
from editcollapse.forward.packed_layout import read_indices, segments_of, subject_indices
from editcollapse.rome import value_loss
from editcollapse.rome.values import optimise_values
from tests.equivalence.test_shortcuts import rewrites_of
from tests.support.cases import LAYER, REQUESTS, TIGHT, Float64Throughout, distance, settings


def ragged(loaded):
    """Return edits of which some prompts have one suffix token more than others."""
    rewrites = list(rewrites_of(loaded))
    first, second, *others = rewrites[2].prompts
    longer = dataclasses.replace(second, ids=(*second.ids[:-1], 7, second.ids[-1]))
    rewrites[2] = dataclasses.replace(rewrites[2], prompts=(first, longer, *others))
    return tuple(rewrites)


def test_every_row_lies_in_one_segment(tiny_model):
    """Slots times edits of all segments are all rows, each once; places point at their tokens."""
    loaded = tiny_model("gpt2")
    rewrites = ragged(loaded)
    n_slots = len(rewrites[0].prompts) + 1
    segments = segments_of(rewrites, loaded.device)
    rows = torch.cat([segment.rows(n_slots).flatten() for segment in segments])
    assert sorted(rows.tolist()) == list(range(len(rewrites) * n_slots))
    assert [segment.is_kl for segment in segments] == sorted(s.is_kl for s in segments)
    widths = [
        (
            rewrites[row // n_slots].suffix_widths[row % n_slots]
            if row % n_slots < n_slots - 1
            else 1
        )
        for row in rows.tolist()
    ]
    starts = torch.tensor([0, *widths]).cumsum(0)[:-1]
    assert torch.equal(subject_indices(segments, loaded.device), starts)
    reads = []
    for row, start, width in zip(rows.tolist(), starts.tolist(), widths, strict=True):
        is_kl = row % n_slots == n_slots - 1
        n_reads = 1 if is_kl else len(rewrites[row // n_slots].target)
        reads += list(range(start + width - n_reads, start + width))
    assert read_indices(segments, loaded.device).tolist() == reads
    assert len({segment.width for segment in segments if not segment.is_kl}) > 1


@pytest.mark.parametrize("variant", ["gpt2", "gptj", "gemma3_text", "llama"])
def test_ragged_edit_equals_itself_alone(tiny_model, variant):
    """An edit whose prompts differ in suffix tokens is optimised beside others as it is alone."""
    loaded = tiny_model(variant)
    rewrites = ragged(loaded)
    hooked = HookedLayer(loaded, LAYER)
    with Float64Throughout():
        together = optimise_values(hooked, rewrites, settings(steps=4))
        for place, rewrite in enumerate(rewrites):
            alone = optimise_values(hooked, [rewrite], settings(steps=4))
            for name in ("delta", "prompt_keys", "prompt_values"):
                ours, theirs = getattr(together, name)[place], getattr(alone, name)[0]
                assert distance(ours, theirs) < TIGHT, (place, name)
            assert float(together.loss.total[place]) == pytest.approx(
                float(alone.loss.total[0]), rel=TIGHT
            )
        keys = read_keys(hooked, rewrites, 40)
    assert distance(keys.prompt_keys, together.prompt_keys) < TIGHT


@pytest.mark.parametrize("worth", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("variant", ["gpt2", "gptj", "mistral"])
def test_edits_that_stop_leave_and_change_nothing(tiny_model, variant, worth, monkeypatch):
    """Whether stopped edits are dropped at once, in groups or never, all end the same."""
    loaded = tiny_model(variant)
    hooked = HookedLayer(loaded, LAYER)
    rewrites = rewrites_of(loaded, requests=REQUESTS * 2)
    sizes = []
    states = value_loss.SuffixTokens.states

    def watched(self, delta):
        sizes.append(sum(segment.n_tokens for segment in self.segments))
        return states(self, delta)

    with Float64Throughout():
        losses = optimise_values(hooked, rewrites, settings(steps=4)).loss.total
        # Half of the edits are below this loss by then, the others are not.
        stop = settings(steps=12, stop_loss=float(losses.median()))
        expected = [optimise_values(hooked, [one], stop) for one in rewrites]
        monkeypatch.setattr(value_loss, "_WORTH_DROPPING", worth)
        monkeypatch.setattr(value_loss.SuffixTokens, "states", watched)
        found = optimise_values(hooked, rewrites, stop)
    n_steps = [int(one.n_steps[0]) for one in expected]
    assert len(set(n_steps)) > 1, "no edit stops before another: the test shows nothing"
    assert found.n_steps.tolist() == n_steps
    for place, one in enumerate(expected):
        assert distance(found.delta[place], one.delta[0]) < TIGHT
        assert float(found.loss.total[place]) == pytest.approx(float(one.loss.total[0]), rel=TIGHT)
    assert (min(sizes) < max(sizes)) is (worth < 1.0)
