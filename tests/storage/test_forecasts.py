"""Calibration and skill of the forecast, against values worked out by hand or the long way."""

import dataclasses
import itertools
import math
import random

import duckdb
import pytest
from scipy.stats import spearmanr

from editcollapse.errors import ResultsError
from editcollapse.forecast.defaults import default_thresholds
from editcollapse.forecast.verdicts import (
    SUPPORTED_TOKENS_PER_D_KEY,
    Thresholds,
    verdict_of,
)
from storage.ask import ask
from storage.readers import Wanted, calibrate, known_setups, thresholds
from storage.schema import make_schema

_ANY = 0.9999
"""A risk that lets the measured collapses alone decide."""
_HIGH, _LOW = 500.0, 5.0
"""Perplexities of edits that collapse and that do not; the unedited model has 5."""


def with_forecasts(folder, make_row, scores, perplexities, method="rome"):
    """Publish a study whose edits have these bounds and perplexities."""
    folder.add_study(methods=(method,), perplexities=perplexities)
    rows = [
        make_row(
            "forecasts",
            edit_id=f"{method}-request-{index}",
            request_id=f"request-{index}",
            method=method,
            text_change_bound=score,
        )
        for index, score in enumerate(scores)
    ]
    folder.write("forecasts", *rows)
    folder.publish()
    return folder.results


def one_calibrated(results, wanted):
    """Return the calibration of the only model that there is."""
    found = calibrate(results, wanted)
    ((name, row),) = found.rows
    assert (name, row.model_id, found.left_out) == ("tiny", "model-1", ())
    return row


def plain_auc(scores, collapsed):
    """Return the share of pairs in the right order, ties counting half."""
    ones = [s for s, c in zip(scores, collapsed, strict=True) if c]
    zeros = [s for s, c in zip(scores, collapsed, strict=True) if not c]
    points = sum((a > b) + (a == b) / 2 for a in ones for b in zeros)
    return points / (len(ones) * len(zeros))


def test_separated_edits_give_one_boundary(folder, make_row):
    """Half way between the two kinds begins the risk; at the first collapse the certainty."""
    scores, perplexities = (1.0, 2.0, 8.0, 32.0), (_LOW, _LOW, _HIGH, _HIGH)
    results = with_forecasts(folder, make_row, scores, perplexities)
    found = one_calibrated(results, Wanted(safe_below=_ANY))
    assert found.at_risk_at == found.never_safe_from == pytest.approx(4.0)
    assert (found.collapse_at, found.auc) == (8.0, 1.0)
    assert (found.n_edits, found.n_collapsed, found.n_models) == (4, 2, 1)
    assert (found.largest_normal, found.smallest_collapsed) == (2.0, 8.0)


def test_overlap_leaves_a_band_of_risk(folder, make_row):
    """The wanted recall sets the lower threshold, the wanted precision the upper one."""
    scores = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    perplexities = (_LOW, _HIGH, _LOW, _HIGH, _LOW, _HIGH)
    results = with_forecasts(folder, make_row, scores, perplexities)
    found = one_calibrated(results, Wanted(recall=1.0, precision=1.0, safe_below=_ANY))
    assert (found.at_risk_at, found.collapse_at) == (pytest.approx(math.sqrt(2)), 6.0)
    assert found.auc == pytest.approx(6 / 9)
    fewer = one_calibrated(results, Wanted(recall=0.6, precision=0.6, safe_below=_ANY))
    assert (fewer.at_risk_at, fewer.collapse_at) == (pytest.approx(math.sqrt(12)), 4.0)
    assert fewer.data_digest == found.data_digest
    assert fewer.calibration_id != found.calibration_id


def test_precision_that_no_bound_has_leaves_certainty_to_none(folder, make_row):
    """Where the largest bound is a normal edit's, nothing is said to collapse for sure."""
    perplexities = (_LOW, _LOW, _HIGH, _HIGH, _LOW)
    results = with_forecasts(folder, make_row, (1.0, 2.0, 7.0, 8.0, 9.0), perplexities)
    found = one_calibrated(results, Wanted(precision=0.9))
    assert found.collapse_at == math.inf


def test_infinite_bounds_count(folder, make_row):
    """An edit with denominator 0 has the largest bound; one without a number is no less."""
    scores, perplexities = (1.0, 4.0, math.inf, math.nan), (_LOW, _HIGH, _HIGH, _HIGH)
    results = with_forecasts(folder, make_row, scores, perplexities)
    found = one_calibrated(results, Wanted(safe_below=_ANY))
    assert (found.at_risk_at, found.collapse_at, found.auc) == (2.0, 4.0, 1.0)


