"""Files of edit requests: what each schema becomes, and what each fault says."""

import copy
import json
import logging
import os
from pathlib import Path

import pytest

from editcollapse.data.datasets import read_requests, select
from editcollapse.errors import DatasetError

COUNTERFACT = {
    "case_id": 0,
    "pararel_idx": 2796,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": "Danielle Darrieux",
    },
    "paraphrase_prompts": ["Where Danielle Darrieux is from, people speak", "She speaks"],
    "neighborhood_prompts": ["Michel Rocard is a native speaker of", "Montesquieu speaks"],
    "attribute_prompts": ["J.R.R. Tolkien is a native speaker of"],
    "generation_prompts": ["Danielle Darrieux's mother tongue is"],
}
FLAT = {
    "case_id": 3087,
    "prompt": "David Robinson professionally plays the sport",
    "target_new": "baseball",
    "subject": "David Robinson",
    "ground_truth": "basketball",
    "rephrase_prompt": "David Robinson's greatest weakness is",
    "locality_prompt": "Shaquille O'Neal plays",
    "locality_ground_truth": "basketball",
}
ZSRE = {
    "subject": "WEFS",
    "src": "When was WEFS established?",
    "pred": "1998",
    "rephrase": "When has WEFS been established?",
    "alt": "1997",
    "answers": ["1987", "in 1987"],
    "loc": "nq question: who voiced gaston in beauty and the beast 1991",
    "loc_ans": "Richard White",
    "cond": "1998 >> 1997 || When was WEFS established?",
}
ZSRE_FLAT = {
    "subject": "WEFS",
    "prompt": "When was WEFS established?",
    "target_new": "1997",
    "ground_truth": ["1987"],
    "rephrase_prompt": "When has WEFS been established?",
    "locality_prompt": "nq question: who voiced gaston",
    "locality_ground_truth": "Richard White",
}
MISSING = object()


def write(folder, records, name="requests.json"):
    path = folder / name
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def write_lines(folder, lines, name="requests.jsonl"):
    path = folder / name
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def changed(record, **fields):
    """Return a deep copy with some fields replaced; ``a__b`` reaches into a nested object."""
    copied = copy.deepcopy(record)
    for name, value in fields.items():
        *parents, last = name.split("__")
        place = copied
        for parent in parents:
            place = place[parent]
        if value is MISSING:
            del place[last]
        else:
            place[last] = value
    return copied


def only(folder, record):
    (accepted,) = read_requests(write(folder, [record])).records
    return accepted.request


def reason(folder, good, bad):
    """Return the reason for which ``bad`` is rejected beside ``good``, which must still run."""
    file = read_requests(write(folder, [good, bad]))
    assert [item.record_index for item in file.records] == [0]
    (rejection,) = file.rejections
    assert rejection.record_index == 1
    return rejection.reason


def test_read_counterfact(tmp_path):
    """A record of the original schema becomes a request with all its probes."""
    file = read_requests(write(tmp_path, [COUNTERFACT], "counterfact.json"))
    assert (file.name, file.schema, file.n_records) == ("counterfact", "counterfact", 1)
    assert file.rejections == ()
    (record,) = file.records
    assert (record.record_index, record.case_id) == (0, "0")
    request = record.request
    assert request.filled_prompt == "The mother tongue of Danielle Darrieux is"
    assert (request.target_new, request.target_true) == ("English", "French")
    assert request.paraphrase_prompts == tuple(COUNTERFACT["paraphrase_prompts"])
    assert request.neighborhood_pairs == (
        ("Michel Rocard is a native speaker of", "French"),
        ("Montesquieu speaks", "French"),
    )
    assert request.relation_id == "P103"


def test_read_flat_slots_the_subject(tmp_path):
    """A filled flat prompt gets its slot where the subject stands, and keeps its own answers."""
    file = read_requests(write(tmp_path, [FLAT]))
    assert file.schema == "counterfact_flat"
    request = file.records[0].request
    assert request.prompt == "{} professionally plays the sport"
    assert request.filled_prompt == FLAT["prompt"]
    assert request.target_true == "basketball"
    assert request.paraphrase_prompts == ("David Robinson's greatest weakness is",)
    assert request.neighborhood_pairs == (("Shaquille O'Neal plays", "basketball"),)
    assert request.relation_id is None


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "{} professionally plays the sport"},
        {"template": "{} professionally plays the sport"},
        {"template": "{} professionally plays the sport", "prompt": MISSING},
        {"template": "{} professionally plays the sport", "prompt": None},
        {"template": None},
        {
            "template": "{} professionally plays the sport",
            "prompt": "{} professionally plays the sport",
        },
    ],
)
def test_read_flat_with_template(tmp_path, fields):
    """Template, slotted prompt and filled prompt give the same request."""
    assert only(tmp_path, changed(FLAT, **fields)) == only(tmp_path, FLAT)


