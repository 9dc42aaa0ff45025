"""A mapping of fields: paths into records of any schema, and what each fault says."""

import json

import pytest

from editcollapse.config.field_paths import paths_of, steps_of, value_at
from editcollapse.config.spec import FieldsSpec
from editcollapse.data.datasets import read_requests
from editcollapse.errors import DatasetError

RECORD = {
    "meta": {"key": 7, "relation.name": "P19"},
    "fact": {"about": "Lumo", "says": "Lumo was born in", "new": "Jorvale", "old": ["Tarn", "T."]},
    "ways": [{"text": "Lumo's birthplace is"}, {"text": "Where Lumo was born:"}],
    "others": {
        "a": [{"q": "Sela was born in", "a": ["Port", "P."]}],
        "b": [{"q": "x is", "a": "y"}],
    },
    "follows": [{"q": "Lumo's country is", "a": [["North"]]}],
}
FIELDS = {
    "subject": "fact.about",
    "prompt": "fact.says",
    "target_new": "fact.new",
    "target_true": "fact.old",
    "case_id": "meta.key",
    "relation_id": 'meta["relation.name"]',
    "paraphrase_prompts": "ways[*].text",
    "neighborhood_prompts": "others[*][*].q",
    "neighborhood_targets": "others[*][*].a",
    "portability_prompts": "follows[*].q",
    "portability_targets": "follows[*].a",
}


def read(folder, *records, **changes):
    """Return the file of some records, mapped by FIELDS with changes; None leaves one out."""
    asked = {name: path for name, path in {**FIELDS, **changes}.items() if path is not None}
    path = folder / "requests.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return read_requests(path, FieldsSpec(**asked))


@pytest.mark.parametrize(
    ("path", "value", "is_there"),
    [
        ("fact.new", "Jorvale", True),
        ("fact.old[1]", "T.", True),
        ("fact.old[2]", None, False),
        ("fact.none", None, False),
        ("fact.new.more", None, False),
        ('meta["relation.name"]', "P19", True),
        ('["meta"].key', 7, True),
        ("ways[*].text", ["Lumo's birthplace is", "Where Lumo was born:"], True),
        ("ways[*].none", [None, None], False),
        ("ways[1].text", "Where Lumo was born:", True),
        ("others[*][*].q", ["Sela was born in", "x is"], True),
        ("none[*].q", [], False),
    ],
)
def test_what_stands_at_a_path(path, value, is_there):
    """Names, items, all items and all values of an object; what is missing keeps its place."""
    found = value_at(RECORD, path)
    assert (found.value, found.is_there) == (value, is_there)


@pytest.mark.parametrize(
    "path", [".a", "a.", "a..b", "a[", "a[x]", "a[-1]", "a]b", "a[0]b", "a['b']", 'a[""]']
)
def test_what_is_no_path_is_told(path):
    """The message has the path and where it ends to be one."""
    with pytest.raises(ValueError, match="is no path: it ends at"):
        steps_of(path)


def test_paths_of_a_record_lead_to_its_values():
    """Every path that is named is one that leads somewhere."""
    paths = list(paths_of(RECORD))
    assert 'meta["relation.name"]' in paths
    assert "others.a[*].a[*]" in paths
    assert all(value_at(RECORD, path).is_there for path in paths)


def test_any_schema_is_read_by_a_mapping(tmp_path):
    """Nested fields, lists of objects and groups become a request; alternatives the first."""
    file = read(tmp_path, RECORD)
    assert (file.schema, file.rejections) == ("mapped", ())
    (record,) = file.records
    request = record.request
    assert (record.case_id, request.relation_id) == ("7", "P19")
    assert (request.subject, request.prompt) == ("Lumo", "{} was born in")
    assert (request.target_new, request.target_true) == ("Jorvale", "Tarn")
    assert request.paraphrase_prompts == ("Lumo's birthplace is", "Where Lumo was born:")
    assert request.neighborhood_pairs == (("Sela was born in", "Port"), ("x is", "y"))
    assert request.portability_prompts == ("Lumo's country is",)
    assert request.portability_targets == ("North",)


def test_mapping_is_part_of_the_datasets_identity(tmp_path):
    """The same file read otherwise is another dataset; the same mapping is the same."""
    one, again = read(tmp_path, RECORD), read(tmp_path, RECORD)
    other = read(tmp_path, RECORD, target_true=None)
    assert one.content_digest == again.content_digest != other.content_digest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target_new": "fact.now"}, "`dataset.fields.target_new` is 'fact.now', where none of 1"),
        ({"target_new": "fact.now"}, "they have fact.new, "),
        ({"neighborhood_prompts": "others[*].q"}, "others.b[*].q, "),
    ],
)
def test_path_that_no_record_has_is_refused(tmp_path, changes, said):
    """One sentence, with what the records do have, the nearest first."""
    with pytest.raises(DatasetError) as refused:
        read(tmp_path, RECORD, **changes)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"fact": RECORD["fact"] | {"new": None}}, "target_new (fact.new) is null; give it a"),
        (
            {"fact": {"about": "Lumo", "says": "Lumo is"}},
            "target_new (fact.new) is missing; add it to the record",
        ),
        ({"fact": RECORD["fact"] | {"says": "Sela is"}}, "the subject 'Lumo' does not occur"),
        (
            {"others": {"a": [{"q": "x is"}, {"q": "y is", "a": "z"}]}},
            "neighborhood_targets (others[*][*].a)[0] is null",
        ),
        ({"ways": [{"text": 3}]}, "paraphrase_prompts (ways[*].text)[0] is the number 3 where"),
        ({"fact": RECORD["fact"] | {"new": "Tarn"}}, "are both 'Tarn'"),
    ],
)
def test_record_that_lacks_a_field_is_told_by_record(tmp_path, record, said):
    """The others still run; the field's name and its path are said."""
    file = read(tmp_path, RECORD | record, RECORD)
    assert len(file.records) == 1
    (rejection,) = file.rejections
    assert said in rejection.reason
    assert rejection.case_id == "7"


def test_record_without_probes_is_read(tmp_path):
    """Probes that a record lacks are not asked; those that others have are no condition."""
    bare = {name: RECORD[name] for name in ("meta", "fact")}
    request = read(tmp_path, RECORD, bare).records[1].request
    assert request.paraphrase_prompts == request.neighborhood_prompts == ()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"portability_targets": None}, "give both `portability_prompts` and"),
        ({"neighborhood_prompts": None}, "`neighborhood_targets` needs `neighborhood_prompts`"),
        ({"subject": "a["}, "is no path: it ends at '\\['"),
    ],
)
def test_mapping_is_checked_before_any_record(asked, said):
    """What goes together is given together, and every path is one."""
    given = {name: path for name, path in {**FIELDS, **asked}.items() if path is not None}
    with pytest.raises(ValueError, match=said):
        FieldsSpec(**given)