def test_edits_of_one_bound_are_not_parted_by_rounding_noise(folder, make_row):
    """Four edits whose bounds differ by 1e-7 lie on one side of both thresholds, and tie."""
    noise = [5.0 * (1 + step * 1e-7) for step in range(4)]
    scores = (1.0, 2.0, *noise, 9.0)
    perplexities = (_LOW, _LOW, _LOW, _HIGH, _LOW, _HIGH, _HIGH)
    results = with_forecasts(folder, make_row, scores, perplexities)
    found = one_calibrated(results, Wanted(recall=1.0, precision=0.6))
    assert found.never_safe_from == pytest.approx(math.sqrt(10.0), rel=1e-12)
    assert found.collapse_at == noise[0]  # 3 of 5 from there on
    assert found.auc == pytest.approx((2 * (2 + 2 / 2) + 4) / 12)
    assert (found.largest_normal, found.smallest_collapsed) == (noise[0], noise[0])
    strict = one_calibrated(results, Wanted(recall=1.0, precision=0.7))
    assert strict.collapse_at == 9.0


def test_accepted_risk_lowers_the_threshold(folder, make_row):
    """Nothing is safe whose P(collapse) reaches what is accepted; few edits leave much of it."""
    scores, perplexities = (1.0, 2.0, 8.0, 32.0), (_LOW, _LOW, _HIGH, _HIGH)
    results = with_forecasts(folder, make_row, scores, perplexities)
    usual, careful = (one_calibrated(results, Wanted(safe_below=p)) for p in (0.3, 0.1))
    assert careful.at_risk_at < usual.at_risk_at < usual.never_safe_from
    for row, p in ((usual, 0.3), (careful, 0.1)):
        odds = row.intercept + row.slope * math.log(row.at_risk_at)
        assert odds == pytest.approx(math.log(p / (1 - p)))
    assert careful.calibration_id != usual.calibration_id


def test_calibration_says_how_it_does_on_subjects_held_out(folder, make_row):
    """Of well separated edits the held-out ones are judged right; of a lone collapse nothing is."""
    scores = (0.1, 0.11, 0.12, 0.13, 40.0, 50.0, 60.0)
    perplexities = (*[_LOW] * 4, *[_HIGH] * 3)
    results = with_forecasts(folder, make_row, scores, perplexities)
    found = one_calibrated(results, Wanted(safe_below=0.4))
    assert (found.n_subjects, found.held_out_flagged, found.held_out_caught) == (7, 3, 3)
    assert 0 < found.brier < found.held_out_brier < 0.25


def test_a_bound_that_tells_nothing_gives_no_probability(folder, make_row):
    """Where collapses have the smaller bounds, nothing that collapsed is safe, and no P is told."""
    results = with_forecasts(folder, make_row, (1.0, 2.0, 9.0), (_HIGH, _HIGH, _LOW))
    found = one_calibrated(results, Wanted())
    assert (found.at_risk_at, found.collapse_at) == (1.0, math.inf)
    assert found.slope is found.intercepts is found.brier is found.held_out_flagged is None


@pytest.mark.parametrize(
    ("perplexities", "sentence"),
    [
        ((_LOW, _LOW), "tiny: of 2 edits.* 0 collapsed, and both kinds are needed"),
        ((_HIGH, _HIGH), "tiny: of 2 edits.* 2 collapsed, and both kinds are needed"),
        ((None, None), "no edit has a forecast and a measurement"),
    ],
)
def test_one_kind_of_edit_is_too_little(folder, make_row, perplexities, sentence):
    """Without collapses, without normal edits or without measurements nothing is calibrated."""
    results = with_forecasts(folder, make_row, (1.0, 2.0), perplexities)
    with pytest.raises(ResultsError, match=f"{sentence}.*editcollapse forecast"):
        calibrate(results, Wanted())


@pytest.mark.parametrize("wrong", [{"recall": 0.0}, {"precision": 1.5}, {"safe_below": 1.0}])
def test_shares_are_checked(wrong):
    """A share that cannot be reached is a mistake, by name."""
    with pytest.raises(ResultsError, match=f"--{next(iter(wrong)).replace('_', '-')}"):
        Wanted(**wrong)