def test_read_zsre(tmp_path):
    """In zsRE the new object is ``alt``, the true one the first answer, the probe as published."""
    file = read_requests(write(tmp_path, [ZSRE]))
    assert file.schema == "zsre"
    assert file.records[0].case_id is None
    request = file.records[0].request
    assert request.prompt == "When was {} established?"
    assert (request.target_new, request.target_true) == ("1997", "1987")
    assert request.paraphrase_prompts == ("When has WEFS been established?",)
    assert request.neighborhood_pairs == ((ZSRE["loc"], "Richard White"),)


@pytest.mark.parametrize("answers", [[], None, MISSING])
def test_read_zsre_without_answers(tmp_path, answers):
    """Without an answer the model's prediction is the true object."""
    assert only(tmp_path, changed(ZSRE, answers=answers)).target_true == "1998"


def test_read_zsre_without_any_true_object(tmp_path):
    """Without answers and prediction the true object is unknown, and no pair is made up."""
    request = only(tmp_path, changed(ZSRE, answers=[], pred=None, loc=None, loc_ans=None))
    assert request.target_true is None
    assert request.neighborhood_pairs == ()


def test_read_zsre_flat(tmp_path):
    """The flat zsRE split is told from flat CounterFact by its questions."""
    file = read_requests(write(tmp_path, [ZSRE_FLAT, ZSRE_FLAT]))
    assert file.schema == "zsre_flat"
    request = file.records[0].request
    assert (request.prompt, request.target_true) == ("When was {} established?", "1987")
    assert request.neighborhood_pairs == (("nq question: who voiced gaston", "Richard White"),)


def test_read_flat_lists(tmp_path):
    """Flat probes may be lists, one answer for each prompt, alternatives nested."""
    record = changed(
        FLAT,
        rephrase_prompt=["a", "b"],
        locality_prompt=["c", "d"],
        locality_ground_truth=["e ", ["f", "g"]],
    )
    request = only(tmp_path, record)
    assert request.paraphrase_prompts == ("a", "b")
    assert request.neighborhood_pairs == (("c", "e"), ("d", "f"))


@pytest.mark.parametrize(
    ("locality", "pairs"),
    [
        ({"neighborhood": {"prompt": "c", "ground_truth": "e"}}, (("c", "e"),)),
        (
            {"neighborhood": {"prompt": ["c", "d"], "ground_truth": ["e", "f"]}},
            (("c", "e"), ("d", "f")),
        ),
        ({"Specificity": [{"prompt": "c", "ground_truth": [["e", "x"]]}]}, (("c", "e"),)),
        ({"Specificity": [{"prompt": "c", "ground_truth": ["e", "x"]}]}, (("c", "e"),)),
        ({"one": {"prompt": "c", "ground_truth": "e"}, "other": [], "more": "?"}, (("c", "e"),)),
        ({"one": {"question": "c"}}, ()),
        ({}, ()),
    ],
)
def test_read_flat_nested_locality(tmp_path, locality, pairs):
    """A nested locality is read as far as it is plain; another form of portability is ignored."""
    record = changed(FLAT, locality_prompt=MISSING, locality_ground_truth=MISSING)
    record |= {"locality": locality, "portability": {"New Question": 3}}
    assert only(tmp_path, record).neighborhood_pairs == pairs


def test_read_flat_without_optional_fields(tmp_path):
    """Only subject, prompt and new object are required; null counts as absent elsewhere."""
    bare = {"subject": "Rome", "prompt": "Rome lies in", "target_new": "Gaul"}
    request = only(tmp_path, bare)
    assert request.target_true is None
    assert request.paraphrase_prompts == request.neighborhood_prompts == ()
    nulls = dict.fromkeys(("case_id", "ground_truth", "rephrase_prompt", "locality_prompt"))
    assert only(tmp_path, bare | nulls) == request


