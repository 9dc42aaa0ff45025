"""The plan of a small study, with its inputs in one folder and in another."""

from pathlib import Path

import pytest

from editcollapse.config.study_file import read_study
from editcollapse.study.plan import StudyPlan, plan_study
from tests.support.small_study import write_study


@pytest.fixture(scope="session")
def here(tmp_path_factory) -> StudyPlan:
    """Return the plan of the small study."""
    folder = tmp_path_factory.mktemp("here")
    return plan_study(read_study(write_study(folder / "inputs")), folder / "results")


@pytest.fixture(scope="session")
def there(tmp_path_factory) -> StudyPlan:
    """Return the plan of the same study elsewhere, its model under another name."""
    folder = tmp_path_factory.mktemp("there")
    study = write_study(folder / "other", model="copy", **{"models.name": "nickname"})
    return plan_study(read_study(study), Path(folder / "elsewhere"))
