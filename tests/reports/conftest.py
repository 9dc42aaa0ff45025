"""Results folders that reports are made of, each made once."""

import dataclasses
from pathlib import Path

import pytest

from storage.ask import StudyFigures, StudyFindings, find_study, findings, study_figures
from tests.reports.whole_study import unpack_edits, write_whole_study


@dataclasses.dataclass(frozen=True)
class Published:
    """A results folder with one study and what a report asks it."""

    results: Path
    study_id: str
    found: StudyFindings
    shown: StudyFigures


def published(results: Path, study_id: str) -> Published:
    """Return a results folder with its answers."""
    return Published(
        results, study_id, findings(results, study_id), study_figures(results, study_id)
    )


@pytest.fixture(scope="session")
def demo(tmp_path_factory) -> Published:
    """Return the demo study's edits and measurements, as they are checked in."""
    results = tmp_path_factory.mktemp("demo") / "results"
    unpack_edits(results)
    return published(results, find_study(results))


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Published:
    """Return the demo study with rows for every figure."""
    results = tmp_path_factory.mktemp("whole") / "results"
    return published(results, write_whole_study(results))