def test_read_flat_neighborhood_without_answers(tmp_path):
    """A neighborhood prompt without an answer is kept; the true object stands for it."""
    request = only(tmp_path, changed(FLAT, locality_ground_truth=MISSING))
    assert request.neighborhood_targets == ()
    assert request.neighborhood_pairs == (("Shaquille O'Neal plays", "basketball"),)


@pytest.mark.parametrize(
    ("subject", "prompt", "slotted"),
    [
        ("Rome", "Rome lies in", "{} lies in"),
        ("Rome", "The capital is Rome", "The capital is {}"),
        ("Rome", "Rome is the Rome of", "{} is the Rome of"),
        ("Art", "The Party of Art was founded by", "The Party of {} was founded by"),
        ("Art", "Artful and Party", "{}ful and Party"),
        ("1+1 (film)", "1+1 (film) stars", "{} stars"),
        ("a.b*c[d]\\", "See a.b*c[d]\\ by", "See {} by"),
        ("f{x}", "The code f{x} means", "The code {} means"),
        ("{", "The sign { opens", "The sign {} opens"),
        ("Rome", "{Rome} lies in {Italy}", "{{}} lies in {Italy}"),
        ("Zoë", "Zoë sings", "{} sings"),
        ("Zoe\u0308", "Zoe\u0308 sings", "{} sings"),
        ("Zoe", "Zoe\u0308 met Zoe in", "Zoe\u0308 met {} in"),
        ("東京", "日本の首都東京は", "日本の首都{}は"),
        ("Киев", "Город Киев стоит", "Город {} стоит"),
        ("القاهرة", "تقع القاهرة في", "تقع {} في"),
        ("👩‍🚀🚀", "The sign 👩‍🚀🚀 means", "The sign {} means"),
        ("Rome", "  Rome lies in ", "  {} lies in "),
        ("Rome", "In\u2028Rome, the", "In\u2028{}, the"),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_slot_stands_for_the_subject(tmp_path, subject, prompt, slotted, suffix):
    """The slot replaces one occurrence of the subject, whole words first, and nothing else."""
    record = {"subject": subject, "prompt": prompt, "target_new": "x"}
    line = json.dumps([record] if suffix == ".json" else record, ensure_ascii=False)
    (accepted,) = read_requests(write_lines(tmp_path, [line], f"one{suffix}")).records
    assert accepted.request.prompt == slotted
    assert accepted.request.filled_prompt == prompt


def test_names_lose_blanks_and_prompts_keep_them(tmp_path):
    """Subjects and targets are stripped, prompts are left as they are."""
    record = changed(
        COUNTERFACT,
        requested_rewrite__subject="\tRome \n",
        requested_rewrite__prompt=" About {} it says ",
        requested_rewrite__target_new__str=" English",
        requested_rewrite__target_true__str="French ",
        paraphrase_prompts=[" She "],
    )
    request = only(tmp_path, record)
    assert (request.subject, request.target_new, request.target_true) == (
        "Rome",
        "English",
        "French",
    )
    assert request.prompt == " About {} it says "
    assert request.paraphrase_prompts == (" She ",)


REWRITE = "requested_rewrite"
FAULTS = [
    (COUNTERFACT, {REWRITE: None}, "requested_rewrite is null"),
    (COUNTERFACT, {REWRITE: [{}]}, "requested_rewrite is a list of 1 where an object with"),
    (COUNTERFACT, {f"{REWRITE}__subject": MISSING}, "requested_rewrite.subject is missing"),
    (COUNTERFACT, {f"{REWRITE}__subject": 7}, "subject is the number 7 where a string is expected"),
    (COUNTERFACT, {f"{REWRITE}__subject": " \t"}, "requested_rewrite.subject is empty"),
    (COUNTERFACT, {f"{REWRITE}__subject": "a{}b"}, "subject holds {}, which marks the slot"),
    (COUNTERFACT, {f"{REWRITE}__subject": ["a"]}, "subject is a list of 1 where a string"),
    (COUNTERFACT, {f"{REWRITE}__prompt": None}, "requested_rewrite.prompt is null"),
    (COUNTERFACT, {f"{REWRITE}__prompt": "{} and {} are"}, "has 2 slots {} in '{} and {} are'"),
    (COUNTERFACT, {f"{REWRITE}__prompt": "No one is"}, "'Danielle Darrieux' does not occur in"),
    (COUNTERFACT, {f"{REWRITE}__target_new": "English"}, "an object with 'str' is expected"),
    (COUNTERFACT, {f"{REWRITE}__target_new": {}}, "requested_rewrite.target_new.str is missing"),
    (COUNTERFACT, {f"{REWRITE}__target_new__str": None}, "target_new.str is null"),
    (COUNTERFACT, {f"{REWRITE}__target_new__str": True}, "target_new.str is the boolean true"),
    (COUNTERFACT, {f"{REWRITE}__target_new__str": float("nan")}, "is the number nan"),
    (
        COUNTERFACT,
        {f"{REWRITE}__target_new__str": " French"},
        "are both 'French'; an edit needs two",
    ),
    (COUNTERFACT, {f"{REWRITE}__target_true": MISSING}, "requested_rewrite.target_true is missing"),
    (COUNTERFACT, {f"{REWRITE}__relation_id": 103}, "relation_id is the number 103"),
    (COUNTERFACT, {"paraphrase_prompts": ["ok", None]}, "paraphrase_prompts[1] is null"),
    (COUNTERFACT, {"paraphrase_prompts": {"a": 1}}, "paraphrase_prompts is an object of 1"),
    (COUNTERFACT, {"paraphrase_prompts": ["{} is"]}, "paraphrase_prompts[0] has an open slot"),
    (
        COUNTERFACT,
        {"neighborhood_prompts": [{"prompt": "a"}]},
        "neighborhood_prompts[0] is an object",
    ),
    (COUNTERFACT, {"neighborhood_prompts": ["a", ""]}, "neighborhood_prompts[1] is empty"),
    (FLAT, {"subject": MISSING}, "subject is missing; add it to the record"),
    (FLAT, {"prompt": 5}, "prompt is the number 5"),
    (FLAT, {"prompt": "Someone plays"}, "mark its place with {}"),
    (FLAT, {"target_new": None}, "target_new is null"),
    (FLAT, {"target_new": ["a"]}, "target_new is a list of 1"),
    (FLAT, {"target_new": "basketball"}, "an edit needs two different objects"),
    (FLAT, {"ground_truth": [3]}, "ground_truth[0] is the number 3"),
    (FLAT, {"ground_truth": {"a": 1}}, "ground_truth is an object of 1"),
    (FLAT, {"template": "{} sings"}, "is not template '{} sings' with the subject in its slot"),
    (FLAT, {"locality_ground_truth": ["a", "b"]}, "has 2 answers for 1 prompts"),
    (FLAT, {"locality_ground_truth": [None]}, "locality_ground_truth[0] is null"),
    (FLAT, {"locality_prompt": None}, "has 1 answers for 0 prompts"),
    (ZSRE, {"src": MISSING}, "src is missing"),
    (ZSRE, {"alt": ""}, "alt is empty"),
    (ZSRE, {"alt": "1987"}, "are both '1987'"),
    (ZSRE, {"answers": [None]}, "answers[0] is null"),
    (ZSRE, {"loc": 1}, "loc is the number 1"),
    (ZSRE, {"loc_ans": MISSING}, "loc_ans is missing"),
    (ZSRE_FLAT, {"locality_ground_truth": MISSING}, "locality_ground_truth is missing"),
]


@pytest.mark.parametrize(("good", "fields", "said"), FAULTS)
def test_fault_is_said_in_one_sentence(tmp_path, good, fields, said):
    """A faulty record is rejected by field and finding, while the good one still runs."""
    found = reason(tmp_path, good, changed(good, **fields))
    assert said in found
    assert found.endswith(".")
    assert "None" not in found


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (None, "the record is null"),
        (3, "the record is the number 3"),
        ("a", "the record is the string 'a'"),
        ([FLAT], "the record is a list of 1"),
        ({}, "fields (none) match no known schema"),
        ({"question": "?", "answer": "!"}, "fields (question, answer) match no known schema"),
        (ZSRE, "the record has the zsre schema in a file of the flat schema"),
        (COUNTERFACT, "the record has the counterfact schema in a file of the flat schema"),
    ],
)
def test_record_of_another_form_is_rejected(tmp_path, bad, said):
    """What is no record of the file's schema is rejected and says what it is."""
    assert said in reason(tmp_path, FLAT, bad)


