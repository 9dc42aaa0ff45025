"""The build step of prefect.yaml: a study file's content as the parameters of deployments.

What a deployment asks for is registered with it, so the server checks it before a run is made, the
form in the UI comes filled in, and a run's page shows all that it was asked.
"""

import os
from pathlib import Path
from typing import Any

from editcollapse.config.spec import EvaluationSpec
from editcollapse.config.study_file import read_study, with_paths_below

RESULTS_VARIABLE = "EDITCOLLAPSE_RESULTS"
"""Names the results folder that deployments write to, while they are registered."""
_DEFAULT_RESULTS = "results"
_FEWER_TEXTS = 20
"""How many texts the form of a re-evaluation proposes: other than the study's own, all."""


def study_inputs(study: str) -> dict[str, Any]:
    """Return what deployments of a study have as parameters; Prefect wants a dict.

    Args:
        study: the study file. Its paths become relative to the working directory where they lie
            below it, so that they hold wherever a run finds the project.

    Raises:
        StudyError: the study file cannot be used.
    """
    spec = with_paths_below(read_study(Path(study)), Path.cwd())
    again = EvaluationSpec(texts=spec.evaluation.texts, max_texts=_FEWER_TEXTS)
    return {
        "study": spec.model_dump(mode="json", exclude_none=True),
        "evaluation": again.model_dump(mode="json", exclude_none=True),
        "results": os.environ.get(RESULTS_VARIABLE, _DEFAULT_RESULTS),
    }
