"""The questions: their numbers against values worked out by hand."""

import math

import duckdb
import pytest

from editcollapse.errors import ResultsError
from storage.ask import ask
from storage.schema import make_schema

_INF, _NAN = math.inf, math.nan


@pytest.fixture(scope="module")
def macros():
    """Return a database with the macros."""
    with duckdb.connect(":memory:") as connection:
        make_schema(connection)
        yield connection


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((5.0, 5.0, 1000, 10), False),
        ((1000.0, 500.0, 1000, 10), False),
        ((1000.1, 500.0, 1000, 10), True),
        ((50.0, 5.0, 1000, 10), False),
        ((50.1, 5.0, 1000, 10), True),
        ((50.1, 5.0, 1000, None), False),
        ((2000.0, 1500.0, None, 10), False),
        ((2000.0, 1.0, None, None), False),
        ((2000.0, None, 1000, 10), True),
        ((50.0, None, 1000, 10), False),
        ((_INF, 5.0, None, None), True),
        ((_NAN, 5.0, None, None), True),
        ((_NAN, 5.0, 1000, 10), True),
        ((None, 5.0, 1000, 10), None),
    ],
)
def test_collapsed_follows_its_rule(macros, arguments, expected):
    """Either bound counts, nan and inf always count, a null bound does not, NULL stays NULL."""
    found = macros.execute(
        "select collapsed(?::double, ?::double, ?::double, ?::double)",
        arguments,
    ).fetchall()
    assert found == [(expected,)]


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.277533),
        (1, 10, 0.017876, 0.404150),
        (5, 10, 0.236593, 0.763407),
        (10, 10, 0.722467, 1.0),
        (1, 1, 0.206549, 1.0),
        (77, 21919, 0.002812, 0.004388),
    ],
)
def test_wilson_interval_has_the_known_values(macros, k, n, low, high):
    """The 95 % Wilson interval agrees with values computed by hand and stays within 0 and 1."""
    query = "select wilson_low(?, ?), wilson_high(?, ?)"
    (found,) = macros.execute(query, [k, n, k, n]).fetchall()
    assert found == pytest.approx((low, high), abs=1e-6)
    assert 0 <= found[0] <= k / n <= found[1] <= 1


def test_wilson_interval_of_nothing_is_null(macros):
    """No edit, no interval."""
    assert macros.sql("select wilson_low(0, 0), wilson_high(0, 0)").fetchall() == [(None, None)]


def test_incidence_counts_measured_edits(folder):
    """inf, nan and large perplexities collapse; what was not measured is left out."""
    folder.add_study(methods=("rome",), perplexities=(5.0, 60.0, _INF, _NAN, 2e6, None))
    frame = ask(folder.results, "from collapse_incidence")
    (row,) = frame.rows(named=True)
    assert (row["study"], row["model"], row["method"], row["dataset"], row["subject_position"]) == (
        "small",
        "tiny",
        "rome",
        "facts",
        "inside",
    )
    assert (row["n_edits"], row["n_collapsed"], row["share"]) == (5, 4, 0.8)
    assert row["wilson_low"] < 0.8 < row["wilson_high"]
    assert row["median_perplexity_ratio"] == 4e5
    assert math.isnan(row["max_perplexity_ratio"])


def test_incidence_takes_another_rule(folder):
    """The macro of the same name judges the same facts by other bounds."""
    folder.add_study(methods=("rome",), perplexities=(5.0, 60.0, 500.0, _INF))
    query = "select n_collapsed from collapse_incidence({})"
    asked = {
        "": 3,
        "threshold := 1000": 3,
        "ratio := null": 1,
        "threshold := 100, ratio := null": 2,
        "threshold := null, ratio := 1000": 1,
    }
    found = {rule: ask(folder.results, query.format(rule)).item() for rule in asked}
    assert found == asked


