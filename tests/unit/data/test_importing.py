"""Others' results become rows; what is malformed or hostile is rejected record by record."""

import copy
import json
import math

import pytest

from editcollapse.errors import DatasetError
from editcollapse.importing import MAX_CASE_BYTES, read_foreign_results

_LN2 = math.log(2)


def case(index=0, **changes):
    """Return a record as kmeng01/memit's evaluation writes it."""
    record = {
        "case_id": index,
        "grouped_case_ids": [index],
        "num_edits": 1,
        "requested_rewrite": {
            "prompt": "The mother tongue of {} is",
            "relation_id": "P103",
            "target_new": {"str": "English", "id": "Q1860"},
            "target_true": {"str": "French", "id": "Q150"},
            "subject": "Danielle Darrieux",
        },
        "time": 3.5,
        "post": {
            "rewrite_prompts_probs": [{"target_new": _LN2, "target_true": 2 * _LN2}],
            "paraphrase_prompts_probs": [
                {"target_new": _LN2, "target_true": 2 * _LN2},
                {"target_new": 3 * _LN2, "target_true": 2 * _LN2},
            ],
            "neighborhood_prompts_probs": [
                {"target_new": 2 * _LN2, "target_true": _LN2},
                {"target_new": 2 * _LN2, "target_true": 3 * _LN2},
                {"target_new": 2 * _LN2, "target_true": _LN2},
                {"target_new": 2 * _LN2, "target_true": _LN2},
            ],
            "rewrite_prompts_correct": [True],
            "paraphrase_prompts_correct": [True, False],
            "neighborhood_prompts_correct": [True, True, True, False],
            "ngram_entropy": 6.2,
            "reference_score": 0.4,
            "text": ["generated"],
        },
    }
    return record | changes


def entry(index=0, **changes):
    """Return an entry as EasyEdit's editor.edit writes it."""
    record = {
        "pre": {"rewrite_acc": [0.0], "portability": {}},
        "case_id": index,
        "requested_rewrite": {
            "prompt": "Ray Charles, the",
            "target_new": "violin",
            "ground_truth": "piano",
            "portability": {},
            "locality": {},
            "subject": "Ray Charles",
        },
        "post": {
            "rewrite_acc": [1.0],
            "rephrase_acc": [0.5],
            "locality": {"neighborhood_acc": [1.0, 0.5], "distracting_acc": [0.25]},
            "portability": {"one_hop_acc": [0.5]},
            "fluency": {"ngram_entropy": 5.1},
        },
    }
    return record | changes


def write_cases(folder, *records):
    """Write case files; a text is written as it is."""
    folder.mkdir(exist_ok=True)
    for index, record in enumerate(records):
        text = record if isinstance(record, str) else json.dumps(record)
        (folder / f"1_edits-case_{index}.json").write_text(text)
    return folder


def write_list(folder, *records):
    """Write a list of metrics."""
    path = folder / "results.json"
    path.write_text(json.dumps(list(records)))
    return path


def test_memit_scores_are_those_of_its_summary(tmp_path):
    """ES, PS and NS and their magnitudes are counted as kmeng01's summarize.py counts them."""
    (tmp_path / "run_000").mkdir()
    (tmp_path / "run_000" / "params.json").write_text("{}")
    found = read_foreign_results(write_cases(tmp_path / "run_000", case()), "memit")
    (row,) = found.edits
    assert (row.efficacy_score, row.paraphrase_score, row.neighborhood_score) == (1.0, 0.5, 0.75)
    assert row.efficacy_magnitude == pytest.approx(1 / 2 - 1 / 4)
    assert row.paraphrase_magnitude == pytest.approx((1 / 4 + 1 / 8 - 1 / 4) / 2)
    assert row.neighborhood_magnitude == pytest.approx((3 * (1 / 2 - 1 / 4) + 1 / 8 - 1 / 4) / 4)
    assert (row.target_new_nll, row.target_true_nll) == (_LN2, 2 * _LN2)
    assert (row.rewrite_correct, row.paraphrase_correct, row.neighborhood_correct) == (1, 0.5, 0.75)
    assert (row.prompt, row.subject) == (
        "The mother tongue of Danielle Darrieux is",
        "Danielle Darrieux",
    )
    assert (row.target_new, row.target_true, row.case_id) == ("English", "French", "0")
    assert (row.n_joint_edits, row.duration_s, row.ngram_entropy) == (1, 3.5, 6.2)


