"""Edited models measured in batches give what really changed weights give, for every family."""

import pytest
import torch

from editcollapse.catalog.methods import METHODS
from editcollapse.covariance.second_moment import MomentSolver, measure_moment
from editcollapse.evaluation.perplexity import encode_texts, perplexities, text_nll
from editcollapse.evaluation.probes import plan_probes
from editcollapse.evaluation.scores import answer_probes, score_probes
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.rome.updates import rank_one_updates
from tests.support import reference
from tests.support.cases import (
    LAYER,
    REQUESTS,
    TEMPLATES,
    TEXTS,
    TIGHT,
    Float64Throughout,
    distance,
    reference_setup,
    some_moment,
    some_values,
)
from tests.support.tiny import VARIANTS, unlike_families


@pytest.mark.parametrize("variant", VARIANTS)
def test_perplexity_and_efficacy_equal_reference(tiny_model, variant):
    """Perplexity and efficacy of every edit equal full forwards with the weights really edited."""
    loaded = tiny_model(variant)
    setup = reference_setup(loaded)
    hooked = HookedLayer(loaded, LAYER)
    solver = MomentSolver(some_moment(loaded.widths.d_key))
    texts = encode_texts(loaded.encoder, TEXTS)
    plans = [plan_probes(loaded.encoder, TEMPLATES, request, 0) for request in REQUESTS]
    names = ("rome", "c_rome")
    with Float64Throughout():
        values = some_values(loaded)
        weight = loaded.weight(LAYER)
        updates = [
            rank_one_updates(values, METHODS[name], solver, weight, 4.0)[0] for name in names
        ]
        base, *edited = answer_probes(hooked, plans, [None, *updates], tokens_per_forward=150)
        for update, answers in zip(updates, edited, strict=True):
            found = perplexities(text_nll(hooked, texts, update, tokens_per_forward=100))
            for b, request in enumerate(REQUESTS):
                scores = score_probes(plans[b], answers[b], base[b])
                with reference.edited(setup, update.matrix(b)):
                    expected = reference.perplexity(setup, TEXTS)
                    accuracies = [
                        reference.token_accuracy(
                            setup, template.replace("{}", request.filled_prompt), request.target_new
                        )
                        for template in TEMPLATES
                    ]
                assert found[b].mean == pytest.approx(expected, rel=TIGHT)
                assert scores.efficacy == accuracies[0]
                assert scores.efficacy_prefix_mean == pytest.approx(sum(accuracies[1:]) / 2)
                assert scores.efficacy_prefix_min == min(accuracies[1:])
                assert scores.efficacy_prefix_max == max(accuracies[1:])
                assert scores.efficacy_one_prefix == accuracies[plans[b].prefix_index]


@unlike_families
def test_unedited_answers_equal_reference(tiny_model, variant):
    """Without an update, negative log-likelihoods are those of the model itself."""
    loaded = tiny_model(variant)
    setup = reference_setup(loaded)
    plans = [plan_probes(loaded.encoder, TEMPLATES, request, 0) for request in REQUESTS]
    with Float64Throughout(), torch.no_grad():
        ((*answers,),) = answer_probes(HookedLayer(loaded, LAYER), plans, [None])
        for plan, found in zip(plans, answers, strict=True):
            for answer in found:
                question = answer.question
                scores = reference.log_probs(setup, plan.rows[question.row])
                places = range(
                    question.first_position, question.first_position + len(question.target)
                )
                picked = [scores[p, t] for p, t in zip(places, question.target, strict=True)]
                assert answer.nll == pytest.approx(-float(torch.stack(picked).mean()), rel=TIGHT)
                assert answer.argmax == tuple(int(scores[p].argmax()) for p in places)


@unlike_families
def test_moment_equals_reference(tiny_model, variant):
    """The second moment over a small corpus is K^T K / n of single full forwards."""
    loaded = tiny_model(variant)
    setup = reference_setup(loaded)
    bare = reference.Setup(setup.model, setup.tokenizer, setup.module)
    with Float64Throughout():
        found = measure_moment(loaded, LAYER, TEXTS, n_tokens=10_000, max_length=7)
        expected = reference.second_moment(bare, TEXTS, 7)
    assert distance(found.matrix, expected) < TIGHT
