"""What the database of a results folder tells of an update that is stored: enough to read it back.

Row files and tensors are named by digests, models by ids: where a model lies on this machine is
nothing that results know, so its specification has the bare name of a folder until it is told.
"""

import dataclasses

from editcollapse.config.spec import ModelSpec


@dataclasses.dataclass(frozen=True, slots=True)
class KnownEdit:
    """One single edit, of any editor, with where its update lies."""

    edit_id: str
    model_id: str
    spec: ModelSpec
    """How the model is loaded; the source of a local one is its folder's or file's name."""
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
    editor: str
    layers: tuple[int, ...]
    order_seed: int
    edits_per_step: int
    study: str
    study_id: str
    n_edits: int | None
    """Asked for so far; None where no step is recorded."""

    @property
    def label(self) -> str:
        """For people: what edits, and which sequence."""
        return f"{self.editor}, sequence {self.sequence_id[:8]}"
