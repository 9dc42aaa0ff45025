"""Row types: one frozen dataclass for each table that a study fills.

The column comments in the storage package's schema give each field's meaning and unit; a test holds
the two lists equal. None means not measured. ``inf`` and ``nan`` are measurements and are kept.
"""

import dataclasses

from editcollapse.rows.checks import CheckNameRow, CheckRow, CheckScoreRow, CheckTensorRow
from editcollapse.rows.downstream import DownstreamScoreRow
from editcollapse.rows.generation import (
    GeneratedAnswerRow,
    GenerationSettingsRow,
    JudgedAnswerRow,
    JudgeRow,
)
from editcollapse.rows.other import (
    AnatomyFindingRow,
    AnatomyRow,
    ContinuationRow,
    GuardDecisionRow,
    KeyPointRow,
    PositionProfileRow,
)
from editcollapse.rows.sequences import (
    EditorSettingsRow,
    SequenceCheckpointRow,
    SequenceLayerRow,
    SequenceRow,
    SequenceScoreRow,
    SequenceStepRow,
    StudySequenceRow,
)
from editcollapse.rows.tuning import TuningFactRow, TuningTrialRow


@dataclasses.dataclass(frozen=True, slots=True)
class StudyRow:
    """A declared grid of models, methods and requests."""

    study_id: str
    name: str
    description: str
    dataset_id: str
    evaluation_id: str
    seed: int
    numerics: int
    settings: str


@dataclasses.dataclass(frozen=True, slots=True)
class StudyEditRow:
    """Membership: this edit is part of this study, measured by the study's evaluation."""

    study_id: str
    edit_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class StudyModelRow:
    """What a study calls one of its models."""

    study_id: str
    model_id: str
    layer: int
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class ModelRow:
    """A model as loaded, with its tokenizer and its start-token policy."""

    model_id: str
    source: str
    family: str
    fingerprint: str
    tokenizer_digest: str
    dtype: str
    start_token: str | None
    n_layers: int
    d_model: int
    d_key: int
    n_parameters: int
    n_vocabulary: int
    quantization: str | None = None
    chat_template: bool | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetRow:
    """A file of edit requests."""

    dataset_id: str
    name: str
    schema_name: str
    n_records: int
    n_requests: int
    n_rejected: int


@dataclasses.dataclass(frozen=True, slots=True)
class RejectionRow:
    """A record or an edit that could not be used; ``model_id`` is empty where no model was."""

    dataset_id: str
    model_id: str
    record_index: int
    case_id: str | None
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class RequestRow:
    """An edit request of a dataset."""

    request_id: str
    dataset_id: str
    record_index: int
    case_id: str | None
    subject: str
    prompt: str
    target_new: str
    target_true: str | None
    relation_id: str | None
    n_paraphrase_prompts: int
    n_neighborhood_prompts: int


@dataclasses.dataclass(frozen=True, slots=True)
class PositionRow:
    """The position audit of one request under one model's tokenizer."""

    model_id: str
    request_id: str
    subject_position: str
    subject_first_index: int
    subject_last_index: int
    n_subject_tokens: int
    n_prompt_tokens: int
    is_first_token: bool
    is_sequence_start: bool
    subject_last_token: str
    n_target_new_tokens: int
    last_token_differs: bool | None = None


POSITIONS = {
    "first_token": "first token",
    "first_several": "first, several tokens",
    "inside": "inside",
}
"""Values of ``subject_position``, as the database has them and as people read them."""
LAST_TOKEN_DIFFERS = (
    "in its contexts the subject ends with a token of other characters than in the bare prompt, so "
    "k0 and kbar are keys of different tokens"
)
"""What ``last_token_differs`` means, for people."""


@dataclasses.dataclass(frozen=True, slots=True)
class TemplateRow:
    """One context template of a template set, with the ids of the text before its slot."""

    template_set_id: str
    template_index: int
    template: str
    token_ids: list[int]
    kind: str
    seed: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class CovarianceRow:
    """A second moment C = E[k kᵀ] of one layer's keys."""

    covariance_id: str
    model_id: str
    layer: int
    kind: str
    source: str
    source_digest: str
    n_tokens: int
    n_texts: int
    damping: float
    trace: float
    accumulation_error: float | None
    artifact_digest: str | None
    tokens_per_d_key: float | None
    condition_number: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class ConvergenceRow:
    """How far directions C⁻¹k̄ still moved while the tokens of C were counted."""

    covariance_id: str
    n_shards: int
    n_tokens: int
    tokens_per_d_key: float
    probe_set_id: str
    n_probes: int
    median_change: float | None
    max_change: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class ValueSettingsRow:
    """Settings of the v* optimisation."""

    settings_id: str
    steps: int
    learning_rate: float
    weight_decay: float
    kl_factor: float
    clamp_factor: float
    stop_loss: float
    source: str


