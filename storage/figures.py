"""What a report's figures are drawn from: one answer for each, with its SQL to copy."""

import dataclasses
from pathlib import Path

from storage.database import open_snapshot
from storage.findings import Answer, answer_for


@dataclasses.dataclass(frozen=True, slots=True)
class StudyFigures:
    """Answers about one study; where a study has nothing to one, its frame is empty."""

    edits: Answer
    """Query ``figure_edits``: an edit a row, of a large study a sample."""
    perplexities: Answer
    """Query ``perplexity_by_method``."""
    skill: Answer
    """Query ``figure_skill``: precision and recall of the forecast."""
    roc: Answer
    """Query ``figure_roc``."""
    layers: Answer
    """Query ``figure_layers``: verdicts by layer, where several were foreseen."""
    keys: Answer
    """Query ``figure_keys``: keys in two dimensions."""
    anatomy: Answer
    """Query ``figure_anatomy``: findings of the root-cause study."""
    profiles: Answer
    """Query ``figure_profiles``: norms and attention by position and layer."""
    published: Answer
    """Query ``published_in_study``."""


def study_figures(results: Path, study_id: str) -> StudyFigures:
    """Return what a study's figures are drawn from, as last published.

    Args:
        results: the results folder.
        study_id: an id of table ``studies``.

    Raises:
        ResultsError: there are no results yet.
    """
    with open_snapshot(results) as connection:
        return StudyFigures(
            edits=answer_for(connection, "figure_edits", study_id),
            perplexities=answer_for(connection, "perplexity_by_method", study_id),
            skill=answer_for(connection, "figure_skill", study_id),
            roc=answer_for(connection, "figure_roc", study_id),
            layers=answer_for(connection, "figure_layers", study_id),
            keys=answer_for(connection, "figure_keys", study_id),
            anatomy=answer_for(connection, "figure_anatomy", study_id),
            profiles=answer_for(connection, "figure_profiles", study_id),
            published=answer_for(connection, "published_in_study", study_id),
        )
