"""Row type of downstream tasks: what lm-evaluation-harness scores a model, edited or not."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class DownstreamScoreRow:
    """One metric of one task, of one model."""

    score_set_id: str
    task: str
    metric: str
    filter: str
    model_id: str
    kind: str
    edit_id: str | None
    sequence_id: str | None
    step: int | None
    label: str
    asked_task: str
    task_digest: str | None
    task_version: str | None
    value: float | None
    stderr: float | None
    higher_is_better: bool | None
    n_samples: int
    n_without_answer: int
    n_shot: int | None
    sample_limit: int | None
    chat_template: bool
    harness_version: str
