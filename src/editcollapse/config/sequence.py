"""The tables of editors and of sequences in a study file."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from editcollapse.catalog.editors import EditorName, Restraint
from editcollapse.config.base import Count, Spec

_Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
CHECKPOINTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)


class SequenceGuardSpec(Spec):
    """What is done with a step after which the text change would be above a bound.

    The text change is known without any evaluation: the largest over the edited layers of
    sqrt(tr(D C DT) / tr(W C WT)), D the sum of all updates so far.
    """

    policy: Literal["stop", "skip", "roll back"]
    """`stop`: the sequence ends before the step. `skip`: the step is left out. `roll back`: the
    weights go back to the last checkpoint at which the model was alive, and the step is left
    out."""
    text_change: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """The bound: 1 is as much as the unedited layer itself writes, in the root mean square. Below
    it no sequence of docs/sequences.md has doubled the perplexity."""


class SequenceSpec(Spec):
    """Editing one model many times, with measurements on the way."""

    editors: tuple[EditorName, ...]
    """Who edits; each makes sequences of its own."""
    n_edits: Count | None = None
    """Edits of a sequence; where left out, all requests of the dataset."""
    edits_per_step: tuple[Count, ...] = (1,)
    """Facts that are edited at once in a step; each number makes sequences of its own. Rank-one
    methods edit a step's facts one after the other."""
    restraints: tuple[Restraint, ...] = ("none",)
    """What the measured model has of the sum of updates, whoever edits: singular values above the
    unedited matrix's largest are drawn in (PRUNE), by their logarithm to base e, 2, 1.5 or 1.2, or
    half way; each restraint makes sequences of its own. With `none`, PRUNE itself has `log`."""
    orders: Count = 3
    """Seeded orders of the requests; intervals are over these."""
    checkpoints: tuple[Count, ...] = CHECKPOINTS
    """Numbers of edits after which the model is measured; and after the last one."""
    chunk_steps: Count = 25
    """Steps of one cached task at most: what a killed run loses. A checkpoint ends a task too."""
    final_sample: Count = 100
    """Edits at most whose success is measured again at a checkpoint."""
    stop_after_collapse: bool = False
    """End a sequence at the first checkpoint where the model has collapsed by the study's rule."""
    until_collapse: bool = False
    """Take all requests, and end a sequence at the first checkpoint where it has collapsed."""
    guard: SequenceGuardSpec | None = None
    """What is done with steps that change text too much; where left out, they are made."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "SequenceSpec":
        for name in ("editors", "edits_per_step", "restraints", "checkpoints"):
            given = getattr(self, name)
            if not given or len(set(given)) != len(given):
                raise ValueError(f"`{name}` must be distinct and at least one, got {given}")
        if list(self.checkpoints) != sorted(self.checkpoints):
            raise ValueError(f"`checkpoints` must ascend, got {self.checkpoints}")
        if self.until_collapse and self.n_edits is not None:
            raise ValueError("`until_collapse` takes all requests: leave `n_edits` out")
        return self

    @property
    def ends_at_collapse(self) -> bool:
        """Whether nothing is edited after a collapse."""
        return self.stop_after_collapse or self.until_collapse


class EditorSpec(Spec):
    """Overrides of one editor's settings; what is left out is published, or by rule."""

    name: EditorName
    """Whose they are: any but a rank-one method, which takes `[value]` and each model's `layer`."""
    model: str | None = None
    """Only for this model of the study; for all where left out."""
    layers: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Zero-based blocks in ascending order; fine-tuning takes one."""
    second_moment_weight: _Weight | None = None
    """lambda: weight of C in the normal equation."""
    identity_weight: _Weight | None = None
    """lambda_n: weight of the identity beside it."""
    nullspace_threshold: Annotated[float, Field(gt=0)] | None = None
    """AlphaEdit, NAS: eigenvalues of C below it are kept; it depends on the scale of the keys."""
    ridge: Annotated[float, Field(gt=0)] | None = None
    """AlphaEdit, NAS: L2."""
    mask_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """RECT: share of the entries that are kept."""
    predicted_passes: Count | None = None
    """ENCORE: passes with a predicted target after which z* stops."""
    steps: Count | None = None
    """Forward passes of z* at most."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Adam's, of z* or of fine-tuning."""
    weight_decay: _Weight | None = None
    """Weight of the norm of delta in z*'s loss."""
    kl_factor: _Weight | None = None
    """Weight of the KL term in z*'s loss."""
    clamp_factor: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of delta in units of what z* replaces."""
    epochs: Count | None = None
    """Fine-tuning: passes over a step's facts at most."""
    norm_bound: Annotated[float, Field(gt=0)] | None = None
    """FT-L: how far an entry may go from the unedited one."""
    batch_size: Count | None = None
    """Fine-tuning: facts of a mini-batch."""

    @model_validator(mode="after")
    def _ascends(self) -> "EditorSpec":
        if self.layers is not None and (
            not self.layers or list(self.layers) != sorted(set(self.layers))
        ):
            raise ValueError(f"`layers` must ascend and be at least one, got {self.layers}")
        return self
