"""Downstream jobs: one task, asked of one model, edited or not; and which edits are asked.

Neither torch nor lm_eval is loaded here.
"""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from editcollapse.config.spec import ModelSpec
from editcollapse.data.harness_tasks import HarnessTask
from editcollapse.errors import StudyError
from editcollapse.fingerprints import digest, unit_key
from editcollapse.models.files import digest_model, locate_model
from editcollapse.runtime.environment import AskedFor, ProvenanceClock
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.jobs import Job
from editcollapse.study.known_updates import KnownEdit, KnownSequence

Kind = Literal["unedited", "edit", "sequence", "exported"]
_TASKS = "tasks"
_BINS = 5
"""Strata of a sample: equal widths of the logarithm of the perplexity."""
_MAX_NAME = 80


class AskedTask(BaseModel):
    """A task as a job has it."""

    model_config = ConfigDict(frozen=True)

    asked: str
    """As the user named it; not part of any key."""
    name: str
    content: ArtifactRef | None
    """Of a local task, its YAML and data; None for one of lm_eval's own."""

    @property
    def digest(self) -> str | None:
        """Digest of a local task's YAML and data."""
        return None if self.content is None else self.content.digest


def stored_task(store: ArtifactStore, asked: str, task: HarnessTask) -> AskedTask:
    """Return a task as jobs have it; a local one's YAML and data are stored with the results.

    Raises:
        ResultsError: the results folder cannot be written.
    """
    content = None if task.content is None else store.put_json(_TASKS, task.content)
    # A path is this machine's.
    return AskedTask(asked=Path(asked).name, name=task.name, content=content)


class DownstreamModel(BaseModel):
    """A model that is asked: unedited, under a stored update, or exported."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    spec: ModelSpec
    model_id: str
    """Of the unedited model; of an exported one, its own."""
    edit: KnownEdit | None = None
    sequence: KnownSequence | None = None
    step: int | None = None
    """The sequence's last step that counts."""

    @property
    def label(self) -> str:
        """For people: what was done to it."""
        if self.edit is not None:
            return self.edit.label
        if self.sequence is not None:
            return f"{self.sequence.label} after step {self.step}"
        return self.kind if self.kind == "unedited" else f"exported as {self.spec.name}"

    @property
    def content(self) -> tuple[str | int | None, ...]:
        """What the weights depend on."""
        if self.edit is not None:
            edit = self.edit
            return (self.model_id, "edit", edit.edit_id, edit.update_digest, edit.update_row)
        if self.sequence is not None:
            return (self.model_id, "sequence", self.sequence.sequence_id, self.step)
        return (self.model_id, self.kind)


class DownstreamJob(Job):
    """Ask one task of one model."""

    model: DownstreamModel
    task: AskedTask
    limit: int | None
    n_shot: int | None
    harness_version: str

    @property
    def _content(self) -> tuple[object, ...]:
        task = (self.task.name, self.task.digest, self.limit, self.n_shot, self.harness_version)
        return (self.model.content, task)

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key("downstream", *self._content)

    @property
    def score_set_id(self) -> str:
        """Id of the rows that it leaves."""
        return digest("downstream", *self._content)

    @property
    def label(self) -> str:
        """For people: the task and the model."""
        return f"{self.task.name} of {self.model.spec.name}, {self.model.label}"

    def provenance(self, seed: int) -> ProvenanceClock:
        """Return the clock of the job's provenance, started."""
        asker = self.asked_by
        asked_for = AskedFor(
            study=None if asker is None else asker.study,
            study_id=None if asker is None else asker.study_id,
            model=self.model.spec.name,
            model_id=self.model.model_id,
        )
        return ProvenanceClock(self.key, "downstream", seed, asked_for)


