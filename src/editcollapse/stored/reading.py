"""Read updates back from a results folder: of single edits, and of sequences after a step."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import polars as pl
import torch
from torch import Tensor

from editcollapse.catalog.editors import Restraint, restraint_of
from editcollapse.catalog.methods import METHODS
from editcollapse.editors.restraints import factors_of_rank, restrained
from editcollapse.errors import ArtifactError, ResultsError
from editcollapse.stored.updates import LayerUpdate, StoredUpdate
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.jobs import Manifest
from editcollapse.study.known_updates import KnownEdit, KnownSequence
from editcollapse.study.locks import MANIFESTS

UPDATES = "updates"
"""Kind of the files of single edits' updates."""
WeightOf = Callable[[int], Tensor]
"""Gives the unedited W of a layer, (D, K), such as ``LoadedModel.weight``."""


def read_edit(store: ArtifactStore, known: KnownEdit) -> StoredUpdate:
    """Return the update of a single edit.

    Raises:
        ResultsError: it was of full rank and is not stored.
        ArtifactError: its file is missing or has changed.
    """
    if known.update_digest is None or known.update_row is None:
        raise ResultsError(
            f"the update of edit {known.edit_id[:12]} ({known.method}) is not stored: single edits "
            "of full rank are measured and dropped. Run the request as a sequence of one edit "
            f'([sequence] n_edits = 1, editors = ["{known.method}"]): what a sequence writes is '
            "kept, and can be exported."
        )
    ref = _ref_of(store, UPDATES, known.update_digest)
    tensors, row = store.tensors(ref), known.update_row
    changes: tuple[LayerUpdate, ...]
    if known.method in METHODS:
        name = _name_in(tensors, known.method, ref)
        left, right = tensors[f"left.{name}"][row], tensors[f"right.{name}"][row]
        changes = (LayerUpdate(known.layer, left.double()[:, None], right.double()[None]),)
    else:
        factors = [
            (layer, tensors[f"left.{layer}"][row], tensors[f"right.{layer}"][row])
            for layer in _layers_in(tensors)
        ]
        changes = tuple(
            LayerUpdate(layer, left.double(), right.double()) for layer, left, right in factors
        )
    return StoredUpdate(known.model_id, known.spec, known.label, changes)


@dataclasses.dataclass(frozen=True, slots=True)
class SequenceState:
    """Where a sequence stood after a chunk of steps."""

    step: int
    """The last step of the chunk, from 1."""
    n_edits: int
    """Asked for up to it."""
    states: tuple[ArtifactRef, ...]
    """Files of the sum of updates: the whole sum or nothing, then factors."""


def sequence_states(store: ArtifactStore, sequence_id: str) -> tuple[SequenceState, ...]:
    """Return the steps of a sequence after which its sum of updates was stored, in order.

    They are the ends of its chunks: every checkpoint is one. Whether the files are still there is
    seen when they are read.

    Args:
        store: of the results folder.
        sequence_id: of table ``sequences``.
    """
    found: dict[int, SequenceState] = {}
    for manifest in _manifests_with_states(store):
        steps = _steps_of(store, manifest, sequence_id)
        if steps is None:
            continue
        step, n_edits = steps
        found[step] = SequenceState(step, n_edits, manifest.states)
    return tuple(found[step] for step in sorted(found))


def chosen_state(store: ArtifactStore, known: KnownSequence, step: int | None) -> SequenceState:
    """Return where a sequence stood after a step.

    Args:
        store: of the results folder.
        known: the sequence.
        step: the last step that counts; None for the last one that is stored.

    Raises:
        ResultsError: no state after this step is stored; the message names those that are.
    """
    there = sequence_states(store, known.sequence_id)
    if not there:
        raise ResultsError(
            f"no state of sequence {known.sequence_id[:12]} is stored in {store.results.name}. Run "
            "its study again."
        )
    if step is None:
        return there[-1]
    for each in there:
        if each.step == step:
            return each
    steps = ", ".join(str(each.step) for each in there)
    raise ResultsError(
        f"no state of sequence {known.sequence_id[:12]} after step {step} is stored: there are "
        f"those after steps {steps}. An entry of `checkpoints` in the study file stores one."
    )


def read_sequence(
    store: ArtifactStore,
    known: KnownSequence,
    step: "int | SequenceState | None",
    weights: WeightOf,
) -> StoredUpdate:
    """Return the sum of a sequence's updates after a step, as it was measured: restrained (PRUNE).

    Args:
        store: of the results folder.
        known: the sequence.
        step: the last step that counts, or its state; None for the last one that is stored.
        weights: the unedited weights; asked for only where an editor restrains the sum.

    Raises:
        ResultsError: no state after this step is stored; the message names those that are.
        ArtifactError: a file of it is missing or has changed.
    """
    chosen = step if isinstance(step, SequenceState) else chosen_state(store, known, step)
    changes = summed(store, chosen.states, known.layers)
    restraint = restraint_of(known.editor, known.restraint)
    if restraint != "none":
        changes = tuple(_restrained(each, weights(each.layer), restraint) for each in changes)
    label = f"{known.label} after step {chosen.step}, {chosen.n_edits} edits"
    return StoredUpdate(known.model_id, known.spec, label, changes)


