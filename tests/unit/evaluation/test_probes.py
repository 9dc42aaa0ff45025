"""Which questions are asked of a model: rows, positions, targets, and the drawn test prefix."""

import dataclasses

import pytest

from editcollapse.data.requests import EditRequest
from editcollapse.evaluation.probes import plan_probes
from editcollapse.models.tokenization import UnusableTextError
from tests.support.cases import REQUESTS, TEMPLATES

REQUEST = REQUESTS[1]  # two-token targets, a paraphrase and a neighbor


@pytest.mark.parametrize("variant", ["gpt2", "llama", "qwen2"])
def test_every_question_reads_its_target(tiny_model, variant):
    """Each row is prompt and target less its last token, read from the prompt's last on."""
    encoder = tiny_model(variant).encoder
    plan = plan_probes(encoder, TEMPLATES, REQUEST, 0)
    prompts = {
        ("rewrite", 0): REQUEST.filled_prompt,
        ("prefixed", 1): TEMPLATES[1].replace("{}", REQUEST.filled_prompt),
        ("prefixed", 2): TEMPLATES[2].replace("{}", REQUEST.filled_prompt),
        ("paraphrase", 0): REQUEST.paraphrase_prompts[0],
        ("neighborhood", 0): REQUEST.neighborhood_prompts[0],
    }
    targets = {"new": REQUEST.target_new, "true": REQUEST.target_true}
    for question in plan.questions:
        ids = encoder.sequence(prompts[question.kind, question.prompt_index])
        target = encoder.target_ids(targets[question.side])
        assert question.target == target
        assert plan.rows[question.row] == ids + target[:-1]
        assert question.first_position == len(ids) - 1
    asked = {(q.kind, q.prompt_index, q.side) for q in plan.questions}
    both = {
        (kind, 0, side) for kind in ("rewrite", "paraphrase", "neighborhood") for side in targets
    }
    assert asked == both | {("prefixed", 1, "new"), ("prefixed", 2, "new")}


def test_equal_rows_are_asked_once(tiny_model):
    """One-token targets need one row a prompt, and equal prompts one row in all."""
    twice = dataclasses.replace(REQUESTS[0], paraphrase_prompts=("Lumo is the capital of",) * 2)
    plan = plan_probes(tiny_model("gpt2").encoder, ["{}"], twice, 0)
    assert len(plan.questions) == 2 + 4 + 4
    assert len(plan.rows) == len(set(plan.rows)) == 1 + 2


def test_neighbors_may_have_answers_of_their_own(tiny_model):
    """Where the dataset gives each neighbor's answer, that one is asked for."""
    own = dataclasses.replace(REQUESTS[0], neighborhood_targets=("red", "New Port"))
    encoder = tiny_model("gpt2").encoder
    plan = plan_probes(encoder, ["{}"], own, 0)
    found = [q.target for q in plan.questions if (q.kind, q.side) == ("neighborhood", "true")]
    assert found == [encoder.target_ids("red"), encoder.target_ids("New Port")]


def test_what_follows_from_the_fact_has_answers_of_its_own(tiny_model):
    """Each portability prompt is asked with its expected answer; one that has none is named."""
    asked = dataclasses.replace(
        REQUESTS[0],
        target_true=None,
        portability_prompts=("Lumo lies in", "Mira is"),
        portability_targets=("New Port", "red"),
    )
    encoder = tiny_model("gpt2").encoder
    plan = plan_probes(encoder, ["{}"], asked, 0)
    found = {q.prompt_index: q for q in plan.questions if q.kind == "portability"}
    for index, (prompt, target) in enumerate((("Lumo lies in", "New Port"), ("Mira is", "red"))):
        goal = encoder.target_ids(target)
        assert found[index].target == goal
        assert plan.rows[found[index].row] == encoder.sequence(prompt) + goal[:-1]
    too_long = dataclasses.replace(asked, portability_prompts=("red " * 200, "Mira is"))
    plan = plan_probes(encoder, ["{}"], too_long, 0)
    assert [q.prompt_index for q in plan.questions if q.kind == "portability"] == [1]
    assert len(plan.skipped) == 1


def test_without_a_true_target_nothing_is_compared(tiny_model):
    """A request without ``target_true`` asks for the new target only, and for no neighbor."""
    plain = dataclasses.replace(REQUESTS[0], target_true=None)
    plan = plan_probes(tiny_model("gpt2").encoder, ["{}"], plain, 0)
    assert {question.side for question in plan.questions} == {"new"}
    assert "neighborhood" not in {question.kind for question in plan.questions}


def test_test_prefix_depends_on_seed_and_request_alone(tiny_model):
    """The drawn prefix is never the bare one, is the same each time, and varies over requests."""
    encoder = tiny_model("gpt2").encoder
    templates = ["{}", *(f"{word} . {{}}" for word in ("red", "blue", "green", "city", "river"))]
    requests = [EditRequest(s, "{} is", "red", None) for s in ("Lumo", "Bram", "Sela", "Mira")]
    drawn = [
        [plan_probes(encoder, templates, request, seed).prefix_index for request in requests]
        for seed in (0, 0, 1, 2)
    ]
    assert drawn[0] == drawn[1]
    assert len({tuple(row) for row in drawn}) > 1
    assert {index for row in drawn for index in row} <= set(range(1, 6))
    assert len(set(drawn[0] + drawn[2])) > 1
    assert plan_probes(encoder, ["{}"], requests[0], 0).prefix_index is None


def test_question_that_cannot_be_asked_is_skipped(tiny_model):
    """A neighbor that is too long is named and left out; the rest of the request stays."""
    long = dataclasses.replace(
        REQUESTS[0], neighborhood_prompts=("red " * 200, "Oslo is the capital of")
    )
    plan = plan_probes(tiny_model("gpt2").encoder, TEMPLATES, long, 0)
    assert len(plan.skipped) == 2
    assert "has 200 tokens; gpt2 takes 80" in plan.skipped[0]
    asked = {q.prompt_index for q in plan.questions if q.kind == "neighborhood"}
    assert asked == {1}


def test_unknown_true_target_is_skipped_and_unknown_new_one_refused(tiny_model):
    """Only the rewrite with its new target is indispensable."""
    encoder = tiny_model("gpt2").encoder
    plan = plan_probes(encoder, ["{}"], EditRequest("Lumo", "{} is", "red", "Xyz"), 0)
    assert [question.side for question in plan.questions] == ["new"]
    assert "no token for the target 'Xyz'" in plan.skipped[0]
    with pytest.raises(UnusableTextError, match="no token for the target 'Xyz'"):
        plan_probes(encoder, ["{}"], EditRequest("Lumo", "{} is", "Xyz", "red"), 0)
