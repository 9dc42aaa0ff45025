"""Queries for flows and commands: forecasts, sweeps, calibrations, single edits, root causes."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from editcollapse import NUMERICS
from editcollapse.errors import ResultsError
from editcollapse.fingerprints import canonical_without, digest
from editcollapse.forecast.calibration import SAFE_BELOW, Targets, calibrated
from editcollapse.forecast.defaults import default_thresholds
from editcollapse.forecast.probability import CollapseCurve, Outcomes
from editcollapse.forecast.verdicts import LayerVerdicts, Thresholds
from editcollapse.judging.check_rows import findings_of
from editcollapse.judging.findings import CheckFindings
from editcollapse.rows.collapse_rule import DEFAULT_RULE, CollapseRule, Measure
from editcollapse.rows.frames import rows_of, schema_of
from editcollapse.rows.study import ForecastCalibrationRow, ForecastRow, PositionRow
from editcollapse.rows.tuning import TuningTrialRow
from editcollapse.study.anatomy_jobs import RomeOutcome
from editcollapse.study.jobs import EditJob, KnownSetup, ModelSetup, template_set_id_of
from editcollapse.study.sweep import ModelSweep
from storage.ask import ask_named, query_text, study_rule
from storage.database import open_snapshot


def forecast_rows(results: Path, edits: EditJob) -> list[ForecastRow]:
    """Return the published forecasts of a batch's requests, by request and method.

    Args:
        results: the results folder.
        edits: the batch, or one of all a study's requests of a model.

    Raises:
        ResultsError: there are no results yet.
    """
    asked = {
        "model_id": edits.model.model_id,
        "layer": edits.model.layer,
        "covariance_id": edits.covariance_id,
        "template_set_id": edits.template_set_id,
        "settings_id": edits.model.settings_id,
    }
    found = ask_named(results, "forecast_rows", asked)
    wanted = [request.request_id for request in edits.requests]
    frame = found.filter(pl.col("request_id").is_in(wanted))
    return list(rows_of("forecasts", frame.select(list(schema_of("forecasts")))))


def position_rows(results: Path, model_id: str) -> dict[str, PositionRow]:
    """Return request id to where its subject stands under a model's tokenizer.

    Raises:
        ResultsError: there are no results yet.
    """
    frame = ask_named(results, "position_rows", {"model_id": model_id})
    rows: list[PositionRow] = list(rows_of("positions", frame.select(list(schema_of("positions")))))
    return {row.request_id: row for row in rows}


def known_setups(results: Path, model_id: str) -> list[KnownSetup]:
    """Return the set-ups in which a results folder's studies edit a model; the largest C first.

    Raises:
        ResultsError: there are no results yet.
    """
    frame = ask_named(results, "known_setups", {"model_id": model_id})
    return [
        KnownSetup(**{**row, "templates": tuple(row["templates"])})
        for row in frame.iter_rows(named=True)
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class RatioQuantiles:
    """How much worse a study's edits by one method make one model."""

    model: str
    method: str
    n_edits: int
    """Measured edits."""
    n_collapsed: int
    n_not_finite: int
    """Edits whose ratio of perplexities is inf or nan."""
    ratio_median: float
    ratio_q90: float
    ratio_q99: float
    ratio_max: float
    """Perplexity over the unedited model's, by the rule's measure; inf and nan are kept."""


def ratio_quantiles(results: Path, study_id: str, rule: CollapseRule) -> tuple[RatioQuantiles, ...]:
    """Return the quantiles of a study's ratios of perplexities, by model and method.

    Args:
        results: the results folder.
        study_id: an id of table ``studies``.
        rule: when an edit counts as a collapse, and by which measure.

    Raises:
        ResultsError: there are no results yet.
    """
    asked = {"study_id": study_id, **dataclasses.asdict(rule)}
    frame = ask_named(results, "ratio_quantiles", asked)
    return tuple(RatioQuantiles(**row) for row in frame.iter_rows(named=True))


