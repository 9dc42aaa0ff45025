"""Our side: the very functions that the tasks call, with the jobs that a study gives them."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.cases import Case
from editcollapse.catalog.editors import JointEditor, restraint_of
from editcollapse.covariance.second_moment import measure_moment
from editcollapse.data.requests import EditRequest
from editcollapse.editors.joint import mean_length_of, value_lengths
from editcollapse.editors.running_sum import LayerSum, edited_weight, with_state, writing
from editcollapse.evaluation.perplexity import EncodedTexts, text_nll
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.keys import read_keys
from editcollapse.forward.rewrites import Rewrite, build_rewrite, build_rewrites
from editcollapse.rome.updates import RankOneUpdates
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.memory import Work
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactRef
from editcollapse.study.jobs import EditJob, ForecastJob
from editcollapse.study.sequence_jobs import EditorInputs, SequenceChunkJob
from editcollapse.units.edit import edit_batch, stored_updates
from editcollapse.units.editors import editor_on_model, find_targets, last_layer
from editcollapse.units.forecast import forecast_batch
from editcollapse.units.sequence import _Chunk


def edit_job(case: Case, requests: Sequence[EditRequest], methods: tuple[str, ...]) -> EditJob:
    """Return the job of one batch, as ``plan`` makes it."""
    return EditJob(
        results=str(case.results),
        model=case.setup,
        methods=methods,
        templates=case.inputs.templates,
        template_set_id="benchmark",
        covariance_id=f"benchmark {case.moment.digest}",
        damping=0.0,
        moment=case.moment,
        requests=tuple(requests),
        batch_index=0,
        batch_label="benchmark",
    )


def rewrite(case: Case, request: EditRequest) -> Rewrite:
    """Return a request in tokens: the rows that both sides edit."""
    return build_rewrite(case.loaded.encoder, case.inputs.templates, request)


def edit(
    case: Case, requests: Sequence[EditRequest], methods: tuple[str, ...]
) -> dict[str, RankOneUpdates]:
    """Return the updates of a batch by method: the unit ``edit_batch``, its files included."""
    done = edit_batch(edit_job(case, requests, methods))
    assert not done.unusable, done.unusable
    assert done.tensors is not None
    return stored_updates(case.store, done.tensors)


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """Where a sequence stands after a chunk."""

    states: tuple[ArtifactRef, ...] = ()
    rank: int = 0
    n_steps: int = 0
    n_passes: int = 0
    """Of z* or fine-tuning, all steps together."""


@float32_products()
def chunk(
    case: Case, inputs: EditorInputs, steps: Sequence[Sequence[EditRequest]], before: Standing
) -> Standing:
    """Make a chunk's steps: the unit ``sequence_chunk`` without probes and perplexity.

    Reading the state before and writing the state after are part of it.

    Args:
        case: the model, which is unedited again afterwards.
        inputs: of the editor.
        steps: the facts of each.
        before: what the chunk before has left.
    """
    job = SequenceChunkJob(
        results=str(case.results),
        inputs=inputs,
        sequence_id="benchmark",
        predecessor="",
        first_step=before.n_steps + 1,
        steps=tuple(tuple(step) for step in steps),
        n_before=before.n_steps * len(steps[0]),
        is_checkpoint=False,
        sample=(),
        measured=frozenset(),  # nothing is asked
        states=before.states,
        rank=before.rank,
        safe_states=(),
        safe_rank=0,
        texts=case.moment,  # never read without a checkpoint
        evaluation_id="benchmark",
        seed=0,
        guard=None,
        restraint=restraint_of(inputs.editor.name, None),
        order_label="benchmark",
    )
    made = _Chunk(case.store, case.loaded, job)
    layers = inputs.editor.layers(inputs.model)
    with writing({each: case.loaded.weight(each) for each in layers}) as written:
        made.run(written, None)
    assert not made.unusable, made.unusable
    n_passes = before.n_passes + sum(row.n_passes for row in made.rows.steps)
    return Standing(made.stored(), made.rank, before.n_steps + len(steps), n_passes)


def totals(case: Case, inputs: EditorInputs, standing: Standing) -> dict[int, Tensor]:
    """Return the sum of a sequence's updates, (D, K) float64 by layer, as it is measured."""
    row = inputs.editor.row
    restraint = row.restraint if isinstance(row, JointEditor) else "none"
    found: dict[int, Tensor] = {}
    for layer, scale in editor_on_model(case.store, case.loaded, inputs).scales.items():
        total = torch.zeros_like(scale.weight)
        for ref in standing.states:
            total = with_state(total, layer, case.store.tensors(ref))
        found[layer] = edited_weight(LayerSum(scale, total), restraint) - scale.weight
    return found


def mean_length(case: Case, inputs: EditorInputs, requests: Sequence[EditRequest]) -> float:
    """Return NAS's mean length of a target value over some facts, on the unedited model."""
    settings = inputs.editor.joint
    assert settings is not None
    rewrites, _ = build_rewrites(case.loaded.encoder, inputs.templates, requests)
    found = find_targets(case.loaded, rewrites, inputs.editor.targets)
    lengths = value_lengths(last_layer(case.loaded, settings), rewrites, found.delta)
    return mean_length_of(lengths, settings.norm_quantile)


def keys(case: Case, requests: Sequence[EditRequest]) -> tuple[Tensor, Tensor]:
    """Return the bare and the prefixed key of each subject, (B, K) float64 on the CPU each."""
    rewrites, _ = build_rewrites(case.loaded.encoder, case.inputs.templates, requests)
    found = read_keys(HookedLayer(case.loaded, case.layer), rewrites, _budget(case, "evaluation"))
    return found.bare_key.cpu().double(), found.prefixed_key.cpu().double()


def forecast(case: Case, requests: Sequence[EditRequest]) -> int:
    """Forecast a batch by every method, the unit ``forecast_batch``; return how many requests."""
    done = forecast_batch(ForecastJob.of(edit_job(case, requests, ("rome",))))
    assert not done.unusable, done.unusable
    return len(requests)


def measure(case: Case, updates: RankOneUpdates, texts: EncodedTexts) -> Tensor:
    """Return the mean token NLL of every text under every edited model, float64 (E, N), nats."""
    hooked = HookedLayer(case.loaded, case.layer)
    return text_nll(hooked, texts, updates, _budget(case, "evaluation"))


def moment(case: Case, documents: Sequence[str], n_tokens: int) -> Tensor:
    """Return C over the first tokens of some documents, (K, K) float64 on the CPU."""
    found = measure_moment(
        case.loaded,
        case.layer,
        documents,
        n_tokens=n_tokens,
        max_length=case.loaded.encoder.max_length,
        tokens_per_batch=_budget(case, "moment"),
    )
    assert found.n_tokens == n_tokens
    return found.matrix


def _budget(case: Case, work: Work) -> int:
    """Return the tokens of one forward, as the units choose them."""
    return tokens_per_forward(case.loaded.device, case.loaded.size(case.layer), work)
