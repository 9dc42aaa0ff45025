"""Several facts at once by the library are what the plain reference writes, in float64."""

import pytest
import torch

from editcollapse.api import Editor, EditorSpec
from editcollapse.catalog.editors import EDITORS, GradientEditor, JointEditor
from editcollapse.covariance.second_moment import SecondMoment
from editcollapse.units import single
from tests.support import reference_editors as oracle
from tests.support.cases import (
    LAYER,
    REQUESTS,
    TIGHT,
    Float64Throughout,
    distance,
    some_moment,
)
from tests.support.tiny import VARIANTS, by_default

LAYERS = (0, LAYER)
FACTS = REQUESTS[:3]
#: By default; in ``make soak`` all editors, of one family of each kind.
SOME = ("emmet", "rect", "prune", "nas", "ft_m")


@pytest.fixture(autouse=True)
def _float64_throughout():
    with Float64Throughout():
        yield


def their_settings(row, mean_length):
    """Return the reference's settings; what a field of the library's settings has is given too."""
    layers = LAYERS if isinstance(row, JointEditor) else (LAYER,)
    return oracle.some_settings(layers, mean_length)


def given_settings(name, theirs):
    """Return the same settings as the library is given them: those that the editor reads."""
    row = EDITORS[name]
    own = {"layers": theirs.layers, "learning_rate": theirs.learning_rate}
    if isinstance(row, GradientEditor):
        own |= {"epochs": theirs.epochs, "batch_size": theirs.batch_size}
        if row.bounded:
            own["norm_bound"] = theirs.norm_bound
        return EditorSpec(name=name, **own)
    names = ["steps", "weight_decay", "kl_factor", "clamp_factor"]
    names += ["second_moment_weight"] * row.second_moment
    names += ["identity_weight"] * row.identity
    names += ["nullspace_threshold", "ridge"] * row.projected
    names += ["predicted_passes"] * (row.target == "until predicted")
    return EditorSpec(name=name, **own, **{each: getattr(theirs, each) for each in names})


def their_mean_length(loaded, rewrites, settings):
    """Return NAS's m: of three values the longest, above the 0.95 quantile, is left out."""
    lengths = []
    for rewrite in rewrites:
        found = oracle.target_value(loaded, rewrite, LAYER, settings)
        v0 = oracle.read(loaded, LAYER, rewrite.prompts[0]).value * loaded.value_multiplier
        lengths.append(float(torch.norm(v0 + found.delta)))
    return sum(sorted(lengths)[:2]) / 2


@pytest.mark.parametrize("name", by_default(EDITORS, SOME))
@pytest.mark.parametrize("variant", by_default(("gpt2", "llama", "granite", "opt"), ("granite",)))
def test_joint_edits_are_the_references(tiny_model, monkeypatch, variant, name):
    """Three facts in one edit: the change of each layer, m, and what the edited model gives."""
    assert variant in VARIANTS
    loaded, row = tiny_model(variant), EDITORS[name]
    moments = {layer: some_moment(loaded.widths.d_key, 3 + layer) for layer in LAYERS}
    measured = []

    def known(_loaded, layers, _covariance):
        measured.append(tuple(layers))
        return [SecondMoment(moments[layer], 100, 1) for layer in layers]

    monkeypatch.setattr(single, "second_moments", known)
    theirs = their_settings(row, 1.0)
    editor = Editor(
        loaded,
        covariance="identity",
        layer=LAYER,
        editor_settings=[given_settings(name, theirs)],
    )
    rewrites = single.usable_rewrites(loaded, editor.joint_templates, FACTS)
    if isinstance(row, JointEditor) and row.target == "length of the mean":
        theirs = their_settings(row, their_mean_length(loaded, rewrites, theirs))
    before = {layer: loaded.weight(layer).clone() for layer in LAYERS}
    made = editor.edit_jointly(FACTS, method=name)
    assert all(torch.equal(loaded.weight(layer), before[layer]) for layer in LAYERS)
    assert measured == [made.layers]
    edited = oracle.copied(loaded)
    if isinstance(row, JointEditor):
        changes = dict(oracle.joint_edit(edited, rewrites, row, theirs, moments).changes)
        if row.restraint != "none":
            for layer, total in changes.items():
                changes[layer] = oracle.pruned(total, before[layer], row.restraint)
                oracle.matrix(edited, layer).copy_(before[layer] + changes[layer])
    else:
        tuned = oracle.fine_tune(edited, rewrites, LAYER, theirs, row, before[LAYER])
        changes = {LAYER: tuned.change}
    assert [change.layer for change in made.changes.layers] == sorted(changes)
    for change in made.changes.layers:
        assert distance(change.matrix(0), changes[change.layer]) < 100 * TIGHT
    ids = rewrites[0].prompts[0].ids
    expected = oracle.log_probs(edited, ids)
    with made.applied(), torch.no_grad():
        assert distance(oracle.log_probs(loaded, ids), expected) < 100 * TIGHT
