"""Joint editors, fine-tuning and sequences are the plain reference's, in float64, by family."""

import dataclasses

import pytest
import torch

from editcollapse.catalog.editor_presets import GradientSettings, JointSettings
from editcollapse.catalog.editors import EDITORS, GradientEditor, JointEditor, restraint_of
from editcollapse.catalog.presets import ValueSettings
from editcollapse.config.spec import ModelSpec
from editcollapse.covariance.second_moment import SecondMoment, put_moment
from editcollapse.data.requests import EditRequest
from editcollapse.editors.fine_tuning import fine_tune
from editcollapse.editors.joint import goal_values, independent_edits
from editcollapse.editors.normal_equation import NormalEquation
from editcollapse.evaluation.perplexity import encode_texts, text_nll
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.rome.updates import no_update
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import ModelSetup
from editcollapse.study.sequence_jobs import (
    EditorInputs,
    EditorSetup,
    LayerMoment,
    SequenceChunkJob,
)
from editcollapse.units import sequence as unit
from editcollapse.units.editors import find_targets, last_layer
from tests.support import reference_editors as oracle
from tests.support.cases import (
    LAYER,
    REQUESTS,
    TEMPLATES,
    TEXTS,
    TIGHT,
    Float64Throughout,
    distance,
    some_moment,
)
from tests.support.tiny import VARIANTS, by_default

JOINT = {name: row for name, row in EDITORS.items() if isinstance(row, JointEditor)}
GRADIENT = {name: row for name, row in EDITORS.items() if isinstance(row, GradientEditor)}
#: By default; in ``make soak`` all families.
SOME = ("gpt2", "gemma2", "granite")
FEW = ("gpt2", "granite")
LENGTH = 3.0
"""NAS's mean length: every value of the tiny models is shorter than twice it, or longer."""


@pytest.fixture(autouse=True)
def _float64_throughout():
    with Float64Throughout():
        yield


def layers_of(loaded):
    """Two layers, or the one that a family with a norm behind the MLP takes."""
    return (LAYER,) if oracle.has_norm_behind(loaded) else (0, LAYER)


def moments_of(loaded, layers):
    return {layer: some_moment(loaded.widths.d_key, 3 + layer) for layer in layers}


def their_settings(layers):
    return oracle.some_settings(layers, LENGTH)


def our_settings(theirs, row):
    return JointSettings(
        layers=theirs.layers,
        values=ValueSettings(
            steps=theirs.steps,
            learning_rate=theirs.learning_rate,
            weight_decay=theirs.weight_decay,
            kl_factor=theirs.kl_factor,
            clamp_factor=theirs.clamp_factor,
            stop_loss=theirs.stop_loss,
        ),
        second_moment_weight=theirs.second_moment_weight,
        identity_weight=theirs.identity_weight if row.identity else 0.0,
        nullspace_threshold=theirs.nullspace_threshold,
        ridge=theirs.ridge,
        predicted_passes=theirs.predicted_passes,
    )


def gradient_settings(theirs, row, layer):
    return GradientSettings(
        layers=(layer,),
        epochs=theirs.epochs,
        learning_rate=theirs.learning_rate,
        norm_bound=theirs.norm_bound if row.bounded else None,
        batch_size=theirs.batch_size,
        seed=theirs.seed,
    )


def rewrites_of(loaded, requests=REQUESTS):
    rewrites, unusable = build_rewrites(loaded.encoder, TEMPLATES, requests)
    assert not unusable
    return rewrites


@pytest.mark.parametrize("name", JOINT)
@pytest.mark.parametrize("variant", by_default(VARIANTS, SOME))
def test_single_edits_are_the_references(tiny_model, variant, name):
    """Each of a batch of independent edits is what the reference writes of that fact alone."""
    loaded, row = tiny_model(variant), JOINT[name]
    layers = layers_of(loaded)
    theirs, moments = their_settings(layers), moments_of(loaded, layers)
    ours, rewrites = our_settings(theirs, row), rewrites_of(loaded)
    before = {layer: loaded.weight(layer).clone() for layer in layers}
    equations = {layer: NormalEquation(moments[layer], row, ours) for layer in layers}
    found = find_targets(loaded, rewrites, EditorSetup(name=name, joint=ours).targets)
    hooked = last_layer(loaded, ours)
    goals = goal_values(hooked, rewrites, found.before, found.delta, row, LENGTH)
    made = independent_edits(loaded, rewrites, goals, row, ours, equations)
    texts = encode_texts(loaded.encoder, TEXTS)
    nll = text_nll(HookedLayer(loaded, layers[0]), texts, made)
    for b, rewrite in enumerate(rewrites):
        edited = oracle.copied(loaded)
        step = oracle.joint_edit(edited, [rewrite], row, theirs, moments)
        assert distance(goals[b], step.targets[0].z) < TIGHT
        for change in made.layers:
            total = step.changes[change.layer]
            if row.restraint != "none":
                total = oracle.pruned(total, before[change.layer], row.restraint)
                oracle.matrix(edited, change.layer).copy_(before[change.layer] + total)
            rounding = 1e-14 * float(before[change.layer].abs().max())
            if float(total.abs().max()) < rounding:  # NAS asks for nothing where v is too long
                assert float(change.matrix(b).abs().max()) < rounding
            else:
                assert distance(change.matrix(b), total) < 10 * TIGHT
        whole = text_nll(HookedLayer(edited, layers[0]), texts, no_update(loaded.widths))
        assert distance(nll[b], whole[0]) < TIGHT
    assert all(torch.equal(loaded.weight(layer), before[layer]) for layer in layers)


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize("variant", by_default(VARIANTS, FEW))
def test_fine_tuning_is_the_references(tiny_model, variant, name):
    """Fine-tuning on three facts gives the reference's change, losses and all."""
    loaded, row = tiny_model(variant), GRADIENT[name]
    theirs, rewrites = their_settings((LAYER,)), rewrites_of(loaded)[:3]
    ours = gradient_settings(theirs, row, LAYER)
    made = fine_tune(loaded, rewrites, row, ours)
    edited = oracle.copied(loaded)
    known = oracle.fine_tune(edited, rewrites, LAYER, theirs, row, loaded.weight(LAYER))
    assert distance(made.change, known.change) < 100 * TIGHT
    assert made.loss == pytest.approx(known.losses[-1], rel=TIGHT)


