"""A finished study as one run of MLflow: settings as parameters, counts and ratios as metrics.

Where MLflow is not installed, its server does not answer or refuses something, the log says so, and
the study is as it was: its results never depend on it. Run again, a study finds all its jobs cached
and is tracked then.
"""

import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editcollapse import __version__
from editcollapse.config.spec import TrackingSpec
from editcollapse.config.study_file import without_paths
from editcollapse.config.study_toml import study_toml
from editcollapse.fingerprints import digest
from editcollapse.study.plan import StudyPlan
from editcollapse.study.results_folder import ResultsFolder
from editcollapse.visible import visible
from reports.index import report_path
from storage.ask import StudyFindings
from storage.readers import RatioQuantiles, ratio_quantiles

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

_STUDY = "editcollapse.study_id"
"""Tag by which a study finds its run again."""
_NUMBERS = "editcollapse.numbers"
"""Tag: digest of what was sent; equal numbers are sent once."""
_LONGEST = 6000
"""Characters of a parameter, at most; MLflow's own limit."""
_AT_ONCE = 100
"""Parameters in one request, at most; MLflow's own limit."""
_NOT_IN_ID = ("name", "description", "note", "batch_size", "collapse")
"""Settings that may change while a study stays the same one; a parameter of MLflow may not."""
_PATIENCE = {
    # By MLflow's own defaults a server that is away holds a finished study up for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def track(plan: StudyPlan, results: ResultsFolder, kind: str, found: StudyFindings) -> None:
    """Make, or bring up to date, the MLflow run of a study that wants one; never raises.

    Args:
        plan: the study; without a table ``tracking`` nothing is done.
        results: the results folder, with the study's report.
        kind: what the study was run as.
        found: the study as it is published.
    """
    spec = plan.study.tracking
    if spec is None:
        return
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError:
        logger.warning(
            "study %s is not tracked: MLflow is not installed. pip install 'editcollapse[mlflow]', "
            "then run the study again: all of it is cached",
            plan.study.name,
        )
        return
    try:
        client = MlflowClient(tracking_uri=spec.uri)
        run_id = _track(client, spec, plan, kind, found, results)
    except Exception as error:  # noqa: BLE001  whatever MLflow, its server or the way to it raises
        logger.warning(
            "study %s is not tracked by MLflow: %s. Its results are whole; mend the cause and run "
            "the study again: all of it is cached",
            plan.study.name,
            visible(str(error)),
        )
        return
    logger.info("tracked: MLflow run %s of experiment %s", run_id, visible(spec.experiment))


def _track(
    client: "MlflowClient",
    spec: TrackingSpec,
    plan: StudyPlan,
    kind: str,
    found: StudyFindings,
    results: ResultsFolder,
) -> str:
    """Send what MLflow lacks of a study; return the run's id."""
    metrics = dict(_metrics(found, ratio_quantiles(results.here, found.study_id, found.rule)))
    params = dict(_params(found))
    tags = _tags(kind, found) | {_NUMBERS: digest("tracked", metrics, params)}
    experiment_id = _experiment(client, spec)
    known = client.search_runs(
        [experiment_id], filter_string=f"tags.`{_STUDY}` = '{found.study_id}'", max_results=1
    )
    if known and known[0].data.tags.get(_NUMBERS) == tags[_NUMBERS]:
        return str(known[0].info.run_id)
    if known:
        run = known[0]
    else:
        run = client.create_run(experiment_id, run_name=found.name, tags={_STUDY: found.study_id})
    run_id = str(run.info.run_id)
    try:
        _send(client, run_id, _new(params, run.data.params, found.name), metrics)
        if spec.artifacts:
            _send_files(client, run_id, plan, results)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    for name, value in tags.items():  # last: a run without the digest is sent again
        client.set_tag(run_id, name, value)
    client.set_terminated(run_id)
    return run_id


def _experiment(client: "MlflowClient", spec: TrackingSpec) -> str:
    """Return the id of the experiment; made where it is not there.

    Files of a SQLite store lie beside it, not in whatever folder a run was started in.
    """
    found = client.get_experiment_by_name(spec.experiment)
    if found is not None:
        return str(found.experiment_id)
    place = None
    uri = str(client.tracking_uri)
    if uri.startswith("sqlite:///"):
        place = Path(uri.removeprefix("sqlite:///")).resolve().with_name("mlartifacts").as_uri()
    return str(client.create_experiment(spec.experiment, artifact_location=place))


def _new(params: dict[str, str], known: dict[str, str], name: str) -> dict[str, str]:
    """Return the parameters that a run lacks; MLflow never changes one that it has."""
    changed = sorted(each for each in params if known.get(each, params[each]) != params[each])
    if changed:
        logger.warning(
            "MLflow keeps the parameters of the first run of study %s, and these are others now: "
            "%s. The study's own tables have them",
            name,
            ", ".join(changed),
        )
    return {each: value for each, value in params.items() if each not in known}


def _send(
    client: "MlflowClient", run_id: str, params: dict[str, str], metrics: dict[str, float]
) -> None:
    """Send parameters and metrics."""
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    entities = [Param(name, value) for name, value in params.items()]
    for start in range(0, len(entities), _AT_ONCE):
        client.log_batch(run_id, params=entities[start : start + _AT_ONCE])
    points = [Metric(name, value, now, 0) for name, value in metrics.items()]
    for start in range(0, len(points), _AT_ONCE):
        client.log_batch(run_id, metrics=points[start : start + _AT_ONCE])


def _send_files(
    client: "MlflowClient", run_id: str, plan: StudyPlan, results: ResultsFolder
) -> None:
    """Send the report and the study file, which names no folder of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.toml"
        file.write_text(study_toml(without_paths(plan.study)), encoding="utf-8")
        client.log_artifact(run_id, str(file))
    client.log_artifact(run_id, str(results.fetch(report_path(plan.study.name))))


def _tags(kind: str, found: StudyFindings) -> dict[str, str]:
    """Return what may change while a study stays the same one."""
    return {
        "mlflow.note.content": "\n\n".join(each for each in (found.description, found.note) if each)
        or found.name,
        "editcollapse.kind": kind,
        "editcollapse.version": __version__,
        "editcollapse.numerics": str(found.numerics),
        "editcollapse.rule": found.rule.sentence(),
        "editcollapse.dataset": found.dataset,
        "editcollapse.texts": found.text_set,
    }


def _params(found: StudyFindings) -> Iterator[tuple[str, str]]:
    """Yield name and value of each setting of a study; dots part the names of tables."""
    settings = json.loads(found.settings.frame["settings"][0])
    for name in _NOT_IN_ID:
        settings.pop(name, None)
    yield from _flat(settings, "")


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield the leaves of plain data; a list without tables is a leaf."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for place, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{place}")
    else:
        text = value if isinstance(value, str) else json.dumps(value)
        if len(text) > _LONGEST:
            text = f"too long for MLflow: {len(text)} characters; study.toml has it"
        yield name, text


def _metrics(found: StudyFindings, ratios: Sequence[RatioQuantiles]) -> Iterator[tuple[str, float]]:
    """Yield name and value of each number; one that is not finite is left out, and counted."""
    collapsed = sum(each.n_collapsed for each in ratios)
    numbers: list[tuple[str, float]] = [
        ("n_requests", found.n_requests),
        ("n_rejected", found.n_rejected),
        ("n_edits", found.n_edits),
        ("n_measured", found.n_measured),
        ("n_collapsed", collapsed),
    ]
    for each in ratios:
        where = f"{each.model}/{each.method}"
        numbers += [
            (f"{where}/n_edits", each.n_edits),
            (f"{where}/n_collapsed", each.n_collapsed),
            (f"{where}/collapsed_share", each.n_collapsed / each.n_edits),
            (f"{where}/n_not_finite", each.n_not_finite),
            (f"{where}/ratio_median", each.ratio_median),
            (f"{where}/ratio_q90", each.ratio_q90),
            (f"{where}/ratio_q99", each.ratio_q99),
            (f"{where}/ratio_max", each.ratio_max),
        ]
    for row in found.guard.frame.iter_rows(named=True):
        where = f"{row['model']}/{row['method']}"
        numbers.append((f"{where}/n_refused", row["n_refused"]))
    for row in found.sequences.frame.iter_rows(named=True):
        where = f"{row['model']}/sequences of {row['editor'].replace(',', '')}"
        numbers.append((f"{where}/n_collapsed", row["n_collapsed"]))
        numbers.append((f"{where}/n_orders", row["n_orders"]))
        if row["median"] is not None:
            numbers.append((f"{where}/collapse_step_median", row["median"]))
    yield from ((name, float(value)) for name, value in numbers if math.isfinite(value))
