"""One edit without a study: its forecast, at one layer or at many, its v* and updates.

What it needs, layer, v* settings, context templates and C, is given or found here first.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from editcollapse.catalog.methods import METHODS
from editcollapse.config.spec import TemplateSpec
from editcollapse.covariance.held_out import factored
from editcollapse.covariance.samples import OWN_SAMPLES, own_texts
from editcollapse.covariance.second_moment import (
    MomentSolver,
    SecondMoment,
    moments_of_rows,
)
from editcollapse.covariance.shards import budgeted_rows
from editcollapse.covariance.statistics import read_statistics
from editcollapse.data.corpora import CovarianceSource
from editcollapse.data.requests import EditRequest
from editcollapse.errors import ModelError, MomentError
from editcollapse.evaluation.perplexity import Perplexity, encode_texts, perplexities, text_nll
from editcollapse.evaluation.probes import ProbePlan, Question, plan_probes
from editcollapse.evaluation.scores import answer_probes, score_probes
from editcollapse.forecast.bounds import LayerGeometry
from editcollapse.forecast.verdicts import (
    ForecastReport,
    ModelThresholds,
    RequestForecast,
    Thresholds,
    judged,
)
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import Rewrite, build_rewrite, build_rewrites
from editcollapse.forward.weight_changes import LayerChange
from editcollapse.models.loading import LoadedModel, widened
from editcollapse.models.tokenization import UnusableTextError
from editcollapse.rome.edited_model import Updates
from editcollapse.rome.templates import generate_templates
from editcollapse.rome.updates import RankOneUpdates, no_update
from editcollapse.rome.values import TargetValues
from editcollapse.rows.study import ForecastRow, PositionRow, ProbeScores
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.environment import reporter
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import EditJob, KnownSetup, ModelSetup, template_set_id_of
from editcollapse.study.known_setup import moment_ref
from editcollapse.units.edit import optimise_in_groups, position_row
from editcollapse.units.forecast import forecast_edits, forecast_rows
from editcollapse.units.generate import edited_value
from editcollapse.units.geometry import stored_solver
from editcollapse.units.sweep import read_layer_keys


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EditSetup:
    """One request, ready to be forecast."""

    edits: EditJob
    """A batch of one, with all methods."""
    solver: MomentSolver
    summary: str
    """For people."""


def known_edit(
    results: str, model: ModelSetup, known: KnownSetup, request: EditRequest
) -> EditSetup:
    """Return a request as a study in a results folder would edit it.

    Args:
        results: path or URL of the folder.
        model: layer and v* settings of ``known``.
        known: what the database says.
        request: the edit.

    Raises:
        ArtifactError: C's file is missing or has changed.
        MomentError: C has no Cholesky factor.
    """
    store = ArtifactStore(results)
    ref = None if known.moment_digest is None else moment_ref(store, known.moment_digest)
    solver = stored_solver(store, ref, known.damping)
    edits = single_batch(results, model, known.templates, known.covariance_id, (request,))
    return EditSetup(edits, solver, str(known))


def new_edits(
    loaded: LoadedModel,
    models: Sequence[ModelSetup],
    covariance: CovarianceSource,
    request: EditRequest,
) -> Iterator[EditSetup]:
    """Yield a request at some layers, with templates drawn and C found here; nothing is stored.

    The templates are those that a study draws by default with seed 0. C of all layers comes from
    one pass over a corpus, and one is factored at a time.

    Args:
        loaded: the model.
        models: layers and v* settings; the same model.
        covariance: where C comes from.
        request: the edit.

    Raises:
        DatasetError: the corpus cannot be read.
        MomentError: as ``second_moment_solvers``.
    """
    spec = TemplateSpec()
    templates = generate_templates(loaded, spec.kind, spec.lengths, 0).templates
    solvers = second_moment_solvers(loaded, [model.layer for model in models], covariance)
    for model, solver in zip(models, solvers, strict=True):
        yield edit_setup(model, templates, covariance, solver, request)


def edit_setup(
    model: ModelSetup,
    templates: tuple[str, ...],
    covariance: CovarianceSource,
    solver: MomentSolver,
    request: EditRequest,
) -> EditSetup:
    """One request with all that its forecast needs, none of which is stored.

    Args:
        model: layer and v* settings.
        templates: context templates, the bare one first.
        covariance: where C comes from.
        solver: C of the layer, factored.
        request: the edit.
    """
    summary = (
        f"layer {model.layer} ({model.layer_source}), {covariance}, {len(templates)} templates, "
        f"clamp factor {model.values.clamp_factor:g}"
    )
    edits = single_batch("", model, templates, covariance.covariance_id, (request,))
    return EditSetup(edits, solver, summary)


def single_batch(
    results: str,
    model: ModelSetup,
    templates: tuple[str, ...],
    covariance_id: str,
    requests: tuple[EditRequest, ...],
) -> EditJob:
    """Batch of edits that belongs to no study, with all methods.

    Args:
        results: path or URL of a results folder; empty where nothing is stored.
        model: layer and v* settings.
        templates: context templates, the bare one first.
        covariance_id: id of C, which the caller keeps: the batch refers to no file.
        requests: the edits.
    """
    return EditJob(
        results=results,
        model=model,
        methods=tuple(METHODS),
        templates=templates,
        template_set_id=template_set_id_of(model.model_id, templates),
        covariance_id=covariance_id,
        damping=0.0,  # the solver has it
        moment=None,
        requests=requests,
        batch_index=0,
        batch_label="1 of 1",
    )


def forecast_one(
    loaded: LoadedModel,
    name: str,
    setup: EditSetup,
    thresholds: Thresholds,
    geometry: LayerGeometry | None = None,
) -> ForecastReport:
    """Forecast one edit by every method, with verdicts.

    Args:
        loaded: the model.
        name: what to call it.
        setup: the request, with layer, templates and C.
        thresholds: of a calibration.
        geometry: of that layer under that C; computed where left out.

    Raises:
        ModelError: the model cannot take the request.
    """
    if geometry is None:
        geometry = LayerGeometry.of(HookedLayer(loaded, setup.edits.model.layer), setup.solver)
    found = forecast_edits(loaded, geometry, setup.edits)
    if found.unusable:
        raise ModelError(f"{name} cannot take this edit: {found.unusable[0].reason}.")
    (position,) = found.positions
    one = _request_forecast(name, setup, position, found.rows, thresholds)
    return ForecastReport((_basis(name, setup.summary, thresholds),), (one,))


def sweep_one(
    loaded: LoadedModel,
    name: str,
    layers: Sequence[int],
    setups: Iterable[EditSetup],
    thresholds: Thresholds,
) -> ForecastReport:
    """Return the forecast of one edit at some layers by every method, from one forward.

    Args:
        loaded: the model.
        name: what to call it.
        layers: zero-based blocks.
        setups: the request at each of them, with the same templates; taken one at a time.
        thresholds: of a calibration.

    Raises:
        ModelError: the model cannot take the request.
    """
    keys, rewrites, found, basis = [], [], [], ""
    for index, setup in enumerate(setups):
        edits = setup.edits
        if index == 0:
            basis = f"{setup.summary}, and other layers likewise"
            try:
                rewrites = [build_rewrite(loaded.encoder, edits.templates, edits.requests[0])]
            except UnusableTextError as error:
                raise ModelError(f"{name} cannot take this edit: {error}.") from error
            keys = read_layer_keys(loaded, layers, rewrites)
        hooked = HookedLayer(loaded, edits.model.layer)
        with torch.no_grad():
            facts = keys[index].facts(loaded, hooked.layer)
        rows = forecast_rows(edits, rewrites, facts, LayerGeometry.of(hooked, setup.solver))
        position = position_row(edits.model.model_id, rewrites[0])
        found.append(_request_forecast(name, setup, position, rows, thresholds))
    return ForecastReport((_basis(name, basis, thresholds),), tuple(found))


def _basis(name: str, summary: str, thresholds: Thresholds) -> ModelThresholds:
    """Return the basis of the verdicts: the set-up in words, and the thresholds."""
    return ModelThresholds(name, thresholds, f"{summary}; {thresholds.basis}")


def _request_forecast(
    name: str,
    setup: EditSetup,
    position: PositionRow,
    rows: Sequence[ForecastRow],
    thresholds: Thresholds,
) -> RequestForecast:
    """Return the verdicts on one request at one layer."""
    (request,) = setup.edits.requests
    return RequestForecast(
        model=name,
        layer=setup.edits.model.layer,
        subject=request.subject,
        prompt=request.prompt,
        target_new=request.target_new,
        position=position,
        methods=judged(rows, position, thresholds),
    )


def second_moments(
    loaded: LoadedModel, layers: Sequence[int], covariance: CovarianceSource
) -> Sequence[SecondMoment | None]:
    """Second moment C of some layers' keys, measured or read; None for the identity.

    Args:
        loaded: the model.
        layers: zero-based blocks, each once; one pass over a corpus measures C of all.
        covariance: where C comes from.

    Raises:
        MomentError: the corpus has no tokens, or the file holds no C of this model, or of one layer
            where several are asked for.
        DatasetError: the corpus cannot be read.
    """
    if covariance.statistics is not None:
        if len(layers) > 1:
            raise MomentError(
                f"`covariance` {covariance.statistics}: published statistics are of one layer, and "
                f"{len(layers)} were asked for. Give one layer, or a corpus."
            )
        return [read_statistics(covariance.statistics, loaded.widths.d_key)]
    if covariance.spec.is_measured:
        return _measured(loaded, layers, covariance)
    return [None] * len(layers)


def second_moment_solvers(
    loaded: LoadedModel, layers: Sequence[int], covariance: CovarianceSource
) -> Iterator[MomentSolver]:
    """Second moment C of some layers' keys, factored one at a time; as ``second_moments``.

    Raises:
        MomentError: as ``second_moments``, or C has no Cholesky factor.
    """
    for layer, moment in zip(layers, second_moments(loaded, layers, covariance), strict=True):
        yield moment_solver(loaded, layer, moment, covariance)


def moment_solver(
    loaded: LoadedModel, layer: int, moment: SecondMoment | None, covariance: CovarianceSource
) -> MomentSolver:
    """Second moment C of a layer's keys, factored.

    Args:
        loaded: the model.
        layer: zero-based block.
        moment: C; None for the identity.
        covariance: where C comes from, with its damping.

    Raises:
        MomentError: C has no Cholesky factor; the message says what to give.
    """
    if moment is None:
        return MomentSolver(None)
    damping = covariance.spec.damping
    try:
        return factored(moment, damping)
    except MomentError as error:
        advice = "Give another file, or a `damping` such as 0.001"
        if covariance.statistics is None:
            advice = (
                f"It was measured on {moment.n_tokens} tokens: give more (`tokens`), or a "
                "`damping` such as 0.001"
            )
        raise MomentError(
            f"the second moment C of layer {layer} ({loaded.widths.d_key} x "
            f"{loaded.widths.d_key}, damping {damping:g}) is singular. {advice}."
        ) from error


@float32_products()
def _measured(
    loaded: LoadedModel, layers: Sequence[int], covariance: CovarianceSource
) -> list[SecondMoment]:
    """Second moments of some layers, from one pass over a corpus or over the model's samples."""
    spec, corpus = covariance.spec, covariance.corpus
    if corpus is None:
        name = OWN_SAMPLES
        written = reporter(f"{loaded.name}: {name}", "token")
        rows = own_texts(loaded, spec, covariance.seed, written)
    else:
        name = corpus.name
        rows = budgeted_rows(
            loaded.encoder,
            corpus.documents(),
            n_tokens=spec.n_tokens,
            max_length=spec.max_length,
        )
    return moments_of_rows(
        loaded,
        layers,
        rows,
        n_tokens=spec.n_tokens,
        tokens_per_batch=tokens_per_forward(loaded.device, loaded.size(max(layers)), "moment"),
        on_tokens=reporter(f"{loaded.name}: covariance of {name}", "token"),
    )


