"""Finding a study by what people call it."""

import pytest

from editcollapse.errors import ResultsError, StudyError
from storage.findings import find_study, findings


@pytest.fixture
def two_of_a_name(folder, make_row):
    """Return results with two studies of one name and one of another."""
    for study_id, name in (("s1", "small"), ("s2", "small"), ("s3", "large")):
        folder.add("studies", make_row("studies", study_id=study_id, name=name))
    folder.publish()
    return folder.results


def test_study_is_found_by_name_or_id(two_of_a_name):
    """A name that one study has, or any id."""
    assert find_study(two_of_a_name, "large") == "s3"
    assert find_study(two_of_a_name, "s2") == "s2"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("small", r"'small' names 2 studies in .*: small s1 \(0 edits\), small s2 \(0 edits\)"),
        ("", r"which study\? in .*large s3 .*Give an id"),
        ("smal", r"no study 'smal' in .*\. Known: small, large"),
    ],
)
def test_ambiguous_and_unknown_names_are_told(two_of_a_name, wanted, words):
    """The message lists what could be meant."""
    with pytest.raises(StudyError, match=words):
        find_study(two_of_a_name, wanted)


def test_no_study_is_told(folder):
    """A published folder without a study, and an id that is not there."""
    folder.publish()
    with pytest.raises(ResultsError, match="no study is recorded"):
        find_study(folder.results)
    with pytest.raises(ResultsError, match="holds no study with the id s9"):
        findings(folder.results, "s9")
