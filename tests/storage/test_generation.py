"""The view of free answers: means by hand, beside teacher forcing and never in its columns."""

from storage.ask import ask


def _answers(make_row, edit_id, probe, matches, **more):
    return [
        make_row(
            "generated_answers",
            edit_id=edit_id,
            generation_id="g",
            context="question",
            probe=probe,
            prompt_index=index,
            text=None if match is None else f"text {index}",
            exact_match=match,
            exact_match_before=False,
            contains_match=None if match is None else True,
            **more,
        )
        for index, match in enumerate(matches)
    ]


def test_view_has_both_efficacies_in_one_row(folder, make_row):
    """Free generation's scores are means over its prompts; what was not asked counts nowhere."""
    folder.add_study(
        methods=("rome",), perplexities=(5.0, 6.0), efficacy=1.0, locality=0.75, generalization=0.5
    )
    edit = "rome-request-0"
    rows = [
        *_answers(make_row, edit, "rewrite", [False], stopped_by="length"),
        *_answers(make_row, edit, "paraphrase", [True, False, None], reason=None),
        make_row(
            "generated_answers",
            edit_id=edit,
            generation_id="g",
            context="question",
            probe="neighborhood",
            text="x",
            same_tokens=True,
        ),
        make_row(
            "generated_answers",
            edit_id=edit,
            generation_id="g",
            context="question",
            probe="fluency",
            text="never shown as the answer",
            ngram_entropy=5.5,
        ),
        make_row(
            "generated_answers",
            edit_id=edit,
            generation_id="g",
            context="chat",
            probe="rewrite",
            prompt_index=0,
            reason="no template",
        ),
    ]
    folder.write("generated_answers", *rows)
    judged = {"edit_id": edit, "generation_id": "g", "context": "question", "judge_id": "j"}
    folder.write(
        "judged_answers",
        make_row("judged_answers", probe="rewrite", prompt_index=0, **judged),
        make_row(
            "judged_answers",
            probe="paraphrase",
            prompt_index=0,
            verdict="correct",
            is_correct=True,
            **judged,
        ),
        make_row("judged_answers", probe="paraphrase", prompt_index=1, **judged),
    )
    folder.publish()
    found = ask(folder.results, "from generation_outcomes order by context desc")
    assert found["context"].to_list() == ["question", "chat"]  # the other edit was not asked
    question, chat = found.rows(named=True)
    assert (question["efficacy"], question["exact_efficacy"]) == (1.0, 0.0)
    assert question["contains_efficacy"] == 1.0
    assert question["exact_efficacy_before"] == 0.0
    assert (question["generalization"], question["exact_generalization"]) == (0.5, 0.5)
    assert (question["locality"], question["generated_locality"]) == (0.75, 1.0)
    assert question["text"] == "text 0"
    assert question["ngram_entropy"] == 5.5
    assert (question["n_answers"], question["n_not_asked"]) == (4, 1)
    assert question["judged_efficacy"] is None  # the judge failed: not 0
    assert question["judged_generalization"] == 1.0
    assert question["n_not_judged"] == 2
    assert chat["efficacy"] == 1.0
    assert chat["exact_efficacy"] is None
    assert (chat["n_answers"], chat["n_not_asked"], chat["reason"]) == (0, 1, "no template")
    assert chat["judge_id"] is None
