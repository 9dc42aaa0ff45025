"""Registering prefect.yaml on a Prefect server: deployments, work pool, automations; repeatable.

What a deployment asks for is registered with it, so the server checks it before a run is made, the
form in the UI comes filled in, and a run's page shows all that it was asked.
"""

import copy
import dataclasses
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import yaml
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_UI_URL
from pydantic import BaseModel, ConfigDict, ValidationError

from editcollapse.config.spec import EvaluationSpec
from editcollapse.config.study_file import read_study, with_paths_below
from editcollapse.errors import EditCollapseError, StudyError
from editcollapse.runtime.settings import settings, variable_name
from editcollapse.study.plan import plan_study
from editcollapse.study.results_folder import is_url
from flows.observe.environment import ROOT
from flows.run.study_form import in_groups

OVERRIDES = ROOT / "deploy"
"""Folder of the files that move the deployments to another kind of pool."""
AUTOMATIONS = OVERRIDES / "automations.yaml"
NOTIFICATIONS = OVERRIDES / "notifications.yaml"
WEBHOOKS = OVERRIDES / "webhooks.yaml"
_PREFECT_FILE = ROOT / "prefect.yaml"
_WITHDRAWN = ("report/report",)
"""Deployments, FLOW/DEPLOYMENT, that earlier versions registered: the report is part of a study."""
_OURS = "editcollapse"
"""Tag of every deployment."""
_FEWER_TEXTS = 20
"""How many texts the form of a re-evaluation proposes: other than the study's own, all."""


class ServerError(EditCollapseError, RuntimeError):
    """A Prefect server cannot be reached, or does not take what it is given."""


class PoolSpec(BaseModel):
    """A work pool."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: str
    concurrency_limit: int
    base_job_template: str | None = None
    """File beside the override with the pool's variables; Prefect's own where left out."""

    def template(self) -> dict[str, Any]:
        """Read the pool's job template; empty where it is Prefect's own."""
        if self.base_job_template is None:
            return {}
        text = (OVERRIDES / self.base_job_template).read_text(encoding="utf-8")
        return {"base_job_template": json.loads(text)}


@dataclasses.dataclass(frozen=True, slots=True)
class DeploymentFile:
    """Deployments to register: prefect.yaml with a pool's overrides."""

    pool: PoolSpec
    study: Path
    """The study file that parameters are read from."""
    results: str | None
    """The results folder as runs see it, where the pool decides it."""
    content: dict[str, Any]
    """The whole of prefect.yaml, with the override's pool, environment and pull steps."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the deployments."""
        return tuple(each["name"] for each in self.content["deployments"])


def study_inputs(study: str) -> dict[str, Any]:
    """Read a study file as the parameters of deployments: the build step of prefect.yaml.

    Args:
        study: the study file. Its paths become relative to the working directory where they lie
            below it, so that they hold wherever a run finds the project.

    Raises:
        StudyError: the study file cannot be used.
    """
    spec = with_paths_below(read_study(Path(study)), Path.cwd())
    again = EvaluationSpec(texts=spec.evaluation.texts, max_texts=_FEWER_TEXTS)
    return {
        "study": in_groups(spec),
        "evaluation": again.model_dump(mode="json", exclude_none=True),
        "results": settings().results,
    }


