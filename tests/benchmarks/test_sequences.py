"""The benchmark of sequences: its plain reference is the oracle's, and both sides agree."""

from __future__ import annotations

import pytest
import torch

from benchmarks import report, sequences
from benchmarks.choices import is_demo
from benchmarks.reference_editors import EditedModel, Layers, Statistics
from benchmarks.schedule import Order, run
from editcollapse.catalog.editor_presets import GradientSettings, JointSettings
from editcollapse.catalog.editors import EDITORS, GradientEditor, JointEditor, editor_of
from editcollapse.catalog.editors import editor_title as title_of
from editcollapse.catalog.presets import ValueSettings
from editcollapse.forward.rewrites import build_rewrites
from tests.support import reference_editors as oracle
from tests.support.cases import (
    LAYER,
    REQUESTS,
    TEMPLATES,
    TIGHT,
    Float64Throughout,
    distance,
    some_moment,
)
from tests.support.tiny import by_default

_STEPS = (REQUESTS[:2], REQUESTS[2:3])
_LENGTH = 3.0
_VALUES = ValueSettings(steps=4, learning_rate=0.05, clamp_factor=0.75)


def settings_of(row, layers):
    """Return an editor's settings as the benchmark's reference takes them."""
    if isinstance(row, GradientEditor):
        bound = 0.04 if row.bounded else None
        return GradientSettings(layers, 3, 0.05, norm_bound=bound, batch_size=2)
    if not isinstance(row, JointEditor):
        return None
    return JointSettings(
        layers,
        _VALUES,
        second_moment_weight=0.7,
        identity_weight=0.3 if row.identity else 0.0,
        nullspace_threshold=0.8,
        ridge=0.5,
        predicted_passes=2,
    )


@pytest.mark.parametrize("name", ["rome", "c_rome", *EDITORS])
@pytest.mark.parametrize(
    "variant", by_default(["gpt2", "llama", "gemma2", "granite"], ["gpt2", "gemma2"])
)
def test_reference_is_the_oracle(tiny_model, variant, name):
    """Two steps, of two facts and of one, leave the oracle's weights; they are put back."""
    loaded, row = tiny_model(variant), editor_of(name)
    several = isinstance(row, JointEditor) and not oracle.has_norm_behind(loaded)
    layers = (0, LAYER) if several else (LAYER,)
    moments = {layer: some_moment(loaded.widths.d_key, 3 + layer) for layer in layers}
    steps = [build_rewrites(loaded.encoder, TEMPLATES, step)[0] for step in _STEPS]
    own = oracle.copied(loaded)
    before = {layer: own.weight(layer).clone() for layer in layers}
    settings = settings_of(row, layers)
    known = Statistics.of(row, settings, moments, _LENGTH)
    plain = EditedModel(Layers.of(loaded, own.model, layers), row, settings, _VALUES, known)
    with Float64Throughout():
        for step in steps:
            plain.step(step)
        expected = oracle.sequence(
            loaded, steps, row, oracle.some_settings(layers, _LENGTH, epochs=3), moments, TEMPLATES
        )
    for layer, total in plain.totals.items():
        change = oracle.matrix(expected.edited, layer) - loaded.weight(layer)
        assert distance(total, change) < 100 * TIGHT
        assert float(change.norm()) > 0
    plain.put_back()
    assert all(torch.equal(own.weight(layer), before[layer]) for layer in layers)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return what a run on a tiny model found."""
    order = Order(
        workspace=tmp_path_factory.mktemp("workspace"),
        models=("tiny",),
        only=("sequences",),
        repeats=1,
        edits=4,
        steps=2,
    )
    return run(order, "python -m benchmarks")


@pytest.mark.slow  # make bench runs it, with --quick as well
def test_every_editor_is_there_and_both_sides_agree(found):
    """One row an editor, in the order of the list, and one comparison of its updates."""
    titles = [title_of(name) for name in sequences.EDITORS]
    assert [each.work for each in found.comparisons] == [f"sequence, {each}" for each in titles]
    assert len(found.agreements) == len(titles)
    for title, each in zip(titles, found.agreements, strict=True):
        assert title in each.quantity
        assert each.n_compared > 0
    assert report.disagreements(found) == []


@pytest.mark.slow
def test_cost_by_length_has_first_middle_last_and_all(found):
    """Of both editors that remember all keys; the whole sequence has an exponent."""
    rows = [(each.editor, each.first_step, each.last_step) for each in found.sequence_costs]
    ranges = [(1, 1), (2, 2), (4, 4), (1, 4)]
    assert rows == [(name, *each) for name in ("MEMIT_seq", "AlphaEdit") for each in ranges]
    assert [each.exponent is not None for each in found.sequence_costs] == [*[False] * 3, True] * 2
    assert all(each.passes == 2 for each in found.sequence_costs)
    text = report.markdown(found)
    assert "| tiny | AlphaEdit | 1 to 4 |" in text
    assert "| sequence, FT-M | tiny | edits/s |" in text


def test_bulk_leaves_out_single_entries():
    """One entry of a thousand may be anything, two may not; nan in all of them is told."""
    theirs = torch.linspace(0.5, 1.0, 1000)
    mine = theirs + 1e-5
    mine[7] = float("nan")
    assert sequences.bulk_distance(mine, theirs) == pytest.approx(1e-5, rel=0.05)
    mine[8] = 0.0
    assert sequences.bulk_distance(mine, theirs) > 0.1
    assert sequences.bulk_distance(mine, theirs, rarest=500) == pytest.approx(1e-5, rel=0.05)
    assert not sequences.bulk_distance(mine * torch.nan, theirs) <= 1e-3


def test_growth_is_the_exponent():
    """Seconds of chunks of ten steps: as many each, or more and more."""
    ends = sequences.chunk_ends(100)
    assert ends == list(range(10, 101, 10))
    assert sequences.growth(ends, [2.0] * 10) == pytest.approx(1.0)
    squares = [float(b**2 - a**2) for a, b in zip([0, *ends], ends, strict=False)]
    assert sequences.growth(ends, squares) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("n_steps", "ends"),
    [
        (1, [1]),
        (3, [1, 2, 3]),
        (8, [2, 4, 6, 8]),
        (10, [2, 4, 6, 8, 10]),
        (45, [10, 20, 30, 40, 45]),
    ],
)
def test_chunks_of_short_sequences(n_steps, ends):
    assert sequences.chunk_ends(n_steps) == ends


def test_sequences_run_on_the_demo_model_or_where_named(tmp_path):
    """A demo model's path is the demo's too."""
    whole, named = Order(tmp_path), Order(tmp_path, only=("sequences",))
    assert (whole.sequence_steps("demo"), whole.sequence_steps("gpt2-small")) == (100, 0)
    assert named.sequence_steps("gpt2-small") == 100
    assert Order(tmp_path, only=("edits",)).sequence_steps("demo") == 0
    assert Order(tmp_path, only=("sequences",), edits=20).asked("tiny").n_requests == 20
    assert is_demo("demo/models/gpt2-induced")
    assert not is_demo("gpt2-small")
