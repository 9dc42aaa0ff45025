"""Verdicts: two thresholds, a sentence, and what to use instead."""

import dataclasses
import math

import pytest

from editcollapse.forecast.defaults import default_thresholds
from editcollapse.forecast.verdicts import (
    SUPPORTED_TOKENS_PER_D_KEY,
    Thresholds,
    by_request,
    judged,
    supported_tokens,
    verdict_of,
)
from editcollapse.rows.study import ForecastRow
from tests.support.forecast_rows import POSITION, ROW

CALIBRATED = Thresholds(2.0, 20.0, "c1", 500, 40, is_default=False)
_INSIDE = dataclasses.replace(POSITION, subject_position="inside", is_first_token=False)


def rows(**bounds: float) -> list[ForecastRow]:
    """Return a row for each method with its bound."""
    return [
        dataclasses.replace(ROW, method=name, text_change_bound=bound)
        for name, bound in bounds.items()
    ]


@pytest.mark.parametrize(
    ("bound", "verdict"),
    [
        (0.0, "safe"),
        (1.999, "safe"),
        (2.0, "at risk"),
        (19.9, "at risk"),
        (20.0, "will collapse"),
        (math.inf, "will collapse"),
        (math.nan, "will collapse"),
    ],
)
def test_verdict_changes_at_the_thresholds(bound, verdict):
    """From a threshold on, it holds; what is no number is not safe."""
    assert verdict_of(bound, None, CALIBRATED) == verdict
    assert verdict_of(bound, SUPPORTED_TOKENS_PER_D_KEY, CALIBRATED) == verdict
    assert verdict_of(bound, SUPPORTED_TOKENS_PER_D_KEY - 0.01, CALIBRATED) == "not known"


def test_nothing_is_known_of_a_small_c():
    """Below the support of C no method is safe, and the sentence says how many tokens are."""
    few = [
        dataclasses.replace(row, n_tokens=260, tokens_per_d_key=260 / 256)
        for row in rows(rome=0.02, c_rome=0.01)
    ]
    one, two = judged(few, POSITION, CALIBRATED)
    assert (one.verdict, two.verdict, one.instead) == ("not known", "not known", None)
    assert one.why.startswith("C has 1.0 tokens per dimension (260 for 256)")
    assert one.why.endswith(f"take at least {supported_tokens(256):,}.")


def test_the_paper_s_remedy_comes_first():
    """Of the safe methods C-ROME is named, else the next; a safe method needs none."""
    one, two, three = judged(rows(rome=50, c_rome=1.5, p_rome=1.0), POSITION, CALIBRATED)
    assert (one.verdict, one.instead) == ("will collapse", "c_rome")
    assert (two.instead, three.instead) == (None, None)
    (again, *_) = judged(rows(rome=5, c_rome=3, p_rome=1.0), POSITION, CALIBRATED)
    assert (again.verdict, again.instead) == ("at risk", "p_rome")
    (alone,) = judged(rows(rome=50), POSITION, CALIBRATED)
    assert alone.instead is None
    assert "No method is safe here: put a text before the prompt" in alone.why


def test_sentence_says_why_and_what_to_do():
    """The denominator, rho, the bound, the place and the way out stand in the sentence."""
    (found, safe) = judged(rows(rome=50, c_rome=1.5), POSITION, CALIBRATED)
    assert found.why == (
        "rome divides by k0 . u = 0.0125 (rho 0.004), so on text it may change the layer's output "
        "by 50 times its size; the subject is the prompt's first token, whose key is unlike all "
        "others: nearly all measured edits as large collapsed this model. Use c_rome: it stays "
        "below 1.5, and ask with a text before the prompt, where its edit shows."
    )
    assert safe.why == (
        "On text the layer's output changes by 1.5 times its size at most, whatever v* will be; "
        "edits are at risk from 2 on."
    )
    (inside, _) = judged(rows(rome=5, c_rome=1.5), _INSIDE, CALIBRATED)
    assert "first token" not in inside.why
    assert inside.why.endswith("Use c_rome: it stays below 1.5.")


def test_defaults_are_marked():
    """Without a calibration each sentence, and the basis, say whose figures these are."""
    (found,) = judged(rows(rome=50), POSITION, default_thresholds())
    assert found.probability == default_thresholds().probability(50)
    assert f"P(collapse) {found.probability}, of other models' edits." in found.why
    assert "measured edits" not in found.why
    assert default_thresholds().basis.startswith(
        "default thresholds and P(collapse), not calibrated"
    )
    assert CALIBRATED.basis == (
        "thresholds calibrated on 500 measured edits of this model, 40 of which collapsed"
    )


def test_rows_are_grouped_by_request():
    """Each request has its methods together, in the order that they come in."""
    other = dataclasses.replace(ROW, request_id="r2")
    found = by_request([ROW, other, dataclasses.replace(ROW, method="p_rome")])
    assert {name: [row.method for row in ours] for name, ours in found.items()} == {
        "r": ["rome", "p_rome"],
        "r2": ["rome"],
    }
