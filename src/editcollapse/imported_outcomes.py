"""What becomes a row of others' results: one frozen dataclass for each table.

None means that the source does not say. ``inf`` and ``nan`` are measurements and are kept.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class ImportedRunRow:
    """A file or folder of results that another program wrote."""

    import_id: str
    source: str
    format: str
    model: str | None
    method: str | None
    n_records: int
    n_edits: int
    n_rejected: int
    unknown: str


@dataclasses.dataclass(frozen=True, slots=True)
class ImportedEditRow:
    """One record of it: the request, and the model's answers before or after the edit."""

    import_id: str
    record_index: int
    phase: str
    case_id: str | None
    subject: str | None
    prompt: str
    target_new: str
    target_true: str | None
    n_joint_edits: int | None
    duration_s: float | None
    efficacy: float | None
    generalization: float | None
    locality: float | None
    portability: float | None
    rewrite_correct: float | None
    paraphrase_correct: float | None
    neighborhood_correct: float | None
    efficacy_score: float | None
    efficacy_magnitude: float | None
    paraphrase_score: float | None
    paraphrase_magnitude: float | None
    neighborhood_score: float | None
    neighborhood_magnitude: float | None
    target_new_nll: float | None
    target_true_nll: float | None
    ngram_entropy: float | None
    reference_score: float | None
    essence_score: float | None
    target_perplexity: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class ImportedRejectionRow:
    """A record that could not be used."""

    import_id: str
    record_index: int
    place: str
    reason: str
