"""Sequences of edits: what the views say of them, against numbers worked out by hand."""

import math

import duckdb
import pytest

from editcollapse.catalog.editors import EDITORS
from editcollapse.catalog.methods import METHODS
from scripts.docs import read_recipes
from storage.ask import ask, describe_tables
from storage.schema import make_schema
from tests.storage.conftest import make_row as row_of
from tests.support.sequence_rows import (
    CHECKPOINTS,
    WALKS,
    Walk,
    write_scores,
    write_sequences,
    write_study,
)

_Z = 1.959963984540054
_RULE = "threshold := null, ratio := 40"


@pytest.fixture(scope="module")
def many(folder_at, tmp_path_factory):
    """Return a folder with one study of nine sequences; tests only read it."""
    folder = folder_at(tmp_path_factory.mktemp("many"))
    write_study(folder, row_of)
    write_sequences(folder, row_of)
    rome = [walk for walk in WALKS if walk.editor == "rome"]
    write_scores(folder, row_of, rome[0], {"a": (1.0, 0.5), "b": (1.0, 0.0), "c": (None, 1.0)})
    write_scores(folder, row_of, rome[1], {"a": (1.0, 1.0), "b": (1.0, 0.5), "c": (1.0, None)})
    write_scores(folder, row_of, WALKS[-1], {"a": (0.5, 1.0)}, at=40)
    folder.publish()
    return folder


def _rows(folder, query):
    return ask(folder.results, query).rows()


def test_outcomes_stand_beside_the_unedited_model(many):
    """A checkpoint has its perplexities, the rule's verdict, and how far the weights are."""
    query = (
        "select n_edits, perplexity, perplexity_before, perplexity_ratio, collapsed, text_change, "
        "relative_drift, drift_norm from sequence_outcomes where editor = 'rome' and order_seed = 0"
    )
    first, second, third, fourth = _rows(many, query)
    assert first == pytest.approx((10, 12.0, 10.0, 1.2, False, 1.0, 0.5, 3.0))
    assert second[:5] == (20, 500.0, 10.0, 50.0, True)
    assert third[3:5] == (math.inf, True)
    assert math.isnan(fourth[3])
    assert fourth[4]


def test_outcomes_follow_the_rules_measure(many):
    """By exp(mean NLL) and by the median nothing has collapsed: perplexities are by the measure."""
    for measure, perplexity in (("nll", math.e), ("median", 10.0)):
        query = (
            f"from sequence_outcomes(measure := '{measure}') "
            "select distinct perplexity, perplexity_before, perplexity_ratio, collapsed"
        )
        ((after, before, ratio, collapsed),) = _rows(many, query)
        assert after == pytest.approx(perplexity)
        assert before == pytest.approx(math.e if measure == "nll" else 10.0)
        assert ratio == 1.0
        assert not collapsed


def test_collapse_lies_between_two_checkpoints(many):
    """The first checkpoint whose rule holds and the one before it; else censored at the last."""
    query = (
        "select editor, order_seed, last_alive, collapse_step, observed, followed_to "
        "from collapse_steps"
    )
    assert _rows(many, query) == [
        ("rome", 0, 10, 20, True, 40),
        ("rome", 1, 20, 30, True, 40),
        ("rome", 2, 0, 10, True, 10),
        ("memit", 0, 30, 40, True, 40),
        ("memit", 1, 40, None, False, 40),
        ("memit", 2, 20, None, False, 20),
        ("memit", 3, 30, 40, True, 40),
        ("alphaedit", 0, 40, None, False, 40),
        ("ft", 0, 40, None, False, 40),
    ]


def test_collapse_is_judged_by_any_rule(many):
    """With another ratio fewer collapse: nan still does, 30 times as much does not."""
    query = f"select collapse_step from collapse_steps({_RULE}) where editor = 'rome'"  # noqa: S608 - ours
    assert _rows(many, query) == [(20,), (None,), (10,)]
    assert _rows(many, f"select count(collapse_step) from collapse_steps({_RULE})") == [(2,)]  # noqa: S608 - ours


def _wilson(share, n):
    """Return Wilson's interval of a share of n."""
    middle = share + _Z**2 / (2 * n)
    reach = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    low, high = ((middle + sign * reach) / (1 + _Z**2 / n) for sign in (-1, 1))
    return low if share > 0 else 0.0, high if share < 1 else 1.0


