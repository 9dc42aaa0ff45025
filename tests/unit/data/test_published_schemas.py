"""QAEdit and KnowEdit as published: what each becomes, and what each fault says."""

import json

import pytest

from editcollapse.data.datasets import read_requests
from editcollapse.errors import DatasetError

QAEDIT = {
    "id": 17,
    "source": "NQ",
    "prompt": "who wrote the song of the Lumo river",
    "target": "Sela Bram",
    "subject": "the Lumo river",
    "rephrase": "The song of the Lumo river was written by whom?",
    "locality": [
        {"loc": "where is the tallest tower", "loc_ans": "Tarn"},
        {"loc": "who sang it first", "loc_ans": "Mira"},
    ],
}
KNOWEDIT = {
    "subject": "Leo Arons",
    "prompt": "The place of death of Leo Arons is",
    "target_new": "Destelbergen",
    "ground_truth": ["Berlin"],
    "rephrase": "Leo Arons died in",
    "portability": {
        "Logical_Generalization": [
            {
                "prompt": "Is Leo Arons alive?",
                "ground_truth": [["no"], ["incorrect", "false"]],
            }
        ],
        "Reasoning": [
            {"prompt": "The head of government of the place of death is", "ground_truth": [[""]]},
            {
                "prompt": "Its province is",
                "ground_truth": [["East Flanders"]],
            },
        ],
        "Subject_Aliasing": [
            {
                "prompt": "Martin Leo Arons died in",
                "ground_truth": ["Destelbergen"],
            }
        ],
    },
    "locality": {
        "Relation_Specificity": [
            {
                "prompt": "His father is",
                "ground_truth": [["Albert Arons", "A. Arons"]],
            },
            {"prompt": "The mother of Leo Arons is", "ground_truth": []},
            {"prompt": "The gender of Leo Arons is", "ground_truth": ["male"]},
        ],
        "Forgetfulness": [{"prompt": "The place of death is not", "ground_truth": "Paris"}],
    },
}


def read(folder, *records, **changes):
    """Return the file of some records, the first with changes; None removes a field."""
    first = {**records[0], **changes}
    first = {name: value for name, value in first.items() if value is not None}
    path = folder / "requests.json"
    path.write_text(json.dumps([first, *records[1:]]), encoding="utf-8")
    return read_requests(path)


def test_qaedit_is_read_as_published(tmp_path):
    """Questions, one paraphrase, and locality as a list of questions with answers."""
    file = read(tmp_path, QAEDIT)
    assert (file.schema, file.rejections) == ("qaedit", ())
    (record,) = file.records
    request = record.request
    assert (record.case_id, request.subject) == ("17", "the Lumo river")
    assert request.prompt == "who wrote the song of {}"
    assert (request.target_new, request.target_true) == ("Sela Bram", None)
    assert request.paraphrase_prompts == (QAEDIT["rephrase"],)
    assert request.neighborhood_pairs == (
        ("where is the tallest tower", "Tarn"),
        ("who sang it first", "Mira"),
    )


def test_qaedit_without_its_optional_fields(tmp_path):
    """Only prompt, target and subject are needed; one object is a list of one."""
    file = read(tmp_path, QAEDIT, id=None, rephrase=None, locality=QAEDIT["locality"][0])
    (record,) = file.records
    assert (record.case_id, record.request.paraphrase_prompts) == (None, ())
    assert record.request.neighborhood_targets == ("Tarn",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"subject": "Wera"}, "the subject 'Wera' does not occur in prompt 'who wrote"),
        ({"target": " "}, "target is empty; give it a text"),
        ({"locality": [{"loc": "where"}]}, "locality[0].loc_ans is missing; add it"),
        ({"locality": ["where"]}, "locality[0] is the string 'where' where"),
        ({"locality": [{"loc": 3, "loc_ans": "x"}]}, "locality[0].loc is the number 3 where"),
    ],
)
def test_qaedit_record_that_cannot_be_used_is_told(tmp_path, changes, said):
    """The other records still run; the rejection has its id and a sentence."""
    file = read(tmp_path, QAEDIT, QAEDIT, **changes)
    assert len(file.records) == 1
    (rejection,) = file.rejections
    assert (rejection.record_index, rejection.case_id) == (0, "17")
    assert said in rejection.reason


def test_a_record_of_another_schema_in_a_qaedit_file_is_rejected(tmp_path):
    """What most records have counts; nothing is guessed."""
    file = read(tmp_path, QAEDIT, QAEDIT, KNOWEDIT)
    (rejection,) = file.rejections
    assert rejection.reason.startswith("the record has the flat schema in a file of the qaedit")


def test_knowedit_has_its_portability_and_its_locality(tmp_path):
    """Every group counts; of alternatives the first; a probe without an answer is left out."""
    file = read(tmp_path, KNOWEDIT)
    assert (file.schema, file.rejections) == ("counterfact_flat", ())
    request = file.records[0].request
    assert request.target_true == "Berlin"
    assert request.paraphrase_prompts == ("Leo Arons died in",)
    assert list(zip(request.portability_prompts, request.portability_targets, strict=True)) == [
        ("Is Leo Arons alive?", "no"),
        ("Its province is", "East Flanders"),
        ("Martin Leo Arons died in", "Destelbergen"),
    ]
    assert request.neighborhood_pairs == (
        ("His father is", "Albert Arons"),
        ("The gender of Leo Arons is", "male"),
        ("The place of death is not", "Paris"),
    )


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ([{"prompt": "The alias is"}], "portability.Reasoning.ground_truth is missing; add it"),
        ([{"prompt": "The alias is", "ground_truth": 4}], "portability.Reasoning.ground_truth is"),
        ([{"prompt": "{} is", "ground_truth": "a"}], "portability.Reasoning.prompt[0] has an open"),
    ],
)
def test_portability_prompt_without_an_answer_is_told(tmp_path, group, said):
    """What cannot be measured rejects the record with the group's name."""
    with pytest.raises(DatasetError) as refused:
        read(tmp_path, KNOWEDIT, portability={"Reasoning": group})
    assert said in str(refused.value)


def test_ids_of_requests_without_portability_are_as_before(tmp_path):
    """The digest of such a request has no part of what came later; with it, it has."""
    without = read(tmp_path, KNOWEDIT, portability=None).records[0].request
    empty = read(tmp_path, KNOWEDIT, portability={}).records[0].request
    asked = read(tmp_path, KNOWEDIT).records[0].request
    assert without.request_id == empty.request_id != asked.request_id
