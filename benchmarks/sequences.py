"""Sequences: steps of every editor on the weights that the last step left, and cost by length.

Both sides make the same steps of one fact from the unedited model, with the same settings, C and
context templates. Ours is a chunk without its measurements, files of its state included.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks import ours, reference_editors
from benchmarks.cases import Case, moment_tokens
from benchmarks.machine import timed
from benchmarks.results import Agreement, Comparison, Results, SequenceCost, Spread
from benchmarks.works import Size, distance, in_turn, worst
from editcollapse.catalog.editor_presets import GradientSettings, JointSettings, editor_settings
from editcollapse.catalog.editors import JointEditor, editor_title
from editcollapse.catalog.methods import METHODS
from editcollapse.covariance.second_moment import measure_moments, put_moment
from editcollapse.data.requests import EditRequest
from editcollapse.editors.joint import target_site
from editcollapse.errors import StudyError
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.study.artifacts import ArtifactRef
from editcollapse.study.sequence_jobs import EditorInputs, EditorSetup, LayerMoment
from editcollapse.units.editors import editor_on_model

EDITORS = (
    *("rome", "c_rome"),
    *("memit", "memit_seq", "emmet", "alphaedit", "rect", "prune", "encore", "nas"),
    *("ft_l", "ft_m"),
)
"""Compared with the reference."""
LENGTHENED = ("memit_seq", "alphaedit")
"""Whose cost by length is measured: both solve with the keys of all steps so far."""
_N_CONTEXTS = 5
"""Context templates of joint editors beside the bare one (kmeng01/memit)."""
_LEAST_STEPS = 2
_CHUNK = 10
_LENGTH_FACTS = 4
_WARM_PASSES = 2
_WARM = ("rome", "memit", "ft_m")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Editing:
    """A case with C of every layer that some editor edits."""

    case: Case
    moments: dict[int, ArtifactRef]
    steps: int | None
    """Passes of z*, or epochs, at most; None for as published."""

    @property
    def templates(self) -> tuple[str, ...]:
        """Context templates of joint editors: the bare one and the last, longest five."""
        bare, *others = self.case.inputs.templates
        return (bare, *others[-_N_CONTEXTS:])

    def inputs(self, name: str, passes: int | None = None) -> EditorInputs:
        """Return what every job of an editor needs, as a study makes it.

        Args:
            name: of the editor.
            passes: at most, instead of ``steps``.
        """
        case = self.case
        setup = _setup(case, name, passes or self.steps)
        model = case.setup
        if passes is not None:
            values = dataclasses.replace(model.values, steps=passes)
            model = model.model_copy(update={"values": values})
        return EditorInputs(
            model=model,
            editor=setup,
            method_templates=case.inputs.templates,
            method_template_set_id="benchmark",
            templates=self.templates,
            template_set_id="benchmark of editors",
            moments=tuple(
                LayerMoment(
                    layer=layer,
                    covariance_id=f"benchmark {self.moments[layer].digest}",
                    moment=self.moments[layer],
                )
                for layer in setup.layers(model)
            ),
            damping=0.0,
        )

    def requests(self, first: int, count: int) -> list[EditRequest]:
        """Return some requests, from the first again where they end."""
        known = self.case.inputs.requests
        return [known[index % len(known)] for index in range(first, first + count)]


def sequences(case: Case, size: Size, n_steps: int, passes: int | None, found: Results) -> None:
    """Compare every editor's steps with the reference's, then measure the cost by length.

    Args:
        case: the model and its data, ``n_steps`` requests or more.
        size: repeats; a repeat makes as many steps as the reference makes edits, two at least.
        n_steps: of the sequences whose cost by length is measured.
        passes: of z*, or epochs, at most; None for as published.
        found: grows.
    """
    editing = _editing(case, passes)
    for name in _WARM:
        _compare(editing, name, 1, 1, None, passes=_WARM_PASSES)
    for name in EDITORS:
        _compare(editing, name, max(_LEAST_STEPS, size.n_reference), size.repeats, found)
    for name in LENGTHENED:
        _lengthen(editing, name, n_steps, size.repeats, found)


def _editing(case: Case, passes: int | None) -> Editing:
    """Return the case with C of all layers: the case's own one, the others from one pass."""
    setups = [_setup(case, name, passes) for name in EDITORS]
    layers = {layer for setup in setups for layer in setup.layers(case.setup)}
    moments = {case.layer: case.moment}
    others = sorted(layers - set(moments))
    if others:
        measured = measure_moments(
            case.loaded,
            others,
            case.inputs.documents,
            n_tokens=moment_tokens(case.loaded),
            max_length=case.loaded.encoder.max_length,
            tokens_per_batch=tokens_per_forward(
                case.loaded.device, case.loaded.size(others[-1]), "moment"
            ),
        )
        moments |= {
            layer: put_moment(case.store, each)
            for layer, each in zip(others, measured, strict=True)
        }
    return Editing(case, moments, passes)


