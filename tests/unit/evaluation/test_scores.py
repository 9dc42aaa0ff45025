"""Scores from answers made by hand: success, magnitude, neighborhood reversed, locality."""

import dataclasses
import math

import pytest

from editcollapse.evaluation.probes import ProbePlan, Question, plan_probes
from editcollapse.evaluation.scores import Answer, answer_probes, score_probes
from editcollapse.forward.hooked_layer import HookedLayer
from tests.support.cases import LAYER, REQUESTS, TEMPLATES, TIGHT, Float64Throughout, some_updates

TARGET = (7, 8)


def answer(kind, index, side, probability, argmax=TARGET):
    """Return an answer whose target has a geometric-mean probability a token."""
    question = Question(kind, index, side, 0, 3, TARGET)
    return Answer(question, -math.log(probability), argmax)


def scored(answers, unedited=None, prefix_index=None):
    """Return the scores of answers made by hand."""
    plan = ProbePlan("id", ((1,),), tuple(a.question for a in answers), prefix_index)
    return score_probes(plan, answers, unedited or answers)


def test_efficacy_success_and_magnitude():
    """The new target wins where its loss is lower; the magnitude is a difference."""
    won = scored([answer("rewrite", 0, "new", 0.7), answer("rewrite", 0, "true", 0.2)])
    assert won.efficacy_score == 1
    assert won.efficacy_magnitude == pytest.approx(0.5)
    assert won.target_new_nll == pytest.approx(-math.log(0.7))
    assert won.target_true_nll == pytest.approx(-math.log(0.2))
    lost = scored([answer("rewrite", 0, "new", 0.1), answer("rewrite", 0, "true", 0.2)])
    assert lost.efficacy_score == 0
    assert lost.efficacy_magnitude == pytest.approx(-0.1)
    tie = scored([answer("rewrite", 0, "new", 0.2), answer("rewrite", 0, "true", 0.2)])
    assert tie.efficacy_score == 0


def test_paraphrases_are_averaged():
    """Success and magnitude are means over the prompts of a kind."""
    found = scored(
        [
            answer("rewrite", 0, "new", 0.5),
            answer("paraphrase", 0, "new", 0.6),
            answer("paraphrase", 0, "true", 0.1),
            answer("paraphrase", 1, "new", 0.2, argmax=(7, 0)),
            answer("paraphrase", 1, "true", 0.4),
        ]
    )
    assert found.paraphrase_score == 0.5
    assert found.paraphrase_magnitude == pytest.approx((0.5 - 0.2) / 2)
    assert found.generalization == pytest.approx((1 + 0.5) / 2)
    assert found.efficacy_score is None


def test_neighborhood_is_reversed():
    """For neighbors the true target should win: success is its lower loss."""
    found = scored(
        [
            answer("rewrite", 0, "new", 0.5),
            answer("neighborhood", 0, "new", 0.1),
            answer("neighborhood", 0, "true", 0.4),
            answer("neighborhood", 1, "new", 0.6),
            answer("neighborhood", 1, "true", 0.4),
            answer("neighborhood", 2, "new", 0.3),
            answer("neighborhood", 2, "true", 0.5),
        ]
    )
    assert found.neighborhood_score == pytest.approx(2 / 3)
    assert found.neighborhood_magnitude == pytest.approx((0.3 - 0.2 + 0.2) / 3)


def test_locality_is_unchanged_argmax():
    """Locality compares with the unedited model's answer, right or wrong, token by token."""
    before = [
        answer("rewrite", 0, "new", 0.5),
        answer("neighborhood", 0, "true", 0.4, argmax=(1, 2)),
        answer("neighborhood", 1, "true", 0.4, argmax=(7, 8)),
    ]
    after = [
        answer("rewrite", 0, "new", 0.9),
        answer("neighborhood", 0, "true", 0.1, argmax=(1, 2)),
        answer("neighborhood", 1, "true", 0.4, argmax=(7, 0)),
    ]
    assert scored(after, before).locality == pytest.approx((1 + 0.5) / 2)
    assert scored(before).locality == 1


