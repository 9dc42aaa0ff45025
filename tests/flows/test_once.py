"""Two processes that need the same unit: one computes it, the other waits and takes it."""

import os
import signal
import subprocess
import sys
import threading

import filelock
import pytest

from editcollapse.config.study_file import read_study
from editcollapse.errors import ResultsError
from editcollapse.study.jobs import Manifest
from editcollapse.study.locks import MANIFESTS, cached_or_computed
from editcollapse.study.plan import CovariancePlan, plan_study
from editcollapse.study.results_folder import LOCKS
from tests.support.flow_runs import REPOSITORY, environment, units_computed
from tests.support.small_study import N_SHARDS

_WAIT_S = 60.0
_WORKER = """
import sys
from pathlib import Path
from editcollapse.study.locks import cached_or_computed
from editcollapse.study.plan import plan_study
from editcollapse.units.covariance import cut_corpus, sum_shard
from editcollapse.study.plan import CovariancePlan
from editcollapse.config.study_file import read_study
plan = plan_study(read_study(Path(sys.argv[1])), Path(sys.argv[2]))
moments = CovariancePlan.of(plan, plan.models[0])
print("ready", flush=True)
corpus = cached_or_computed(moments.corpus_job(), lambda: cut_corpus(moments.corpus_job()))
for job in moments.shard_jobs(corpus):
    found = cached_or_computed(job, lambda: sum_shard(job))
    print(found.model_dump_json(), flush=True)
"""
_HOLDER = """
import sys, time
from pathlib import Path
from editcollapse.study.locks import cached_or_computed
from editcollapse.study.plan import plan_study
from editcollapse.config.study_file import read_study
(model,) = plan_study(read_study(Path(sys.argv[1])), Path(sys.argv[2])).models
def compute():
    print("holding", flush=True)
    time.sleep(600)
cached_or_computed(model.moment, compute)
"""


@pytest.fixture
def job(study, tmp_path):
    """Return the covariance of the small study, to be left in an empty results folder."""
    (model,) = plan_study(read_study(study), tmp_path).models
    return model.moment


def _start(script, study, results):
    return subprocess.Popen(
        [sys.executable, "-c", script, str(study), str(results)],
        env=environment(results),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )


def _manifest(job, summary="made"):
    return Manifest(unit_id=job.key, summary=summary)


@pytest.mark.slow
def test_two_processes_sum_each_shard_once(study, tmp_path):
    """Both wait for the same lock; of corpus and shards each takes what the other has left."""
    plan = plan_study(read_study(study), tmp_path)
    job = CovariancePlan.of(plan, plan.models[0]).corpus_job()
    (tmp_path / LOCKS).mkdir()
    with filelock.FileLock(tmp_path / LOCKS / f"{job.key}.lock"):
        workers = [_start(_WORKER, study, tmp_path) for _ in range(2)]
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
    answers = [worker.communicate(timeout=_WAIT_S)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert answers[0] == answers[1]
    assert len(answers[0].splitlines()) == N_SHARDS
    computed = units_computed(tmp_path)
    assert {key.split("-")[0] for key in computed} == {"corpus", "shard"}
    assert sorted(computed.values()) == [1] * (1 + N_SHARDS)


def test_lock_of_a_killed_process_is_free(study, job, tmp_path):
    """After kill -9 of the process that computes, the one that waits computes."""
    holder = _start(_HOLDER, study, tmp_path)
    assert holder.stdout.readline() == "holding\n"
    found = []
    waiter = threading.Thread(
        target=lambda: found.append(cached_or_computed(job, lambda: _manifest(job))), daemon=True
    )
    waiter.start()
    waiter.join(0.5)
    assert found == []
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    waiter.join(_WAIT_S)
    assert found == [_manifest(job)]


def test_what_is_left_is_taken(job):
    """A unit that was computed is not computed again."""
    first = cached_or_computed(job, lambda: _manifest(job))
    assert cached_or_computed(job, lambda: _manifest(job, "again")) == first


@pytest.mark.parametrize("garbage", ["", "{", '{"unit_id": 1}', "\x00"])
def test_garbled_manifest_is_computed_again(job, tmp_path, garbage):
    """What cannot be read counts as not there."""
    cached_or_computed(job, lambda: _manifest(job))
    (tmp_path / MANIFESTS / f"{job.key}.json").write_text(garbage)
    assert cached_or_computed(job, lambda: _manifest(job, "again")).summary == "again"


def test_damaged_files_are_computed_again(job, results, study):
    """A manifest whose files are not whole counts as not there."""
    (model,) = plan_study(read_study(study), results).models
    (moment,) = (results / "artifacts/moments").iterdir()
    moment.write_bytes(moment.read_bytes()[:-1])
    again = cached_or_computed(model.moment, lambda: _manifest(model.moment, "again"))
    assert again.summary == "again"


def test_failing_computation_leaves_nothing(job, tmp_path):
    """After an error the lock is free and nothing is left to be taken."""

    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cached_or_computed(job, fail)
    assert cached_or_computed(job, lambda: _manifest(job)).summary == "made"
    assert [path.name for path in (tmp_path / MANIFESTS).iterdir()] == [f"{job.key}.json"]


def test_unwritable_folder_is_explained(job, tmp_path):
    """Where no lock can be made, the folder is named."""
    (tmp_path / LOCKS).write_text("in the way")
    with pytest.raises(ResultsError, match="cannot write below"):
        cached_or_computed(job, lambda: _manifest(job))