def usable_rewrites(
    loaded: LoadedModel, templates: Sequence[str], requests: Sequence[EditRequest]
) -> list[Rewrite]:
    """Requests in tokens.

    Args:
        loaded: the model.
        templates: context templates, the bare one first.
        requests: the edits.

    Raises:
        ModelError: the model cannot take one of them; the message says which and why.
    """
    rewrites, unusable = build_rewrites(loaded.encoder, templates, requests)
    if unusable:
        raise ModelError(f"{loaded.source} cannot take this edit: {unusable[0].reason}.")
    return rewrites


@float32_products()
def target_values(loaded: LoadedModel, edits: EditJob) -> TargetValues:
    """Target values v* of some requests, each optimised by itself; one v* serves all methods.

    Args:
        loaded: the job's model.
        edits: requests, templates, layer and settings.

    Returns:
        The requests in their order.

    Raises:
        ModelError: the model cannot take one of the requests.
        DeviceMemoryError: one edit alone does not fit on the device.
    """
    rewrites = usable_rewrites(loaded, edits.templates, edits.requests)
    hooked = HookedLayer(loaded, edits.model.layer)
    report = reporter(f"{loaded.name}: target value v*", "step")
    return optimise_in_groups(hooked, rewrites, edits.model.values, report)


@float32_products()
def perplexity_of(
    loaded: LoadedModel, layer: int, texts: Sequence[str], update: Updates | None
) -> Perplexity:
    """Perplexity of the model on a text set, edited or not.

    Args:
        loaded: the model.
        layer: zero-based block that the edit changes; of several the lowest.
        texts: each with two tokens or more; those that cannot be scored are left out.
        update: the edit, a batch of one; None for the unedited model.

    Raises:
        DatasetError: no text can be scored.
    """
    encoded = encode_texts(loaded.encoder, texts)
    # As a study has it: its unedited model by itself, its edited models in batches.
    budget = tokens_per_forward(
        loaded.device, loaded.size(layer), "answers" if update is None else "evaluation"
    )
    variant = no_update(loaded.widths) if update is None else update
    report = reporter(f"{loaded.name}: perplexity", "text")
    nll = text_nll(HookedLayer(loaded, layer), encoded, variant, budget, report)
    (found,) = perplexities(nll)
    return found


