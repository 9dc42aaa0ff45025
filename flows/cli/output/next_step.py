"""What to try next, at the end of a command: neither the same again nor what is already there."""

from typing import TYPE_CHECKING

from editcollapse.cli.console import print_line
from flows.cli.options import PROGRAM

if TYPE_CHECKING:
    import polars as pl

    from editcollapse.config.spec import StudySpec
    from editcollapse.forecast.verdicts import ForecastReport
    from editcollapse.rows.collapse_rule import CollapseRule
    from editcollapse.study.plan import StudyPlan
    from editcollapse.study.results_folder import ResultsFolder
    from flows.cli.output.outlook import StudyOutlook

WORST = (
    "select model, method, subject, prompt, rho, perplexity_ratio from edit_outcomes "
    "order by perplexity_ratio desc limit 10"
)
"""The edits that damage their models most, of all studies."""
SEQUENCES = (
    "select model, editor, order_seed, n_edits, perplexity_ratio, text_change "
    "from sequence_outcomes order by perplexity_ratio desc limit 10"
)
"""The checkpoints of sequences that are furthest from their models, of all studies."""
LAYERS = (
    "select model, layer, method, sum(n_will_collapse)::int as likely, max(largest_bound) as bound "
    "from forecast_by_layer group by all order by bound desc limit 20"
)
"""Layers by the largest bound of a sweep, all models."""


def print_next(command: str, results: str) -> None:
    """Print a command to go on with.

    Args:
        command: without the program's name and without the results folder.
        results: the folder as the user has named it.
    """
    at = "" if results == "results" else f" --results {results}"
    print_line(f"next:    {PROGRAM} {command}{at}")


def after_plan(study_words: str, outlook: "StudyOutlook") -> str:
    """Return what follows a plan: the study, or its report where all of it is there."""
    is_done = all(job.n_cached == job.n_units for model in outlook.models for job in model.units)
    return f"report {outlook.study_id}" if is_done else f"run {study_words}"


def after_run(
    study_words: str,
    study: "StudySpec",
    folder: "ResultsFolder",
    study_id: str,
    rule: "CollapseRule",
    incidence: "pl.DataFrame",
) -> str:
    """Return what follows a study: why ROME collapses its models, or what did most damage.

    Args:
        study_words: the study as the command named it.
        study: what it says.
        folder: the results.
        study_id: id of table ``studies``.
        rule: when an edit counts as a collapse.
        incidence: the study's collapses.
    """
    from storage.readers import anatomy_findings

    has_collapses = incidence["n_collapsed"].sum() > 0
    is_explained = bool(anatomy_findings(folder.here, study_id, rule))
    if has_collapses and "rome" in study.methods and not is_explained:
        return f"anatomy {study_words}"
    return f'sql "{WORST if study.methods else SEQUENCES}"'


def after_forecast(study_words: str, plan: "StudyPlan", report: "ForecastReport") -> str:
    """Return what follows a study's forecast: the study, its calibration, or other layers.

    Args:
        study_words: the study as the command named it.
        plan: the study.
        report: its forecasts.
    """
    from editcollapse.study.results_folder import results_at
    from storage.ask import incidence
    from storage.publish import folder_to_read

    measured = incidence(folder_to_read(results_at(plan.results)), plan.study_id)
    if measured.is_empty():
        return f"run {study_words}"
    if measured["n_collapsed"].sum() and any(each.thresholds.is_default for each in report.basis):
        return "calibrate"
    return f"sweep {study_words}"
