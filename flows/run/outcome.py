"""How a run ends: a sentence of what it found, as its state's message and the last of its log.

Where edits have collapsed a model, an event says so to whoever has an automation for it.
"""

import dataclasses
import logging
from typing import TypeVar

from prefect import State
from prefect.events import emit_event
from prefect.states import Completed

from editcollapse.visible import visible
from storage.ask import StudyFindings

logger = logging.getLogger(__name__)

COLLAPSED = "editcollapse.study.collapsed"
"""Event of a study that has new measurements, some of which are collapses."""
CACHED = "What is cached is not computed again, unless data, a model or a setting has changed."
Result = TypeVar("Result")


@dataclasses.dataclass(slots=True)
class JobTally:
    """The jobs of a run, as they end."""

    n_jobs: int = 0
    n_computed: int = 0
    """Of these, jobs that no earlier run had done."""

    def add(self, *, was_cached: bool) -> None:
        """Count a job that has ended."""
        self.n_jobs += 1
        self.n_computed += not was_cached

    def __str__(self) -> str:
        if not self.n_computed:
            return (
                "Nothing had to be computed: data, models and settings are those of earlier runs."
            )
        if self.n_computed == self.n_jobs:
            return f"All {self.n_jobs} jobs were computed."
        return f"{self.n_computed} of {self.n_jobs} jobs were computed, the others were cached."


def completed(result: Result, found: str, jobs: JobTally, report: str = "") -> State[Result]:
    """Return the state that a flow ends in, and log what it says.

    Args:
        result: the flow's own; whoever calls the flow gets it.
        found: what the run has found, in sentences.
        jobs: what it had to compute.
        report: address of the report, where there is one.
    """
    message = visible(f"{found} {jobs}")
    logger.info("%s", message)
    if report:
        logger.info("report: %s", visible(report))
        message = f"{message} Report: {visible(report)}"
    return Completed(data=result, message=message)


def tell_of_collapses(found: StudyFindings, headline: str, report: str) -> None:
    """Emit event ``COLLAPSED`` where edits of a study collapse a model.

    A server that does not take it is logged and no more.

    Args:
        found: the study as it is published.
        headline: its sentence.
        report: address of its report.
    """
    rows = found.incidence.frame.select("model", "method", "n_collapsed", "n_edits").to_dicts()
    n_collapsed = sum(row["n_collapsed"] for row in rows)
    if not n_collapsed:
        return
    try:
        emit_event(
            COLLAPSED,
            resource={
                "prefect.resource.id": f"editcollapse.study.{found.study_id}",
                "prefect.resource.name": found.name,
                "editcollapse.n_collapsed": str(n_collapsed),
            },
            payload={"headline": headline, "report": report, "incidence": rows},
        )
    except Exception as error:  # noqa: BLE001  whatever the server or the way to it raises
        logger.warning("no event says that edits of %s collapsed: %s", found.name, error)