def _setup(case: Case, name: str, passes: int | None) -> EditorSetup:
    """Return an editor's published settings on the model, or ours, with so many passes at most."""
    if name in METHODS:
        return EditorSetup(name=name)
    loaded = case.loaded
    settings = editor_settings(name, loaded.architecture.family, loaded.widths, case.layer)
    if isinstance(settings, GradientSettings):
        epochs = min(settings.epochs, passes or settings.epochs)
        return EditorSetup(name=name, gradient=dataclasses.replace(settings, epochs=epochs))
    return EditorSetup(name=name, joint=_joint(case, settings, passes))


def _joint(case: Case, settings: JointSettings, passes: int | None) -> JointSettings:
    """Return settings with so many passes at most, of the one layer that some families take."""
    if passes is not None:
        settings = dataclasses.replace(
            settings, values=dataclasses.replace(settings.values, steps=passes)
        )
    try:
        target_site(case.loaded, settings.layers)
    except StudyError:
        return dataclasses.replace(settings, layers=settings.layers[-1:])
    return settings


def _compare(
    editing: Editing,
    name: str,
    n_steps: int,
    repeats: int,
    found: Results | None,
    passes: int | None = None,
) -> None:
    """Compare some steps of one editor; ``found`` is None where both sides are only warmed up."""
    case = editing.case
    inputs = editing.inputs(name, passes)
    if name == "nas":
        length = ours.mean_length(case, inputs, editing.requests(0, _LENGTH_FACTS))
        inputs = inputs.model_copy(update={"lengths_key": "benchmark", "mean_length": length})
    plain = _plain(editing, inputs)
    editor_on_model(case.store, case.loaded, inputs)  # C's factors, as the reference has C⁻¹ or P
    templates = inputs.method_templates if name in METHODS else inputs.templates
    sums: tuple[dict[int, dict[int, Tensor]], dict[int, ours.Standing]] = ({}, {})

    def steps(repeat: int) -> list[list[EditRequest]]:
        return [[each] for each in editing.requests(repeat * n_steps, n_steps)]

    def theirs(repeat: int) -> int:
        for step in steps(repeat):
            rewrites, unusable = build_rewrites(case.loaded.encoder, templates, step)
            assert not unusable, unusable
            plain.step(rewrites)
        return n_steps

    def theirs_whole(repeat: int) -> int:
        plain.put_back()
        done = theirs(repeat)
        sums[0][repeat] = plain.totals
        return done

    def mine(repeat: int) -> int:
        sums[1][repeat] = ours.chunk(case, inputs, steps(repeat), ours.Standing())
        return n_steps

    rates = in_turn(case, repeats, theirs_whole, mine)
    plain.put_back()
    if found is None:
        return
    title = editor_title(name)
    layers = ", ".join(map(str, inputs.editor.layers(inputs.model)))
    note = f"{n_steps} steps of one fact a repeat, layers {layers}"
    found.comparisons.append(Comparison(f"sequence, {title}", case.name, "edits/s", *rates, note))
    measure, quantity = distance, f"updates, sequence of {title}"
    if inputs.editor.is_dense:
        # Each step takes other entries into RECT's mask once the weights differ in one.
        is_masked = isinstance(inputs.editor.row, JointEditor) and inputs.editor.row.masked
        rarest = 100 if is_masked else 1000
        measure = functools.partial(bulk_distance, rarest=rarest)
        quantity = f"{quantity} ({rarest - 1:,} entries of {rarest:,})"
    far = [
        measure(total, sums[0][repeat][layer])
        for repeat, standing in sums[1].items()
        for layer, total in ours.totals(case, inputs, standing).items()
    ]
    found.agreements.append(Agreement(case.name, quantity, worst(far), len(far)))


