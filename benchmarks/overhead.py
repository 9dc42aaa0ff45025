"""Overhead of Prefect and DuckDB: the whole flow beside its jobs called one after the other.

Both sides compute the same units of the same study, write the same files and start from a fresh
results folder; the Prefect server runs already. Planning, scheduling, caching and recording belong
to the flow, not to the units.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.cases import Case
from benchmarks.choices import is_demo
from benchmarks.inputs import write_counterfact
from benchmarks.machine import timed
from benchmarks.results import Overhead, Results, Spread
from editcollapse.config.spec import (
    CovarianceSpec,
    DatasetSpec,
    EvaluationSpec,
    ModelSpec,
    StudySpec,
    TemplateSpec,
    ValueSpec,
)
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.plan import CovariancePlan, plan_study
from editcollapse.units.covariance import cut_corpus, prepare_moment, read_probes, sum_shard
from editcollapse.units.edit import edit_batch
from editcollapse.units.evaluate import evaluate_batch
from editcollapse.units.prepare import measure_unedited, prepare_templates

BATCH_SIZE = 64
_STARTUP_S = 180.0
_TOKENS_PER_KEY = 4
_WARM_EDITS = 2


def measure(case: Case, n_edits: int, repeats: int, found: Results) -> None:
    """Add the flow's time and the units' for a study of one model, one method.

    Args:
        case: the model and its data, ``n_edits`` requests or more.
        n_edits: of the study.
        repeats: of each side.
        found: grows by one row.
    """
    folder = case.results / "overhead"
    study = _study(case, folder, n_edits)
    with _server(folder / "prefect"):
        from flows.study import collapse_study

        warm = DatasetSpec(path=study.dataset.path, limit=_WARM_EDITS)
        collapse_study(study.model_copy(update={"dataset": warm}), str(folder / "warm"))
        spent: tuple[list[float], list[float]] = ([], [])
        for repeat in range(repeats):
            flow, units = (folder / f"{side}-{repeat}" for side in ("flow", "units"))
            spent[1].append(_units(study, units, case))
            spent[0].append(timed(partial(collapse_study, study, str(flow)), case.loaded.device))
    found.overheads.append(
        Overhead(
            model=case.name,
            n_edits=n_edits,
            batch_size=study.batch_size,
            flow_s=Spread.of(spent[0]),
            units_s=Spread.of(spent[1]),
            note=f"rome, at most {case.setup.values.steps} passes of v*",
        )
    )


def _units(study: StudySpec, folder: Path, case: Case) -> float:
    """Return the seconds of a study's units without scheduler and database."""
    plan = plan_study(study, folder)
    plan.store_texts(ArtifactStore(folder))
    (model,) = plan.models

    def run() -> None:
        templates = prepare_templates(model.templates)
        moments = CovariancePlan.of(plan, model)
        corpus = cut_corpus(moments.corpus_job())
        probes = read_probes(moments.probes_job(templates))
        sums = [sum_shard(job) for job in moments.shard_jobs(corpus)]
        moment = prepare_moment(moments.merge_job(sums, probes))
        measure_unedited(plan.unedited_job(model))
        for job in plan.edit_jobs(model, templates, moment):
            evaluate_batch(plan.evaluate_job(job, edit_batch(job)))

    return timed(run, case.loaded.device)


def _study(case: Case, folder: Path, n_edits: int) -> StudySpec:
    """Return a study of the case's data, written as files."""
    folder.mkdir(parents=True, exist_ok=True)
    templates, texts, corpus = (
        folder / name for name in ("templates.json", "texts.json", "corpus.txt")
    )
    templates.write_text(json.dumps(case.inputs.templates), encoding="utf-8")
    texts.write_text(json.dumps(case.inputs.texts), encoding="utf-8")
    corpus.write_text("\n\n".join(case.inputs.documents), encoding="utf-8")
    requests = write_counterfact(case.inputs.requests[:n_edits], folder / "requests.json")
    values = case.setup.values
    return StudySpec(
        name="overhead",
        methods=("rome",),
        models=(ModelSpec(name=case.name, source=case.setup.spec.source, layer=case.layer),),
        dataset=DatasetSpec(path=str(requests)),
        # Those that the demo model draws have doubles, which a file may not.
        templates=TemplateSpec(kind="start_token")
        if is_demo(case.name)
        else TemplateSpec(kind="file", path=str(templates)),
        covariance=CovarianceSpec(
            source=str(corpus), n_tokens=_TOKENS_PER_KEY * case.loaded.widths.d_key
        ),
        value=ValueSpec(steps=values.steps),
        evaluation=EvaluationSpec(texts=str(texts)),
        batch_size=min(BATCH_SIZE, n_edits),
    )


@contextlib.contextmanager
def _server(home: Path) -> Iterator[None]:
    """Run a Prefect server of its own on 127.0.0.1; this process is pointed at it and back."""
    from flows.observe import environment

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before = dict(os.environ)
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    os.environ["PREFECT_HOME"] = str(home)
    home.mkdir(parents=True, exist_ok=True)
    environment.prepare(home)
    log = home / "server.log"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    with log.open("w") as stream:
        server = subprocess.Popen(  # noqa: S603  this Python's own Prefect
            [*command, "--port", str(port)], stdout=stream, stderr=stream
        )
        try:
            _wait_for(os.environ["PREFECT_API_URL"], server, log)
            yield
        finally:
            server.terminate()
            server.wait()
            os.environ.clear()
            os.environ.update(before)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _STARTUP_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{url}/health", timeout=5).close()  # noqa: S310  our own server
            return
        time.sleep(0.2)
    raise RuntimeError(f"no Prefect server at {url}:\n{log.read_text(encoding='utf-8')}")
