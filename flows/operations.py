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
from flows import surroundings
from flows.terminal import STOPPED, console, incidence_table, shown
from flows.watched import run_watched


def covariance(options: argparse.Namespace) -> int:
    """Measure the second moments of a study's models."""
    study, place = read_study(options.study), place_of(options.results)
    plan_study(study, place.name)  # a mistake in the study is told before a server starts
    server = surroundings.prepare(place.here)
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
    server = surroundings.prepare(place.here)
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
    """Register the deployments, their pool and the rule for dead runs; say what there is now."""
    from flows.deployment_files import read_deployment_file

    wanted = read_deployment_file(options.on)
    if surroundings.prepare_for_server() is None:
        from flows.operation_options import LOOPBACK, PORT

        os.environ["PREFECT_API_URL"] = f"http://{LOOPBACK}:{PORT}/api"
    from flows.deploying import deploy_all

    screen = console()
    for line in deploy_all(wanted, options.results):
        screen.print(line, markup=False, soft_wrap=True)
    return 0


def serve(options: argparse.Namespace) -> int:
    """Run server, worker and the reports' pages until a signal comes."""
    from flows.serving import serve_until_stopped

    return serve_until_stopped(options.host, options.port, place_of(options.results).here)


OPERATIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "covariance": covariance,
    "reevaluate": reevaluate,
    "deploy": deploy,
    "serve": serve,
}
