"""Stored updates by what the database knows of them: found, described, with their damage."""

import json

import pytest

from editcollapse.config.spec import ModelSpec
from editcollapse.errors import ResultsError
from editcollapse.study.known_updates import Setting
from storage.downstream import edits_of_study, state_of_sequence
from storage.known_updates import Wanted, edit_facts, known_edits, known_sequences, sequence_facts
from tests.storage.conftest import make_row as row_of
from tests.support.sequence_rows import WALKS, write_scores, write_sequences, write_study

_MODEL = {"name": "tiny", "revision": "v2", "start_token": "never", "layer": 3}
_WALK = WALKS[0]


@pytest.fixture(scope="module")
def edited(folder_at, tmp_path_factory):
    """Return results with three edits of one study, of which another study has one too."""
    folder = folder_at(tmp_path_factory.mktemp("edited"))
    settings = json.dumps({"models": [{"name": "other"}, _MODEL]})
    folder.add_study(perplexities=(5.0, 5000.0), methods=("rome",), efficacy=0.75, locality=0.5)
    folder.write("models", row_of("models", source="folder", dtype="float32", family="gpt2"))
    folder.write(
        "studies",
        row_of("studies", name="small", settings=settings),
        row_of("studies", study_id="study-2", name="later"),
    )
    folder.write("evaluations", row_of("evaluations", text_set="mine"))
    folder.write("value_settings", row_of("value_settings", steps=25, source="published"))
    joint = {"settings_id": "joint", "layers": [3, 4], "settings": "L2 10"}
    folder.write("editor_settings", row_of("editor_settings", **joint))
    memit = {"method": "memit", "request_id": "request-0", "layer": 4, "settings_id": "joint"}
    folder.write("edits", row_of("edits", edit_id="memit", **memit))
    folder.write(
        "study_edits",
        row_of("study_edits", edit_id="memit"),
        row_of("study_edits", study_id="study-2", edit_id="memit"),
    )
    folder.publish()
    return folder.results


@pytest.fixture(scope="module")
def many(folder_at, tmp_path_factory):
    """Return results with a study of nine sequences, one of them scored at its second step."""
    folder = folder_at(tmp_path_factory.mktemp("many"))
    write_study(folder, row_of)
    write_sequences(folder, row_of)
    folder.write("models", row_of("models", model_id="model tiny", dtype="float32"))
    write_scores(folder, row_of, _WALK, {"a": (1.0, 0.5), "b": (1.0, 0.0)})
    folder.publish()
    return folder.results


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["memit", "rome-request-0", "rome-request-1"]),
        ({"id": "rome"}, ["rome-request-0", "rome-request-1"]),
        ({"id": "request"}, []),
        ({"study": "small", "method": "memit"}, ["memit"]),
        ({"study": "study-2"}, ["memit"]),
        ({"study": "tudy"}, []),
        ({"model": "tiny", "subject": "subject of request-1"}, ["rome-request-1"]),
        ({"model": "model-1", "method": "c_rome"}, []),
        ({"case": "none"}, []),
    ],
)
def test_edits_are_found_by_what_is_asked(edited, wanted, found):
    """By ids also where they begin so; each edit once, however many studies have it."""
    edits = known_edits(edited, Wanted(**wanted))
    assert sorted(edit.edit_id for edit in edits) == found


def test_an_edit_is_known_with_its_model_and_damage(edited):
    """The model as its study opens it, without what the study edits there; the default rule."""
    fine, broken = edits = known_edits(edited, Wanted(id="rome"))
    opened = ModelSpec(
        name="tiny", source="folder", dtype="float32", revision="v2", start_token="never"
    )
    assert {edit.spec for edit in edits} == {opened}
    assert [fine.perplexity_ratio, broken.perplexity_ratio] == [1.0, 1000.0]
    assert [fine.collapsed, broken.collapsed] == [False, True]
    assert (fine.update_digest, fine.update_row, fine.family) == ("x", 1, "gpt2")
    assert edits_of_study(edited, "study-2") == known_edits(edited, Wanted(study="study-2"))


