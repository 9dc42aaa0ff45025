"""Findings in sentences: each follows from its rows, and changes with them."""

import dataclasses
import math

import polars as pl
import pytest

from editcollapse.rows.collapse_rule import DEFAULT_RULE
from reports import sections
from reports.text import interval, number, percent
from storage.ask import Answer, StudyFindings

_EMPTY = Answer("select 1", pl.DataFrame())


def row(model, method, n_collapsed, n_edits, low, high, worst=1.1, by_nll=None):
    """Return one row of the incidence."""
    return {
        "model": model,
        "method": method,
        "n_collapsed": n_collapsed,
        "n_edits": n_edits,
        "n_by_mean": n_collapsed,
        "n_by_nll": n_collapsed if by_nll is None else by_nll,
        "share": n_collapsed / n_edits,
        "wilson_low": low,
        "wilson_high": high,
        "max_perplexity_ratio": worst,
    }


INCIDENCE = [
    row("a", "c_rome", 0, 50, 0.0, 0.07),
    row("a", "rome", 20, 50, 0.28, 0.54, math.inf, by_nll=12),
    row("b", "c_rome", 1, 50, 0.01, 0.10, 1514.2),
    row("b", "rome", 2, 50, 0.01, 0.13, 12.0),
]
LAST_TOKENS = [{"model": "a", "n_differ": 3, "n_requests": 50}]
DENOMINATORS = [
    {"model": "a", "method": "rome", "outcome": "collapsed", "n_edits": 20, "median": 0.01},
    {"model": "a", "method": "rome", "outcome": "normal", "n_edits": 30, "median": 1.5},
    {"model": "b", "method": "rome", "outcome": "normal", "n_edits": 50, "median": 1.4},
]


@pytest.fixture
def found():
    """Return a study's findings."""
    frame = pl.DataFrame({"model": ["a", "b"]})
    return StudyFindings(
        study_id="s",
        rule=DEFAULT_RULE,
        name="n",
        description="",
        note="",
        methods=("rome", "c_rome"),
        templates="five_words",
        seed=0,
        numerics=1,
        dataset="facts",
        schema="counterfact",
        n_records=60,
        n_rejected=10,
        text_set="texts",
        n_texts=3,
        n_requests=50,
        n_edits=200,
        n_measured=200,
        settings=_EMPTY,
        models=Answer("", frame),
        incidence=Answer("", pl.DataFrame(INCIDENCE)),
        positions=_EMPTY,
        last_tokens=Answer("", pl.DataFrame(LAST_TOKENS)),
        denominators=Answer("", pl.DataFrame(DENOMINATORS)),
        worst=_EMPTY,
        comparison=_EMPTY,
        guard=_EMPTY,
        editing=_EMPTY,
        sequences=_EMPTY,
        sequence_success=_EMPTY,
        sequence_forecast=_EMPTY,
        downstream=_EMPTY,
        answers=_EMPTY,
        runs=_EMPTY,
    )


def plain(lines):
    """Return sentences with ordinary spaces."""
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def test_incidence_tells_the_most_frequent_first(found):
    """Collapses by share, then what was spared, then which intervals lie apart."""
    assert plain(sections.incidence(found)) == [
        (
            "ROME on a: 20 of 50 edits (12 by exp(mean NLL)) collapse the model "
            "(40 %, 95 % interval 28 to 54 %); "
            "the worst makes perplexity infinite."
        ),
        (
            "ROME on b: 2 of 50 edits collapse the model (4 %, 95 % interval 1 to 13 %); "
            "the worst multiplies perplexity by 12."
        ),
        (
            "C-ROME on b: 1 of 50 edits collapse the model (2 %, 95 % interval 1 to 10 %); "
            "the worst multiplies perplexity by 1,514."
        ),
        "None of 50 edits collapses the model (0 %, 95 % interval 0 to 7 %): C-ROME on a.",
        "On a the interval of ROME lies wholly above that of C-ROME.",
        "On b no method's interval lies wholly above another's.",
    ]


def test_other_last_tokens_are_told(found):
    """The model, how many of its requests, and what that means for the keys."""
    (sentence,) = plain(sections.last_tokens(found))
    assert sentence.startswith("a, 3 of 50 requests: in its contexts the subject ends with a token")
    assert plain(sections._positions(found).sentences) == [sentence]


def test_denominators_are_compared(found):
    """The others' median as a multiple of that of the edits that collapse."""
    assert list(sections.denominators(found)) == [
        (
            "ROME on a: the median |denominator| of the 20 edits that collapse is 0.01, "
            "of the others 1.5: 150 times as large."
        )
    ]


@pytest.mark.parametrize(
    ("n_measured", "words"),
    [
        (200, "all 200 edits are measured."),
        (7, "7 of 200 edits are measured so far."),
        (0, "no edit is measured yet."),
    ],
)
def test_coverage_counts_what_is_measured(found, n_measured, words):
    """A report in the middle of a study says that it is one; rejected records are told."""
    first, second = sections.coverage(dataclasses.replace(found, n_measured=n_measured))
    assert first == f"2 models, 2 methods, 50 requests: {words}"
    assert second.startswith("10 of 60 records of the dataset could not be used")


def test_nothing_measured_is_told(found):
    """Without a measured edit there is no worst one; with harmless ones there is none either."""
    none = dataclasses.replace(found, n_measured=0)
    assert list(sections.worst(none)) == ["No edit has been measured."]
    assert list(sections.worst(found)) == ["No edit raised perplexity more than 2-fold."]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0.0, "0"),
        (1.0652, "1.07"),
        (0.0000276, "2.76e-05"),
        (1513.6, "1,514"),
        (12345678.0, "1.23e+07"),
        (math.inf, "infinite"),
        (math.nan, "undefined"),
    ],
)
def test_numbers_have_few_figures(value, text):
    """No number has seventeen digits; what is no number has a word."""
    assert number(value) == text


def test_shares_are_percent():
    """One decimal where it says something."""
    assert plain([percent(0.5), percent(0.125), interval(0.0, 0.0289)]) == [
        "50 %",
        "12.5 %",
        "0 to 2.9 %",
    ]