def read_deployment_file(on: str = "process") -> DeploymentFile:
    """Read prefect.yaml, changed to the pool that is asked for.

    Args:
        on: ``process`` for prefect.yaml as it stands, or the stem of a file in deploy/.

    Raises:
        StudyError: a file is missing, not YAML, or names no pool or study.
    """
    content = _read(_PREFECT_FILE)
    override = {} if on == "process" else _read(OVERRIDES / f"{on}.yaml")
    try:
        if override:
            content = _changed(content, override)
        (step,) = (own for each in content["build"] for own in each.values() if "study" in own)
        pool = PoolSpec.model_validate(content["definitions"]["pool"])
        return DeploymentFile(pool, ROOT / step["study"], override.get("results"), content)
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise StudyError(
            f"{_PREFECT_FILE.name} for {on}: no usable pool under `definitions`, no deployments, "
            f"or not one build step with a study ({error}). Compare it with the project's own."
        ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise StudyError(f"{path} cannot be read as YAML: {error}.") from error
    if not isinstance(found, dict):
        raise StudyError(f"{path} holds no mapping. Compare it with the project's own.")
    return found


def _changed(content: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """Move the deployments of prefect.yaml to another pool, its job variables and pull steps."""
    changed = copy.deepcopy(content)
    changed["definitions"]["pool"] = override["pool"]
    changed["pull"] = override["pull"]
    for each in changed["deployments"]:
        own = each["work_pool"].get("job_variables", {})
        variables = copy.deepcopy(override["job_variables"])
        variables["env"] = own.get("env", {}) | variables.get("env", {})
        each["work_pool"] = {"name": override["pool"]["name"], "job_variables": variables}
    return changed


def deploy_all(
    wanted: DeploymentFile,
    results: str | None = None,
    automations: Path = AUTOMATIONS,
    notify: str | None = None,
    webhook: str | None = None,
) -> Iterator[str]:
    """Register all deployments of a file; yield lines for people.

    Args:
        wanted: deployments and pool.
        results: the results folder that they write to, as their runs see it; where left out, the
            pool's own or ``results`` in the project's folder.
        automations: file of the rules that end dead runs.
        notify: notification block, BLOCK-TYPE/NAME, that is to tell of failed runs and collapses;
            what was registered before stays where left out.
        webhook: block webhook/NAME that is to be called for each collapsed or refused edit, and
            for each finished study; as ``notify`` where left out.

    Raises:
        ServerError: no server answers, it refuses, or it has no such block.
        EditCollapseError: the study file, or an input that it names, cannot be used.
    """
    folder = _below_root(results or wanted.results or str(ROOT / "results"))
    study = read_study(wanted.study)
    if wanted.pool.type == "process":  # its runs see the files that we see
        plan_study(study, folder if is_url(folder) else ROOT / folder)
    with get_client(sync_client=True) as client:
        _check(client)
        told_by = [
            (file, block, _block_id(client, block))
            for file, block in ((NOTIFICATIONS, notify), (WEBHOOKS, webhook))
            if block is not None
        ]
        register_pool(client, wanted.pool)
        yield f"work pool {wanted.pool.name}: {wanted.pool.type}, one flow run at a time"
        _deploy(wanted, folder)
        for name in wanted.names:
            yield f"deployment {name}"
        for name in withdraw_deployments(client):
            yield f"removed: deployment {name}, which is no longer needed"
        for name in register_automations(client, automations):
            yield f"automation {name}"
        for file, block, block_id in told_by:
            for name in register_automations(client, file, block_id):
                yield f"automation {name}, by {block}"
    yield f"study {study.name} of {_below_root(str(wanted.study))}; results in {folder}"
    yield from _next_steps(wanted.names[0])


def _next_steps(name: str) -> Iterator[str]:
    """Yield what to copy to a new shell to start a deployment that is called as its flow."""
    beside = Path(sys.executable).with_name("prefect")
    program = "prefect" if shutil.which("prefect") == str(beside) else shlex.quote(str(beside))
    yield ""
    yield f"export PREFECT_API_URL={PREFECT_API_URL.value()}"
    if PREFECT_API_AUTH_STRING.value() is not None:
        yield "export PREFECT_API_AUTH_STRING=...     # the server's user:password"
    yield f"{program} deployment run {name}/{name}"
    yield ""
    yield f"Prefect's pages: {PREFECT_UI_URL.value()}"


def register_pool(client: SyncPrefectClient, pool: PoolSpec) -> None:
    """Make the work pool, or correct the one that is there; whether it is paused stays.

    Raises:
        ServerError: the pool is there with another type.
    """
    limit, template = pool.concurrency_limit, pool.template()
    try:
        known = client.read_work_pool(pool.name)
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(name=pool.name, type=pool.type, concurrency_limit=limit, **template)
        )
        return
    if known.type != pool.type:
        raise ServerError(
            f"work pool {pool.name!r} is of type {known.type!r}, and {pool.type!r} is needed. "
            f"Remove it with prefect work-pool delete {pool.name}, or name another one in "
            "prefect.yaml."
        )
    client.update_work_pool(pool.name, WorkPoolUpdate(concurrency_limit=limit, **template))


def withdraw_deployments(client: SyncPrefectClient) -> Iterator[str]:
    """Delete what earlier versions registered and this one does not; yield their names.

    With a deployment go the automations that belong to it. Its runs stay.
    """
    for name in _WITHDRAWN:
        try:
            found = client.read_deployment_by_name(name)
        except ObjectNotFound:
            continue
        if _OURS in found.tags:
            client.delete_resource_owned_automations(f"prefect.deployment.{found.id}")
            client.delete_deployment(found.id)
            yield name


def register_automations(
    client: SyncPrefectClient, file: Path = AUTOMATIONS, block_id: UUID | None = None
) -> Iterator[str]:
    """Make the automations of a file what they have to be on the server; yield their names.

    ``prefect automation create --from-file`` makes one more of each whenever it is called; here
    there is one of each, and whether one is switched on stays as it was.

    Args:
        client: of the server.
        file: YAML.
        block_id: notification or webhook block that the file's actions send by.
    """
    for content in _read(file)["automations"]:
        if block_id is not None:
            for action in content["actions"]:
                action["block_document_id"] = block_id
        wanted = AutomationCore.model_validate(content)
        known = client.read_automations_by_name(wanted.name)
        if not known:
            client.create_automation(wanted)
        for each in known:
            wanted.enabled = each.enabled
            client.update_automation(each.id, wanted)
        yield wanted.name


def _block_id(client: SyncPrefectClient, asked: str) -> UUID:
    """Return the id of a block of the server that sends.

    Raises:
        ServerError: it has none of that name.
    """
    kind, _, name = asked.partition("/")
    try:
        return client.read_block_document_by_name(name, kind, include_secrets=False).id
    except ObjectNotFound as error:
        raise ServerError(
            f"the Prefect server has no block {asked!r}. Make one on its page Blocks, such as a "
            "Slack Webhook or a Webhook, and name it as slack-webhook/NAME or webhook/NAME; "
            "prefect block ls lists them."
        ) from error


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
            env=os.environ | {variable_name("results"): results},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise ServerError(f"prefect deploy did not end well:\n{done.stdout}{done.stderr}")


def _below_root(results: str) -> str:
    """Write a folder relative to the project's where it lies below it; a URL as it is."""
    if is_url(results):
        return results
    folder = Path(results).resolve()
    return str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder)
