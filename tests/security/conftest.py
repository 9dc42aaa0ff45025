"""The security tests attack a small study's inputs and the rows of the storage tests.

The backend of the flow tests is not among these: a session has room for one. What takes a run is in
``tests/flows/test_hostile_studies.py``.
"""

from tests.storage.conftest import empty_results, folder, folder_at, make_row_fixture, original
from tests.support.flow_fixtures import study

__all__ = ["empty_results", "folder", "folder_at", "make_row_fixture", "original", "study"]
