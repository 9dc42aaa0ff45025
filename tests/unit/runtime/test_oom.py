"""Groups are halved where memory ends; the errors are those that torch and the system raise."""

import gc
import logging
import subprocess
import sys
import textwrap
import weakref

import pytest
import torch

from editcollapse.errors import DeviceMemoryError, EditCollapseError
from editcollapse.runtime.oom import GroupLimit, oom_split
from tests.support.cases import REQUESTS

CPU = torch.device("cpu")
TOO_MUCH = 1 << 50


@pytest.fixture(autouse=True, scope="module")
def _little_to_collect():
    """Leave out what other tests have made: each halving collects, and would look at all of it."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Work:
    """Doubles numbers; asks for more memory than there is where a group is too large.

    Args:
        fits: items of a group that fit.
    """

    def __init__(self, fits):
        self.fits = fits
        self.done = []
        self.failed = []

    def __call__(self, group):
        """Return the doubled numbers of a group."""
        if len(group) > self.fits:
            self.failed.append(len(group))
            torch.empty(TOO_MUCH)
        self.done += group
        return [2 * item for item in group]


def doubled(items, work, limit):
    """Return the results of all items in order."""
    return [value for _, values in oom_split(items, work, limit) for value in values]


@pytest.mark.parametrize("fits", [1, 2, 3, 5, 8, 13, 100])
@pytest.mark.parametrize("n_items", [1, 2, 7, 13])
def test_results_do_not_depend_on_what_fits(fits, n_items):
    """Every item is computed once, in order, however many fit; one failure for each halving."""
    work = Work(fits)
    items = list(range(n_items))
    assert doubled(items, work, GroupLimit(CPU, "doubling")) == [2 * item for item in items]
    assert work.done == items
    assert len(work.failed) == len(set(work.failed))


def test_groups_are_yielded_with_their_results():
    """A caller that asks by index learns which indices a result belongs to."""
    pairs = list(oom_split(range(5), Work(2), GroupLimit(CPU, "doubling")))
    assert [(list(group), result) for group, result in pairs] == [
        ([0, 1], [0, 2]),
        ([2], [4]),
        ([3, 4], [6, 8]),
    ]


def test_no_items_is_one_empty_group():
    """An empty group runs like any other: it is the work's to say what that gives."""
    assert list(oom_split([], Work(1), GroupLimit(CPU, "doubling"))) == [([], [])]


def test_later_groups_are_cut_before_they_run(caplog):
    """What failed once is not tried again: one failure and one warning for many groups."""
    work, limit = Work(4), GroupLimit(CPU, "doubling")
    with caplog.at_level(logging.WARNING, logger="editcollapse.runtime.oom"):
        for start in range(0, 40, 8):
            items = list(range(start, start + 8))
            assert doubled(items, work, limit) == [2 * item for item in items]
    assert work.failed == [8]
    assert work.done == list(range(40))
    assert [record.getMessage() for record in caplog.records] == [
        "doubling: out of memory on cpu with 8 items, 8 tokens; from now on 4 tokens at most"
    ]


def test_size_is_counted_in_tokens():
    """After a failure, few wide items are cut like many narrow ones."""
    work, limit = Work(4), GroupLimit(CPU, "doubling")
    list(oom_split(list(range(8)), work, limit, lambda group: 10 * len(group)))
    groups = oom_split(list(range(6)), work, limit, lambda group: 20 * len(group))
    assert [len(group) for group, _ in groups] == [2, 1, 2, 1]
    assert limit.tokens == 40


def test_single_item_that_does_not_fit():
    """The error says what was asked, what is free and what to do; it is a user's to mend."""
    limit = GroupLimit(CPU, "doubling of one number")
    with pytest.raises(DeviceMemoryError) as caught:
        list(oom_split([7], Work(0), limit, lambda _: 123))
    message = str(caught.value)
    assert message.startswith("doubling of one number (1 item of 123 padded tokens: ")
    assert "can't allocate memory" in message
    assert "GiB are free" in message
    assert "EDITCOLLAPSE_TOKENS_PER_FORWARD" in message
    assert isinstance(caught.value, EditCollapseError)
    assert isinstance(caught.value, MemoryError)