def test_schema_is_the_majoritys(tmp_path):
    """One stray record at the head does not decide the schema."""
    file = read_requests(write(tmp_path, [ZSRE, FLAT, FLAT]))
    assert file.schema == "counterfact_flat"
    assert [item.record_index for item in file.rejections] == [0]


def test_lone_surrogate_is_rejected(tmp_path):
    """Half a surrogate pair, which cannot be encoded, is rejected with a printable reason."""
    found = reason(tmp_path, FLAT, changed(FLAT, target_new="x\ud800"))
    assert "target_new holds a lone surrogate" in found
    found.encode()


def test_subject_in_another_normal_form_is_explained(tmp_path):
    """A subject that differs from the prompt in Unicode normalisation only is named as such."""
    bad = changed(FLAT, subject="Zoe\u0308", prompt="Zo\u00eb plays")
    assert "differ in Unicode normalisation only" in reason(tmp_path, FLAT, bad)


@pytest.mark.parametrize(
    ("value", "case_id"),
    [(7, "7"), (0, "0"), (7.0, "7"), ("a 7 ", "a 7"), ("7", "7"), (None, None), ("", None)],
)
def test_case_id_is_an_integer_or_a_string(tmp_path, value, case_id):
    """An integer becomes its digits, as the string that holds them is; empty is no id."""
    file = read_requests(write(tmp_path, [changed(FLAT, case_id=value)]))
    assert file.records[0].case_id == case_id


