"""What figures are drawn from: samples that are fair and stay, curves that are exact."""

import itertools

import pytest

from editcollapse.rows.collapse_rule import DAMAGE_RATIO
from storage.ask import answer_for, ask, find_study, study_figures
from storage.database import open_snapshot

N_NORMAL, N_COLLAPSED = 1550, 550


def shown_of(folder):
    """Return what the figures of a folder's only study are drawn from."""
    return study_figures(folder.results, find_study(folder.results))


def write_forecasts(folder, make_row, bounds, *, layer=1, prefix=""):
    """Record a forecast for each edit of rome, with its bound."""
    folder.write(
        "forecasts",
        *(
            make_row(
                "forecasts",
                edit_id=f"{prefix}rome-request-{index}",
                method="rome",
                request_id=f"request-{index}",
                layer=layer,
                text_change_bound=bound,
            )
            for index, bound in enumerate(bounds)
        ),
    )
    folder.publish()


def test_small_study_is_drawn_whole(folder):
    """Every measured edit is there with its numbers as they are; those not measured are not."""
    folder.add_study(perplexities=(5.0, float("inf"), float("nan"), None))
    frame = shown_of(folder).edits.frame
    assert frame.height == frame["n_measured"][0] == 6
    assert frame["n_collapsed"][0] == 4
    assert frame["perplexity"].is_nan().sum() == frame["perplexity"].is_infinite().sum() == 2


def test_large_study_is_drawn_in_proportion(folder):
    """4,000 at most: of the collapsed up to 1,000, each method alike; twice the same ones."""
    folder.add_study(perplexities=[5.0] * N_NORMAL + [1e9] * N_COLLAPSED)
    frame = shown_of(folder).edits.frame
    assert frame["n_measured"][0] == 2 * (N_NORMAL + N_COLLAPSED)
    assert frame["n_collapsed"][0] == 2 * N_COLLAPSED
    by_group = frame.group_by("method", "is_collapsed").len()["len"].to_list()
    assert sorted(by_group) == [500, 500, 1500, 1500]
    assert shown_of(folder).edits.frame.equals(frame)


def test_figures_sql_runs_as_it_stands(folder):
    """Each answer's SQL, copied, gives its rows again."""
    folder.add_study(perplexities=(5.0, 500.0))
    shown = shown_of(folder)
    for name in shown.__dataclass_fields__.keys() - {"rule"}:
        answer = getattr(shown, name)
        assert ask(folder.results, answer.sql).equals(answer.frame), name


def test_area_under_the_curve_is_the_auc(folder, make_row):
    """The trapezoids under the ROC curve sum to the AUC of view forecast_skill, ties included."""
    folder.add_study(methods=("rome",), perplexities=(5.0, 5.0, 5.0, 500.0, 500.0, 5.0))
    write_forecasts(folder, make_row, (1.0, 3.0, 4.0, 3.0, 9.0, 2.0))
    shown = shown_of(folder)
    points = shown.roc.frame.select("false_alarms", "caught").rows()
    assert points[0] == (0.0, 0.0)
    assert points[-1] == (1.0, 1.0)
    area = sum(
        (right[0] - left[0]) * (right[1] + left[1]) / 2
        for left, right in itertools.pairwise(points)
    )
    auc = ask(folder.results, "select auc from forecast_skill where model = 'tiny'")["auc"][0]
    assert area == pytest.approx(auc, abs=1e-4)
    assert shown.skill.frame["method"].to_list() == ["rome", "rome"]


def test_curve_needs_both_outcomes(folder, make_row):
    """Where no edit collapsed there is nothing to tell apart."""
    folder.add_study(methods=("rome",), perplexities=(5.0, 5.0))
    write_forecasts(folder, make_row, (1.0, 2.0))
    assert shown_of(folder).roc.frame.is_empty()


def test_layers_are_shown_where_there_are_several(folder, make_row):
    """One layer is no comparison; two are, by the verdicts of the newest thresholds."""
    folder.add_study(methods=("rome",), perplexities=(5.0, 5.0))
    write_forecasts(folder, make_row, (0.01, 6.0))
    assert shown_of(folder).layers.frame.is_empty()
    write_forecasts(folder, make_row, (1000.0, 0.01), layer=2, prefix="other-")
    rows = shown_of(folder).layers.frame
    assert rows["layer"].to_list() == [1, 2]
    assert rows["n_safe"].to_list() == [1, 1]
    assert rows["n_at_risk"].to_list() == [1, 0]
    assert rows["n_will_collapse"].to_list() == [0, 1]


def test_longest_continuation_stands_with_its_edit(folder, make_row):
    """Of two texts of one edit the longer is shown; an edit without text has none."""
    folder.add_study(methods=("rome",), perplexities=(500.0, 50.0, 5.0))
    folder.write(
        "continuations",
        *(
            make_row(
                "continuations", edit_id="rome-request-0", n_new_tokens=n, text_after=f"{n} tokens"
            )
            for n in (5, 50)
        ),
    )
    folder.publish()
    with open_snapshot(folder.results) as connection:
        worst = answer_for(connection, "worst_edits", find_study(folder.results)).frame
    assert worst["text_after"].to_list() == ["50 tokens", None]


def test_harmless_edits_are_not_among_the_worst(folder):
    """Only edits above twice the unedited perplexity are; what is no number is above any."""
    folder.add_study(methods=("rome",), perplexities=(11.0, float("nan"), 9.0, 5.0, float("inf")))
    with open_snapshot(folder.results) as connection:
        worst = answer_for(connection, "worst_edits", find_study(folder.results)).frame
    before = worst["perplexity_before"][0]
    assert DAMAGE_RATIO == 2.0
    assert worst.height == 2 + sum(known > 2 * before for known in (11.0, 9.0, 5.0))
    assert worst["is_collapsed"][:2].to_list() == [True, True]


def test_answers_stand_in_the_order_of_the_study(folder):
    """ROME, the baseline, comes before methods that the alphabet puts first."""
    folder.add_study(methods=("c_rome", "rome"), perplexities=(5.0,))
    shown = shown_of(folder)
    assert shown.perplexities.frame["method"].to_list() == ["rome", "c_rome"]


def test_root_cause_study_of_most_requests_counts(folder, make_row):
    """Two of one layer: the larger one's points and findings are shown, the other's are not."""
    folder.add_study(perplexities=(5.0,))
    for name, n_requests in (("small", 3), ("large", 9)):
        folder.write("anatomies", make_row("anatomies", anatomy_id=name, n_requests=n_requests))
        folder.write("key_points", make_row("key_points", anatomy_id=name, request_id=name))
        folder.write(
            "anatomy_findings", make_row("anatomy_findings", anatomy_id=name, observation=name)
        )
    folder.publish()
    shown = shown_of(folder)
    assert shown.keys.frame["request_id"].to_list() == ["large"]
    assert shown.anatomy.frame["observation"].to_list() == ["large"]
    assert shown.keys.frame["model"].to_list() == ["tiny"]


def test_profiles_are_those_of_the_studys_models_and_encoders(folder, make_row):
    """Another decoder's profiles are not shown, an encoder's are, beside one of the study's."""
    folder.add_study(perplexities=(5.0,))
    for model, stack in (("other", "decoder"), ("bert", "encoder")):
        folder.write(
            "position_profiles",
            make_row("position_profiles", model_id=model, stack=stack, model_source=model),
        )
    folder.publish()
    assert shown_of(folder).profiles.frame.is_empty()
    folder.write("position_profiles", make_row("position_profiles", stack="decoder"))
    folder.publish()
    assert shown_of(folder).profiles.frame["model"].to_list() == ["tiny", "bert"]
