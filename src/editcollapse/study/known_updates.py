"""What the database of a results folder tells of an update that is stored: enough to read it back.

Row files and tensors are named by digests, models by ids: where a model lies on this machine is
nothing that results know, so its specification has the bare name of a folder until it is told.
"""

import dataclasses

from editcollapse.catalog.editors import Restraint
from editcollapse.config.spec import ModelSpec


@dataclasses.dataclass(frozen=True, slots=True)
class KnownEdit:
    """One single edit, of any editor, with where its update lies."""

    edit_id: str
    model_id: str
    spec: ModelSpec
    """How the model is loaded; the source of a local one is its folder's or file's name."""
    family: str
    """Of the model: a row of the architecture table."""
    method: str
    layer: int
    """The last one, of an editor of several."""
    update_digest: str | None
    """Of the file of its batch's updates; None where the update was of full rank and not kept."""
    update_row: int | None
    """Place in that file."""
    request_id: str
    case_id: str | None
    """The dataset's own name of the record."""
    subject: str
    prompt: str
    target_new: str
    study: str
    """Name of the newest study that has it."""
    study_id: str
    perplexity_ratio: float | None
    """None where it has not been measured."""
    collapsed: bool | None
    """By the default rule."""

    @property
    def label(self) -> str:
        """For people: what was edited, and by what."""
        prompt = self.prompt.replace("{}", self.subject)
        return f"{prompt} -> {self.target_new}, {self.method}, edit {self.edit_id[:8]}"


@dataclasses.dataclass(frozen=True, slots=True)
class KnownSequence:
    """One sequence of edits; where it stood after a step is read from its chunks' manifests."""

    sequence_id: str
    model_id: str
    spec: ModelSpec
    """As ``KnownEdit.spec``."""
    family: str
    editor: str
    layers: tuple[int, ...]
    order_seed: int
    edits_per_step: int
    restraint: Restraint | None
    """Of the study; None where there is no more than the editor's own."""
    study: str
    study_id: str
    n_edits: int | None
    """Asked for so far; None where no step is recorded."""

    @property
    def label(self) -> str:
        """For people: what edits, and which sequence."""
        return f"{self.editor}, sequence {self.sequence_id[:8]}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What was measured of a model with an update; None where it was not."""

    text_set: str | None = None
    """What perplexity is of."""
    perplexity_before: float | None = None
    perplexity: float | None = None
    collapsed: bool | None = None
    """By the default rule."""
    efficacy: float | None = None
    generalization: float | None = None
    locality: float | None = None
    text_change: float | None = None
    """Largest change of an edited layer's output on text, relative."""
    relative_update_norm: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One setting of an update, as people read it."""

    name: str
    value: str


@dataclasses.dataclass(frozen=True, slots=True)
class WrittenFact:
    """One of several facts that were written at once."""

    subject: str
    prompt: str
    target_new: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFacts:
    """What the card of an exported update says of it."""

    method: str
    """Its name in the catalog."""
    layers: tuple[int, ...]
    subject: str | None = None
    """Of a single edit, as prompt and target; None for a sequence, and for several at once."""
    prompt: str | None = None
    target_new: str | None = None
    target_true: str | None = None
    n_edits: int = 1
    at_once: tuple[WrittenFact, ...] = ()
    """The facts of several edits that were made at once; empty where they came one after the
    other."""
    step: int | None = None
    """Of a sequence: the last one that counts."""
    study: str | None = None
    """Name of the study; None where the edit is of none."""
    settings: tuple[Setting, ...] = ()
    damage: Damage = Damage()
    verdict: str | None = None
    """Of the forecast, before the edit was made; None where none was made."""
    text_change_bound: float | None = None
    """The largest text change that was foreseen."""