def summed(
    store: ArtifactStore, states: Sequence[ArtifactRef], layers: Sequence[int]
) -> tuple[LayerUpdate, ...]:
    """Return the sum of updates that a sequence's files hold, unrestrained, layer by layer.

    Args:
        store: of the results folder.
        states: the files in order: a later whole sum takes the place of what came before.
        layers: that the sequence edits.

    Raises:
        ArtifactError: a file is missing or has changed, or holds nothing of a layer.
    """
    parts: dict[int, list[LayerUpdate]] = {layer: [] for layer in layers}
    for ref in states:
        tensors = store.tensors(ref)
        for layer, own in parts.items():
            if f"total.{layer}" in tensors:
                own[:] = [LayerUpdate(layer, tensors[f"total.{layer}"].double(), None)]
            if f"left.{layer}" in tensors:
                left, right = tensors[f"left.{layer}"], tensors[f"right.{layer}"]
                own.append(LayerUpdate(layer, left.double(), right.double()))
    return tuple(_joined(own) for own in parts.values() if own)


def _joined(parts: Sequence[LayerUpdate]) -> LayerUpdate:
    """Return the sum of updates of one layer: as factors where all are."""
    rights = [each.right for each in parts if each.right is not None]
    if len(rights) == len(parts):
        return LayerUpdate(
            parts[0].layer, torch.cat([each.left for each in parts], dim=1), torch.cat(rights)
        )
    total = parts[0].matrix.clone()
    for each in parts[1:]:
        total += each.matrix
    return LayerUpdate(parts[0].layer, total, None)


def _restrained(change: LayerUpdate, weight: Tensor, restraint: Restraint) -> LayerUpdate:
    """Return a layer's sum as its editor takes it home; factors stay factors of that rank."""
    total = change.matrix
    wide = weight.detach().to("cpu", torch.float64)
    drawn = restrained(total, float(torch.linalg.matrix_norm(wide, ord=2)), restraint)
    if drawn is total:
        return change
    if change.rank is None:
        return LayerUpdate(change.layer, drawn, None)
    # Only singular values have changed: the rank is that of the factors.
    return LayerUpdate(change.layer, *factors_of_rank(drawn, change.rank))


def _ref_of(store: ArtifactStore, kind: str, digest: str) -> ArtifactRef:
    """Return the reference to a file of tensors that the database names by its digest alone.

    Raises:
        ArtifactError: there is no such file.
    """
    path = f"artifacts/{kind}/{digest}.safetensors"
    try:
        n_bytes = store.results.fetch(path).stat().st_size
    except OSError as error:
        raise ArtifactError(
            f"{path} below {store.results.name} is missing: editcollapse gc may have taken it. Run "
            "the study again: it is recomputed."
        ) from error
    return ArtifactRef(digest=digest, path=path, n_bytes=n_bytes)


def _name_in(tensors: dict[str, Tensor], method: str, ref: ArtifactRef) -> str:
    """Return the method under which a file holds a method's update: methods of one rule share it.

    Raises:
        ArtifactError: it holds none.
    """
    if f"left.{method}" in tensors:
        return method
    rule = METHODS[method].rule
    for name, row in METHODS.items():
        if row.rule == rule and f"left.{name}" in tensors:
            return name
    raise ArtifactError(f"{ref.path} holds no update of {method}. Run the study again.")


def _layers_in(tensors: dict[str, Tensor]) -> list[int]:
    """Return the layers of a file of joint edits."""
    return sorted(int(name.removeprefix("left.")) for name in tensors if name.startswith("left."))


def _manifests_with_states(store: ArtifactStore) -> Iterator[Manifest]:
    """Yield the manifests of sequences' chunks."""
    for path in store.results.list(MANIFESTS):
        try:
            text = store.results.fetch(path).read_text(encoding="utf-8")
            # Most manifests are of other jobs: what has no states is not parsed.
            if '"states":[]' in text or '"states"' not in text:
                continue
            yield Manifest.model_validate_json(text)
        except (OSError, ValueError):
            continue


def _steps_of(store: ArtifactStore, manifest: Manifest, sequence_id: str) -> tuple[int, int] | None:
    """Return the last step of a chunk, and the edits up to it; None where it is another sequence's.

    A step that a guard refused is none of the sum's, and the sum after it is that before it.
    """
    refs = [ref for ref in manifest.rows if ref.table == "sequence_steps"]
    if not refs:
        return None
    try:
        frame = store.frame(refs[0])
    except ArtifactError:
        return None
    own = frame.filter(pl.col("sequence_id") == sequence_id).sort("step")
    if own.is_empty():
        return None
    return int(own["step"][-1]), int(own["n_edits"][-1])
