"""The commands ``forecast`` and ``calibrate``: which edits would collapse a model, ahead."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from editcollapse.cli.console import console, plain, print_json, print_line, print_text
from editcollapse.cli.forecast import show_forecast
from editcollapse.cli.mistakes import STOPPED
from editcollapse.cli.options import SafeBelow
from editcollapse.cli.tables import Column, print_table
from editcollapse.errors import ResultsError
from editcollapse.rows.collapse_rule import DEFAULT_RULE, CollapseRule
from editcollapse.visible import visible
from flows.cli.asked_study import (
    AskedStudy,
    DatasetOptions,
    opened,
    study_or_edit,
    with_dataset,
)
from flows.cli.command_run import run_flow
from flows.cli.options import (
    JsonOption,
    MeasureOption,
    OneEdit,
    RatioOption,
    ResultsOption,
    ThresholdOption,
    examples,
    rule_of,
    said_with_flags,
    with_one_edit,
)
from flows.cli.output.next_step import after_forecast, print_next

if TYPE_CHECKING:
    import polars as pl

    from editcollapse.forecast.verdicts import (
        ForecastReport,
        RequestForecast,
        Thresholds,
    )
    from editcollapse.rows.study import ForecastCalibrationRow
    from editcollapse.study.plan import ModelPlan, StudyPlan
    from editcollapse.study.results_folder import ResultsFolder
    from storage.readers import Calibration

_SHOWN = 10
"""Edits that are listed unless asked otherwise; the database has all."""
_SKILL = (
    "model",
    "method",
    "n_edits",
    "n_collapsed",
    "auc",
    "precision",
    "recall",
    "certain_precision",
    "certain_recall",
    "brier",
)

commands = typer.Typer()


@dataclasses.dataclass(frozen=True, slots=True)
class CalibratedModel:
    """A model's new thresholds, for ``--json``."""

    model: str
    calibration: "ForecastCalibrationRow"


@dataclasses.dataclass(frozen=True, slots=True)
class CalibrationReport:
    """Result of ``calibrate``, for ``--json``."""

    rule: CollapseRule
    models: tuple[CalibratedModel, ...]
    left_out: tuple[str, ...]
    """A sentence for each model whose edits give no thresholds."""
    skill: list[dict[str, Any]]
    """Rows of ``forecast_skill`` by that rule."""


@commands.command(
    rich_help_panel="Forecasts",
    epilog=examples(
        "forecast studies/demo.toml",
        "forecast --model demo/models/gpt2-induced --dataset demo/counterfact.json \\",
        "    --covariance demo/corpus.txt --limit 20",
        "forecast --model demo/models/gpt2-induced \\",
        '    --prompt "{} is a twin city of" --subject Chicago --target Rome',
        "forecast --model openai-community/gpt2-xl \\",
        '    --prompt "{} plays" --subject Pele --target tennis \\',
        "    --covariance wiki.txt --tokens 100000",
    ),
)
@with_one_edit(is_required=False)
@with_dataset
def forecast(
    asked: OneEdit,
    many: DatasetOptions,
    top: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="of a study, list so many of the edits that are not safe"
        ),
    ] = _SHOWN,
    list_all: Annotated[
        bool, typer.Option("--all", help="of a study, list every edit that is not safe")
    ] = False,
    safe_below: SafeBelow = None,
    as_json: JsonOption = False,
) -> int:
    """Say which edits would collapse a model, before any is made.

    A study file's edits; or --model and --dataset; or one: --model --prompt --subject --target.
    """
    study = study_or_edit(many, asked, "forecast")
    if study is not None:
        n_shown = None if list_all else top
        return _of_study(study, asked.results, n_shown, safe_below, as_json=as_json)
    os.environ.setdefault("TQDM_DISABLE", "1")
    from flows.cli.one_edit import forecast_of

    with said_with_flags():
        report = forecast_of(asked, safe_below)
    if as_json:
        print_json(report)
    else:
        show_forecast(report)
    return 0