def exported_model(source: str) -> DownstreamModel:
    """Return an exported model, identified by its content.

    Args:
        source: folder or hub id.

    Raises:
        ModelError: there is none, or it cannot be used.
    """
    folder = Path(source)
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in folder.name)[:_MAX_NAME]
    spec = ModelSpec(
        name=name or "model", source=str(folder.resolve()) if folder.exists() else source
    )
    return DownstreamModel(
        kind="exported", spec=spec, model_id=digest_model(locate_model(spec.source), spec).model_id
    )


def chosen_edits(
    edits: Sequence[KnownEdit], n_worst: int, n_sampled: int, named: Sequence[str], seed: int
) -> tuple[KnownEdit, ...]:
    """Return which edits of one model are asked, the most damaging first.

    The largest perplexities, nan before inf before any number; of the others a sample that is
    spread over the logarithm of the perplexity ratio: as many from each of ``_BINS`` equal widths
    of it as there are, what one lacks from the others, and what is no number in a bin of its own;
    and those that are named.

    Args:
        edits: of one model, measured or not; what was not, and an update that is not stored, is
            taken by name alone.
        n_worst: how many of the worst.
        n_sampled: how many of the others.
        named: ids, or how they begin.
        seed: of the sample.
    """
    known = {each.edit_id: each for each in edits}
    ranked = sorted(
        (each for each in known.values() if each.perplexity_ratio is not None and _is_stored(each)),
        key=_rank,
    )
    worst, others = ranked[:n_worst], ranked[n_worst:]
    kept = {each.edit_id for each in (*worst, *_spread(others, n_sampled, seed))}
    kept |= {each for each in known if any(each.startswith(name) for name in named)}
    return tuple(sorted((known[each] for each in kept), key=_rank))


def check_named(edits: Sequence[KnownEdit], named: Sequence[str], study: str) -> None:
    """Raise StudyError where a name is no edit's, or of several."""
    for name in named:
        found = [each.edit_id for each in edits if each.edit_id.startswith(name)]
        if len(found) != 1:
            many = f"{len(found)} edits of study {study!r} have ids that begin with {name!r}"
            none = f"no edit of study {study!r} has an id that begins with {name!r}"
            raise StudyError(f"{many if found else none}. View edit_outcomes has their ids.")


def _is_stored(edit: KnownEdit) -> bool:
    return edit.update_digest is not None and edit.update_row is not None


def _rank(edit: KnownEdit) -> tuple[int, float, str]:
    """Return the sort key of edits, the most damaging first; what was not measured comes last."""
    ratio = edit.perplexity_ratio
    if ratio is None:
        return (2, 0.0, edit.edit_id)
    if math.isnan(ratio):
        return (0, 0.0, edit.edit_id)
    return (1, -ratio, edit.edit_id)


def _spread(edits: Sequence[KnownEdit], n: int, seed: int) -> list[KnownEdit]:
    """Return a sample of measured edits, stratified by the logarithm of their perplexity ratio."""
    draw = random.Random(seed)
    bins = [draw.sample(each, len(each)) for each in _strata(edits)]
    found: list[KnownEdit] = []
    while len(found) < n and any(bins):  # one of each in turn: what is scarce comes whole
        for each in bins:
            if each and len(found) < n:
                found.append(each.pop())
    return found


def _strata(edits: Sequence[KnownEdit]) -> list[list[KnownEdit]]:
    """Return edits by equal widths of the logarithm of their ratio, the largest first."""
    logs = {
        each.edit_id: math.log(each.perplexity_ratio)
        for each in edits
        if each.perplexity_ratio is not None and 0 < each.perplexity_ratio < math.inf
    }
    bins: list[list[KnownEdit]] = [[] for _ in range(_BINS + 1)]
    low, high = min(logs.values(), default=0.0), max(logs.values(), default=0.0)
    for each in sorted(edits, key=_rank):
        place = 0  # inf and nan
        if each.edit_id in logs:
            share = (logs[each.edit_id] - low) / (high - low) if high > low else 0.0
            place = _BINS - min(_BINS - 1, int(share * _BINS))
        bins[place].append(each)
    return bins