@dataclasses.dataclass(frozen=True, slots=True)
class EditRow:
    """One edit of one model by one method, with its diagnostics."""

    edit_id: str
    model_id: str
    request_id: str
    method: str
    layer: int
    layer_source: str
    covariance_id: str
    template_set_id: str
    settings_id: str
    numerator_norm: float | None
    denominator: float | None
    rho: float | None
    bare_key_norm: float | None
    prefixed_key_norm: float | None
    key_cosine: float | None
    bare_key_dot: float | None
    prefixed_key_dot: float | None
    delta_norm: float | None
    bare_value_norm: float | None
    update_norm: float
    relative_update_norm: float
    update_norm_bound: float | None
    n_steps: int
    loss: float
    loss_nll: float
    loss_kl: float | None
    loss_weight_decay: float | None
    target_probability: float
    clamp_hit: bool | None
    update_digest: str | None
    update_row: int | None
    text_change: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class ForecastRow:
    """What is known of one edit before it is made: no v* has been optimised."""

    edit_id: str
    model_id: str
    request_id: str
    method: str
    layer: int
    layer_source: str
    covariance_id: str
    template_set_id: str
    settings_id: str
    denominator: float
    rho: float
    bare_key_norm: float
    prefixed_key_norm: float
    key_cosine: float
    bare_key_dot: float
    prefixed_key_dot: float
    bare_value_norm: float
    numerator_bound: float
    certified_bound: float
    relative_bound: float
    text_change_bound: float
    n_tokens: int | None
    tokens_per_d_key: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class ForecastCalibrationRow:
    """Thresholds of the forecast's verdicts, and what they were taken from."""

    calibration_id: str
    calibrated_at: str
    data_digest: str
    collapse_threshold: float | None
    collapse_ratio: float | None
    wanted_recall: float
    wanted_precision: float
    n_edits: int
    n_collapsed: int
    n_models: int
    numerics: int
    auc: float
    largest_normal: float
    smallest_collapsed: float
    at_risk_at: float
    collapse_at: float
    model_id: str | None
    collapse_measure: str | None
    safe_below: float | None
    never_safe_from: float | None
    intercept: float | None
    slope: float | None
    intercepts: list[float] | None
    slopes: list[float] | None
    brier: float | None
    n_subjects: int | None
    held_out_flagged: int | None
    held_out_caught: int | None
    held_out_brier: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class EvaluationRow:
    """What edited models are measured on, and how."""

    evaluation_id: str
    text_set: str
    text_set_digest: str
    n_texts: int
    n_texts_rejected: int
    seed: int


@dataclasses.dataclass(frozen=True, slots=True)
class BasePerplexityRow:
    """Perplexity of the unedited model on the text set."""

    model_id: str
    evaluation_id: str
    perplexity: float
    perplexity_median: float
    perplexity_max: float
    nll_mean: float
    n_texts: int
    n_tokens: int


@dataclasses.dataclass(frozen=True, slots=True)
class ProbeScores:
    """Answers of one model, edited or not, to the probes of one request.

    Scores are means over the prompts of a kind; None where the request has no such prompt.
    Sources: kmeng01 eval_utils_counterfact (scores and magnitudes), EasyEdit evaluate_utils
    (efficacy, generalization, locality, portability: fractions of target tokens).
    """

    efficacy: float
    efficacy_one_prefix: float | None
    efficacy_prefix_mean: float | None
    efficacy_prefix_min: float | None
    efficacy_prefix_max: float | None
    generalization: float | None
    locality: float | None
    efficacy_score: float | None
    efficacy_magnitude: float | None
    paraphrase_score: float | None
    paraphrase_magnitude: float | None
    neighborhood_score: float | None
    neighborhood_magnitude: float | None
    target_new_nll: float
    target_true_nll: float | None
    prefix_index: int | None
    portability: float | None
    n_portability_prompts: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class BaseMeasurementRow(ProbeScores):
    """The unedited model's answers to one request's probes."""

    model_id: str
    request_id: str
    evaluation_id: str
    template_set_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class MeasurementRow(ProbeScores):
    """What one edited model answers and how well it still models text."""

    edit_id: str
    evaluation_id: str
    perplexity: float
    perplexity_median: float
    perplexity_max: float
    nll_mean: float
    n_texts: int


@dataclasses.dataclass(frozen=True, slots=True)
class ProvenanceRow:
    """How one job came about."""

    unit_id: str
    kind: str
    summary: str
    n_items: int
    started_at: str
    duration_s: float
    machine: str
    device: str
    numerics: int
    editcollapse_version: str
    torch_version: str
    transformers_version: str
    python_version: str
    git_commit: str | None
    seed: int
    study: str | None
    study_id: str | None
    model: str | None
    model_id: str | None


