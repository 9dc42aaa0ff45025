"""The collapse rule: the same answer as the database's macro, and no rule that cannot be meant."""

import itertools
import math
from pathlib import Path
from string import Template

import duckdb
import pytest

from editcollapse.errors import StudyError
from editcollapse.rows.collapse_rule import DEFAULT_RULE, CollapseRule, otherwise

_MACRO = Path(__file__).resolve().parents[3] / "storage" / "sql" / "views" / "10_collapsed.sql"

_NUMBERS = (None, 0.5, 5.0, 50.0, 500.0, 1000.0, 1000.1, 2e4, math.inf, math.nan)
_BOUNDS = (None, 0.5, 10.0, 1000.0)


def test_rule_is_the_databases():
    """For every known and unknown perplexity and bound the macro says what the type says."""
    cases = list(itertools.product(_NUMBERS, _NUMBERS, _BOUNDS, _BOUNDS))
    with duckdb.connect() as connection:
        bounds = {
            "threshold": "null",
            "ratio": "null",
            "measure": "'mean'",
        }  # of the macro beside it
        connection.execute(Template(_MACRO.read_text()).substitute(bounds))
        for perplexity, before, threshold, ratio in cases:
            by_macro = connection.execute(
                "select collapsed($1::double, $2::double, $3::double, $4::double)",
                [perplexity, before, threshold, ratio],
            ).fetchall()
            ours = CollapseRule(threshold, ratio).collapsed(perplexity, before)
            assert by_macro == [(ours,)], (perplexity, before, threshold, ratio)


def test_measure_is_one_of_three():
    """A rule by another figure of the texts is refused in words."""
    with pytest.raises(StudyError, match="measure is 'max'; give mean, nll or median"):
        CollapseRule(measure="max")


@pytest.mark.parametrize(
    ("measure", "counts", "said"),
    [
        ("mean", (18, 11), " (11 by exp(mean NLL))"),
        ("mean", (18, 18), ""),
        ("nll", (18, 11), " (18 by the mean over texts)"),
        ("median", (18, 11), " (18 by the mean over texts)"),
    ],
)
def test_the_other_measure_s_count_is_told_where_it_differs(measure, counts, said):
    """A count that hangs on the measure has the other one's beside it; in SQL by its short name."""
    row = dict(zip(("n_by_mean", "n_by_nll"), counts, strict=True)) | {"n_by_median": 3}
    assert otherwise(row, measure) == said
    with duckdb.connect() as connection:
        bounds = {"threshold": "null", "ratio": "null", "measure": "'mean'"}
        connection.execute(Template(_MACRO.read_text()).substitute(bounds))
        query = "select by_other_measure($1, $2, $3, $4)"
        asked = [row[f"n_by_{measure}"], measure, *counts]
        short = said.replace("exp(mean NLL)", "nll").replace("the mean over texts", "mean")
        assert connection.execute(query, asked).fetchall() == [(short,)]


@pytest.mark.parametrize("bound", [0, -1.0, math.nan, math.inf, True, "7"])
@pytest.mark.parametrize("name", ["threshold", "ratio"])
def test_impossible_bound_is_refused(name, bound):
    """A bound is a positive finite number, or none."""
    with pytest.raises(StudyError, match=f"{name} is .* give a positive finite number"):
        CollapseRule(**{name: bound})


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (
            DEFAULT_RULE,
            (
                "collapsed: perplexity above 1000 (and not so unedited), above 10 times the "
                "unedited model's, or no finite number"
            ),
        ),
        (
            CollapseRule(None, 2.5),
            "collapsed: perplexity above 2.5 times the unedited model's, or no finite number",
        ),
        (
            CollapseRule(None, 2.5, "nll"),
            (
                "collapsed: perplexity (exp(mean NLL)) above 2.5 times the unedited model's, or "
                "no finite number"
            ),
        ),
        (CollapseRule(None, None), "collapsed: perplexity no finite number"),
    ],
)
def test_rule_is_told_in_a_sentence(rule, said):
    """The sentence names each bound that counts, and no other."""
    assert rule.sentence() == said