def _of_study(
    asked: AskedStudy,
    results: str,
    n_shown: int | None,
    safe_below: float | None,
    *,
    as_json: bool,
) -> int:
    """Run the flow; show what the database holds afterwards."""
    from editcollapse.study.plan import plan_study

    study, folder = opened(asked, results)
    plan = plan_study(study, folder.name)  # a mistake in the study is found before a server starts
    what = f"forecast of {study.name}"
    if run_flow(_flow, what, folder, study, folder.name, is_quiet=as_json) is None:
        return STOPPED
    report = _study_report(plan, safe_below)
    if as_json:
        print_json(report)
    else:
        from flows.cli.output.verdicts import show_study

        show_study(report, study.methods, n_shown)
        print_next(after_forecast(asked.words(), plan, report), results)
    return 0


def _flow() -> Any:
    from flows.forecast_flow import collapse_forecast

    return collapse_forecast


@commands.command(
    rich_help_panel="Forecasts",
    epilog=examples("calibrate", "calibrate --results /data/rome --safe-below 0.01 --ratio 5"),
)
def calibrate(
    recall: Annotated[
        float, typer.Option(metavar="X", help="share of collapses that at risk has to catch")
    ] = 1.0,
    precision: Annotated[
        float,
        typer.Option(
            metavar="X", help="share of the edits called likely to collapse that have to do so"
        ),
    ] = 0.95,
    safe_below: Annotated[
        float, typer.Option(metavar="P", help="probability of collapse that no safe edit reaches")
    ] = 0.05,
    threshold: ThresholdOption = None,
    ratio: RatioOption = None,
    measure: MeasureOption = None,
    as_json: JsonOption = False,
    results: ResultsOption = "results",
) -> int:
    """Take the forecast's thresholds from the edits that were forecast, made and measured.

    What is not given is that of the folder's studies; where these differ, give all three.
    """
    from editcollapse.study.results_folder import results_at
    from storage.ask import ask, common_rule
    from storage.publish import folder_to_read
    from storage.readers import Wanted
    from storage.readers import calibrate as calibrated_by

    folder, rule = results_at(results), rule_of(DEFAULT_RULE, threshold, ratio, measure)
    readable = folder_to_read(folder)
    if threshold is None or ratio is None or measure is None:
        rule = rule_of(common_rule(readable), threshold, ratio, measure)
    wanted = Wanted(recall, precision, safe_below, rule.threshold, rule.ratio, rule.measure)
    found = calibrated_by(readable, wanted)
    _record(folder, [row for _, row in found.rows])
    bounds = f"threshold := {_sql(rule.threshold)}, ratio := {_sql(rule.ratio)}"
    query = f"from forecast_skill({bounds}, measure := '{rule.measure}') where n_collapsed > 0"
    skill = ask(readable, query).select(_SKILL)
    if as_json:
        calibrated = tuple(CalibratedModel(*each) for each in found.rows)
        print_json(CalibrationReport(rule, calibrated, found.left_out, skill.to_dicts()))
    else:
        _show_calibration(found, rule, skill)
        print_next("forecast STUDY.toml", results)
    return 0


def _sql(limit: float | None) -> str:
    """A limit as SQL has it; null switches it off."""
    return "null" if limit is None else f"'{limit!r}'::double"


def _record(folder: "ResultsFolder", rows: "Sequence[ForecastCalibrationRow]") -> None:
    """Write calibrations to a row file and publish it."""
    from editcollapse.study.artifacts import ArtifactStore
    from storage.publish import publish, snapshot_is_current

    ArtifactStore(folder.name).put_rows("forecast_calibrations", rows)
    publish(folder)
    if not snapshot_is_current(folder):
        raise ResultsError(f"the calibration was not published in {folder.name}. Run this again.")


def _study_report(plan: "StudyPlan", safe_below: float | None) -> "ForecastReport":
    """The published forecasts of a study, in the order of its models and requests.

    Raises:
        ResultsError: they are not there.
    """
    from editcollapse.forecast.verdicts import ForecastReport, ModelThresholds
    from editcollapse.study.results_folder import results_at
    from storage.publish import folder_to_read
    from storage.readers import thresholds

    folder = folder_to_read(results_at(plan.results))
    basis: list[ModelThresholds] = []
    found: list[RequestForecast] = []
    unusable: list[str] = []
    for model in plan.models:
        limits = thresholds(folder, model.setup.model_id, plan.study.collapse.rule)
        if safe_below is not None:
            limits = limits.accepting(safe_below)
        basis.append(ModelThresholds(model.setup.spec.name, limits, limits.basis))
        ours, left_out = _of_model(plan, model, limits, folder)
        found += ours
        unusable += left_out
    return ForecastReport(tuple(basis), tuple(found), tuple(unusable))