def test_what_a_source_cannot_say_is_none_and_named(tmp_path):
    """Perplexity, denominators and empty columns are named; model and method are not guessed."""
    folder = write_cases(tmp_path / "MEMIT", case())
    run = read_foreign_results(folder, "memit").run
    assert (run.source, run.model, run.method) == ("MEMIT", None, None)
    assert run.unknown.startswith("perplexity on a text set, denominator, update norm")
    assert {"efficacy", "locality", "essence_score"} <= set(run.unknown.split(", "))
    assert "efficacy_score" not in run.unknown.split(", ")
    told = read_foreign_results(folder, "memit", name="n", model="gpt2-xl", method="memit").run
    assert (told.source, told.model, told.method) == ("n", "gpt2-xl", "memit")
    assert told.import_id != run.import_id


def test_memit_of_zsre_and_rome_with_its_answers_before(tmp_path):
    """ZsRE has no NLLs; records of kmeng01/rome have answers from before the edit too."""
    zsre = case(post={"rewrite_prompts_correct": [True, False, True, True]})
    zsre["requested_rewrite"] = copy.deepcopy(zsre["requested_rewrite"])
    zsre["requested_rewrite"]["target_true"]["str"] = "<|endoftext|>"
    rome = case(1, pre=case()["post"])
    found = read_foreign_results(write_cases(tmp_path / "r", zsre, rome), "memit")
    first, after, before = found.edits
    assert (first.rewrite_correct, first.efficacy_score, first.target_true) == (0.75, None, None)
    assert [(row.phase, row.record_index) for row in (after, before)] == [("post", 1), ("pre", 1)]
    assert (after.duration_s, before.duration_s) == (3.5, None)
    assert found.run.n_edits == 2


def test_easyedit_shares_may_be_lists(tmp_path):
    """Shares are numbers or lists, locality is the mean over its kinds; pre is a row of its own."""
    plain = entry(1, post={"rewrite_acc": 0.5, "rewrite_ppl": 12.5, "locality": {}})
    plain["requested_rewrite"] = {
        "prompt": "Ray Charles, the",
        "target_new": "violin",
        "ground_truth": "<|endoftext|>",
    }
    found = read_foreign_results(write_list(tmp_path, entry(), plain), "easyedit")
    first, before, second, _ = found.edits
    assert (first.efficacy, first.generalization, first.portability) == (1.0, 0.5, 0.5)
    assert first.locality == pytest.approx((0.75 + 0.25) / 2)
    assert (first.target_true, first.ngram_entropy) == ("piano", 5.1)
    assert (before.phase, before.efficacy, before.locality) == ("pre", 0.0, None)
    assert (second.efficacy, second.locality, second.subject) == (0.5, None, None)
    assert (second.target_true, second.target_perplexity) == (None, 12.5)


def test_answers_that_are_no_shares_stay_out(tmp_path):
    """Token ids of batch_edit's locality are no share: locality is not known then."""
    batch = entry(post={"rewrite_acc": 1.0, "locality": {"neighborhood_output": [1, 2, 3]}})
    (row, _) = read_foreign_results(write_list(tmp_path, batch), "easyedit").edits
    assert (row.efficacy, row.locality) == (1.0, None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("{", "Expecting property name"),
        ("[1]", "the record is a list of 1 where an object is expected"),
        ("[" * 100_000, "it is nested too deeply"),
        ({"requested_rewrite": None}, "requested_rewrite is null"),
        ({"requested_rewrite": {"subject": "S"}}, "requested_rewrite.prompt is missing"),
        ({"requested_rewrite": {"subject": "S", "prompt": "no slot"}}, "has to hold {} once"),
        ({"post": {}}, "has none of the fields"),
        ({"post": {"rewrite_prompts_probs": [{"target_new": 1.0}]}}, "target_true is missing"),
        (
            {"post": {"rewrite_prompts_probs": [{"target_new": -1.0, "target_true": 1}]}},
            "target_new is -1; it lies between 0 and inf",
        ),
        (
            {"post": {"rewrite_prompts_probs": [{"target_new": 10**400, "target_true": 1}]}},
            "too large for a number",
        ),
        ({"post": {"rewrite_prompts_correct": [2]}}, "is 2; it lies between 0 and 1"),
        ({"post": {"rewrite_prompts_correct": "yes"}}, "where a number is expected"),
        ({"time": "long"}, "time is the string 'long' where a number is expected"),
    ],
)
def test_malformed_case_is_rejected_alone(tmp_path, change, reason):
    """One bad file among good ones is named with its reason; the others are taken in."""
    bad = change if isinstance(change, str) else case(**change)
    found = read_foreign_results(write_cases(tmp_path / "r", case(), bad, case(2)), "memit")
    assert [row.record_index for row in found.edits] == [0, 2]
    (rejection,) = found.rejections
    assert (rejection.place, rejection.record_index) == ("1_edits-case_1.json", 1)
    assert reason in rejection.reason
    assert (found.run.n_records, found.run.n_edits, found.run.n_rejected) == (3, 2, 1)