def _kaplan_meier(ends, times):
    """Return n_edits, at_risk, deaths, censored, share and interval, from first principles.

    Args:
        ends: of each sequence, when it ends and whether that is a collapse.
        times: the checkpoints.
    """
    curve, share, summed = [], 1.0, 0.0
    for at in times:
        at_risk = sum(time >= at for time, _ in ends)
        deaths = sum(time == at and died for time, died in ends)
        censored = sum(time == at and not died for time, died in ends)
        if not at_risk and share > 0:
            break
        if deaths:
            share *= 1 - deaths / at_risk
            if deaths < at_risk:
                summed += deaths / (at_risk * (at_risk - deaths))
        if 0 < share < 1:
            spread = _Z * math.sqrt(summed) / abs(math.log(share))
            low, high = share ** math.exp(spread), share ** math.exp(-spread)
        else:
            n_followed = len(ends) - sum(time < at and not died for time, died in ends)
            low, high = _wilson(share, n_followed)
        curve.append((at, at_risk, deaths, censored, share, low, high))
    return curve


@pytest.mark.parametrize(
    ("editor", "ends"),
    [
        ("rome", [(20, True), (30, True), (10, True)]),
        ("memit", [(40, True), (40, False), (20, False), (40, True)]),
        ("alphaedit", [(40, False)]),
    ],
)
def test_survival_is_kaplan_and_meiers(many, editor, ends):
    """Shares and intervals are those of the textbook, worked out here, censoring included."""
    query = (
        "from sequence_survival select n_edits, at_risk, n_collapsed, n_censored, alive, lower, "
        f"upper where editor = '{editor}'"
    )
    first, *others = _rows(many, query)
    assert first == (0, len(ends), 0, 0, 1.0, 1.0, 1.0)
    times = (10, 20, 30, 40)
    expected = _kaplan_meier(ends, times)
    assert len(others) == len(expected)
    for found, wanted in zip(others, expected, strict=True):
        assert found == pytest.approx(wanted)


def test_survival_by_numbers_known_from_outside(many):
    """rome: 2/3, 1/3, 0 of three; the intervals are those of R's survfit with log-log."""
    query = "select alive, lower, upper from sequence_survival where editor = 'rome'"
    _, first, second, third, last = _rows(many, query)
    assert first == pytest.approx((2 / 3, 0.0541, 0.9452), abs=5e-4)
    assert second == pytest.approx((1 / 3, 0.0090, 0.7741), abs=5e-4)
    assert third == last
    assert third == pytest.approx((0.0, 0.0, 0.5615), abs=5e-4)


def test_survival_by_another_rule(many):
    """The curve of rome under the other rule: gone at 10 and 20, the third is censored."""
    query = f"select n_edits, alive from sequence_survival({_RULE}) where editor = 'rome'"  # noqa: S608 - ours
    assert [(n, round(alive, 6)) for n, alive in _rows(many, query)] == [
        (0, 1.0),
        (10, 0.666667),
        (20, 0.333333),
        (30, 0.333333),
        (40, 0.333333),
    ]


def test_nothing_is_known_where_nobody_is_left(folder, make_row):
    """The curve ends with the last sequence that a collapse could still have taken."""
    write_study(folder, make_row)
    walks = (
        Walk("rome", 0, (10.0, 10.0), 0.1),
        Walk("rome", 1, (500.0, 500.0, 500.0, 500.0), 0.1),
    )
    write_sequences(folder, make_row, walks)
    folder.publish()
    found = _rows(folder, "select n_edits, at_risk, alive from sequence_survival")
    assert found == [(0, 2, 1.0), (10, 2, 0.5), (20, 1, 0.5)]


def test_steps_until_the_collapse_in_one_line(many):
    """Median, earliest and latest over orders; NULL where they are not reached."""
    query = (
        "select editor, n_collapsed, n_orders, median, earliest, latest, median_low, median_high, "
        "round(alive, 4) as alive, followed_to from collapse_step_by_editor"
    )
    assert _rows(many, query) == [
        ("rome", 3, 3, 20, 10, 30, 10, None, 0.0, 40),
        ("memit", 2, 4, 40, 40, None, 30, None, 0.3333, 40),
        ("alphaedit", 0, 1, None, None, None, 10, None, 1.0, 40),
        ("ft", 0, 1, None, None, None, 10, None, 1.0, 40),
    ]


def test_success_is_lost_on_the_same_edits(many):
    """Immediate - final request by request, then over orders; an edit asked once counts nowhere."""
    query = (
        "select editor, n_edits, immediate, final, lost, lost_low, lost_high, n_orders, n_scored "
        "from sequence_success where quantity = 'efficacy'"
    )
    rome, ft = _rows(many, query)
    reach = 12.706204736432095 * math.sqrt(0.125) / math.sqrt(2)
    assert rome[:2] == ("rome", 20)
    assert rome[2:7] == pytest.approx((1.0, 0.5, 0.5, 0.5 - reach, 0.5 + reach))
    assert rome[7:] == (2, 4)
    assert ft == ("ft", 40, 0.5, 1.0, -0.5, None, None, 1, 1)
    locality = _rows(many, "select lost from sequence_success where quantity = 'locality'")
    assert locality == [(0.5,), (0.5,)]
    assert not _rows(many, "from sequence_success where quantity = 'generalization'")