ROW_TYPES: dict[str, type] = {
    "studies": StudyRow,
    "study_edits": StudyEditRow,
    "study_models": StudyModelRow,
    "models": ModelRow,
    "datasets": DatasetRow,
    "rejections": RejectionRow,
    "requests": RequestRow,
    "positions": PositionRow,
    "templates": TemplateRow,
    "covariances": CovarianceRow,
    "covariance_convergence": ConvergenceRow,
    "value_settings": ValueSettingsRow,
    "edits": EditRow,
    "forecasts": ForecastRow,
    "forecast_calibrations": ForecastCalibrationRow,
    "evaluations": EvaluationRow,
    "base_perplexities": BasePerplexityRow,
    "base_measurements": BaseMeasurementRow,
    "measurements": MeasurementRow,
    "provenance": ProvenanceRow,
    "guard_decisions": GuardDecisionRow,
    "continuations": ContinuationRow,
    "anatomies": AnatomyRow,
    "key_points": KeyPointRow,
    "anatomy_findings": AnatomyFindingRow,
    "position_profiles": PositionProfileRow,
    "tuning_facts": TuningFactRow,
    "tuning_trials": TuningTrialRow,
    "editor_settings": EditorSettingsRow,
    "sequences": SequenceRow,
    "study_sequences": StudySequenceRow,
    "sequence_steps": SequenceStepRow,
    "sequence_layers": SequenceLayerRow,
    "sequence_checkpoints": SequenceCheckpointRow,
    "sequence_scores": SequenceScoreRow,
    "generation_settings": GenerationSettingsRow,
    "generated_answers": GeneratedAnswerRow,
    "judges": JudgeRow,
    "judged_answers": JudgedAnswerRow,
    "checks": CheckRow,
    "check_names": CheckNameRow,
    "check_tensors": CheckTensorRow,
    "check_scores": CheckScoreRow,
    "downstream_scores": DownstreamScoreRow,
}
"""Table name to row type."""

NATURAL_KEYS: dict[str, tuple[str, ...]] = {
    "studies": ("study_id",),
    "study_edits": ("study_id", "edit_id"),
    "study_models": ("study_id", "model_id", "layer"),
    "models": ("model_id",),
    "datasets": ("dataset_id",),
    "rejections": ("dataset_id", "model_id", "record_index"),
    "requests": ("dataset_id", "record_index"),
    "positions": ("model_id", "request_id"),
    "templates": ("template_set_id", "template_index"),
    "covariances": ("covariance_id",),
    "covariance_convergence": ("covariance_id", "n_shards"),
    "value_settings": ("settings_id",),
    "edits": ("edit_id",),
    "forecasts": ("edit_id",),
    "forecast_calibrations": ("calibration_id",),
    "evaluations": ("evaluation_id",),
    "base_perplexities": ("model_id", "evaluation_id"),
    "base_measurements": ("model_id", "request_id", "evaluation_id", "template_set_id"),
    "measurements": ("edit_id", "evaluation_id"),
    "provenance": ("unit_id",),
    "guard_decisions": ("study_id", "model_id", "layer", "method", "request_id"),
    "continuations": ("edit_id", "n_new_tokens"),
    "anatomies": ("anatomy_id",),
    "key_points": ("anatomy_id", "request_id", "kind"),
    "anatomy_findings": ("anatomy_id", "grouping", "observation"),
    "position_profiles": ("model_id", "text_set_digest", "stack", "layer", "position"),
    "tuning_facts": ("fact_set_id", "request_id"),
    "tuning_trials": ("tuning_id", "part", "rung", "trial", "method"),
    "editor_settings": ("settings_id",),
    "sequences": ("sequence_id",),
    "study_sequences": ("study_id", "sequence_id"),
    "sequence_steps": ("sequence_id", "step"),
    "sequence_layers": ("sequence_id", "step", "layer"),
    "sequence_checkpoints": ("sequence_id", "step"),
    "sequence_scores": ("sequence_id", "step", "moment", "request_id"),
    "generation_settings": ("generation_id",),
    "generated_answers": ("edit_id", "generation_id", "context", "probe", "prompt_index"),
    "judges": ("judge_id",),
    "judged_answers": (
        "edit_id",
        "generation_id",
        "context",
        "probe",
        "prompt_index",
        "judge_id",
    ),
    "checks": ("check_id",),
    "check_names": ("check_id", "name"),
    "check_tensors": ("check_id", "tensor"),
    "check_scores": ("check_id", "request_id", "side"),
    "downstream_scores": ("score_set_id", "task", "metric", "filter"),
}
"""Table name to the columns that identify a row."""
