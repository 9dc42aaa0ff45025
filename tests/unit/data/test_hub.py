"""What is said where the hub gives nothing: not reached is another thing than not there."""

import errno
import types

import pytest
from huggingface_hub import errors

from editcollapse.data.hub import hub_refusal


def answered(kind, status):
    """Return an error as the hub's client raises it for an answer with a status."""
    response = types.SimpleNamespace(headers={}, request=None, status_code=status)
    return kind(f"{status} Client Error", response=response)


class DatasetNotFoundError(FileNotFoundError):
    """As the package ``datasets`` names it."""


class ConnectError(Exception):
    """As httpx names it."""

    __module__ = "httpx2"


def caused(error, cause):
    """Return an error that came of another."""
    error.__cause__ = cause
    return error


REFUSALS = [
    (errors.LocalEntryNotFoundError("no cached snapshot"), "hub cannot be reached"),
    (errors.OfflineModeIsEnabled("HF_HUB_OFFLINE=1"), "cannot be reached (HF_HUB_OFFLINE=1)"),
    (ConnectError("Name or service not known"), "cannot be reached (Name or service not known)"),
    (ConnectionResetError(104, "reset"), "hub cannot be reached"),
    (TimeoutError(), "cannot be reached (TimeoutError)"),
    (
        caused(errors.LocalEntryNotFoundError("Got: x"), answered(errors.HfHubHTTPError, 503)),
        "the hub is down (status 503). Try again later",
    ),
    (answered(errors.RepositoryNotFoundError, 404), "the hub has no model a/b, or none that may"),
    (answered(errors.GatedRepoError, 403), "a/b is gated. Accept its terms at https://huggingface"),
    (answered(errors.RevisionNotFoundError, 404), "has no revision v9. Correct it"),
    (answered(errors.HfHubHTTPError, 401), "refuses it (status 401). Check HF_TOKEN"),
    (OSError(errno.ENOSPC, "No space left"), "could not be written"),
    (DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub"), "the hub has no model a/b"),
    (DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub"), "a/b is gated."),
    (ValueError("Bad split.\nmore"), "the hub gave ValueError: Bad split. Check the name"),
]


@pytest.mark.parametrize(("error", "said"), REFUSALS, ids=lambda each: type(each).__name__)
def test_each_refusal_is_told_apart(error, said):
    """The sentence says whether the hub was reached, and what to do."""
    found = hub_refusal(error, "model", "a/b", "v9")
    assert said in found
    assert ("cannot be reached" in found) == ("cannot be reached" in said)
    assert "\n" not in found


def test_page_of_a_dataset():
    """A gated dataset's terms are at the dataset's page."""
    found = hub_refusal(answered(errors.GatedRepoError, 403), "dataset", "a/b")
    assert "https://huggingface.co/datasets/a/b" in found