STEPS = (REQUESTS[:2], REQUESTS[2:3], REQUESTS[3:])


@pytest.mark.parametrize("name", ["rome", "c_rome", *EDITORS])
@pytest.mark.parametrize("variant", by_default((*SOME, "llama", "opt"), FEW))
def test_sequences_are_the_references(tiny_model, tmp_path, monkeypatch, variant, name):
    """Three steps of two, one and one facts, in two chunks: the sums of updates, layer by layer."""
    loaded = tiny_model(variant)
    setup = EditorSetup(name=name)
    row = setup.row
    layers = layers_of(loaded) if isinstance(row, JointEditor) else (LAYER,)
    theirs, moments = their_settings(layers), moments_of(loaded, layers)
    if isinstance(row, JointEditor):
        setup = EditorSetup(name=name, joint=our_settings(theirs, row))
    elif isinstance(row, GradientEditor):
        setup = EditorSetup(name=name, gradient=gradient_settings(theirs, row, LAYER))
    model = ModelSetup(
        spec=ModelSpec(name=variant, source="none", dtype="float64"),
        model_id=loaded.model_id,
        layer=LAYER,
        layer_source="test",
        values=our_settings(theirs, JOINT["memit"]).values,
    )
    totals = chunked(loaded, tmp_path, monkeypatch, model, setup, moments)
    known = oracle.sequence(
        loaded,
        [rewrites_of(loaded, step) for step in STEPS],
        row,
        theirs,
        moments,
        TEMPLATES,
    )
    for layer in layers:
        change = known.weights[-1][layer] - loaded.weight(layer)
        assert distance(totals[layer], change) < 100 * TIGHT


def chunked(loaded, folder, monkeypatch, model, setup, moments):
    """Return the sum of updates after the steps, made in two chunks, by layer."""
    monkeypatch.setattr(unit, "load", lambda _: loaded)
    store = ArtifactStore(folder)
    inputs = EditorInputs(
        model=model,
        editor=setup,
        method_templates=TEMPLATES,
        method_template_set_id="own",
        templates=TEMPLATES,
        template_set_id="own",
        moments=tuple(
            LayerMoment(
                layer=layer,
                covariance_id=f"C{layer}{loaded.model_id}",
                moment=put_moment(store, SecondMoment(moments[layer], 100, 1)),
            )
            for layer in sorted(moments)
        ),
        damping=0.0,
        mean_length=LENGTH,
    )
    first = chunk_of(store, inputs, STEPS[:2], 1)
    done = unit.sequence_chunk(first)
    second = chunk_of(store, inputs, STEPS[2:], 3).model_copy(
        update={
            "predecessor": first.key,
            "states": done.states,
            "rank": int(done.values[0]),
            "n_before": 3,
            "is_checkpoint": True,
            "sample": tuple(enumerate(REQUESTS, start=1)),
        }
    )
    before = {layer: loaded.weight(layer).clone() for layer in moments}
    done = unit.sequence_chunk(second)
    assert all(torch.equal(loaded.weight(layer), before[layer]) for layer in moments)
    chunk = unit._Chunk(store, loaded, second.model_copy(update={"states": done.states}))
    return {layer: total.total for layer, total in chunk._sums.items()}


def chunk_of(store, inputs, steps: tuple[tuple[EditRequest, ...], ...], first_step: int):
    """Return the job of some steps of a sequence."""
    return SequenceChunkJob(
        results=str(store.here),
        inputs=inputs,
        sequence_id="s",
        predecessor="",
        first_step=first_step,
        steps=steps,
        n_before=0,
        is_checkpoint=False,
        sample=(),
        measured=frozenset(request.request_id for step in steps for request in step),
        states=(),
        rank=0,
        safe_states=(),
        safe_rank=0,
        texts=store.put_json("texts", list(TEXTS)),
        evaluation_id="e",
        seed=0,
        guard=None,
        restraint=restraint_of(inputs.editor.name, None),
        order_label="order 1",
    )


def test_every_field_of_the_settings_is_compared():
    """The reference is set as ours is: no field of the joint settings is left at a default."""
    theirs = their_settings((0, 1))
    ours = our_settings(theirs, JOINT["encore"])
    names = {field.name for field in dataclasses.fields(ours)}
    assert names >= {"second_moment_weight", "identity_weight", "ridge", "nullspace_threshold"}
    assert (ours.constraint_ridge, ours.mask_share) == (theirs.equality_ridge, theirs.mask_share)