@float32_products()
def probability_of(
    loaded: LoadedModel, layer: int, prompt: str, target: str, update: Updates | None
) -> float:
    """Probability of a target after a prompt: the product over its tokens, teacher-forced.

    Args:
        loaded: the model.
        layer: zero-based block that the edit changes; of several the lowest.
        prompt: complete; opened by a start token, or put into the chat template, as the model's
            policy wants it.
        target: stands after one blank; in a chat template it is the answer.
        update: the edit, a batch of one; None for the unedited model.

    Raises:
        ModelError: the tokenizer or the model's length does not take the text.
    """
    encoder = loaded.encoder
    ids, goal = encoder.prompt_ids(prompt), encoder.target_ids(target)
    encoder.check_length(ids, prompt)
    row = ids + goal[:-1]
    encoder.check_length(row, prompt)
    question = Question("rewrite", 0, "new", 0, len(ids) - 1, goal)
    plan = ProbePlan("", (row,), (question,), None)
    (((answer,),),) = answer_probes(HookedLayer(loaded, layer), [plan], [update])
    return math.exp(-answer.nll * len(goal))


@float32_products()
def probe_scores(
    loaded: LoadedModel,
    layer: int,
    templates: Sequence[str],
    request: EditRequest,
    update: Updates,
    seed: int,
) -> ProbeScores:
    """Efficacy, generalization and locality of one edit, as a study measures them.

    Args:
        loaded: the model.
        layer: zero-based block that the edit changes; of several the lowest.
        templates: context templates, the bare one first.
        request: the edit, with its probes.
        update: a batch of one.
        seed: draws the one test prefix.
    """
    plan = plan_probes(loaded.encoder, templates, request, seed)
    budget = tokens_per_forward(loaded.device, loaded.size(layer), "answers")
    (before,), (after,) = answer_probes(HookedLayer(loaded, layer), [plan], [None, update], budget)
    return score_probes(plan, after, before)