@pytest.mark.parametrize("good", [COUNTERFACT, FLAT, ZSRE, ZSRE_FLAT])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "the number nan"),
        (float("inf"), "the number inf"),
        (float("-inf"), "the number -inf"),
        (7.5, "the number 7.5"),
        (1e300, "the number 1e+300"),
        (True, "the boolean true"),
        ([7], "a list of 1"),
        ({"id": 7}, "an object of 1"),
    ],
)
def test_what_is_no_case_id_is_refused(tmp_path, good, value, shown):
    """What is neither an integer nor a string is never written as an id."""
    found = read_requests(write(tmp_path, [good, good | {"case_id": value}]))
    (rejection,) = found.rejections
    assert rejection.case_id is None
    assert f"case_id is {shown} where an integer or a string is expected" in rejection.reason


OPTIONAL = [
    (COUNTERFACT, f"{REWRITE}__relation_id"),
    *((COUNTERFACT, name) for name in ("case_id", "paraphrase_prompts", "neighborhood_prompts")),
    *((ZSRE, name) for name in ("case_id", "answers", "pred", "rephrase")),
    *((FLAT, name) for name in ("case_id", "template", "target_true", "ground_truth")),
    *((FLAT, name) for name in ("rephrase_prompt", "locality_ground_truth", "relation_id")),
]


@pytest.mark.parametrize("empty", ["", " \t", [], {}])
@pytest.mark.parametrize(("good", "field"), OPTIONAL)
def test_empty_optional_field_is_absent(tmp_path, good, field, empty):
    """A blank string, an empty list or object says what null says: nothing."""
    null = read_requests(write(tmp_path, [changed(good, **{field: None})])).records
    assert read_requests(write(tmp_path, [changed(good, **{field: empty})])).records == null


@pytest.mark.parametrize("empty", ["", [], None, {}])
@pytest.mark.parametrize(
    ("good", "probe"),
    [
        (FLAT, ("locality_prompt", "locality_ground_truth")),
        (ZSRE, ("loc", "loc_ans")),
        (FLAT | {"locality_prompt": None}, ("locality", "locality_ground_truth")),
    ],
)
def test_empty_probe_is_absent(tmp_path, good, probe, empty):
    """A record whose probe and answer are empty is used without them."""
    request = only(tmp_path, changed(good, **dict.fromkeys(probe, empty)))
    assert request.neighborhood_prompts == request.neighborhood_targets == ()


def test_empty_prompt_beside_a_template_is_absent(tmp_path):
    """The template stands for a prompt that is empty, and without one the prompt is asked for."""
    template = "{} professionally plays the sport"
    assert only(tmp_path, changed(FLAT, prompt="", template=template)).prompt == template
    assert "prompt is empty" in reason(tmp_path, FLAT, changed(FLAT, prompt=""))


def test_unrelated_question_in_a_nested_locality_needs_its_answer(tmp_path):
    """The true object never stands in for the answer to a question about something else."""
    nested = {"group": {"prompt": "nq question: who voiced gaston"}}
    bad = changed(FLAT, locality_prompt=MISSING, locality_ground_truth=MISSING)
    found = reason(tmp_path, FLAT, bad | {"locality": nested})
    assert "locality.group.ground_truth is missing" in found


