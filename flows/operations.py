"""Commands of scheduled operation, as ``python -m flows`` calls them."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from editcollapse.config.spec import EvaluationSpec
from editcollapse.config.study_file import read_study
from editcollapse.errors import StudyError
from editcollapse.study.plan import plan_study
from editcollapse.study.results_folder import place_of
from flows.observe import environment
from flows.observe.command_run import run_watched
from flows.terminal import STOPPED, console, incidence_table, shown

_LOCAL = "http://127.0.0.1:4200/api"
"""The server of make server."""


def covariance(options: argparse.Namespace) -> int:
    """Measure the second moments of a study's models."""
    study, place = read_study(options.study), place_of(options.results)
    plan_study(study, place.name)  # a mistake in the study is told before a server starts
    server = environment.prepare(place.here)
    console().print(
        f"covariance of {study.name} with {server}; results in {shown(place.name)}", markup=False
    )
    found = run_watched(server, _precompute_covariance, study, place.name)
    if found is None:
        return STOPPED
    for model, covariance_id in zip(study.models, found, strict=True):
        console().print(f"{model.name}: covariance {covariance_id}")
    return 0


def _precompute_covariance() -> Any:
    from flows.precompute import precompute_covariance

    return precompute_covariance


def reevaluate(options: argparse.Namespace) -> int:
    """Measure a study's stored edits on other texts, and print what was found."""
    study, place = read_study(options.study), place_of(options.results)
    try:
        evaluation = EvaluationSpec(
            texts=str(Path(options.texts).resolve()), max_texts=options.max_texts
        )
    except ValidationError as error:
        raise StudyError(
            f"--max-texts {options.max_texts}: it has to be at least 1; leave it out for all texts."
        ) from error
    server = environment.prepare(place.here)
    from flows.reevaluation import plan_reevaluation
    from flows.reevaluation import reevaluate as measure_again

    plan_reevaluation(study, evaluation, place.name)
    screen = console()
    screen.print(
        f"re-evaluation of {study.name} with {server}; results in {shown(place.name)}", markup=False
    )
    study_id = run_watched(server, lambda: measure_again, study, evaluation, place.name)
    if study_id is None:
        return STOPPED
    from storage.ask import incidence

    screen.print(incidence_table(incidence(place.here, study_id)))
    screen.print(f"recorded as study_id {study_id}", soft_wrap=True)
    return 0


def deploy(options: argparse.Namespace) -> int:
    """Register the deployments, their pool and automations; say what there is now."""
    if environment.prepare_for_server() is None:
        os.environ["PREFECT_API_URL"] = _LOCAL
    from flows.deploy.register import deploy_all, read_deployment_file

    screen = console()
    for line in deploy_all(read_deployment_file(options.on), options.results):
        screen.print(line, markup=False, soft_wrap=True)
    return 0


OPERATIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "covariance": covariance,
    "reevaluate": reevaluate,
    "deploy": deploy,
}