def sweep_rows(results: Path, sweep: ModelSweep, templates: tuple[str, ...]) -> list[LayerVerdicts]:
    """Return the published rows of one model's sweep, by layer, method and position.

    Args:
        results: the results folder.
        sweep: the model and its layers.
        templates: its context templates.

    Raises:
        ResultsError: there are no results yet.
    """
    job = sweep.layers[0].setup
    records = sweep.study.requests.records
    asked = {
        "request_ids": [record.request.request_id for record in records],
        "model_id": job.model_id,
        "template_set_id": template_set_id_of(job.model_id, templates),
        "set_ups": [
            f"{each.moment.covariance_id} {each.setup.settings_id}" for each in sweep.layers
        ],
    }
    with open_snapshot(results) as snapshot:
        frame: pl.DataFrame = snapshot.sql(query_text("sweep"), params=asked).pl()
    return [LayerVerdicts(job.spec.name, **row) for row in frame.iter_rows(named=True)]


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Targets of a calibration, and its rule of collapse."""

    recall: float = 1.0
    """Share of the collapsed edits that are at risk or worse."""
    precision: float = 0.95
    """Share of those that are likely to collapse, which did."""
    safe_below: float = SAFE_BELOW
    """P(collapse) that no safe edit reaches."""
    threshold: float | None = DEFAULT_RULE.threshold
    """Collapsed: perplexity above this."""
    ratio: float | None = DEFAULT_RULE.ratio
    """Collapsed: perplexity above so many times the unedited model's."""
    measure: Measure = DEFAULT_RULE.measure
    """Which figure of the text set is its perplexity."""

    def __post_init__(self) -> None:
        for name, share in (("recall", self.recall), ("precision", self.precision)):
            if not 0 < share <= 1:
                raise ResultsError(
                    f"--{name} {share:g}: it has to be a share above 0 and at most 1, such as 0.99."
                )
        if not 0 < self.safe_below < 1:
            raise ResultsError(
                f"--safe-below {self.safe_below:g}: it has to be a probability above 0 and below "
                "1, such as 0.05."
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """Result of a calibration."""

    rows: tuple[tuple[str, ForecastCalibrationRow], ...]
    """Model by model, with what its studies call it."""
    left_out: tuple[str, ...]
    """A sentence for each model whose edits give no thresholds."""


def calibrate(results: Path, wanted: Wanted) -> Calibration:
    """Return each model's thresholds, from its published edits with forecast and measurement.

    Args:
        results: the results folder.
        wanted: what the thresholds have to reach.

    Raises:
        ResultsError: there are no results yet, or no model has enough to tell the two kinds of
            edits apart.
    """
    rows, left_out = [], []
    with open_snapshot(results) as snapshot:
        for model_id, name in snapshot.execute(query_text("calibrated_models")).fetchall():
            rule = {
                "threshold": wanted.threshold,
                "ratio": wanted.ratio,
                "measure": wanted.measure,
            }
            answer = snapshot.sql(
                query_text("calibration_edits"), params=rule | {"model_id": model_id}
            )
            frame: pl.DataFrame = answer.pl()
            try:
                rows.append((name, _calibration_row(model_id, frame, wanted)))
            except ResultsError as error:
                left_out.append(f"{name}: {str(error).rstrip('.')}")
    if not rows:
        found = "; ".join(left_out) or "no edit has a forecast and a measurement"
        raise ResultsError(
            f"cannot calibrate the forecast from {results}: {found}. Forecast a study that has run "
            "and in which some edits collapse: editcollapse forecast STUDY.toml"
        )
    return Calibration(tuple(rows), tuple(left_out))


def _calibration_row(model_id: str, frame: pl.DataFrame, wanted: Wanted) -> ForecastCalibrationRow:
    """Return one model's calibration.

    Raises:
        ResultsError: its edits give no thresholds; the message says why.
    """
    n_edits, n_collapsed = frame.height, int(frame["is_collapsed"].sum())
    if not 0 < n_collapsed < n_edits:
        raise ResultsError(
            f"of {n_edits} edits with a forecast and a measurement {n_collapsed} collapsed, and "
            "both kinds are needed"
        )
    edits = Outcomes(
        frame["bound"].to_numpy(),
        frame["is_collapsed"].to_numpy(),
        frame["subject"].rank("dense").cast(pl.Int64).to_numpy(),
        np.zeros(n_edits, dtype=np.int64),
    )
    found = calibrated(edits, Targets(wanted.recall, wanted.precision, wanted.safe_below))
    data = frame.select("edit_id", "evaluation_id", "bound", "is_collapsed").rows()
    curve = found.curve
    data_digest, held_out = digest("calibrated edits", data), found.held_out
    return ForecastCalibrationRow(
        calibration_id=digest(
            "calibration", NUMERICS, model_id, data_digest, canonical_without(wanted, "measure")
        ),
        calibrated_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        data_digest=data_digest,
        collapse_threshold=wanted.threshold,
        collapse_ratio=wanted.ratio,
        collapse_measure=wanted.measure,
        wanted_recall=wanted.recall,
        wanted_precision=wanted.precision,
        n_edits=n_edits,
        n_collapsed=n_collapsed,
        n_models=1,
        numerics=NUMERICS,
        auc=found.auc,
        largest_normal=found.largest_normal,
        smallest_collapsed=found.smallest_collapsed,
        at_risk_at=found.at_risk_at,
        collapse_at=found.collapse_at,
        model_id=model_id,
        safe_below=wanted.safe_below,
        never_safe_from=found.never_safe_from,
        intercept=None if curve is None else curve.intercept,
        slope=None if curve is None else curve.slope,
        intercepts=None if curve is None else list(curve.intercepts),
        slopes=None if curve is None else list(curve.slopes),
        brier=found.brier,
        n_subjects=frame["subject"].n_unique(),
        held_out_flagged=None if held_out is None else held_out.n_flagged,
        held_out_caught=None if held_out is None else held_out.n_caught,
        held_out_brier=None if held_out is None else held_out.brier,
    )


def thresholds(results: Path, model_id: str, rule: CollapseRule | None = None) -> Thresholds:
    """Return the thresholds that verdicts on a model's edits use: its own, or the default.

    Args:
        results: the results folder.
        model_id: the model.
        rule: the collapse rule that the model was calibrated by; None: whichever was used last.

    Raises:
        ResultsError: there are no results yet.
    """
    asked = {"model_id": model_id, "any_rule": rule is None}
    asked |= dataclasses.asdict(rule or DEFAULT_RULE)
    with open_snapshot(results) as snapshot:
        found = snapshot.execute(query_text("thresholds"), asked).fetchone()
    if found is None:
        return default_thresholds()
    at_risk_at, collapse_at, calibration_id, n_edits, n_collapsed, never_safe_from, *curve = found
    intercept, slope, intercepts, slopes = curve
    return Thresholds(
        at_risk_at,
        collapse_at,
        calibration_id,
        n_edits,
        n_collapsed,
        is_default=False,
        curve=(
            None
            if slope is None
            else CollapseCurve(intercept, slope, tuple(intercepts), tuple(slopes))
        ),
        never_safe_from=never_safe_from,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class JobRate:
    """What jobs of one kind took of one model, all together."""

    n_jobs: int
    n_items: int
    """What they made: edits, tokens, texts."""
    seconds: float
    device: str
    """``none`` where they need no device."""


def job_rates(
    results: Path, model_id: str, *, machine: str, n_methods: int, evaluation_id: str
) -> dict[str, JobRate]:
    """Return kind of job to what such jobs took, on the device that was used last.

    Args:
        results: the results folder.
        model_id: the model.
        machine: as provenance names it.
        n_methods: of the study, for edits and measurements.
        evaluation_id: what models are measured on.

    Raises:
        ResultsError: there are no results yet.
    """
    asked = {
        "model_id": model_id,
        "machine": machine,
        "n_methods": n_methods,
        "evaluation_id": evaluation_id,
    }
    rows = ask_named(results, "job_rates", asked).iter_rows(named=True)
    return {row.pop("kind"): JobRate(**row) for row in rows}


@dataclasses.dataclass(frozen=True, slots=True)
class EditReport:
    """One edit: its forecast, what was decided, and what the edit that was made did."""

    study: str
    study_id: str
    model: str
    layer: int
    """The last one, of an editor of several."""
    layers: list[int]
    method: str
    subject: str
    prompt: str
    target_new: str
    verdict: str
    """On the edit as asked; not known of editors beyond rank one, which have no bound."""
    text_change_bound: float | None
    at_risk_at: float | None
    collapse_at: float | None
    calibration_id: str | None
    policy: str | None
    """None without a guard."""
    decision: str
    reason: str
    edit_id: str | None
    """None where it was refused, as all that follows."""
    made_method: str | None
    made_prompt: str | None
    perplexity_before: float | None
    perplexity: float | None
    perplexity_ratio: float | None
    efficacy: float | None
    efficacy_prefix_mean: float | None
    text_change: float | None
    """The largest of a layer."""


def edit_report(results: Path, study_id: str) -> EditReport | None:
    """Return the report on a study's only edit; None where its model cannot take the request.

    Raises:
        ResultsError: there are no results.
    """
    with open_snapshot(results) as snapshot:
        found = snapshot.sql(query_text("edit_report"), params={"study_id": study_id}).pl()
    return EditReport(**found.row(0, named=True)) if found.height else None


def rejection_of(results: Path, study_id: str) -> str:
    """Return the reason why the model of such a study cannot take its request.

    Raises:
        ResultsError: there are no results.
    """
    with open_snapshot(results) as snapshot:
        found = snapshot.sql(query_text("edit_rejection"), params={"study_id": study_id}).pl()
    return str(found["reason"].item())


@dataclasses.dataclass(frozen=True, slots=True)
class AnatomyFinding:
    """One observation on one model of a study."""

    model: str
    """Its name in the study."""
    layer: int
    grouping: str
    observation: str
    value: float
    low: float
    high: float
    n_group: int
    n_others: int
    interval: str
    statement: str


def rome_outcomes(
    results: Path, study_id: str, model: ModelSetup, rule: CollapseRule
) -> tuple[RomeOutcome, ...]:
    """Return the outcomes of ROME's edits of one model, as last published.

    Args:
        results: the results folder.
        study_id: the study.
        model: the model as the study uses it.
        rule: when an edit counts as a collapse.

    Raises:
        ResultsError: there are no results yet.
    """
    asked = {"study_id": study_id, "model_id": model.model_id, "layer": model.layer}
    with open_snapshot(results) as snapshot:
        frame: pl.DataFrame = snapshot.sql(
            query_text("rome_outcomes"), params=asked | dataclasses.asdict(rule)
        ).pl()
    return tuple(RomeOutcome(**row) for row in frame.iter_rows(named=True))


def anatomy_findings(
    results: Path, study_id: str, rule: CollapseRule
) -> tuple[AnatomyFinding, ...]:
    """Return the findings of a root-cause study, as last published, model by model.

    Args:
        results: the results folder.
        study_id: the study.
        rule: when an edit counted as a collapse.

    Raises:
        ResultsError: there are no results yet.
    """
    with open_snapshot(results) as snapshot:
        frame: pl.DataFrame = snapshot.sql(
            query_text("anatomy_findings"), params={"study_id": study_id} | dataclasses.asdict(rule)
        ).pl()
    names = [field.name for field in dataclasses.fields(AnatomyFinding)]
    return tuple(AnatomyFinding(**row) for row in frame.select(names).iter_rows(named=True))


@dataclasses.dataclass(frozen=True, slots=True)
class EditorSequences:
    """The sequences of one editor on one model of a study, over the orders of the requests."""

    model: str
    """Its name in the study."""
    editor: str
    """Its name in the study."""
    method: str
    """Its name in the catalog."""
    n_edits: int
    """Edits that are asked for in a sequence."""
    n_collapsed: int
    n_orders: int
    """Sequences, one an order."""
    median: int | None
    """Edits until half of them have collapsed, by Kaplan and Meier; None: not reached, as all that
    may be None below it."""
    median_low: int | None
    median_high: int | None
    earliest: int | None
    latest: int | None
    alive: float
    """Share that leaves the model alive at the end, and the 95 % interval of it."""
    lower: float
    upper: float
    followed_to: int
    """Edits at the last checkpoint of any of them."""
    final_efficacy: float | None
    """Mean over the edits of each at its last checkpoint, then over the orders."""
    text_change: float | None
    """Median over the orders at the last step."""
    n_guarded: int
    """Sequences in which a guard has skipped, stopped or rolled back a step."""
    n_unusable: int
    """Requests of the dataset that the model cannot take."""


def editor_sequences(
    results: Path, study_id: str, rule: CollapseRule | None = None
) -> tuple[EditorSequences, ...]:
    """Return how a study's sequences end, as last published; empty where it has none.

    Args:
        results: the results folder.
        study_id: an id of table ``studies``.
        rule: when a model counts as collapsed; None: as the study states it.

    Raises:
        ResultsError: there are no results yet, or they do not hold this study.
    """
    rule = rule or study_rule(results, study_id)
    asked = {"study_id": study_id} | dataclasses.asdict(rule)
    return editor_sequences_in(ask_named(results, "sequences_in_study", asked))


def editor_sequences_in(frame: pl.DataFrame) -> tuple[EditorSequences, ...]:
    """Return the rows of query ``sequences_in_study``, by model and editor in their order."""
    return tuple(EditorSequences(**row) for row in frame.iter_rows(named=True))


@dataclasses.dataclass(frozen=True, slots=True)
class FactCounts:
    """The facts of a tuning by what they are used for."""

    known_by: str
    """``greedy`` or ``likelier``: the rule that they count as known by."""
    n_tuning: int
    n_held_out: int
    n_unknown: int
    n_left_over: int
    n_asked: int


def tuning_trials(results: Path, tuning_id: str) -> list[TuningTrialRow]:
    """Return the published trials of a tuning, in the order in which they were made.

    Raises:
        ResultsError: there are no results yet.
    """
    frame = ask_named(results, "tuning_trials", {"tuning_id": tuning_id})
    return list(rows_of("tuning_trials", frame))


def fact_counts(results: Path, fact_set_id: str) -> FactCounts:
    """Return how a tuning's facts are parted.

    Raises:
        ResultsError: there are no results yet, or no such facts in them.
    """
    frame = ask_named(results, "tuning_facts", {"fact_set_id": fact_set_id})
    if frame.is_empty():
        raise ResultsError(
            "the facts of the tuning are not in the database. Run the same command again."
        )
    return FactCounts(**frame.row(0, named=True))


def check_findings(results: Path, check_id: str, name: str) -> CheckFindings:
    """Return what a check has found, as it is published.

    Args:
        results: the results folder.
        check_id: of the check.
        name: what it calls the edited model.

    Raises:
        ResultsError: there are no results yet, or no such check in them.
    """
    asked = {"check_id": check_id}
    checks = rows_of("checks", ask_named(results, "check", asked))
    names = rows_of("check_names", ask_named(results, "check_name", asked | {"name": name}))
    if not checks or not names:
        raise ResultsError("the check is not in the database. Run the same command again.")
    return findings_of(
        checks[0],
        names[0],
        rows_of("check_tensors", ask_named(results, "check_tensors", asked)),
        rows_of("check_scores", ask_named(results, "check_scores", asked)),
    )
