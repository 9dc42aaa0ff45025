"""A study's forecasts on a narrow terminal: a short table, worst first, and what to use instead."""

import dataclasses
import math
import re

import pytest
from rich.cells import cell_len

from editcollapse.forecast.defaults import default_thresholds
from editcollapse.forecast.verdicts import (
    ForecastReport,
    ModelThresholds,
    RequestForecast,
    judged,
)
from flows.cli.output.verdicts import show_study
from tests.support.forecast_rows import POSITION, ROW

WIDTH = 80
_STYLES = re.compile(r"\x1b\[[0-9;]*m")
LIMITS = dataclasses.replace(default_thresholds(), at_risk_at=2.5, collapse_at=17.0)
"""The default with thresholds that stay where they are when models are added to its data."""
_MODEL = "Llama-3.2-3B-Instruct"


def forecast_of(
    subject, prompt="{} is the mother tongue of everybody who was born there", **bounds
):
    """Return a request's forecast with a bound a method."""
    rows = [
        dataclasses.replace(ROW, method=name, text_change_bound=bound)
        for name, bound in bounds.items()
    ]
    methods = judged(rows, POSITION, LIMITS)
    return RequestForecast(_MODEL, 1, subject, prompt, "blue", POSITION, methods)


def report_of(*requests):
    """Return a report on a model without a calibration."""
    basis = ModelThresholds(_MODEL, LIMITS, LIMITS.basis)
    return ForecastReport((basis,), requests)


@pytest.fixture
def told(monkeypatch, capsys):
    """Return a function that gives what is printed of a report, without styles."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("FORCE_COLOR", "1")

    def show(report, methods, n_shown=10):
        show_study(report, methods, n_shown)
        out = _STYLES.sub("", capsys.readouterr().out)
        assert all(cell_len(line) <= WIDTH for line in out.splitlines()), out
        return out

    return show


def test_worst_edits_are_a_row_each(told):
    """Ten of them, the worst first, with the verdict of each method; the model's name is whole."""
    many = [forecast_of(f"Place{i}", rome=20.0 + i, c_rome=1.0) for i in range(15)]
    out = told(report_of(*many), ("rome", "c_rome"))
    rows = [line for line in out.splitlines() if "Place" in line]
    assert [re.search("Place[0-9]+", row)[0] for row in rows] == [
        f"Place{i}" for i in range(14, 4, -1)
    ]
    assert all(row.startswith(f"{_MODEL} ") and "\N{HORIZONTAL ELLIPSIS}" in row for row in rows)
    assert all(row.split()[-2:] == ["likely", "safe"] for row in rows)
    assert "the worst first (10 of 15)" in out
    assert "use c_rome: safe for 15 of 15" in out
    assert "will collapse" not in out
    assert len(out.splitlines()) < 45


def test_as_many_as_asked_are_listed(told):
    """The number, or all."""
    many = report_of(*(forecast_of(f"Place{i}", rome=20.0 + i) for i in range(15)))
    assert told(many, ("rome",), 3).count("Place") == 3
    assert told(many, ("rome",), None).count("Place") == 15


def test_method_to_use_has_a_column_where_the_study_lacks_it(told):
    """A study of ROME alone is told what is safe; without a safe method, what else to do."""
    out = told(report_of(forecast_of("Oslo", rome=50.0, c_rome=1.0)), ("rome",))
    (row,) = [line for line in out.splitlines() if "Oslo" in line]
    assert row.split()[-2:] == ["likely", "safe"]
    out = told(report_of(forecast_of("Oslo", rome=50.0, c_rome=9.0)), ("rome",))
    assert "no method is safe for 1 of 1: put a text before" in " ".join(out.split())


def test_undefined_bound_is_the_worst(told):
    """What cannot be compared comes first."""
    requests = [forecast_of("Oslo", rome=90.0), forecast_of("Bern", rome=math.nan)]
    out = told(report_of(*requests), ("rome",))
    assert out.index("Bern") < out.index("Oslo")


def test_safe_studies_are_told_in_a_line(told):
    """Without an edit to warn of there is no list."""
    out = told(report_of(forecast_of("Oslo", rome=1.0)), ("rome",))
    assert "every edit by the study's methods is safe" in out
    assert "Oslo" not in out
