"""A study's plan with the thresholds that its guard acts by: its own, or those of its models."""

from functools import partial
from pathlib import Path

from editcollapse.places import Place, place_of
from editcollapse.planning import StudyPlan, plan_study
from editcollapse.specs import StudySpec
from editcollapse.verdicts import DEFAULT_THRESHOLDS, Thresholds
from storage.calibration import thresholds
from storage.database import SNAPSHOT
from storage.sharing import folder_to_read


def plan_guarded(study: StudySpec, results: str) -> StudyPlan:
    """Return the plan of a study that edits; as ``plan_study``, with the thresholds that count now.

    Args:
        study: with absolute paths.
        results: path or URL of the results folder; nothing is written to it.

    Raises:
        EditCollapseError: an input is missing or unusable, or the thresholds cannot be read.
    """
    return plan_study(study, results, partial(present_thresholds, place_of(results)))


def present_thresholds(place: Place, model_id: str) -> Thresholds:
    """Return a model's thresholds in a results folder; the default where nothing was published.

    Raises:
        ResultsError: what was published cannot be read, or is older than forecasts.
    """
    published = published_folder(place)
    return DEFAULT_THRESHOLDS if published is None else thresholds(published, model_id)


def published_folder(place: Place) -> Path | None:
    """Return the folder of the place's present snapshot; None where nothing was published."""
    try:
        place.fetch(SNAPSHOT.as_posix())
    except FileNotFoundError:
        return None
    folder = folder_to_read(place)
    return folder if (folder / SNAPSHOT).is_file() else None