def test_faults_of_a_record_are_told_together(tmp_path):
    """A record with several faults names the first three and counts the rest."""
    bad = changed(FLAT, subject=1, target_new=None, rephrase_prompt=[1, 2, "{}"])
    found = reason(tmp_path, FLAT, bad)
    assert found.startswith("subject is the number 1")
    assert "target_new is null" in found
    assert found.endswith("(and 2 more).")


def test_rejection_carries_its_case_id(tmp_path):
    """A rejected record is found again by its case id."""
    bad = changed(FLAT, case_id=12, target_new=None)
    (rejection,) = read_requests(write(tmp_path, [FLAT, bad])).rejections
    assert rejection.case_id == "12"


def test_malformed_line_is_a_rejection(tmp_path):
    """A broken JSONL line is rejected with its line number; blank lines are not records."""
    good = json.dumps(FLAT)
    file = read_requests(write_lines(tmp_path, [good, "", "   ", good[:40], good, "[" * 100_000]))
    assert [item.record_index for item in file.records] == [0, 2]
    assert [item.record_index for item in file.rejections] == [1, 3]
    assert "line 4 is not valid JSON (" in file.rejections[0].reason
    assert "at column" in file.rejections[0].reason
    assert "line 6 is not valid JSON (it is nested too deeply)" in file.rejections[1].reason
    assert file.n_records == 4


def test_huge_number_is_a_rejection(tmp_path):
    """A number that Python refuses to parse does not end the reading."""
    huge = '{"prompt": ' + "9" * 5000 + "}"
    file = read_requests(write_lines(tmp_path, [json.dumps(FLAT), huge]))
    assert "line 2 is not valid JSON" in file.rejections[0].reason


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_job_mark_do_not_matter(tmp_path, name, end, mark):
    """JSONL under any suffix, with CRLF or a byte order mark, gives the same requests."""
    path = tmp_path / name
    text = mark + end.join([json.dumps(FLAT), json.dumps(changed(FLAT, case_id=2)), ""])
    path.write_bytes(text.encode())
    file = read_requests(path)
    assert [record.case_id for record in file.records] == ["3087", "2"]
    assert file.rejections == ()


def test_list_in_a_jsonl_file_is_read(tmp_path):
    """A pretty-printed list is taken as a list whatever the suffix."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps([FLAT, FLAT], indent=2), encoding="utf-8")
    assert len(read_requests(path).records) == 2


def test_identity_is_the_content(tmp_path):
    """Equal bytes under another name have the same digest, other bytes another one."""
    first, second = write(tmp_path, [FLAT], "a.json"), write(tmp_path, [FLAT], "b.json")
    other = write(tmp_path, [ZSRE_FLAT], "c.json")
    digests = [read_requests(path).content_digest for path in (first, second, other)]
    assert digests[0] == digests[1] != digests[2]


def test_requests_of_both_schemas_agree(tmp_path):
    """The flat and the original schema give one prompt and one pair of targets for one fact."""
    flat = {
        "subject": "Danielle Darrieux",
        "prompt": "The mother tongue of Danielle Darrieux is",
        "target_new": "English",
        "target_true": "French",
        "relation_id": "P103",
    }
    original = changed(COUNTERFACT, paraphrase_prompts=[], neighborhood_prompts=[])
    assert only(tmp_path, flat) == only(tmp_path, original)


BAD_FILES = [
    (b"", "is empty"),
    (b" \n\n", "is empty"),
    (b"\xef\xbb\xbf", "is empty"),
    (b"[]", "none of 0 records has a known schema"),
    (b"[1, 2]", "none of 2 records has a known schema"),
    (b"{}", "one empty object where a list of records is expected"),
    (b'{"data": [{"prompt": 1}]}', "one object (with 'data') where a list"),
    (b"3", "a single int where a list"),
    (b"null", "a single NoneType where a list"),
    (b'[{"prompt": "a"},\n {"prompt" "b"}]', "at line 2, column 12"),
    (b'[{"prompt": "a"}', "not valid JSON"),
    (b'{"prompt": ', "not valid JSON"),
    (b'["caf\xe9"]', "not UTF-8 (byte 0xe9"),
    (b"\xff\xfe[\x001\x00", "not UTF-8 (byte 0xff"),
    (
        b'[{"prompt": "a"}, {"src": "b"}]',
        "none of 2 records can be used: record 0: subject is missing",
    ),
]


@pytest.mark.parametrize(("content", "said"), BAD_FILES)
def test_useless_file_is_an_error(tmp_path, content, said):
    """A file without one usable record is refused with the path and what was found."""
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read_requests(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith(".")


def test_missing_file_and_folder_are_errors(tmp_path):
    """A path that is no file is named."""
    with pytest.raises(DatasetError, match="which does not exist"):
        read_requests(tmp_path / "none.json")
    with pytest.raises(DatasetError, match="which is a folder"):
        read_requests(tmp_path)


def test_unusable_file_lists_the_first_reasons(tmp_path):
    """Where every record is rejected, the first three reasons and the rest's number are said."""
    bad = [changed(FLAT, target_new=value) for value in (None, 1, "", [], {})]
    with pytest.raises(DatasetError) as caught:
        read_requests(write(tmp_path, bad))
    said = str(caught.value)
    assert "record 0: target_new is null" in said
    assert "record 2: target_new is empty" in said
    assert "record 3" not in said
    assert "(and 2 more)" in said


