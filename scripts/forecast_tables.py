"""Tables of docs/results.md on the forecast: from the package's edits and the demo's rows."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from editcollapse.forecast.defaults import default_thresholds, left_out_models
from editcollapse.forecast.measured import MeasuredModel, measured_data
from editcollapse.forecast.verdicts import verdict_of
from scripts.markdown import table
from storage.ask import ask

_SKILL = "from forecast_skill where study = 'demo' and method = 'rome'"
_CALIBRATIONS = """
    select model_names.model, calibrations.*
    from forecast_calibrations as calibrations
    inner join model_names using (model_id)
    order by model
"""


def measured_models() -> str:
    """Return a row for each model and layer: its edits, and the default verdicts on them."""
    head = (
        "model",
        "start token",
        "layer",
        "study",
        "edits",
        "collapsed",
        "smallest bound of a collapse",
        "largest bound",
        "called safe",
        "not known",
        "safe and collapsed",
    )
    return table(head, map(_model_cells, measured_data().models))


def _model_cells(model: MeasuredModel) -> list[str]:
    limits, support = default_thresholds(), model.n_tokens / model.d_key
    bounds, collapsed = model.edits.text_change_bound, model.collapsed
    verdicts = [verdict_of(bound, support, limits) for bound in bounds]
    lost = [bound for bound, is_lost in zip(bounds, collapsed, strict=True) if is_lost]
    both = sum(
        is_lost and verdict == "safe" for is_lost, verdict in zip(collapsed, verdicts, strict=True)
    )
    return [
        model.model,
        "yes" if model.start_token else "no",
        f"{model.layer} of 0-{model.n_layers - 1}",
        model.study,
        str(len(bounds)),
        str(len(lost)),
        f"{min(lost):.3g}" if lost else "",
        f"{max(bounds):.3g}",
        str(verdicts.count("safe")),
        str(verdicts.count("not known")),
        str(both),
    ]


def left_out() -> str:
    """Return a row for each model, how thresholds of all other models do on it, and a sum."""
    head = (
        "model left out",
        "at risk from, by the others",
        "edits",
        "collapsed",
        "safe and collapsed",
        "recall",
        "precision",
        "Brier score",
    )
    rows = []
    models = left_out_models(measured_data().models)
    n_missed = sum(each.verdicts.n_false_safe for each in models)
    n_lost = sum(each.verdicts.n_collapsed for each in models)
    for each in models:
        found = each.verdicts
        rows.append(
            [
                each.model,
                f"{each.at_risk_at:.3g}",
                str(found.n_edits),
                str(found.n_collapsed),
                str(found.n_false_safe),
                _share(found.n_caught, found.n_collapsed),
                _share(found.n_caught, found.n_flagged),
                f"{found.brier:.2g}",
            ]
        )
    total = f"Collapses of a left-out model called safe: {n_missed} of {n_lost}."
    return f"{table(head, rows)}\n{total}\n"


def probabilities() -> str:
    """Return P(collapse) of a model without a calibration at some bounds."""
    bounds = (0.1, 0.2, 0.35, 0.7, 1.5, 3.0, 6.0, 12.0, 25.0, 50.0, 100.0)
    curve = default_thresholds().curve
    assert curve is not None
    return table(
        ("change bound", "P(collapse)"), ([f"{each:g}", str(curve.at(each))] for each in bounds)
    )


def thresholds() -> str:
    """Return the default thresholds as a sentence, and what they were taken from."""
    limits, models = default_thresholds(), measured_data().models
    n_edits = sum(len(each.collapsed) for each in models)
    n_collapsed = sum(sum(each.collapsed) for each in models)
    return (
        f"{n_edits:,} edits of {len({each.model for each in models})} models, {n_collapsed} of "
        f"which collapsed. By default edits are *at risk* from {limits.at_risk_at:.3g} on and "
        f"*likely to collapse* from {limits.collapse_at:.3g} on, where P(collapse) is a half.\n"
    )


def demo_skill(results: Path) -> str:
    """Return how the demo's own calibrations do on the demo's edits."""
    head = (
        "model, ROME",
        "edits",
        "collapsed",
        "AUC",
        "precision",
        "recall",
        "precision of likely",
        "recall of likely",
    )
    names = ("precision", "recall", "certain_precision", "certain_recall")
    rows = [
        [
            row["model"],
            *(str(row[name]) for name in ("n_edits", "n_collapsed")),
            _number(row["auc"]),
            *(_interval(row, name) for name in names),
        ]
        for row in ask(results, _SKILL).iter_rows(named=True)
    ]
    return table(head, rows)


def demo_calibrations(results: Path) -> str:
    """Return the demo's calibrations: thresholds, and how they do on subjects held out."""
    head = (
        "model",
        "at risk from",
        "likely from",
        "largest bound of a normal edit",
        "smallest of a collapsed one",
        "held out: collapsed, of these called safe",
        "held out: Brier score",
    )
    rows = []
    for row in ask(results, _CALIBRATIONS).iter_rows(named=True):
        caught = row["held_out_caught"]
        missed = "" if caught is None else f"{row['n_collapsed']}, {row['n_collapsed'] - caught}"
        figures = ("at_risk_at", "collapse_at", "largest_normal", "smallest_collapsed")
        rows.append(
            [
                row["model"],
                *(_number(row[name]) for name in figures),
                missed,
                _number(row["held_out_brier"]),
            ]
        )
    return table(head, rows)


def _share(k: int, n: int) -> str:
    """Return a share with its 95 % Wilson interval; empty where there is nothing to have one in."""
    if n == 0:
        return ""
    reach = binomtest(k, n).proportion_ci(method="wilson")
    return f"{k} of {n}, {k / n:.2f} ({reach.low:.2f}-{reach.high:.2f})"


def _interval(row: dict[str, Any], name: str) -> str:
    if row[name] is None:
        return ""
    return f"{row[name]:.2f} ({row[f'{name}_low']:.2f}-{row[f'{name}_high']:.2f})"


def _number(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.3g}"
