"""View compare: pairs, differences and intervals of rows whose answer is known."""

import math

import pytest

from storage.ask import ask

_INF = float("inf")
_T_975 = {1: 12.7062, 2: 4.30265, 4: 2.77645, 5: 2.57058, 10: 2.22814, 30: 2.04227, 1000: 1.96234}


@pytest.fixture
def add_edits(folder, make_row):
    """Return a function that records a study's edits of one side: values by request."""

    def add(method, values, *, study="s", model="m", layer=1, evaluation="e", numerics=1, tag=""):
        folder.write(
            "studies",
            make_row(
                "studies",
                study_id=study,
                name=f"study {study}",
                evaluation_id=evaluation,
                numerics=numerics,
            ),
        )
        name = make_row("study_models", study_id=study, model_id=model, layer=layer, name=model)
        folder.write("study_models", name)
        folder.write(
            "base_perplexities",
            make_row(
                "base_perplexities", model_id=model, evaluation_id=evaluation, perplexity=10.0
            ),
        )
        ids = {request: f"{model}-{layer}-{method}-{request}{tag}" for request in values}
        edits = [
            make_row(
                "edits",
                edit_id=edit_id,
                model_id=model,
                layer=layer,
                method=method,
                request_id=request,
            )
            for request, edit_id in ids.items()
        ]
        folder.write("edits", *edits)
        members = [make_row("study_edits", study_id=study, edit_id=one) for one in ids.values()]
        folder.write("study_edits", *members)
        measured = [
            make_row(
                "measurements",
                edit_id=ids[request],
                evaluation_id=evaluation,
                perplexity=perplexity,
                efficacy=efficacy,
            )
            for request, (perplexity, efficacy) in values.items()
            if perplexity is not None
        ]
        folder.write("measurements", *measured)
        folder.publish()

    return add


def _requests(perplexities, efficacies=None):
    scores = efficacies or [0.5] * len(perplexities)
    return {f"r{i}": pair for i, pair in enumerate(zip(perplexities, scores, strict=True))}


def _row(folder, quantity, where="true"):
    query = f"from compare where quantity = '{quantity}' and {where}"
    (found,) = ask(folder.results, query).rows(named=True)
    return found


@pytest.mark.parametrize(("df", "expected"), _T_975.items())
def test_quantile_of_student_is_the_known_one(folder, df, expected):
    """t_quantile agrees with the tables to five figures."""
    folder.publish()
    found = ask(folder.results, f"select t_quantile({df})").item()
    assert found == pytest.approx(expected, rel=2e-4)


def test_shares_are_paired(folder, add_edits):
    """5 requests collapse under a alone, 1 under b alone: Agresti and Min's interval by hand."""
    add_edits("rome", _requests([1e4] * 8 + [10.0] * 12))
    add_edits("c_rome", _requests([10.0] * 5 + [1e4] * 3 + [1e4] + [10.0] * 11))
    found = _row(folder, "collapsed", "method_a = 'rome'")
    assert (found["differs"], found["statistic"], found["n_pairs"]) == ("method", "share", 20)
    assert (found["value_a"], found["value_b"]) == (0.4, 0.2)
    assert found["difference"] == pytest.approx(-0.2)
    centre, spread = -4 / 22, math.sqrt(7 - 16 / 22) / 22
    assert found["low"] == pytest.approx(centre - 1.959964 * spread)
    assert found["high"] == pytest.approx(centre + 1.959964 * spread)


def test_means_are_paired(folder, add_edits):
    """The interval is that of the requests' own differences: here 0, 0.5, 0.5, 1."""
    add_edits("rome", _requests([10.0] * 4, [0.0, 0.5, 0.0, 0.0]))
    add_edits("c_rome", _requests([10.0] * 4, [0.0, 1.0, 0.5, 1.0]))
    found = _row(folder, "efficacy", "method_a = 'rome'")
    assert (found["value_a"], found["value_b"], found["difference"]) == (0.125, 0.625, 0.5)
    reach = 3.182446 * math.sqrt(1 / 6) / 2
    assert (found["low"], found["high"]) == pytest.approx((0.5 - reach, 0.5 + reach), rel=1e-5)


def test_medians_have_job_statistics(folder, add_edits):
    """Of ten differences the second and the ninth enclose the median; infinity is one of them."""
    add_edits("rome", _requests([10.0] * 10))
    add_edits("c_rome", _requests([10.0 * 10**i for i in range(9)] + [_INF]))
    found = _row(folder, "log10_perplexity_ratio", "method_a = 'rome'")
    assert (found["statistic"], found["n_pairs"]) == ("median", 10)
    assert (found["difference"], found["low"], found["high"]) == pytest.approx((4.5, 1.0, 8.0))