def _of_model(
    plan: "StudyPlan", model: "ModelPlan", limits: "Thresholds", folder: Path
) -> "tuple[list[RequestForecast], list[str]]":
    """One model's forecasts, and a sentence for each request that has none."""
    from editcollapse.forecast.verdicts import RequestForecast, by_request, judged
    from editcollapse.study.locks import cached_manifest
    from storage.readers import forecast_rows, position_rows

    templates, moment = cached_manifest(model.templates), cached_manifest(model.moment)
    if templates is None or moment is None:
        raise ResultsError(
            f"templates or covariance of {model.setup.spec.name} are not whole in {plan.results}. "
            "Run the same command again."
        )
    requests = tuple(record.request for record in plan.requests.records)
    batch = next(plan.edit_jobs(model, templates, moment))
    rows = by_request(forecast_rows(folder, batch.model_copy(update={"requests": requests})))
    positions = position_rows(folder, model.setup.model_id)
    found, unusable = [], []
    for request in requests:
        ours = rows.get(request.request_id)
        if ours is None:
            unusable.append(
                f"{model.setup.spec.name} cannot take {request.filled_prompt!r} -> "
                f"{request.target_new!r}: table rejections says why"
            )
            continue
        position = positions[request.request_id]
        found.append(
            RequestForecast(
                model=model.setup.spec.name,
                layer=model.setup.layer,
                subject=request.subject,
                prompt=request.prompt,
                target_new=request.target_new,
                position=position,
                methods=judged(ours, position, limits),
            )
        )
    return found, unusable


def _held_out_sentence(row: "ForecastCalibrationRow") -> str:
    """Return how thresholds of other subjects do on each subject, and how good P(collapse) is."""
    if row.brier is None:
        return (
            "not known, as P(collapse): these edits do not collapse more often at larger bounds, "
            "which tell little of them"
        )
    if row.held_out_flagged is None or row.held_out_caught is None:
        return "not known: without one subject the others have no P(collapse)"
    missed = row.n_collapsed - row.held_out_caught
    return (
        f"each of {row.n_subjects} subjects judged by the others' edits: {missed} of "
        f"{row.n_collapsed} collapses called safe, {row.held_out_caught} of "
        f"{row.held_out_flagged} flagged edits collapsed; Brier score of P(collapse) "
        f"{row.held_out_brier:.3g}, {row.brier:.3g} on the edits themselves"
    )


def _show_calibration(found: "Calibration", rule: CollapseRule, skill: "pl.DataFrame") -> None:
    """Print each model's thresholds, what they were taken from, and how well they do there."""
    print_text(rule.sentence())
    for name, row in found.rows:
        print_text(
            f"at risk from a change bound of {row.at_risk_at:.4g} on, likely to collapse from "
            f"{row.collapse_at:.4g}; from {row.n_edits} measured edits, {row.n_collapsed} of which "
            f"collapsed; AUC {row.auc:.4f}; largest bound of a normal edit "
            f"{row.largest_normal:.4g}, smallest of a collapsed one {row.smallest_collapsed:.4g}; "
            f"stored as {row.calibration_id}",
            f"{visible(name)}: ",
        )
        print_text(_held_out_sentence(row), "held out: ")
    for sentence in found.left_out:
        print_text(f"default thresholds for {sentence}")
    columns = (
        Column("model"),
        Column("method"),
        Column("collapsed", is_number=True),
        Column("AUC", is_number=True),
        Column("at risk: precision, recall", is_number=True),
        Column("likely: precision, recall", is_number=True),
    )
    rows = [
        [
            plain(row["model"]),
            plain(row["method"]),
            Text(f"{row['n_collapsed']} of {row['n_edits']}"),
            Text(_figure(row["auc"])),
            Text(f"{_figure(row['precision'])}, {_figure(row['recall'])}"),
            Text(f"{_figure(row['certain_precision'])}, {_figure(row['certain_recall'])}"),
        ]
        for row in skill.iter_rows(named=True)
    ]
    print_line("")
    print_table(columns, rows, console())
    print_text(
        "precision: share of the edits called that, or worse, which collapsed; recall: share of "
        "the collapsed edits that are called that, or worse; likely: likely to collapse"
    )


def _figure(value: float | None) -> str:
    """A share or an AUC in three figures; a dash where there is none."""
    return "-" if value is None else f"{value:.3g}"
