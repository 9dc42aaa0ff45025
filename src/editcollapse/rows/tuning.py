"""Row types of a tuning: the facts that settings are tried on, and what each trial scored.

None means not measured, or that there is no fact of the kind.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class TuningFactRow:
    """One fact that a tuning has looked at: whether the unedited model knows it, and its use."""

    fact_set_id: str
    model_id: str
    request_id: str
    part: str
    place: int | None
    known_by: str
    is_first_token: bool
    is_greedy: bool
    target_true_nll: float
    target_new_nll: float


@dataclasses.dataclass(frozen=True, slots=True)
class TrialScores:
    """What the edits of a trial by one method scored."""

    n_facts: int
    n_first_token: int
    efficacy: float | None
    efficacy_prefix_mean: float | None
    first_token_efficacy: float | None
    first_token_efficacy_prefix_mean: float | None
    generalization: float | None
    locality: float | None
    clamp_share: float
    worst_ratio: float
    n_damaged: int
    n_collapsed: int
    objective: float
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class TuningTrialRow(TrialScores):
    """One layer with one set of v* settings, on some facts, by one method."""

    tuning_id: str
    study: str
    model: str
    model_id: str
    fact_set_id: str
    evaluation_id: str
    covariance_id: str
    part: str
    rung: int
    trial: int
    method: str
    layer: int
    settings_id: str
    steps: int
    learning_rate: float
    weight_decay: float
    kl_factor: float
    clamp_factor: float
    stop_loss: float
