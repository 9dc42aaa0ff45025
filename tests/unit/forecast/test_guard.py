"""What a guard decides: for every policy, at the thresholds, and where nothing is safe."""

import dataclasses
import math

import pytest
from pydantic import ValidationError

from editcollapse.config.spec import GuardSpec
from editcollapse.data.requests import EditRequest
from editcollapse.forecast.defaults import default_thresholds
from editcollapse.forecast.guard import (
    MAX_TRIED,
    BatchForecast,
    Guard,
    PrefixedRequest,
    decided,
    templates_to_try,
)
from editcollapse.forecast.verdicts import STUDY_FILE
from tests.support.forecast_rows import POSITION, ROW

REQUEST = EditRequest("Lumo", "{} was born in", "Jorvale", "Tarn", ("Lumo's birthplace is",))
OWN = {"at_risk_at": 2.0, "collapse_at": 20.0}


def forecast(method, bound, request=REQUEST):
    """Return the forecast of one edit."""
    request_id = request.request_id
    return dataclasses.replace(
        ROW, method=method, text_change_bound=bound, request_id=request_id, edit_id=f"{method}!"
    )


def batch_forecast(*, is_first=True, **bounds):
    """Return the request's forecasts."""
    position = dataclasses.replace(POSITION, request_id=REQUEST.request_id, is_first_token=is_first)
    return BatchForecast([forecast(name, bound) for name, bound in bounds.items()], [position])


def decide(policy, method="rome", tried=(), *, is_first=True, settings=OWN, **bounds):
    """Return the decision on one edit; ``tried`` are bounds behind texts, None where unusable."""
    guard = Guard.of(GuardSpec(policy=policy, **settings), default_thresholds())
    facts = batch_forecast(is_first=is_first, **bounds)
    behind = [PrefixedRequest.behind(f"Text {i}. {{}}", REQUEST) for i in range(len(tried))]
    pairs = [
        (each, None if bound is None else forecast(method, bound, each.request))
        for each, bound in zip(behind, tried, strict=True)
    ]
    return decided(guard, facts.of(REQUEST, method), REQUEST, facts, pairs)


@pytest.mark.parametrize("policy", ["refuse", "switch", "prefix"])
def test_safe_edit_is_made_as_asked(policy):
    """Below the threshold no policy does anything; the reason has bound, threshold and rho."""
    found = decide(policy, rome=1.99)
    assert (found.kind, found.verdict) == ("made", "safe")
    assert found.made.request == REQUEST
    assert found.made.forecast is found.asked
    assert "1.99 times" in found.reason
    assert "rho 0.004" in found.reason
    assert "at risk from 2 on" in found.reason


@pytest.mark.parametrize(
    ("bound", "verdict"), [(2.0, "at risk"), (20.0, "will collapse"), (math.inf, "will collapse")]
)
def test_refused_from_the_threshold_on(bound, verdict):
    """An edit at the threshold is refused, with its verdict and no edit."""
    found = decide("refuse", rome=bound, c_rome=0.1)
    assert (found.kind, found.verdict, found.made) == ("refused", verdict, None)
    assert f"{bound:.3g} times" in found.reason
    assert "the subject is the prompt's first token" in found.reason


def test_bound_that_is_no_number_is_never_made():
    """NaN is refused, also where the guard acts late; NaN alternatives are not taken."""
    late = {**OWN, "acts_at": "will collapse"}
    for settings in (OWN, late):
        found = decide("refuse", settings=settings, rome=math.nan)
        assert (found.kind, found.verdict) == ("refused", "will collapse")
        assert "no number" in found.reason
    found = decide("switch", rome=math.nan, c_rome=math.nan, v_relative=math.nan, p_rome=math.nan)
    assert found.kind == "refused"
    assert "smallest" not in found.reason


@pytest.mark.parametrize("policy", ["refuse", "switch", "prefix"])
def test_what_is_not_known_is_treated_as_at_risk(policy):
    """With a small C no policy finds a way; a guard that acts late makes the edit and says so."""
    few = dataclasses.replace(forecast("rome", 0.02), n_tokens=260, tokens_per_d_key=260 / 256)
    other = dataclasses.replace(few, method="c_rome")
    facts = BatchForecast([few, other], batch_forecast(rome=1.0).positions)
    guard = Guard.of(GuardSpec(policy=policy, **OWN), default_thresholds())
    found = decided(guard, few, REQUEST, facts)
    assert (found.kind, found.verdict, found.made) == ("refused", "not known", None)
    assert "1.0 tokens per dimension" in found.reason
    late = Guard.of(GuardSpec(policy=policy, acts_at="will collapse", **OWN), default_thresholds())
    found = decided(late, few, REQUEST, facts)
    assert (found.kind, found.verdict) == ("made", "not known")
    assert "1.0 tokens per dimension" in found.reason


