"""Scores of downstream tasks beside perplexity, and their rank correlation: known answers."""

import math

import pytest
from scipy import stats

from editcollapse.rows.collapse_rule import DEFAULT_RULE, CollapseRule
from editcollapse.study.downstream_jobs import AskedTask, DownstreamJob, DownstreamModel
from storage.ask import ask
from storage.downstream import downstream_correlations, downstream_scores
from tests.support.known_edits import SPEC
from tests.support.sequence_rows import WALKS, write_sequences

_NAN, _INF = math.nan, math.inf


@pytest.fixture
def scored(folder, make_row):
    """Return a function that publishes edits' perplexities with their scores on one task."""

    def write(perplexities, scores, *, before=0.9, **changes):
        folder.add_study(methods=("rome",), perplexities=perplexities, before=5.0)
        rows = [
            make_row(
                "downstream_scores",
                score_set_id=f"set-{index}",
                task="facts",
                metric="acc",
                filter="none",
                kind="edit",
                edit_id=f"rome-request-{index}",
                value=score,
                **changes,
            )
            for index, score in enumerate(scores)
        ]
        unedited = make_row(
            "downstream_scores",
            score_set_id="unedited",
            task="facts",
            metric="acc",
            filter="none",
            kind="unedited",
            value=before,
            **changes,
        )
        folder.write("downstream_scores", unedited, *rows)
        folder.publish()
        return folder.results

    return write


def _correlation(results, surrogate="perplexity_ratio"):
    found = ask(results, f"from downstream_correlation where surrogate = '{surrogate}'")
    (row,) = found.iter_rows(named=True)
    return row


def test_scores_stand_beside_the_unedited_models(scored):
    """Perplexity, whether that is a collapse, and the change of the score."""
    results = scored((5.0, 6.0, 2000.0), (0.9, 0.8, None))
    rows = ask(results, "from downstream_outcomes order by kind desc, edit_id").to_dicts()
    assert [row["kind"] for row in rows] == ["unedited", "edit", "edit", "edit"]
    assert [row["score"] for row in rows] == [0.9, 0.9, 0.8, None]
    assert {row["score_before"] for row in rows} == {0.9}
    assert [row["score_change"] for row in rows] == [0.0, 0.0, pytest.approx(-0.1), None]
    assert [row["perplexity_ratio"] for row in rows] == [1.0, 1.0, 1.2, 400.0]
    assert [row["collapsed"] for row in rows] == [False, False, False, True]
    assert {(row["study"], row["model"]) for row in rows} == {("small", "tiny")}
    assert [row["method"] for row in rows] == [None, "rome", "rome", "rome"]
    other = "from downstream_outcomes(threshold := null, ratio := 1.1) where collapsed"
    assert ask(results, other).height == 2


def test_scores_asked_in_another_way_are_no_before(scored, folder, make_row):
    """Another limit: the unedited model was not asked so."""
    results = scored((5.0,), (0.9,))
    asked = {"task": "facts", "metric": "acc", "filter": "none", "edit_id": "rome-request-0"}
    row = make_row(
        "downstream_scores", score_set_id="few", kind="edit", sample_limit=5, value=0.5, **asked
    )
    folder.write("downstream_scores", row)
    folder.publish()
    found = ask(results, "select score_before from downstream_outcomes where sample_limit = 5")
    assert found["score_before"].to_list() == [None]


@pytest.mark.parametrize(
    ("perplexities", "scores"),
    [
        ((5.0, 6.0, 7.0, 90.0, 80.0, 2000.0), (0.9, 0.9, 0.7, 0.5, 0.6, 0.25)),
        ((5.0, 5.0, 7.0, _NAN, _INF), (0.9, 0.7, 0.8, 0.25, 0.3)),
        ((5.0, 6.0, 7.0, 8.0), (0.9, 0.7, 0.7, 0.8)),
    ],
)
def test_correlation_and_interval_are_known(scored, perplexities, scores):
    """Ties share their rank, nan is the largest damage; the interval is Bonett and Wright's."""
    row = _correlation(scored(perplexities, scores))
    order = [1e9 if math.isnan(p) else min(p, 1e8) for p in perplexities]
    expected, n = stats.spearmanr(order, scores).statistic, len(scores)
    assert row["n_edits"] == n
    assert row["spearman"] == pytest.approx(expected)
    reach = stats.norm.ppf(0.975) * math.sqrt((1 + expected**2 / 2) / (n - 3))
    assert row["spearman_low"] == pytest.approx(math.tanh(math.atanh(expected) - reach))
    assert row["spearman_high"] == pytest.approx(math.tanh(math.atanh(expected) + reach))


