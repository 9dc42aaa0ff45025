"""Row types of sequences: one model edited many times, step by step, and measured on the way.

None means not measured. ``inf`` and ``nan`` are measurements and are kept.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class EditorSettingsRow:
    """Settings of an editor beyond rank one on a model."""

    settings_id: str
    editor: str
    layers: list[int]
    second_moment_weight: float | None
    settings: str
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class SequenceRow:
    """One model, one editor, one order of the requests."""

    sequence_id: str
    model_id: str
    editor: str
    layers: list[int]
    settings_id: str
    order_seed: int
    edits_per_step: int
    evaluation_id: str
    template_set_id: str
    guard_policy: str | None
    guard_bound: float | None
    restraint: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class StudySequenceRow:
    """Membership: this sequence is part of this study, which calls model and editor so."""

    study_id: str
    sequence_id: str
    model: str
    editor: str
    n_edits: int


@dataclasses.dataclass(frozen=True, slots=True)
class SequenceStepRow:
    """One step of a sequence: what was written, and how far the weights are from where they were.

    All norms are Frobenius norms over all edited layers together.
    """

    sequence_id: str
    step: int
    n_edits: int
    decision: str
    update_norm: float
    drift_norm: float
    relative_drift: float
    text_change: float
    loss: float | None
    target_probability: float | None
    n_passes: int
    is_finite: bool


@dataclasses.dataclass(frozen=True, slots=True)
class SequenceLayerRow:
    """One edited layer at a checkpoint: the sum of all updates so far."""

    sequence_id: str
    step: int
    layer: int
    drift_norm: float
    relative_drift: float
    spectral_norm: float
    relative_spectral_norm: float
    text_change: float
    kept_dimensions: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class SequenceCheckpointRow:
    """Perplexity of the edited model at a checkpoint."""

    sequence_id: str
    step: int
    n_edits: int
    perplexity: float
    perplexity_median: float
    perplexity_max: float
    nll_mean: float
    n_texts: int


@dataclasses.dataclass(frozen=True, slots=True)
class SequenceScoreRow:
    """What the model answers to one edit's probes: right after its step, or at a later checkpoint.

    Scores are those of table ``measurements``.
    """

    sequence_id: str
    step: int
    request_id: str
    moment: str
    edited_at: int
    efficacy: float
    efficacy_prefix_mean: float | None
    generalization: float | None
    locality: float | None
    efficacy_score: float | None
    paraphrase_score: float | None
    neighborhood_score: float | None
    target_new_nll: float