def by_measures(folder, make_row):
    """Publish five ROME edits of two subjects that collapse by the mean; two do by the NLL."""
    folder.add_study(methods=("rome",), perplexities=(60.0, 70.0, 80.0, 90.0, 5.0))
    folder.write(
        "measurements",
        *[
            make_row(
                "measurements",
                edit_id=f"rome-request-{index}",
                perplexity=perplexity,
                nll_mean=math.log(nll),
                perplexity_median=median,
            )
            for index, (perplexity, nll, median) in enumerate(
                [(60.0, 9, 8), (70.0, 50, 8), (80.0, 45, 99), (90.0, 4, 4), (5.0, 4, 4)]
            )
        ],
    )
    base = make_row(
        "base_perplexities", perplexity=5.0, nll_mean=math.log(4.0), perplexity_median=4.0
    )
    folder.write("base_perplexities", base)
    folder.write(
        "requests",
        *[
            make_row("requests", request_id=f"request-{i}", record_index=i, subject=subject)
            for i, subject in enumerate(("Pain", "Pain", "Pain", "Lumo", "Lumo"))
        ],
    )
    folder.publish()


def test_every_count_follows_the_rules_measure(folder, make_row):
    """Mean, exp(mean NLL) and median count otherwise, in each macro; the others stand beside."""
    by_measures(folder, make_row)
    expected = {"mean": 4, "nll": 2, "median": 1}
    for measure, n_collapsed in expected.items():
        asked = f"measure := '{measure}'"
        for macro in ("collapse_incidence", "collapse_by_method"):
            (row,) = ask(folder.results, f"from {macro}({asked})").rows(named=True)
            assert row["n_collapsed"] == n_collapsed
            assert [row[f"n_by_{name}"] for name in expected] == list(expected.values())
        (row,) = ask(folder.results, f"from collapse_by_position({asked})").rows(named=True)
        other = " (2 by nll)" if measure == "mean" else " (4 by mean)"
        assert row["inside"] == f"{n_collapsed} of 5{other}"
        worst = {"mean": 18.0, "nll": 12.5, "median": 24.75}
        assert row["worst"] == pytest.approx(worst[measure])
        counted = f"select sum(n) from denominators({asked}) where outcome = 'collapsed'"  # noqa: S608
        assert ask(folder.results, f"{counted} and quantity = 'rho'").item() == n_collapsed
    ratios = "select nll_ratio, median_ratio from edit_outcomes order by edit_id limit 1"
    assert ask(folder.results, ratios).row(0) == pytest.approx((9 / 4, 2.0))
    with pytest.raises(ResultsError, match="measure mode: give mean, nll or median"):
        ask(folder.results, "from collapse_incidence(measure := 'mode')")


def test_intervals_take_the_subject_as_the_unit(folder, make_row, macros):
    """Two of one subject's three edits collapse, none of the other's two: not five draws."""
    by_measures(folder, make_row)
    draws = 5 * (5 * 0.4 * 0.6) / ((2 - 3 * 0.4) ** 2 + (0 - 2 * 0.4) ** 2)
    assert draws < 5
    query = "select wilson_low($1, $2), wilson_high($1, $2)"
    (expected,) = macros.execute(query, [0.4 * draws, draws]).fetchall()
    for view in ("collapse_incidence", "collapse_by_method"):
        (row,) = ask(folder.results, f"from {view}(measure := 'nll')").rows(named=True)
        assert row["n_subjects"] == 2
        assert (row["wilson_low"], row["wilson_high"]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("counts", "draws"),
    [
        ([(1, 1)] * 3 + [(0, 1)] * 7, 10.0),  # a subject an edit: all are independent
        ([(4, 4), (0, 4)], 2.0),  # all of a subject's edits alike: a subject is one draw
        ([(0, 3), (0, 3)], 2.0),
        ([(2, 5)], 1.0),
        ([(2, 4), (2, 4)], 8.0),  # no more alike than edits of two subjects
    ],
)
def test_independent_draws_of_subjects(macros, counts, draws):
    """Edits are worth as many draws as their subjects let them differ."""
    query = f"""
        select independent_draws(sum(k), sum(n), count(*), sum(k * k), sum(k * n), sum(n * n))
        from (values {", ".join(map(str, counts))}) as subjects (k, n)
    """  # noqa: S608 - ours
    assert macros.sql(query).fetchall() == [(pytest.approx(draws),)]