def test_unusable_lines_are_quoted(tmp_path):
    """A JSONL file of broken lines says what is wrong with the first."""
    path = write_lines(tmp_path, ["{a}", "{b}"], "broken.jsonl")
    with pytest.raises(DatasetError, match="line 1 is not valid JSON"):
        read_requests(path)


def test_rejections_are_logged_once(tmp_path, caplog):
    """One warning tells how many records were left out."""
    with caplog.at_level(logging.WARNING, logger="editcollapse.data.datasets"):
        read_requests(write(tmp_path, [FLAT, 1, 2]))
    assert [record.message.count("2 of 3 records rejected") for record in caplog.records] == [1]


@pytest.fixture
def five(tmp_path):
    records = [changed(FLAT, case_id=number) for number in (10, 11, 12, 12)]
    return read_requests(write(tmp_path, [*records, changed(FLAT, case_id=13, target_new=None)]))


@pytest.mark.parametrize(
    ("limit", "case_ids", "kept"),
    [
        (None, None, [0, 1, 2, 3]),
        (2, None, [0, 1]),
        (99, None, [0, 1, 2, 3]),
        (None, ("12", "10", "10"), [0, 2, 3]),
        (1, ("12", "11"), [1]),
    ],
)
def test_select_keeps_file_job_and_identity(five, limit, case_ids, kept):
    """Selection narrows the records only: order, digest, counts and rejections stay."""
    chosen = select(five, limit=limit, case_ids=case_ids)
    assert [record.record_index for record in chosen.records] == kept
    assert chosen.content_digest == five.content_digest
    assert (chosen.n_records, chosen.rejections) == (5, five.rejections)


@pytest.mark.parametrize(
    ("limit", "case_ids", "said"),
    [
        (0, None, "0 records of requests were asked; ask for 1 or more"),
        (None, (), "no case of requests was asked"),
        (None, ("10", "77", "78"), "no usable case 77, 78: it has 3 case ids, such as"),
        (None, ("13",), "no usable case 13: record 4 was rejected: target_new is null"),
    ],
)
def test_select_refuses_what_is_not_there(five, limit, case_ids, said):
    """A selection that cannot be met is an error that names the cases."""
    with pytest.raises(DatasetError) as caught:
        select(five, limit=limit, case_ids=case_ids)
    assert said in str(caught.value)


def test_select_by_case_needs_case_ids(tmp_path):
    """A file without case ids says to use the limit."""
    file = read_requests(write(tmp_path, [ZSRE]))
    with pytest.raises(DatasetError, match="its records have no case_id; select with limit"):
        select(file, limit=None, case_ids=("0",))


@pytest.mark.skipif(
    "EDITCOLLAPSE_SHARED" not in os.environ,
    reason="EDITCOLLAPSE_SHARED does not name the folder of third-party development data",
)
def test_real_flat_file_is_read_whole():
    """All 300 published flat CounterFact cases are accepted, their slots as in the templates."""
    path = Path(os.environ["EDITCOLLAPSE_SHARED"]) / "data" / "counterfact_flat_300.jsonl"
    file = read_requests(path)
    assert (file.schema, len(file.records), file.rejections) == ("counterfact_flat", 300, ())
    lines = path.read_text(encoding="utf-8").splitlines()
    templates = [json.loads(line)["template"] for line in lines]
    assert [record.request.prompt for record in file.records] == templates
