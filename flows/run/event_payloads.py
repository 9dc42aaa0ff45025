"""What events say: the fields of their payloads, as ``flows.run.events`` emits them.

A field without a word of its own is the column of the same name of ``edit_outcomes``,
``guard_outcomes``, ``sequence_outcomes`` or ``check_outcomes``.
"""

import dataclasses

from editcollapse.rows.collapse_rule import CollapseRule


@dataclasses.dataclass(frozen=True, slots=True)
class AboutRun:
    """The study and model that an event is about."""

    study: str
    study_id: str
    model: str
    model_id: str
    method: str


@dataclasses.dataclass(frozen=True, slots=True)
class AboutRequest:
    """The request of an edit, by texts that show control characters."""

    request_id: str
    case_id: str | None
    """The record's own name; None where it has none, and behind a text that a guard has put."""
    record_index: int | None
    subject: str
    prompt: str
    target_new: str


@dataclasses.dataclass(frozen=True, slots=True)
class CollapsedEdit:
    """Payload of an edit that has collapsed its model. Perplexities are by the rule's measure."""

    about: AboutRun
    request: AboutRequest
    edit_id: str
    layer: int
    perplexity: float
    perplexity_before: float
    perplexity_ratio: float
    denominator: float | None
    rho: float | None
    relative_update_norm: float
    text_change: float | None
    rule: CollapseRule


@dataclasses.dataclass(frozen=True, slots=True)
class RefusedEdit:
    """Payload of an edit that a guard has refused for its forecast."""

    about: AboutRun
    request: AboutRequest
    edit_id: str
    layer: int
    verdict: str
    text_change_bound: float
    denominator: float
    rho: float
    at_risk_at: float
    collapse_at: float
    policy: str
    acts_at: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class CollapsedSequence:
    """Payload of a sequence at the first checkpoint at which its model has collapsed."""

    about: AboutRun
    sequence_id: str
    order_seed: int
    edits_per_step: int
    n_edits: int
    """Edits at that checkpoint."""
    last_alive: int
    """Edits at the checkpoint before; 0 where there is none."""
    perplexity: float
    perplexity_before: float
    perplexity_ratio: float
    rule: CollapseRule


@dataclasses.dataclass(frozen=True, slots=True)
class RefusedStep:
    """Payload of a step of a sequence that its guard has undone."""

    about: AboutRun
    sequence_id: str
    order_seed: int
    step: int
    n_edits: int
    """Edits asked for so far."""
    edits_per_step: int
    decision: str
    guard_bound: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Counted:
    """So many of one model and method."""

    model: str
    method: str
    n: int


@dataclasses.dataclass(frozen=True, slots=True)
class ToldTogether:
    """Payload of an event that tells of many: those after the single ones, or after the last."""

    study: str
    study_id: str
    n: int
    n_so_far: int
    """All of the kind in this run, single ones included."""
    counts: tuple[Counted, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class FinishedStudy:
    """Payload of a study's end."""

    study: str
    study_id: str
    kind: str
    """What it was run as: ``studies.kind``."""
    headline: str
    report: str
    n_edits: int
    n_measured: int
    n_collapsed: int
    n_sequences_collapsed: int
    n_jobs: int
    n_computed: int
    """Of the jobs, those that were not cached."""
    rule: CollapseRule
    collapses: tuple[Counted, ...]
    """Collapsed edits by model and method."""


@dataclasses.dataclass(frozen=True, slots=True)
class CollapsedCheck:
    """Payload of a check that has found an edited model collapsed."""

    name: str
    """What the edited model is called."""
    base: str
    check_id: str
    kind: str
    """model, adapter or delta."""
    n_changed: int
    """Tensors that differ."""
    text_change: float | None
    perplexity: float | None
    perplexity_before: float | None
    perplexity_ratio: float | None
    why: str
    """A sentence."""
    rule: CollapseRule