def test_outcomes_have_one_row_an_edit(folder, make_row):
    """Every edit of a study has one row, also if its request stands twice in the file."""
    folder.add_study(perplexities=(5.0, 20.0, None), efficacy=0.25)
    folder.write("requests", make_row("requests", request_id="request-0", record_index=9))
    folder.publish()
    frame = ask(folder.results, "from edit_outcomes order by method, request_id")
    assert frame["edit_id"].to_list() == [
        f"{method}-request-{index}" for method in ("c_rome", "rome") for index in range(3)
    ]
    assert frame["perplexity_ratio"].to_list() == [1.0, 4.0, None] * 2
    assert frame["record_index"].to_list() == [0, 1, 2] * 2
    assert set(frame["perplexity_before"]) == {5.0}
    assert set(frame["efficacy_before"]) == {0.25}
    assert frame["collapsed"].to_list() == [False, False, None] * 2
    columns = ["study", "study_id", "study_kind", "model", "model_place", "model_id", "family"]
    assert frame.columns[:7] == columns


def test_collapsed_edits_are_asked_for_by_a_column(folder):
    """``where collapsed`` finds what the default rule calls a collapse."""
    folder.add_study(methods=("rome",), perplexities=(5.0, 49.0, 51.0, 999.0, _INF, _NAN, None))
    frame = ask(folder.results, "select request_id from edit_outcomes where collapsed order by all")
    assert frame["request_id"].to_list() == [f"request-{index}" for index in (2, 3, 4, 5)]
    (counted,) = ask(folder.results, "select n_collapsed from collapse_incidence")["n_collapsed"]
    assert counted == frame.height


def test_edit_of_two_studies_is_measured_by_each_studys_evaluation(folder, make_row):
    """One edit in two studies has two rows, each with the perplexity of its study's texts."""
    folder.add_study(methods=("rome",), perplexities=(5.0,))
    folder.write("studies", make_row("studies", study_id="b", name="other", evaluation_id="e-2"))
    folder.write("study_edits", make_row("study_edits", study_id="b", edit_id="rome-request-0"))
    row = make_row(
        "measurements", edit_id="rome-request-0", evaluation_id="e-2", perplexity=math.inf
    )
    folder.write("measurements", row)
    folder.publish()
    frame = ask(folder.results, "select study, perplexity from edit_outcomes order by study")
    assert frame.rows() == [("other", math.inf), ("small", 5.0)]


def test_denominators_are_told_apart_by_outcome(folder):
    """Collapsed, normal and unmeasured edits have rows of their own, by whichever rule."""
    folder.add_study(methods=("rome",), perplexities=(5.0, 6.0, _INF, None))
    frame = ask(
        folder.results,
        "select outcome, n, minimum, median, maximum from denominators where quantity = 'rho'",
    )
    assert frame.rows() == [
        ("collapsed", 1, 0.5, 0.5, 0.5),
        ("normal", 2, 0.5, 0.5, 0.5),
        ("not measured", 1, 0.5, 0.5, 0.5),
    ]
    quantities = ask(folder.results, "select distinct quantity from denominators order by all")
    assert quantities["quantity"].to_list() == [
        "abs_denominator",
        "numerator_norm",
        "relative_update_norm",
        "rho",
        "update_norm",
        "update_norm_bound",
    ]
    other = ask(
        folder.results,
        "select distinct outcome from denominators(threshold := 5.5, ratio := null) order by all",
    )
    assert other["outcome"].to_list() == ["collapsed", "normal", "not measured"]


def test_denominators_are_absolute_and_quartiles_interpolated(folder, make_row):
    """The denominator's sign is dropped; quartiles are those of the sizes."""
    folder.add_study(methods=("rome",), perplexities=(5.0,) * 5)
    edits = [
        make_row(
            "edits",
            edit_id=f"rome-request-{index}",
            method="rome",
            request_id=f"request-{index}",
            denominator=denominator,
        )
        for index, denominator in enumerate((-1.0, 2.0, -3.0, 4.0, 5.0))
    ]
    folder.write("edits", *edits)
    folder.publish()
    frame = ask(
        folder.results,
        "select n, minimum, lower_quartile, median, upper_quartile, maximum from denominators "
        "where quantity = 'abs_denominator'",
    )
    assert frame.rows() == [(5, 1.0, 2.0, 3.0, 4.0, 5.0)]