def test_too_few_pairs_have_no_interval(folder, add_edits):
    """A median of five and a mean of one have a difference and no interval."""
    add_edits("rome", _requests([10.0] * 5))
    add_edits("c_rome", _requests([100.0] * 5))
    found = _row(folder, "log10_perplexity_ratio", "method_a = 'rome'")
    assert (found["difference"], found["low"], found["high"]) == (1.0, None, None)
    add_edits("p_rome", {"r0": (10.0, 0.25)})
    found = _row(folder, "efficacy", "method_a = 'rome' and method_b = 'p_rome'")
    assert (found["n_pairs"], found["difference"], found["low"]) == (1, -0.25, None)


def test_only_requests_of_both_sides_count(folder, add_edits):
    """What one side lacks, or has not measured, is left out; both infinite is no difference."""
    add_edits("rome", {"r0": (_INF, 0.5), "r1": (10.0, 0.5), "r2": (None, 0.5), "r4": (10.0, 1.0)})
    add_edits("c_rome", {"r0": (math.nan, 0.5), "r1": (10.0, 1.0), "r2": (10.0, 0.5)})
    assert _row(folder, "efficacy", "method_a = 'rome'")["n_pairs"] == 2
    assert _row(folder, "collapsed", "method_a = 'rome'")["value_b"] == 0.5
    assert _row(folder, "log10_perplexity_ratio", "method_a = 'rome'")["n_pairs"] == 1


def test_every_pair_stands_once_each_way(folder, add_edits):
    """Swapping the sides swaps the values and turns the difference and its interval round."""
    add_edits("rome", _requests([1e4] * 8 + [10.0] * 12))
    add_edits("c_rome", _requests([10.0] * 20))
    there = _row(folder, "collapsed", "method_a = 'rome'")
    back = _row(folder, "collapsed", "method_a = 'c_rome'")
    assert (there["value_a"], there["value_b"]) == (back["value_b"], back["value_a"])
    assert (there["difference"], there["low"], there["high"]) == pytest.approx(
        (-back["difference"], -back["high"], -back["low"])
    )


def test_rule_is_an_argument(folder, add_edits):
    """The macro of the same name judges by another rule."""
    add_edits("rome", _requests([60.0] * 6))
    add_edits("c_rome", _requests([10.0] * 6))
    assert _row(folder, "collapsed", "method_a = 'rome'")["difference"] == 0.0
    found = ask(
        folder.results,
        "select difference from compare(threshold := 50, ratio := null) "
        "where quantity = 'collapsed' and method_a = 'rome'",
    )
    assert found.item() == -1.0


def test_models_of_two_studies_are_compared(folder, add_edits):
    """A second model is comparable at once, also from a study of its own."""
    add_edits("rome", _requests([1e4] * 6), study="s", model="m")
    add_edits("rome", _requests([10.0] * 6), study="t", model="n")
    found = _row(folder, "collapsed", "model_a = 'm'")
    assert (found["differs"], found["study_b"], found["model_b"]) == ("model", "study t", "n")
    assert found["difference"] == -1.0


def test_settings_of_two_studies_are_compared(folder, add_edits):
    """One model and method with other settings, as with C and without, is a pair of its own."""
    add_edits("rome", _requests([1e4] * 6), study="s")
    add_edits("rome", _requests([10.0] * 6), study="t", tag="-identity")
    found = _row(folder, "collapsed", "study_a = 'study s'")
    assert (found["differs"], found["difference"]) == ("settings", -1.0)


@pytest.mark.parametrize(
    "other",
    [
        {"study": "t", "evaluation": "other texts", "model": "n"},
        {"study": "t", "numerics": 2, "model": "n"},
        {"study": "t"},
    ],
    ids=["other texts", "other numbers", "the same edits again"],
)
def test_what_does_not_compare_is_no_pair(folder, add_edits, other):
    """Other texts, another version of the numbers, or the very same edits make no pair."""
    add_edits("rome", _requests([1e4] * 6))
    add_edits("rome", _requests([1e4] * 6), **other)
    assert ask(folder.results, "from compare").is_empty()


def test_one_method_at_two_layers_is_two_models(folder, add_edits):
    """A model that is edited at two layers has two sides under one method."""
    add_edits("rome", _requests([1e4] * 6), layer=1)
    add_edits("rome", _requests([10.0] * 6), layer=2, study="t")
    assert _row(folder, "collapsed", "study_a = 'study s'")["differs"] == "model"
