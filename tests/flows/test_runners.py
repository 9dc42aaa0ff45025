"""Where tasks run is the study's choice, and changes nothing of what it is."""

import sys

import pytest

from editcollapse.config.spec import RunnerSpec
from editcollapse.config.study_file import read_study
from editcollapse.errors import StudyError
from editcollapse.study.plan import plan_study
from editcollapse.study.study_rows import study_rows
from flows.run.submit import task_runner_of
from tests.support.small_study import write_toml

_KINDS = {
    "thread": "prefect.task_runners.ThreadPoolTaskRunner",
    "dask": "prefect_dask.task_runners.DaskTaskRunner",
    "ray": "prefect_ray.task_runners.RayTaskRunner",
}


@pytest.mark.parametrize("kind", _KINDS)
def test_runner_is_the_one_asked_for(kind):
    """Each kind gives the task runner of Prefect's own collection."""
    found = type(task_runner_of(RunnerSpec(kind=kind)))
    assert f"{found.__module__}.{found.__name__}" == _KINDS[kind]


def test_dask_cluster_of_a_run_listens_on_loopback():
    """What a run starts itself is reached from this machine only, and shows no dashboard."""
    runner = task_runner_of(RunnerSpec(kind="dask", workers=3))
    started = runner.cluster_kwargs
    assert started["host"] == "127.0.0.1"
    assert started["dashboard_address"] is None
    assert (started["n_workers"], started["threads_per_worker"]) == (3, 1)


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_address_is_that_of_a_cluster(kind):
    """With an address no cluster is started."""
    assert task_runner_of(RunnerSpec(kind=kind, address="x://h:1")).address == "x://h:1"


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_missing_package_is_explained(kind, monkeypatch):
    """Without the extra the sentence names it."""
    monkeypatch.setitem(sys.modules, f"prefect_{kind}", None)
    with pytest.raises(StudyError, match=rf"pip install 'editcollapse\[{kind}\]'"):
        task_runner_of(RunnerSpec(kind=kind))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"runner.workers": 2}, 'choose kind = "dask" or "ray"'),
        ({"runner.address": "tcp://h:1"}, 'choose kind = "dask" or "ray"'),
        ({"runner.kind": "kubernetes"}, "'thread', 'dask' or 'ray'"),
        ({"runner.kind": "dask", "runner.threads": 2}, "unknown field `runner.threads`"),
    ],
)
def test_runner_that_cannot_be_is_explained(study, changes, words):
    """A thread has one worker; unknown kinds and fields are told."""
    file = write_toml(study.parent / "runner.toml", **{"models.source": "model"}, **changes)
    with pytest.raises(StudyError, match=words):
        read_study(file)


def test_runner_is_no_part_of_the_study(study, tmp_path):
    """Ids and rows of a study are the same wherever its tasks run."""
    spec = read_study(study)
    other = spec.model_copy(update={"runner": RunnerSpec(kind="dask", workers=4)})
    one, two = plan_study(spec, tmp_path), plan_study(other, tmp_path)
    assert one.study_id == two.study_id
    assert study_rows(one) == study_rows(two)