def test_other_errors_pass():
    """What is no lack of memory is not tried again."""
    calls = []

    def wrong(group):
        calls.append(group)
        return torch.ones(2) @ torch.ones(3)

    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        list(oom_split([1, 2], wrong, GroupLimit(CPU, "a product")))
    assert calls == [[1, 2]]


def test_nested_groups():
    """Where one update does not fit beside a group of texts, the texts are halved too."""
    done = []

    def run(texts):
        def inner(updates):
            if len(updates) * len(texts) > 3:
                torch.empty(TOO_MUCH)
            done.extend((text, update) for update in updates for text in texts)
            return len(updates)

        pieces = oom_split(range(4), inner, GroupLimit(CPU, "one update"))
        return sum(n_updates for _, n_updates in pieces)

    assert sum(n for _, n in oom_split(list("abcdefgh"), run, GroupLimit(CPU, "one text"))) == 16
    assert len(done) == len(set(done)) == 32


def test_nothing_of_a_failed_group_is_kept():
    """Tensors of the failed group are gone when the next one runs, held by no traceback."""
    tensors = []
    alive = []

    def run(group):
        alive.append([ref() is not None for ref in tensors])
        mine = torch.zeros(10)
        cycle = [mine]
        cycle.append(cycle)
        tensors.append(weakref.ref(mine))
        if len(group) > 1:
            torch.empty(TOO_MUCH)
        return 0

    assert len(list(oom_split([1, 2], run, GroupLimit(CPU, "zeros")))) == 2
    assert alive[:2] == [[], [False]]


LIMITED = textwrap.dedent("""
    import logging, resource, sys
    from pathlib import Path
    import torch
    from editcollapse.units.edit import optimise_in_groups
    from editcollapse.models.loading import load_model
    from editcollapse.catalog.presets import ValueSettings
    from editcollapse.forward.rewrites import build_rewrites
    from editcollapse.forward.hooked_layer import HookedLayer
    from editcollapse.config.spec import ModelSpec
    from tests.support.cases import REQUESTS, TEMPLATES

    class Count(logging.Handler):
        n = 0

        def emit(self, record):
            Count.n += 1

    logging.getLogger("editcollapse.runtime.oom").addHandler(Count())
    torch.set_num_threads(1)
    spec = ModelSpec(name="wide", source=sys.argv[1], dtype="float64")
    loaded = load_model(spec, "cpu")
    site = HookedLayer(loaded, 0)
    values = ValueSettings(steps=2)
    rewrites, _ = build_rewrites(loaded.encoder, TEMPLATES, [REQUESTS[0]] * 96)
    optimise_in_groups(site, rewrites[:1], values, None)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (12 << 20), resource.RLIM_INFINITY))
    halved = optimise_in_groups(site, rewrites, values, None)
    n_halvings = Count.n
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    whole = optimise_in_groups(site, rewrites, values, None)
    assert n_halvings >= 1, "the limit was never met"
    assert Count.n == n_halvings, "the whole batch was halved too"
    for name in ("delta", "prompt_keys"):
        torch.testing.assert_close(getattr(halved, name), getattr(whole, name), rtol=1e-9, atol=0)
    torch.testing.assert_close(halved.loss.total, whole.loss.total, rtol=1e-9, atol=0)
""")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux only")
def test_edits_under_a_real_limit(tmp_path, monkeypatch):
    """With too little address space for the batch, the edits are those without the limit."""
    from tests.support import tiny

    assert len(REQUESTS) == 4
    wide = tiny.Variant("GPT2Config", "words", tiny._gpt(n_embd=64, n_inner=256, n_layer=6), 256)
    monkeypatch.setitem(tiny.VARIANTS, "wide", wide)
    monkeypatch.setenv("EDITCOLLAPSE_TOKENS_PER_FORWARD", "1000000")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")  # its threads are part of what is used
    folder = tiny.write_model("wide", tmp_path / "wide")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
