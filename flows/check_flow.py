"""An edited, merged, fine-tuned or quantised model beside the one that it was made from.

Cached by the content of both models, texts, facts and C: a model that was checked under one name is
found under another.
"""

import logging
from pathlib import Path

from prefect import State, flow

from editcollapse.config.check import CheckSpec
from editcollapse.judging.check_rows import name_row
from editcollapse.judging.findings import CheckFindings
from editcollapse.judging.inputs import CheckInputs, check_inputs
from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.check_jobs import CheckJob
from editcollapse.study.jobs import RecordJob
from editcollapse.study.results_folder import results_at
from flows.observe.run_names import dated
from flows.observe.run_page import shown_progress
from flows.run.events import tell_of_check
from flows.run.outcome import CACHED, JobTally, completed
from flows.run.submit import one_at_a_time, started, tag_this_run
from storage.readers import check_findings
from tasks.checking import judge_edited
from tasks.results import is_recorded, record_rows

logger = logging.getLogger(__name__)


@flow(
    name="collapse-check",
    flow_run_name=dated("check {check.label}"),
    description="Judge an edited model: what differs, what it changes on text, is it alive?",
    task_runner=one_at_a_time(),
    result_serializer="json",
)
def collapse_check(check: CheckSpec, results: str = "results") -> State[str]:
    """Check one edited model and return the check's id.

    Args:
        check: both models, and what they are measured on; paths are absolute, or relative to the
            working directory.
        results: folder or URL that everything is written to.

    Returns:
        A state with the check's id, which is what a call of the flow returns: an id of ``checks``.

    Raises:
        EditCollapseError: an input is missing or unusable, or the models are not made from each
            other.
    """
    inputs = check_inputs(check.with_absolute_paths(Path.cwd()))
    folder = results_at(results)
    tag_this_run(f"model:{inputs.base_spec.name}")
    logger.info(CACHED)
    tally = JobTally()
    with shown_progress("check", inputs.name):
        done = started(judge_edited, CheckJob.of(inputs, folder.name))()
        tally.add(was_cached=done.was_cached)
        names = ArtifactStore(folder.name).put_rows("check_names", [name_row(inputs)])
        record = RecordJob(results=folder.name, rows=(*done.result.rows, names))
        if not is_recorded(record):
            started(record_rows, record)()
    found = check_findings(folder.here, inputs.check_id, inputs.name)
    rule = check.collapse.rule
    if not done.was_cached:
        tell_of_check(inputs, found, rule)
    return completed(inputs.check_id, sentence(inputs, found, rule), tally)


def sentence(inputs: CheckInputs, found: CheckFindings, rule: CollapseRule) -> str:
    """Return what a check has found, in plain text.

    Args:
        inputs: of the check.
        found: as it is published.
        rule: when a model counts as collapsed.
    """
    return f"{inputs.name}, made from {found.base}: {found.verdict(rule)}. {found.why(rule)}"
