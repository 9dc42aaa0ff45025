"""Registering deployments, their work pool and the rule for dead runs; the same however often."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import yaml
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL

from editcollapse.config.study_file import read_study
from editcollapse.errors import EditCollapseError
from editcollapse.study.plan import plan_study
from editcollapse.study.results_folder import is_url
from flows.deployment_files import OVERRIDES, ROOT, DeploymentFile, PoolSpec
from flows.deployment_inputs import RESULTS_VARIABLE
from flows.zombies import register_zombie_rules


class ServerError(EditCollapseError, RuntimeError):
    """A Prefect server cannot be reached, started, or does not take what it is given."""


def deploy_all(wanted: DeploymentFile, results: str | None = None) -> Iterator[str]:
    """Register all deployments of a file; yield lines for people.

    Args:
        wanted: deployments and pool.
        results: the results folder that they write to, as their runs see it; where left out, the
            pool's own or ``results`` in the project's folder.

    Raises:
        ServerError: no server answers, or it refuses.
        EditCollapseError: the study file, or an input that it names, cannot be used.
    """
    folder = _below_root(str(results or wanted.results or ROOT / "results"))
    study = read_study(wanted.study)
    if wanted.pool.type == "process":  # its runs see the files that we see
        plan_study(study, folder if is_url(folder) else ROOT / folder)
    with get_client(sync_client=True) as client:
        _check(client)
        register_pool(client, wanted.pool)
        yield f"work pool {wanted.pool.name}: {wanted.pool.type}, one flow run at a time"
        _deploy(wanted, folder)
        for name in wanted.names:
            yield f"deployment {name}"
        for name in register_zombie_rules(client, wanted.pool):
            yield f"automation {name}"
    yield f"study {study.name} of {_below_root(str(wanted.study))}; results in {folder}"
    yield f"at {PREFECT_API_URL.value()}"


def register_pool(client: SyncPrefectClient, pool: PoolSpec) -> None:
    """Make the work pool, or correct the one that is there; whether it is paused stays.

    Raises:
        ServerError: the pool is there with another type.
    """
    template = None
    if pool.base_job_template is not None:
        template = json.loads((OVERRIDES / pool.base_job_template).read_text(encoding="utf-8"))
    try:
        known = client.read_work_pool(pool.name)
    except ObjectNotFound:
        made = WorkPoolCreate(
            name=pool.name, type=pool.type, concurrency_limit=pool.concurrency_limit
        )
        if template is not None:
            made.base_job_template = template
        client.create_work_pool(made)
        return
    if known.type != pool.type:
        raise ServerError(
            f"work pool {pool.name!r} is of type {known.type!r}, and {pool.type!r} is needed. "
            f"Remove it with prefect work-pool delete {pool.name}, or name another one in "
            "prefect.yaml."
        )
    change = WorkPoolUpdate(concurrency_limit=pool.concurrency_limit)
    if template is not None:
        change.base_job_template = template
    client.update_work_pool(pool.name, change)


def _check(client: SyncPrefectClient) -> None:
    """Raise where no server answers, or it does not know us."""
    url = PREFECT_API_URL.value()
    try:
        client.read_work_pools(limit=1)
    except httpx.TransportError as error:
        raise ServerError(
            f"no Prefect server answers at {url}. Start one with make server, or name yours in "
            "PREFECT_API_URL."
        ) from error
    except PrefectHTTPStatusError as error:
        if error.response.status_code != httpx.codes.UNAUTHORIZED:
            raise
        raise ServerError(
            f"the Prefect server at {url} wants a password. Give the one that it was started with: "
            "PREFECT_API_AUTH_STRING=user:password."
        ) from error


def _deploy(wanted: DeploymentFile, results: str) -> None:
    """Let Prefect's own command register the deployments."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(yaml.safe_dump(wanted.content, sort_keys=False), encoding="utf-8")
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        done = subprocess.run(  # noqa: S603  Prefect's own command
            [*command, "--prefect-file", str(file)],
            cwd=ROOT,
            env=os.environ | {RESULTS_VARIABLE: results},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise ServerError(f"prefect deploy did not end well:\n{done.stdout}{done.stderr}")


def _below_root(results: str) -> str:
    """Return a URL as it is, a folder relative to the project's where it lies below it."""
    if is_url(results):
        return results
    folder = Path(results).resolve()
    return str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder)