def test_hostile_files_are_not_read(tmp_path):
    """Links, huge files and files that are not text are rejected by name; folders are passed."""
    folder = write_cases(tmp_path / "r", case())
    (tmp_path / "secret.json").write_text(json.dumps(case()))
    (folder / "case_1.json").symlink_to(tmp_path / "secret.json")
    with (folder / "case_2.json").open("wb") as stream:
        stream.truncate(MAX_CASE_BYTES + 1)
    (folder / "case_3.json").write_bytes(b"\xff\xfe{}")
    (folder / "case_4.json").mkdir()
    (folder / "case_5.json").write_text(json.dumps(case()).replace("English", "\\ud800"))
    found = read_foreign_results(folder, "memit")
    assert found.run.n_edits == 1
    reasons = {one.place: one.reason for one in found.rejections}
    assert "is not followed" in reasons["case_1.json"]
    assert "has more than" in reasons["case_2.json"]
    assert "not UTF-8" in reasons["case_3.json"]
    assert "is not followed" in reasons["case_4.json"]
    assert "lone surrogate" in reasons["case_5.json"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"post": None}, "post is null"),
        ({"post": {"rewrite_ans": "violin"}}, "post has neither rewrite_acc nor rewrite_ppl"),
        ({"post": {"rewrite_acc": [1.5]}}, "is 1.5; it lies between 0 and 1"),
        ({"post": {"rewrite_acc": {}}}, "where a number is expected"),
        ({"post": {"rewrite_acc": 1, "locality": [1]}}, "post.locality is a list of 1"),
        ({"requested_rewrite": {"prompt": "p"}}, "requested_rewrite.target_new is missing"),
        ({"requested_rewrite": {"prompt": "p" * 100_001, "target_new": "t"}}, "characters"),
    ],
)
def test_malformed_entry_is_rejected_alone(tmp_path, change, reason):
    """One bad entry among good ones is named with its reason; the others are taken in."""
    path = write_list(tmp_path, entry(), entry(1, **change), entry(2))
    found = read_foreign_results(path, "easyedit")
    (rejection,) = found.rejections
    assert rejection.place == "record 1"
    assert reason in rejection.reason
    assert found.run.n_edits == 2


def test_broken_models_are_measurements(tmp_path):
    """An NLL that is NaN or infinite is kept, and does not count as a success."""
    nlls = [{"target_new": math.nan, "target_true": math.inf}]
    found = read_foreign_results(
        write_cases(tmp_path / "r", case(post={"rewrite_prompts_probs": nlls})), "memit"
    )
    (row,) = found.edits
    assert math.isnan(row.target_new_nll)
    assert (row.target_true_nll, row.efficacy_score) == (math.inf, 0.0)


@pytest.mark.parametrize(
    ("make", "form", "said"),
    [
        (lambda folder: folder / "none", "memit", "has no file that ends in case_N.json"),
        (lambda folder: folder, "memit", "has no file that ends in case_N.json"),
        (lambda folder: folder / "none", "easyedit", "does not exist"),
        (lambda folder: folder, "easyedit", "is a folder"),
        (lambda folder: write_cases(folder / "r", "{"), "memit", "none of its 1 records"),
        (lambda folder: write_list(folder, case()), "easyedit", "none of its 1 records"),
        (write_list, "easyedit", "none of its 0 records"),
    ],
)
def test_source_without_results_is_explained(tmp_path, make, form, said):
    """A path without results, or with those of the other program, is a mistake in one sentence."""
    with pytest.raises(DatasetError, match=said):
        read_foreign_results(make(tmp_path), form)


def test_equal_content_has_an_equal_id(tmp_path):
    """The id depends on content and names, not on the folder's place or the files' order."""
    one = write_cases(tmp_path / "run", case(), case(1))
    (tmp_path / "else").mkdir()
    two = write_cases(tmp_path / "else" / "run", case(), case(1))
    found, again = read_foreign_results(one, "memit"), read_foreign_results(two, "memit")
    assert found == again
    write_cases(one, case(), case(1, time=4.0))
    assert read_foreign_results(one, "memit").run.import_id != found.run.import_id
