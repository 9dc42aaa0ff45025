"""The deployments as they are written down: prefect.yaml, and what other pools change of it."""

import copy
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from editcollapse.errors import StudyError

ROOT = Path(__file__).resolve().parents[1]
"""The checkout: deployments are registered from here and run here."""
PREFECT_FILE = ROOT / "prefect.yaml"
OVERRIDES = ROOT / "deploy"
"""Folder of the files that move the deployments to another kind of pool."""


class PoolSpec(BaseModel):
    """A work pool."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: str
    concurrency_limit: int
    start_within_s: int = Field(ge=30)
    """Seconds after which a run that a worker has taken, and that has not started, is dead."""
    base_job_template: str | None = None
    """File beside the override with the pool's variables; Prefect's own where left out."""


class DeploymentFile(BaseModel):
    """What is to be registered."""

    model_config = ConfigDict(frozen=True)

    pool: PoolSpec
    study: Path
    """The study file that parameters are read from."""
    results: Path | None
    """The results folder as runs see it, where the pool decides it."""
    content: dict[str, Any]
    """The whole of prefect.yaml, with the override's pool, environment and pull steps."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the deployments."""
        return tuple(each["name"] for each in self.content["deployments"])


def read_deployment_file(on: str = "process") -> DeploymentFile:
    """Return prefect.yaml, changed to the pool that is asked for.

    Args:
        on: ``process`` for prefect.yaml as it stands, or the stem of a file in deploy/.

    Raises:
        StudyError: a file is missing, not YAML, or names no pool or study.
    """
    content = _read(PREFECT_FILE)
    override = {} if on == "process" else _read(OVERRIDES / f"{on}.yaml")
    try:
        if override:
            content = _changed(content, override)
        (step,) = (own for each in content["build"] for own in each.values() if "study" in own)
        return DeploymentFile(
            pool=PoolSpec.model_validate(content["definitions"]["pool"]),
            study=ROOT / step["study"],
            results=override.get("results"),
            content=content,
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise StudyError(
            f"{PREFECT_FILE.name} for {on}: no usable pool under `definitions`, no deployments, or "
            f"not one build step with a study ({error}). Compare it with the project's own."
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
    """Return the file's content with another pool, its job variables, and pull steps."""
    changed = copy.deepcopy(content)
    changed["definitions"]["pool"] = override["pool"]
    changed["pull"] = override["pull"]
    for each in changed["deployments"]:
        own = each["work_pool"].get("job_variables", {})
        variables = copy.deepcopy(override["job_variables"])
        variables["env"] = own.get("env", {}) | variables.get("env", {})
        each["work_pool"] = {"name": override["pool"]["name"], "job_variables": variables}
    return changed