def bulk_distance(mine: Tensor, theirs: Tensor, rarest: int = 1000) -> float:
    """Return ``distance`` without one of ``rarest`` entries: those that differ most.

    Some editors turn rounding of single entries into whole ones: RECT's mask keeps an entry at its
    bound or not, and Adam, which divides a gradient by its own size, takes a whole step of an entry
    whose gradient is rounding alone.
    """
    theirs = theirs.detach().cpu().double()
    far = (mine.detach().cpu().double() - theirs).abs()
    rank = far.numel() - far.numel() // rarest
    # nan counts as the largest of all
    kept = far.nan_to_num(nan=math.inf, posinf=math.inf).flatten().kthvalue(rank).values
    return float(kept / theirs.abs().max())


def _plain(editing: Editing, inputs: EditorInputs) -> reference_editors.EditedModel:
    """Return the reference with its own model and what public code has on the disk."""
    case, setup = editing.case, inputs.editor
    moments = {
        each.layer: case.store.tensors(editing.moments[each.layer])["moment"]
        .double()
        .to(case.loaded.device)
        for each in inputs.moments
    }
    known = reference_editors.Statistics.of(setup.row, setup.settings, moments, inputs.mean_length)
    layers = reference_editors.Layers.of(
        case.loaded, case.published.model, setup.layers(inputs.model)
    )
    return reference_editors.EditedModel(
        layers, setup.row, setup.settings, inputs.model.values, known
    )


def _lengthen(editing: Editing, name: str, n_steps: int, repeats: int, found: Results) -> None:
    """Add what a sequence's first, middle and last chunks take, and how the total grows."""
    case, inputs = editing.case, editing.inputs(name)
    editor_on_model(case.store, case.loaded, inputs)
    ends = chunk_ends(n_steps)
    starts = [0, *ends[:-1]]
    spent: list[list[float]] = []
    passes: list[float] = []
    for _ in range(repeats):
        standing = [ours.Standing()]
        seconds = []
        for first, last in zip(starts, ends, strict=True):
            steps = [[each] for each in editing.requests(first, last - first)]

            def run(steps: Sequence[Sequence[EditRequest]] = steps) -> None:
                standing.append(ours.chunk(case, inputs, steps, standing[-1]))  # noqa: B023

            seconds.append(timed(run, case.loaded.device))
        spent.append(seconds)
        made = [each.n_passes for each in standing]
        passes = [b - a for a, b in pairwise(made)]
    title = editor_title(name)
    for index in sorted({0, (len(ends) - 1) // 2, len(ends) - 1}):
        count = ends[index] - starts[index]
        each_s = Spread.of([seconds[index] / count for seconds in spent])
        found.sequence_costs.append(
            SequenceCost(
                case.name,
                title,
                starts[index] + 1,
                ends[index],
                each_s,
                passes[index] / count,
                None,
            )
        )
    found.sequence_costs.append(
        SequenceCost(
            case.name,
            title,
            1,
            n_steps,
            Spread.of([sum(seconds) / n_steps for seconds in spent]),
            sum(passes) / n_steps,
            Spread.of([growth(ends, seconds) for seconds in spent]),
        )
    )


def chunk_ends(n_steps: int) -> list[int]:
    """Return the last steps of chunks of ten; of a short sequence's four chunks."""
    size = max(1, min(_CHUNK, n_steps // 4))
    return [*range(size, n_steps, size), n_steps]


def growth(ends: Sequence[int], seconds: Sequence[float]) -> float:
    """Return b of the least-squares fit log(total seconds) = a + b log(steps).

    Args:
        ends: steps made after each chunk.
        seconds: of each chunk; nan comes of one chunk alone.
    """
    if len(ends) == 1:
        return math.nan
    steps = torch.tensor(ends, dtype=torch.float64).log()
    total = torch.tensor(seconds, dtype=torch.float64).cumsum(0).log()
    steps, total = steps - steps.mean(), total - total.mean()
    return float((steps * total).sum() / steps.square().sum())
