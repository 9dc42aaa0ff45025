"""Forecasts and calibrations for the terminal."""

from collections import Counter
from collections.abc import Sequence

import polars as pl
from rich.table import Table

from editcollapse.forecast.verdicts import (
    ForecastReport,
    MethodVerdict,
    ModelThresholds,
    RequestForecast,
    Verdict,
)
from flows.terminal import console, plain, print_frame
from reports.text import POSITIONS
from storage.readers import Calibration

_SHOWN = 20
"""Requests that are listed; the database has all."""
_VERDICTS: tuple[Verdict, ...] = ("will collapse", "at risk", "safe")
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
)


def show_study(report: ForecastReport, methods: Sequence[str]) -> None:
    """Print how many edits of each model and method have which verdict, and the worst of them.

    Args:
        report: of a study.
        methods: the study's own; only these are listed one by one.
    """
    screen = console()
    counts = Table(title="forecast")
    for name in ("model", "method", *_VERDICTS, "largest change bound"):
        counts.add_column(name, justify="left" if name in {"model", "method"} else "right")
    for model in dict.fromkeys(request.model for request in report.requests):
        found = [each for one in report.requests if one.model == model for each in one.methods]
        for method in dict.fromkeys(each.forecast.method for each in found):
            ours = [each for each in found if each.forecast.method == method]
            n_of = Counter(each.verdict for each in ours)
            largest = max(each.forecast.text_change_bound for each in ours)
            cells = (model, method, *(str(n_of[name]) for name in _VERDICTS), f"{largest:.3g}")
            counts.add_row(*(plain(cell) for cell in cells))
    screen.print(counts)
    for basis in basis_lines(report.basis):
        screen.print(basis, markup=False, soft_wrap=True)
    for sentence in report.unusable:
        screen.print(sentence, markup=False, soft_wrap=True)
    doubtful = [
        (one, each)
        for one in report.requests
        for each in one.methods
        if each.verdict != "safe" and each.forecast.method in methods
    ]
    doubtful.sort(key=lambda pair: -pair[1].forecast.text_change_bound)
    for one, each in doubtful[:_SHOWN]:
        screen.print(_line(one, each), markup=False, soft_wrap=True)
    if len(doubtful) > _SHOWN:
        screen.print(
            f"and {len(doubtful) - _SHOWN} more: python -m flows sql "
            "\"from forecast_verdicts where verdict <> 'safe'\"",
            markup=False,
            soft_wrap=True,
        )


def show_one(report: ForecastReport) -> None:
    """Print the forecast of one edit: where the subject stands, then each method's verdict."""
    screen = console()
    (one,) = report.requests
    place = one.position
    screen.print(
        f"{one.prompt.replace('{}', one.subject)} -> {one.target_new}\n"
        f"subject: {POSITIONS.get(place.subject_position, place.subject_position)}; tokens "
        f"{place.subject_first_index} to {place.subject_last_index} of the input, the last "
        f"{place.subject_last_token!r}",
        markup=False,
        soft_wrap=True,
    )
    table = Table(title=plain(f"forecast for {one.model}, layer {one.layer}"))
    for name in (
        "method",
        "verdict",
        "change bound",
        "norm bound",
        "over ‖W‖",
        "k0 . u",
        "kbar . u",
        "rho",
    ):
        table.add_column(name, justify="left" if name in {"method", "verdict"} else "right")
    for each in one.methods:
        row = each.forecast
        numbers = (
            row.text_change_bound,
            row.certified_bound,
            row.relative_bound,
            row.bare_key_dot,
            row.prefixed_key_dot,
            row.rho,
        )
        table.add_row(row.method, each.verdict, *(f"{number:.4g}" for number in numbers))
    screen.print(table)
    for each in one.methods:
        screen.print(
            f"{each.forecast.method}: {each.verdict}. {each.why}", markup=False, soft_wrap=True
        )
    screen.print(report.basis[0].basis, markup=False, soft_wrap=True)


def show_calibration(found: Calibration, skill: pl.DataFrame) -> None:
    """Print each model's thresholds, what they were taken from, and how well they do there."""
    screen = console()
    for name, row in found.rows:
        screen.print(
            f"{name}: at risk from a change bound of {row.at_risk_at:.4g} on, will collapse from "
            f"{row.collapse_at:.4g}; from {row.n_edits} measured edits, {row.n_collapsed} of which "
            f"collapsed; AUC {row.auc:.4f}\nlargest bound of a normal edit "
            f"{row.largest_normal:.4g}, smallest of a collapsed one {row.smallest_collapsed:.4g}; "
            f"stored as {row.calibration_id}",
            markup=False,
            soft_wrap=True,
        )
    for sentence in found.left_out:
        screen.print(f"default thresholds for {sentence}", markup=False, soft_wrap=True)
    print_frame(skill.select(_SKILL))


def basis_lines(found: Sequence[ModelThresholds]) -> list[str]:
    """Return what verdicts rest on, once for all models that share it."""
    models: dict[str, list[str]] = {}
    for each in found:
        models.setdefault(each.basis, []).append(each.model)
    return [f"{', '.join(names)}: {basis}" for basis, names in models.items()]


def _line(one: RequestForecast, each: MethodVerdict) -> str:
    """Return one edit's verdict in a line."""
    prompt = one.prompt.replace("{}", one.subject)
    return f"{each.verdict}: {one.model}, {prompt!r} -> {one.target_new!r}: {each.why}"
