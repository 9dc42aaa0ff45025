"""Finding a study by what people call it."""

import pytest

from editcollapse.errors import ResultsError, StudyError
from storage.ask import FoundStudy, answer_for, find_study, findings, look_up_study
from storage.database import open_snapshot


@pytest.fixture
def two_of_a_name(folder, make_row):
    """Return results with two studies of one name and one of another."""
    for study_id, name in (("s1", "small"), ("s2", "small"), ("s3", "large")):
        folder.write("studies", make_row("studies", study_id=study_id, name=name))
    folder.publish()
    return folder.results


def test_study_is_found_by_name_or_id(two_of_a_name):
    """A name that one study has, or any id."""
    assert look_up_study(two_of_a_name, "large") == FoundStudy("s3", "large", 0)
    assert find_study(two_of_a_name, "large") == "s3"
    assert look_up_study(two_of_a_name, "s2") == FoundStudy("s2", "small", 0)


def test_newest_study_is_meant_where_several_are(folder, make_row):
    """Of a name that several have, and where none is named; how many older ones is said."""
    for study_id, name in (("s2", "small"), ("s3", "large"), ("s1", "small")):
        folder.write("studies", make_row("studies", study_id=study_id, name=name))
        folder.publish()
    assert look_up_study(folder.results, "small") == FoundStudy("s1", "small", 1)
    assert look_up_study(folder.results) == FoundStudy("s1", "small", 2)
    folder.write("studies", make_row("studies", study_id="s4", name="large"))
    folder.publish()
    assert look_up_study(folder.results) == FoundStudy("s4", "large", 3)


def test_unknown_names_are_told(two_of_a_name):
    """The message lists what could be meant."""
    with pytest.raises(StudyError, match=r"no study 'smal' in .*\. Known: small, large"):
        look_up_study(two_of_a_name, "smal")


def test_no_study_is_told(folder):
    """A published folder without a study, and an id that is not there."""
    folder.publish()
    with pytest.raises(ResultsError, match="no study is recorded"):
        look_up_study(folder.results)
    with pytest.raises(ResultsError, match="holds no study with the id s9"):
        findings(folder.results, "s9")


def test_worst_edits_carry_their_texts(folder, make_row):
    """An edit whose texts were kept has the longest ones; any other has NULL, and one row."""
    folder.write("studies", make_row("studies"))
    folder.write("study_models", make_row("study_models"))
    folder.write("base_perplexities", make_row("base_perplexities", perplexity=1.0))
    for edit_id, perplexity in (("e1", float("inf")), ("e2", 5.0), ("e3", float("inf"))):
        folder.write("edits", make_row("edits", edit_id=edit_id))
        folder.write("study_edits", make_row("study_edits", edit_id=edit_id))
        measured = make_row("measurements", edit_id=edit_id, perplexity=perplexity)
        folder.write("measurements", measured)
    for n_new_tokens, text in ((30, "thirty"), (5, "five")):
        row = make_row("continuations", edit_id="e3", n_new_tokens=n_new_tokens, text_after=text)
        folder.write("continuations", row)
    folder.publish()
    with open_snapshot(folder.results) as connection:
        worst = answer_for(connection, "worst_edits", "study-1").frame
    assert worst["perplexity"].to_list() == [float("inf"), float("inf"), 5.0]
    assert worst["text_after"].to_list() == [None, "thirty", None]