def test_counterfact_scores_are_in_percent(folder):
    """ES, PS, NS are means in percent, S their harmonic mean; the unedited model has a row."""
    folder.add_study(
        perplexities=(5.0, 6.0),
        efficacy_score=1.0,
        paraphrase_score=0.5,
        neighborhood_score=0.25,
        efficacy_magnitude=0.75,
        efficacy=0.5,
    )
    frame = ask(folder.results, "from counterfact_scores")
    assert frame["method"].to_list() == ["none", "rome", "c_rome"]
    assert frame["n_edits"].to_list() == [2, 2, 2]
    for row in frame.rows(named=True):
        assert (row["es"], row["ps"], row["ns"], row["em"]) == (100, 50, 25, 75)
        assert row["s"] == pytest.approx(3 / (1 / 100 + 1 / 50 + 1 / 25))
        assert (row["efficacy"], row["generalization"], row["pm"]) == (0.5, None, None)


@pytest.mark.parametrize(("es", "expected"), [(0.0, 0.0), (None, None)])
def test_harmonic_mean_of_nothing(folder, es, expected):
    """S is 0 where one of its scores is 0, and NULL where one was not measured."""
    folder.add_study(
        methods=("rome",), efficacy_score=es, paraphrase_score=1.0, neighborhood_score=1.0
    )
    frame = ask(folder.results, "select s from counterfact_scores where method = 'rome'")
    assert frame["s"].to_list() == [expected]


@pytest.mark.parametrize(
    ("tolerance", "changes", "expected"),
    [
        (0.1, (None, 0.5, 0.09, 0.08), (300, 3.0, 0.08)),
        (0.1, (None, 0.05, 0.2, 0.08), (400, 4.0, 0.08)),
        (0.6, (None, 0.5, 0.09, 0.08), (200, 2.0, 0.08)),
        (0.01, (None, 0.5, 0.09, 0.08), (None, None, 0.08)),
        (0.1, (None, None, None, None), (None, None, None)),
    ],
)
def test_tokens_that_a_moment_needed(folder, make_row, tolerance, changes, expected):
    """Settled is from where on no change is larger, whatever came before."""
    folder.write("covariances", make_row("covariances", n_tokens=400))
    rows = [
        make_row(
            "covariance_convergence",
            n_shards=index,
            n_tokens=100 * index,
            tokens_per_d_key=float(index),
            max_change=change,
        )
        for index, change in enumerate(changes, start=1)
    ]
    folder.write("covariance_convergence", *rows)
    folder.publish()
    found = ask(folder.results, f"from covariance_tokens(tolerance := {tolerance})")
    columns = ["tokens_needed", "needed_per_d_key", "last_change", "n_tokens", "tokens_per_d_key"]
    assert found.select(columns).rows() == [(*expected, 400, 4.0)]


def test_threshold_spares_models_that_stand_above_it_unedited(folder):
    """A model whose unedited perplexity is above the threshold collapses by the ratio alone."""
    folder.add_study(methods=("rome",), perplexities=(2100.0, 50_000.0), before=2000.0)
    frame = ask(folder.results, "select n_collapsed, n_edits from collapse_incidence")
    assert frame.rows() == [(1, 2)]


def test_what_incidence_counts_is_filled_anew_by_each_publication(folder, make_row):
    """The table that incidence reads has the edits measured now: no row twice, none stale."""
    folder.add_study(perplexities=(5.0, None, 6.0))
    folder.publish()
    assert ask(folder.results, "select sum(n_edits)::int from collapse_incidence").item() == 4
    folder.write(
        "measurements", make_row("measurements", edit_id="rome-request-0", perplexity=_INF)
    )
    folder.write("measurements", make_row("measurements", edit_id="rome-request-1", perplexity=5.0))
    folder.publish()
    counts = ask(folder.results, "select method, n_edits, n_collapsed from collapse_incidence")
    assert counts.rows() == [("rome", 3, 1), ("c_rome", 2, 0)]
    columns = "study, study_id, model, method, dataset, subject_position, perplexity"
    flat = ask(folder.results, f"select {columns} from measured_edits order by all")  # noqa: S608
    whole = ask(
        folder.results,
        f"select {columns} from edit_outcomes where perplexity is not null order by all",  # noqa: S608
    )
    assert flat.equals(whole)
