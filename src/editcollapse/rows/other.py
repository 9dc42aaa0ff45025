"""Row types beyond edits and their measurements: guard, generated text, anatomy, profiles.

None means not measured, or that there is no such thing. ``inf`` and ``nan`` are kept.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class GuardDecisionRow:
    """What a study's guard did with one edit that was asked for, and why."""

    study_id: str
    model_id: str
    layer: int
    method: str
    request_id: str
    policy: str
    acts_at: str
    verdict: str
    text_change_bound: float
    at_risk_at: float
    collapse_at: float
    calibration_id: str
    decision: str
    edit_id: str | None
    made_method: str | None
    made_request_id: str | None
    made_dataset_id: str | None
    made_bound: float | None
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class ContinuationRow:
    """How the model goes on from a prompt, without an edit and with it; greedy."""

    edit_id: str
    n_new_tokens: int
    prompt: str
    text_before: str
    text_after: str


@dataclasses.dataclass(frozen=True, slots=True)
class AnatomyRow:
    """One root-cause study of one model's layer: which keys were compared."""

    anatomy_id: str
    study_id: str
    model_id: str
    layer: int
    covariance_id: str
    template_set_id: str
    n_requests: int
    n_first_token: int
    n_collapsed: int | None
    collapse_threshold: float
    collapse_ratio: float
    d_key: int
    vectors_path: str
    vectors_digest: str
    keys_variance_x: float
    keys_variance_y: float
    solved_variance_x: float
    solved_variance_y: float
    tsne_perplexity: float | None
    seed: int
    collapse_measure: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class KeyPointRow:
    """One vector of a root-cause study in two dimensions."""

    anatomy_id: str
    request_id: str
    kind: str
    is_first_token: bool
    is_collapsed: bool | None
    norm: float
    pca_x: float
    pca_y: float
    tsne_x: float | None
    tsne_y: float | None
    vector_row: int


@dataclasses.dataclass(frozen=True, slots=True)
class AnatomyFindingRow:
    """One observation of a root-cause study as a number with its interval."""

    anatomy_id: str
    grouping: str
    observation: str
    value: float
    low: float
    high: float
    n_group: int
    n_others: int
    interval: str
    statement: str


@dataclasses.dataclass(frozen=True, slots=True)
class PositionProfileRow:
    """Residual stream, keys and attention at one position of one layer, over many texts."""

    model_id: str
    text_set_digest: str
    stack: str
    layer: int
    position: int
    model_source: str
    n_texts: int
    residual_norm: float
    residual_norm_low: float
    residual_norm_high: float
    key_norm: float
    key_norm_low: float
    key_norm_high: float
    key_cosine: float
    key_cosine_low: float
    key_cosine_high: float
    attention: float | None
    attention_low: float | None
    attention_high: float | None
    uniform_attention: float | None