def test_newest_calibration_counts(folder, make_row):
    """Without any the default stands, equal to the science's; then the model's last one."""
    folder.publish()
    assert thresholds(folder.results, "model-1") == default_thresholds()
    new = make_row(
        "forecast_calibrations",
        calibration_id="b",
        calibrated_at="2026-01-02",
        model_id="model-1",
        at_risk_at=3.0,
        collapse_at=7.0,
        n_edits=10,
        n_collapsed=4,
    )
    older = dataclasses.replace(new, calibration_id="a", calibrated_at="2026-01-01", at_risk_at=1.0)
    of_several = dataclasses.replace(
        new, calibration_id="c", calibrated_at="2026-01-03", model_id=None
    )
    folder.write("forecast_calibrations", new, older, of_several)
    folder.publish()
    own = Thresholds(3.0, 7.0, "b", 10, 4, is_default=False)
    assert thresholds(folder.results, "model-1") == own
    assert thresholds(folder.results, "another") == default_thresholds()


def test_thresholds_are_a_model_s_own(folder, make_row):
    """A calibrated model's verdicts use its thresholds; another one's the default."""
    folder.write("forecasts", make_row("forecasts", text_change_bound=9.0))
    other = make_row("forecasts", edit_id="of another", model_id="another", text_change_bound=9.0)
    folder.write("forecasts", other)
    calibration = make_row(
        "forecast_calibrations", model_id="model-1", at_risk_at=1.0, collapse_at=8.0
    )
    folder.write("forecast_calibrations", calibration)
    folder.publish()
    query = "select model_id, verdict from forecast_verdicts order by all"
    assert ask(folder.results, query).rows() == [
        ("another", verdict_of(9.0, None, default_thresholds())),
        ("model-1", "will collapse"),
    ]


def test_sql_and_python_have_one_probability(folder, make_row):
    """P(collapse) and its interval in the database are those of the library; NULL without one."""
    bounds = (0.0, 0.3, 5.0, 1e6, math.inf, math.nan)
    rows = [
        make_row("forecasts", edit_id=str(i), text_change_bound=bound)
        for i, bound in enumerate(bounds)
    ]
    older = make_row("forecasts", edit_id="older", model_id="older", text_change_bound=5.0)
    folder.write("forecasts", *rows, older)
    folder.write("forecast_calibrations", make_row("forecast_calibrations", model_id="older"))
    folder.publish()
    query = """
        select probability, probability_low, probability_high
        from forecast_verdicts order by edit_id
    """
    *found, without = ask(folder.results, query).rows()
    assert without == (None, None, None)
    curve = default_thresholds().curve
    for bound, row in zip(bounds, found, strict=True):
        assert row == pytest.approx(dataclasses.astuple(curve.at(bound)), rel=1e-9), bound


def test_sql_and_python_judge_alike():
    """The macro of the database is the rule of the science."""
    limits = Thresholds(2.0, 20.0, "c", 1, 1, is_default=False)
    bounds = (0.0, 1.99, 2.0, 19.9, 20.0, math.inf, math.nan)
    supports = (None, 0.5, SUPPORTED_TOKENS_PER_D_KEY - 0.1, SUPPORTED_TOKENS_PER_D_KEY)
    with duckdb.connect(":memory:") as connection:
        make_schema(connection)
        for bound, support in itertools.product(bounds, supports):
            query = "select forecast_verdict(?::double, ?::double, 2.0, 20.0)"
            (found,) = connection.execute(query, [bound, support]).fetchall()
            assert found == (verdict_of(bound, support, limits),)


def test_skill_is_that_of_all_pairs(folder, make_row):
    """AUC by ranks equals that of all pairs, ties included; shares and intervals fit together."""
    draw = random.Random(4)
    scores = [round(draw.uniform(1, 8)) * 2.0 for _ in range(60)]
    collapsed = [score + draw.uniform(-8, 8) > 9 for score in scores]
    perplexities = [_HIGH if each else _LOW for each in collapsed]
    results = with_forecasts(folder, make_row, scores, perplexities)
    frame = ask(results, "from forecast_skill where model = 'tiny' and method = 'rome'")
    (row,) = frame.rows(named=True)
    assert row["auc"] == pytest.approx(plain_auc(scores, collapsed))
    flagged = [c for s, c in zip(scores, collapsed, strict=True) if s >= row["at_risk_at"]]
    assert row["at_risk_at"] == default_thresholds().at_risk_at
    assert row["precision"] == pytest.approx(sum(flagged) / len(flagged))
    assert row["recall"] == pytest.approx(sum(flagged) / sum(collapsed))
    for share in ("precision", "recall"):
        assert row[f"{share}_low"] < row[share] <= row[f"{share}_high"]
    assert one_calibrated(results, Wanted()).auc == pytest.approx(row["auc"])