def test_portability_is_the_share_of_expected_tokens():
    """The mean over the prompts that were asked, and how many they are; None of none."""
    new = answer("rewrite", 0, "new", 0.5)
    found = scored(
        [
            new,
            answer("portability", 0, "new", 0.5, argmax=(7, 8)),
            answer("portability", 2, "new", 0.5, argmax=(7, 0)),
            answer("portability", 3, "new", 0.5, argmax=(0, 0)),
        ]
    )
    assert found.portability == pytest.approx(0.5)
    assert found.n_portability_prompts == 3
    none = scored([new])
    assert (none.portability, none.n_portability_prompts) == (None, 0)


def test_prefixes_mean_min_max_and_one():
    """Efficacy behind all prefixes, and behind the one that was drawn for the request."""
    answers = [
        answer("rewrite", 0, "new", 0.5, argmax=(0, 0)),
        answer("prefixed", 1, "new", 0.5, argmax=(7, 8)),
        answer("prefixed", 2, "new", 0.5, argmax=(0, 0)),
        answer("prefixed", 3, "new", 0.5, argmax=(7, 0)),
    ]
    found = scored(answers, prefix_index=3)
    assert found.efficacy == 0
    assert found.efficacy_prefix_mean == pytest.approx(0.5)
    assert found.efficacy_prefix_min == 0
    assert found.efficacy_prefix_max == 1
    assert found.efficacy_one_prefix == 0.5
    assert found.prefix_index == 3


def test_what_was_not_asked_is_none():
    """A request without prefixes, paraphrases and neighbors leaves those scores unmeasured."""
    found = scored([answer("rewrite", 0, "new", 0.5)])
    empty = {f.name for f in dataclasses.fields(found) if getattr(found, f.name) is None}
    measured = {"efficacy", "target_new_nll", "n_portability_prompts"}
    assert empty == {f.name for f in dataclasses.fields(found)} - measured


def test_skipped_test_prefix_is_none():
    """Where the drawn prefix could not be asked, its score is unmeasured, not an error."""
    answers = [answer("rewrite", 0, "new", 0.5), answer("prefixed", 1, "new", 0.5)]
    assert scored(answers, prefix_index=2).efficacy_one_prefix is None


def test_nan_wins_nothing():
    """A model without numbers has no success and a magnitude that is no number."""
    found = scored([answer("rewrite", 0, "new", math.nan), answer("rewrite", 0, "true", math.nan)])
    assert found.efficacy_score == 0
    assert math.isnan(found.efficacy_magnitude)


@pytest.mark.parametrize("variant", ["gpt2", "mistral", "qwen2"])
def test_batch_of_requests_equals_one_at_a_time(tiny_model, variant):
    """Answers do not depend on the other requests, on the padding, or on the forward's size."""
    loaded = tiny_model(variant)
    hooked = HookedLayer(loaded, LAYER)
    plans = [plan_probes(loaded.encoder, TEMPLATES, request, 0) for request in REQUESTS]
    updates = some_updates(loaded, len(plans))
    with Float64Throughout():
        together = answer_probes(hooked, plans, [None, updates])
        small = answer_probes(hooked, plans, [None, updates], tokens_per_forward=1)
        for b, plan in enumerate(plans):
            alone = answer_probes(hooked, [plan], [None, updates.rows(slice(b, b + 1))])
            for v in range(2):
                for batch, place in ((together, b), (small, b), (alone, 0)):
                    for found, expected in zip(batch[v][place], together[v][b], strict=True):
                        assert found.question == expected.question
                        assert found.nll == pytest.approx(expected.nll, rel=TIGHT)
                        assert found.argmax == expected.argmax


def test_progress_counts_rows(tiny_model):
    """The caller hears of the rows done and of all rows."""
    loaded, heard = tiny_model("gpt2"), []
    plans = [plan_probes(loaded.encoder, TEMPLATES, request, 0) for request in REQUESTS]
    answer_probes(HookedLayer(loaded, LAYER), plans, [None], 60, lambda *done: heard.append(done))
    total = sum(len(plan.rows) for plan in plans)
    assert heard[-1] == (total, total)
    assert len(heard) > 1