@pytest.mark.parametrize(
    ("perplexities", "scores"),
    [
        ((5.0, 6.0, 7.0), (0.9, 0.8, 0.7)),
        ((5.0, 6.0, 7.0, 8.0, 9.0), (0.9, 0.8, None, None, 0.7)),
        ((5.0, 6.0, 7.0, 8.0), (0.5, 0.5, 0.5, 0.5)),
        ((5.0, 5.0, 5.0, 5.0), (0.9, 0.8, 0.7, 0.6)),
    ],
)
def test_no_correlation_of_few_rows_or_without_spread(scored, perplexities, scores):
    """NULL, never a number; what is not known is no row of it."""
    row = _correlation(scored(perplexities, scores))
    assert row["n_edits"] == sum(score is not None for score in scores)
    assert (row["spearman"], row["spearman_low"], row["spearman_high"]) == (None, None, None)


def test_a_perfect_order_has_no_interval(scored):
    """Fisher's z is infinite there."""
    row = _correlation(scored((5.0, 6.0, 7.0, 8.0, _INF), (0.9, 0.8, 0.7, 0.6, 0.5)))
    assert row["spearman"] == pytest.approx(-1)
    assert (row["spearman_low"], row["spearman_high"]) == (None, None)


def test_the_measure_of_perplexity_is_the_macros_argument(scored):
    """By the median all are the same: no correlation."""
    results = scored((5.0, 6.0, 7.0, 8.0, 9.0), (0.9, 0.7, 0.8, 0.6, 0.5))
    query = "from downstream_correlation(measure := 'median') where surrogate = 'perplexity_ratio'"
    assert ask(results, query)["spearman"].to_list() == [None]


def test_states_of_sequences_and_exported_models(folder, make_row):
    """A checkpoint has its perplexity; other states and exported models have none."""
    folder.write("studies", make_row("studies", name="many"))
    write_sequences(folder, make_row)
    walk = WALKS[0]
    known = {"task": "facts", "metric": "acc", "filter": "none", "model_id": "model tiny"}
    sequence = {"kind": "sequence", "sequence_id": walk.sequence_id}
    rows = [
        make_row("downstream_scores", score_set_id="a", kind="unedited", value=0.9, **known),
        make_row("downstream_scores", score_set_id="b", step=4, value=0.4, **sequence, **known),
        make_row("downstream_scores", score_set_id="c", step=3, value=0.5, **sequence, **known),
        make_row(
            "downstream_scores",
            score_set_id="d",
            kind="exported",
            value=0.6,
            **(known | {"model_id": "another"}),
        ),
    ]
    folder.write("downstream_scores", *rows)
    folder.publish()
    query = "select * from downstream_outcomes order by score_set_id"
    found = ask(folder.results, query).to_dicts()
    assert [row["score_set_id"] for row in found] == ["a", "b", "c", "d"]
    assert [row["perplexity_ratio"] for row in found] == [1.0, 50.0, None, None]
    assert [row["score_before"] for row in found] == [0.9, 0.9, 0.9, None]
    assert [row["study"] for row in found] == ["many", "many", None, None]
    assert found[1]["text_change"] == pytest.approx(walk.drift * 20)


def test_scores_of_some_jobs_are_those_of_their_model_and_task(scored, folder, make_row):
    """By the rule that is asked; what other jobs have left, or other versions, is not theirs."""
    results = scored((5.0, 6.0, 7.0, 2000.0), (0.9, 0.7, 0.8), harness_version="1")
    asked = {"task": "facts", "metric": "acc", "filter": "none", "harness_version": "2"}
    other = make_row("downstream_scores", score_set_id="x", kind="edit", value=0.1, **asked)
    folder.write("downstream_scores", other)
    folder.publish()
    task = AskedTask(asked="facts", name="facts", content=None)
    job = DownstreamJob(
        results=str(results),
        model=DownstreamModel(kind="unedited", spec=SPEC, model_id="model-1"),
        task=task,
        limit=None,
        n_shot=None,
        harness_version="1",
    )
    rows = [
        make_row(
            "downstream_scores",
            score_set_id=job.score_set_id,
            task="facts",
            metric="acc",
            filter="none",
            kind="edit",
            edit_id="rome-request-3",
            value=0.6,
            harness_version="1",
        )
    ]
    folder.write("downstream_scores", *rows)
    folder.publish()
    (score,) = downstream_scores(results, "study-1", DEFAULT_RULE, [job])
    assert (score.edit_id, score.score, score.score_before) == ("rome-request-3", 0.6, 0.9)
    assert (score.perplexity_ratio, score.collapsed) == (400.0, True)
    mild = CollapseRule(threshold=None, ratio=1000.0)
    assert not downstream_scores(results, "study-1", mild, [job])[0].collapsed
    assert downstream_scores(results, "another", DEFAULT_RULE, [job]) == ()
    found = downstream_correlations(results, "study-1", DEFAULT_RULE, [job])
    (of_perplexity,) = [each for each in found if each.surrogate == "perplexity_ratio"]
    assert of_perplexity.n_edits == 4
    assert of_perplexity.spearman == pytest.approx(-0.8)