def test_guard_that_acts_late_lets_pass_what_is_at_risk():
    """With acts_at "will collapse" an edit at risk is made, and the reason says from where on."""
    settings = {**OWN, "acts_at": "will collapse"}
    found = decide("refuse", settings=settings, rome=19.9)
    assert (found.kind, found.verdict) == ("made", "at risk")
    assert "the guard acts from 20 on" in found.reason
    assert decide("refuse", settings=settings, rome=20.0).kind == "refused"


def test_switch_takes_the_first_safe_method():
    """The order is that of the file, or the paper's remedy first; only what is safe is taken."""
    bounds = {"rome": 50.0, "c_rome": 3.0, "v_relative": 0.5, "p_rome": 0.1, "r_rome": 0.2}
    found = decide("switch", **bounds)
    assert (found.kind, found.made.forecast.method) == ("switched", "v_relative")
    assert found.made.request == REQUEST
    assert "Made by v_relative instead, which stays below 0.5 times" in found.reason
    asked = decide("switch", settings={**OWN, "switch_to": ("rome", "r_rome")}, **bounds)
    assert asked.made.forecast.method == "r_rome"


def test_switch_without_a_safe_method_is_a_refusal():
    """Where none is safe the edit is refused, and the smallest bound is told."""
    found = decide("switch", rome=50.0, c_rome=3.0, v_relative=30.0, p_rome=2.5)
    assert (found.kind, found.made) == ("refused", None)
    assert "none of c_rome, v_relative, p_rome is safe" in found.reason
    assert "the smallest change bound is 2.5" in found.reason


def test_prefix_takes_the_first_safe_text():
    """The same method makes the edit behind the first text where it is safe; probes stay."""
    found = decide("prefix", rome=50.0, c_rome=0.1, tried=(None, 8.0, 0.3, 0.1))
    assert found.kind == "prefixed"
    made = found.made
    assert (made.forecast.method, made.forecast.text_change_bound) == ("rome", 0.3)
    assert (made.template, made.request.prompt) == ("Text 2. {}", "Text 2. {} was born in")
    assert made.request == dataclasses.replace(REQUEST, prompt=made.request.prompt)
    assert made.request.request_id == made.forecast.request_id != REQUEST.request_id
    assert "'Text 2.' before the prompt" in found.reason


@pytest.mark.parametrize(
    ("tried", "sentence"),
    [
        ((8.0, 5.0), "none of 2 texts before the prompt is safe: the smallest change bound is 5"),
        ((None,), "none of 1 texts before the prompt is there to try"),
        ((), "none of 0 texts before the prompt is there to try"),
    ],
)
def test_prefix_without_a_safe_text_is_a_refusal(tried, sentence):
    """Where no text helps, or none is there, the edit is refused."""
    found = decide("prefix", rome=50.0, tried=tried)
    assert (found.kind, found.made) == ("refused", None)
    assert sentence in found.reason


def test_inner_subject_is_not_blamed():
    """The prompt's first token is named only where the subject ends there."""
    assert "first token" not in decide("refuse", rome=50.0, is_first=False).reason


def test_bare_template_is_no_prefix_and_few_are_tried():
    """Of the context templates those with a text count, a handful at most."""
    templates = ("{}", *(f"Text {i}. {{}}" for i in range(9)))
    assert templates_to_try(templates) == templates[1 : 1 + MAX_TRIED]
    assert templates_to_try(("{}",)) == ()


def test_thresholds_are_the_files_or_the_calibrations():
    """A file's own thresholds go before the results folder's, and say whence."""
    own = Guard.of(GuardSpec(policy="refuse", **OWN), default_thresholds())
    assert own.thresholds.calibration_id == STUDY_FILE
    assert own.thresholds.basis == "thresholds of the study file"
    assert own.acts_from == 2.0
    other = Guard.of(GuardSpec(policy="refuse"), default_thresholds())
    assert other.thresholds is default_thresholds()
    assert own.identity != other.identity


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"at_risk_at": 2.0}, "give both"),
        ({"collapse_at": 2.0}, "give both"),
        ({"at_risk_at": 3.0, "collapse_at": 2.0}, "is below"),
        ({"at_risk_at": 0.0, "collapse_at": 2.0}, "greater than 0"),
        ({"at_risk_at": 1.0, "collapse_at": math.inf}, "finite"),
        ({"at_risk_at": math.nan, "collapse_at": 1.0}, "finite"),
        ({"switch_to": ("c_rome",)}, 'for policy "switch"'),
        ({"policy": "switch", "switch_to": ()}, "at least one"),
        ({"policy": "switch", "switch_to": ("c_rome", "c_rome")}, "distinct"),
        ({"policy": "ask"}, "refuse"),
    ],
)
def test_specs_that_make_no_sense_are_told(fields, sentence):
    """Thresholds come in pairs, ordered and finite; ``switch_to`` is for policy switch."""
    with pytest.raises(ValidationError, match=sentence):
        GuardSpec(**{"policy": "refuse", **fields})