def test_damage_is_ranked_by_bound_and_by_change(folder, make_row):
    """Both correlations are Spearman's, ties included; a change that is missing makes none."""
    draw = random.Random(7)
    changes = [draw.uniform(0, 3) for _ in range(40)]
    bounds = [round(change + draw.uniform(0, 2)) + 1.0 for change in changes]
    perplexities = [5 + change * draw.uniform(0.5, 9) for change in changes]
    results = with_forecasts(folder, make_row, bounds, perplexities)
    query = "from change_and_damage where method = 'rome'"
    (row,) = ask(results, query).rows(named=True)
    assert row["bound_spearman"] == pytest.approx(spearmanr(bounds, perplexities).statistic)
    assert row["change_spearman"] is None
    rows = [
        make_row(
            "edits",
            edit_id=f"rome-request-{index}",
            request_id=f"request-{index}",
            method="rome",
            text_change=change,
        )
        for index, change in enumerate(changes)
    ]
    folder.write("edits", *rows)
    folder.publish()
    (row,) = ask(results, query).rows(named=True)
    assert row["change_spearman"] == pytest.approx(spearmanr(changes, perplexities).statistic)


def test_skill_takes_models_and_methods_together(folder, make_row):
    """(all) ranks the edits of all methods together; a method without collapses has no AUC."""
    folder.add_study(methods=("rome", "c_rome"), perplexities=(_LOW, _HIGH))
    for method, bounds in (("rome", (1.0, 30.0)), ("c_rome", (0.1, 40.0))):
        rows = [
            make_row("forecasts", edit_id=f"{method}-request-{i}", text_change_bound=bound)
            for i, bound in enumerate(bounds)
        ]
        folder.write("forecasts", *rows)
    calm = make_row("measurements", edit_id="c_rome-request-1", perplexity=_LOW)
    folder.write("measurements", calm)
    folder.publish()
    query = "select model, method, n_edits, n_collapsed, auc from forecast_skill order by all"
    assert ask(folder.results, query).rows() == [
        ("(all)", "(all)", 4, 1, pytest.approx(2 / 3)),
        ("(all)", "c_rome", 2, 0, None),
        ("(all)", "rome", 2, 1, 1.0),
        ("tiny", "(all)", 4, 1, pytest.approx(2 / 3)),
        ("tiny", "c_rome", 2, 0, None),
        ("tiny", "rome", 2, 1, 1.0),
    ]
    other = "select sum(n_collapsed) from forecast_skill(threshold := null, ratio := 1000)"
    assert ask(folder.results, other).item() == 0


def test_verdicts_are_listed_with_their_requests(folder, make_row):
    """A forecast needs no edit: its request, its place and its verdict are there."""
    folder.write("requests", make_row("requests", subject="Lumo"))
    folder.write("positions", make_row("positions", subject_position="first_token"))
    folder.write("forecasts", make_row("forecasts", text_change_bound=9.0))
    folder.publish()
    (row,) = ask(folder.results, "from forecast_verdicts").rows(named=True)
    assert (row["subject"], row["subject_position"]) == ("Lumo", "first_token")
    assert (row["verdict"], row["calibration_id"]) == ("at risk", "default")


def test_set_ups_of_a_model_are_found(folder, make_row):
    """Edits or forecasts tell how a model is edited here; another model has none."""
    folder.write("forecasts", make_row("forecasts"))
    folder.write("covariances", make_row("covariances", n_tokens=500, artifact_digest="d"))
    folder.write("value_settings", make_row("value_settings", clamp_factor=16.0))
    templates = [
        make_row("templates", template_index=index, template=text)
        for index, text in enumerate(("{}", "It was. {}"))
    ]
    folder.write("templates", *reversed(templates))
    folder.publish()
    (found,) = known_setups(folder.results, "model-1")
    assert (found.templates, found.moment_digest) == (("{}", "It was. {}"), "d")
    assert found.values.clamp_factor == 16.0
    assert "500 tokens, 2 templates, clamp factor 16" in str(found)
    assert known_setups(folder.results, "another") == []