def test_drift_has_every_step(many):
    """Steps between checkpoints too: they need no evaluation."""
    query = (
        "select n_edits, round(text_change, 6) from sequence_drift "
        "where editor = 'memit' and order_seed = 2"
    )
    assert _rows(many, query) == [(5, 0.1), (10, 0.2), (15, 0.3), (20, 0.4)]


def test_forecast_leaves_the_editor_out(many):
    """Each bound is the smallest text change at a collapse of the other editors."""
    query = (
        "select editor, order_seed, round(bound, 6), round(text_change_alive, 6), "
        "round(text_change_collapsed, 6), flagged_at, lead, outcome from sequence_forecast"
    )
    assert _rows(many, query) == [
        ("rome", 0, 0.8, 1.0, 2.0, 10, 10, "caught"),
        ("rome", 1, 0.8, 2.0, 3.0, 10, 20, "caught"),
        ("rome", 2, 0.8, 0.0, 1.0, 10, 0, "caught"),
        ("memit", 0, 1.0, 0.6, 0.8, None, None, "missed"),
        ("memit", 1, 1.0, 0.8, None, None, None, "quiet"),
        ("memit", 2, 1.0, 0.4, None, None, None, "quiet"),
        ("memit", 3, 1.0, 0.6, 0.8, None, None, "missed"),
        ("alphaedit", 0, 0.8, 0.4, None, None, None, "quiet"),
        ("ft", 0, 0.8, 2.0, None, 20, None, "false alarm"),
    ]


def test_forecast_is_counted_by_held_out_editor(many):
    """Caught, missed, false alarms and quiet ones, and by how many edits it was ahead."""
    query = (
        "select editor, n_sequences, n_collapsed, n_caught, n_missed, n_false_alarms, n_quiet, "
        "median_lead, smallest_lead from sequence_forecast_by_editor"
    )
    assert _rows(many, query) == [
        ("rome", 3, 3, 3, 0, 0, 0, 10.0, 0),
        ("memit", 4, 2, 0, 2, 0, 2, None, None),
        ("alphaedit", 1, 0, 0, 0, 0, 1, None, None),
        ("ft", 1, 0, 0, 0, 1, 0, None, None),
    ]


def test_forecast_without_other_collapses_says_nothing(folder, make_row):
    """One editor that collapses has no bound of others; the other editor has its."""
    write_study(folder, make_row)
    write_sequences(folder, make_row, [walk for walk in WALKS if walk.editor in {"rome", "ft"}])
    folder.publish()
    query = "select editor, bound, n_collapsed, n_caught, n_quiet from sequence_forecast_by_editor"
    assert _rows(folder, query) == [("rome", None, 3, None, None), ("ft", 1.0, 0, 0, 0)]
    flagged = "select distinct flagged_at, outcome from sequence_forecast where editor = 'rome'"
    assert _rows(folder, flagged) == [(None, None)]


def test_bounds_stay_with_their_model_and_variants_are_left_out_together(folder, make_row):
    """A collapse on another model, or of the same editor in other words, gives no bound."""
    write_study(folder, make_row)
    walks = (
        Walk("rome", 0, (500.0,), 0.1),
        Walk("rome, slow", 0, (500.0,), 0.2, method="rome"),
        Walk("memit", 0, (500.0,), 0.3, model="other"),
    )
    write_sequences(folder, make_row, walks)
    folder.publish()
    query = "select model, editor, bound, outcome from sequence_forecast"
    assert _rows(folder, query) == [
        ("tiny", "rome", None, None),
        ("tiny", "rome, slow", None, None),
        ("other", "memit", None, None),
    ]


def test_undefined_text_change_is_flagged_and_gives_no_bound(folder, make_row):
    """Nan is no smallest change, and a step that has it is flagged."""
    write_study(folder, make_row)
    walks = (Walk("rome", 0, (500.0, 500.0), 0.1), Walk("ft", 0, (500.0,), math.nan))
    write_sequences(folder, make_row, walks)
    folder.publish()
    query = "select editor, bound, flagged_at, outcome from sequence_forecast"
    assert _rows(folder, query) == [("rome", None, None, None), ("ft", 1.0, 5, "caught")]