@contextmanager
def added_to_forward(
    loaded: LoadedModel, layer: int, update: Updates, model: nn.Module | None = None
) -> Iterator[nn.Module]:
    """Run a model with an edit in its forward pass; its weights are never touched.

    A forward hook adds dW k to the value of each edited down projection.

    Args:
        loaded: the model that the edit is of.
        layer: zero-based block that the edit changes; of several the lowest.
        update: a batch of one.
        model: another copy of the model, such as the caller's own; the loaded one where left out.

    Raises:
        ModelError: the other copy has no such layer.
    """
    target = loaded.model if model is None else model
    hooks = [
        (_projection_of(loaded, each, target), hook) for each, hook in _hooks_of(layer, update)
    ]
    with ExitStack() as stack:
        for projection, hook in hooks:
            stack.callback(projection.register_forward_hook(hook).remove)
        yield target


_Hook = Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]


def _hooks_of(layer: int, update: Updates) -> Iterator[tuple[int, _Hook]]:
    """Yield the layers that an edit changes, each with the hook that adds its change."""
    if isinstance(update, RankOneUpdates):
        left, right = update.left[0], update.right[0]
        yield layer, lambda _, arguments, value: edited_value(value, arguments[0], left, right)
        return
    for change in update.layers:

        def add(
            _: nn.Module, arguments: tuple[Any, ...], value: Tensor, own: LayerChange = change
        ) -> Tensor:
            return value + own.of_all(widened(arguments[0])).to(value.dtype)

        yield change.layer, add


def _projection_of(loaded: LoadedModel, layer: int, model: nn.Module) -> nn.Module:
    """Return the edited layer's down projection in a copy of the model."""
    row, own = loaded.architecture, loaded.down_projection(layer)
    path = row.down_projection_in_model(layer)
    try:
        found = model.get_submodule(path)
    except AttributeError:
        found = None
    sizes = None if found is None else getattr(getattr(found, "weight", None), "shape", None)
    expected = getattr(own, "weight", torch.empty(0)).shape
    if found is None or sizes != expected:
        raise ModelError(
            f"the edit is of {loaded.source}, whose {path} is {tuple(expected)}; "
            f"{type(model).__name__} has none like it. Give the same model, or leave it out."
        )
    return found