def test_facts_of_an_edit_are_its_studys(edited):
    """Settings of v*, of an editor of several layers its own; what was not measured is None."""
    broken, memit = (
        known_edits(edited, Wanted(id=name))[0] for name in ("rome-request-1", "memit")
    )
    facts = edit_facts(edited, broken)
    assert (facts.method, facts.layers, facts.study) == ("rome", (1,), "small")
    assert facts.subject == "subject of request-1"
    assert Setting("steps", "25") in facts.settings
    assert Setting("published in", "published") in facts.settings
    damage = facts.damage
    assert (damage.text_set, damage.collapsed, damage.efficacy) == ("mine", True, 0.75)
    assert (damage.perplexity_before, damage.perplexity) == (5.0, 5000.0)
    assert facts.verdict is None
    of_several = edit_facts(edited, memit)
    assert of_several.layers == (3, 4)
    assert Setting("settings of the editor", "L2 10") in of_several.settings
    assert not [each for each in of_several.settings if each.name == "steps"]
    assert of_several.damage.perplexity is None
    assert of_several.damage.collapsed is None


@pytest.mark.parametrize(
    ("wanted", "n_found"),
    [
        ({}, 9),
        ({"study": "many", "method": "rome"}, 3),
        ({"id": _WALK.sequence_id}, 1),
        ({"model": "other"}, 0),
    ],
)
def test_sequences_are_found_by_what_is_asked(many, wanted, n_found):
    """Each with the edits that it was asked for so far."""
    found = known_sequences(many, Wanted(**wanted))
    assert len(found) == n_found
    assert all(each.spec.name == "tiny" for each in found)
    ends = {each.sequence_id: each.n_edits for each in known_sequences(many, Wanted())}
    assert ends[_WALK.sequence_id] == 40
    assert ends["tiny rome 2"] == 10


def test_facts_of_a_sequence_are_those_of_a_step(many):
    """Perplexity and scores of the checkpoint there; of a step between two, what each step has."""
    (known,) = known_sequences(many, Wanted(id=_WALK.sequence_id))
    at = sequence_facts(many, known, 4, 20)
    assert (at.method, at.n_edits, at.step) == ("rome", 20, 4)
    assert (at.damage.perplexity_before, at.damage.perplexity) == (10.0, 500.0)
    assert (at.damage.collapsed, at.damage.efficacy, at.damage.locality) == (True, 0.25, 0.5)
    assert at.damage.text_change == pytest.approx(_WALK.drift * 20)
    between = sequence_facts(many, known, 3, 15).damage
    assert (between.perplexity, between.collapsed, between.efficacy) == (None, None, None)
    assert between.text_change == pytest.approx(_WALK.drift * 15)


def test_a_sequence_is_meant_at_its_last_checkpoint(many, folder, make_row):
    """Or at the step that is named; a sequence that is not there, or not alone, is explained."""
    found, step = state_of_sequence(many, "study-1", _WALK.sequence_id, None)
    assert (found.sequence_id, step) == (_WALK.sequence_id, 8)
    assert state_of_sequence(many, "study-1", "tiny rome 2", None)[1] == 2
    assert state_of_sequence(many, "study-1", _WALK.sequence_id, 3) == (found, 3)
    with pytest.raises(ResultsError, match="3 sequences of this study have ids that begin"):
        state_of_sequence(many, "study-1", "tiny rome", None)
    with pytest.raises(ResultsError, match="no sequence of this study has an id that begins"):
        state_of_sequence(many, "study-2", "tiny", None)


def test_a_sequence_without_a_checkpoint_is_explained(folder, make_row):
    """Nothing of it has been measured: its study has to go on."""
    write_study(folder, make_row)
    folder.write("models", make_row("models", model_id="model tiny", dtype="float32"))
    known = {"sequence_id": "begun", "model_id": "model tiny", "editor": "rome"}
    folder.write("sequences", make_row("sequences", **known))
    member = {"sequence_id": "begun", "model": "tiny", "editor": "rome"}
    folder.write("study_sequences", make_row("study_sequences", **member))
    folder.publish()
    with pytest.raises(ResultsError, match=r"'beg' has no checkpoint yet\. Run its study again"):
        state_of_sequence(folder.results, "study-1", "beg", None)
