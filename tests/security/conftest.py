"""The security tests attack the small study of the flow tests and the rows of the storage tests."""

from tests.flows.conftest import backend, first_run, results, run_study, server, study
from tests.storage.conftest import (
    archive,
    empty_results,
    finished,
    folder,
    folder_at,
    make_row_fixture,
    original,
)

__all__ = [
    "archive",
    "backend",
    "empty_results",
    "finished",
    "first_run",
    "folder",
    "folder_at",
    "make_row_fixture",
    "original",
    "results",
    "run_study",
    "server",
    "study",
]