def test_sequence_of_two_studies_counts_in_each(folder, make_row):
    """One sequence, two names of its model: a row for each study."""
    write_study(folder, make_row)
    write_study(folder, make_row, "study-2", "again")
    write_sequences(folder, make_row, WALKS[:1])
    member = make_row(
        "study_sequences",
        study_id="study-2",
        sequence_id=WALKS[0].sequence_id,
        model="same",
        editor="rome",
        n_edits=CHECKPOINTS[-1],
    )
    folder.write("study_sequences", member)
    folder.publish()
    query = "select study, model, collapse_step from collapse_steps order by study"
    assert _rows(folder, query) == [("again", "same", 20), ("many", "tiny", 20)]
    assert _rows(folder, "select count(*) from sequence_survival") == [(10,)]


def test_study_of_shorter_sequences_sees_its_own_part(folder, make_row):
    """A sequence that another study has gone on with counts up to the edits that were asked for."""
    write_study(folder, make_row)
    write_study(folder, make_row, "study-2", "again")
    write_sequences(folder, make_row, WALKS[:1])
    short = 10
    member = make_row(
        "study_sequences",
        study_id="study-2",
        sequence_id=WALKS[0].sequence_id,
        model="same",
        editor="rome",
        n_edits=short,
    )
    folder.write("study_sequences", member)
    folder.publish()
    query = "select study, collapse_step, observed, followed_to from collapse_steps order by study"
    known = [each for each in CHECKPOINTS if each <= short]
    assert _rows(folder, query)[0] == ("again", None, False, known[-1])
    query = "select max(n_edits) from sequence_drift where study_id = 'study-2'"
    assert _rows(folder, query) == [(short,)]


def test_study_without_sequences_has_no_rows(folder):
    """Edits alone give no curves; the views of edits do not speak of sequences."""
    folder.add_study()
    for view in (
        "sequence_outcomes",
        "collapse_steps",
        "sequence_survival",
        "collapse_step_by_editor",
        "sequence_success",
        "sequence_drift",
        "sequence_forecast",
        "sequence_forecast_by_editor",
    ):
        assert not _rows(folder, f"from {view}")


@pytest.mark.parametrize(
    ("alive", "variance", "n", "expected"),
    [
        (1.0, 0.0, 4, (0.5101, 1.0)),
        (0.0, 0.25, 4, (0.0, 0.4899)),
        (0.5, 0.25, 4, (0.0578, 0.8449)),
        (None, 0.0, 4, (None, None)),
        (1.0, 0.0, 0, (None, None)),
    ],
)
def test_ends_of_intervals(alive, variance, n, expected):
    """Log-log between 0 and 1, Wilson's at both; NULL where nothing is known."""
    with duckdb.connect(":memory:") as connection:
        make_schema(connection)
        found = connection.execute(
            "select survival_end($alive::double, $variance, $n, -1), "
            "survival_end($alive::double, $variance, $n, 1)",
            {"alive": alive, "variance": variance, "n": n},
        ).fetchone()
    assert (
        found == pytest.approx(expected, abs=5e-4) if expected[0] is not None else found == expected
    )


@pytest.mark.parametrize("recipe", [each for each in read_recipes() if "equence" in each.question])
def test_recipes_have_answers_where_there_are_sequences(many, recipe):
    """Each recipe on sequences gives rows of the study."""
    found = ask(many.results, recipe.sql)
    assert found.height
    assert set(found["study"]) == {"many"}


def test_recipe_gives_the_share_alive_after_so_many_edits(many):
    """A value holds until the next checkpoint; beyond the last there is none, but zero stays."""
    (recipe,) = (each for each in read_recipes() if "left its model alive" in each.question)
    found = ask(many.results, recipe.sql).select("editor", "n_edits", "alive").rows()
    assert found == [
        ("rome", 10, 0.667),
        ("rome", 50, 0.0),
        ("rome", 200, 0.0),
        ("memit", 10, 1.0),
        ("alphaedit", 10, 1.0),
        ("ft", 10, 1.0),
    ]


def test_editors_are_read_in_their_order(folder):
    """Methods first, then the other editors as the catalog has them; comments name them all."""
    with duckdb.connect(":memory:") as connection:
        make_schema(connection)
        for place, name in enumerate((*METHODS, *EDITORS), start=1):
            found = connection.execute("select method_order($name)", {"name": name}).fetchone()
            assert found == (place,)
    told = describe_tables(folder.results)
    comment = told.filter(name="edits", column="method")["comment"].item()
    assert [name for name in (*METHODS, *EDITORS) if name not in comment] == []
