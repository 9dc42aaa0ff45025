"""The second moment in shards: resumed at the shard, shared by layers, stopped when settled."""

import shutil
import threading
import time

import filelock
import polars as pl
import pytest
from prefect.task_runners import ThreadPoolTaskRunner

from editcollapse.config.study_file import read_study
from editcollapse.study.locks import MANIFESTS, cached_manifest
from editcollapse.study.plan import CovariancePlan, plan_study
from editcollapse.study.results_folder import LOCKS
from editcollapse.units.covariance import cut_corpus
from flows.__main__ import main
from flows.study import collapse_study
from storage.ask import ask
from tests.support.flow_runs import assert_equal_tables, units_computed
from tests.support.small_study import N_REQUESTS, N_SHARDS, write_toml

_WAIT_S = 60.0
_SECOND_ENTRY = '[[models]]\nname = "lower"\nsource = "model"\nlayer = 0\n'


@pytest.fixture
def inputs(study, tmp_path):
    """Return a folder with the small study and its inputs, free to be changed."""
    return shutil.copytree(study.parent, tmp_path / "inputs")


def shard_jobs(study, results):
    """Return the jobs of a study's shards, cut below a folder."""
    plan = plan_study(read_study(study), results)
    moments = CovariancePlan.of(plan, plan.models[0])
    job = moments.corpus_job()
    return moments.shard_jobs(cached_manifest(job) or cut_corpus(job))


def computed_by_kind(results):
    """Return how often units of each kind were computed."""
    counts = {}
    for unit, times in units_computed(results).items():
        kind = unit.split("-")[0]
        counts[kind] = counts.get(kind, 0) + times
    return counts


@pytest.mark.slow
def test_only_missing_shards_are_summed_again(study, run_study, results, first_run):
    """With C and the sum of one shard gone, that shard alone is summed again, and C is the same."""
    (moment,) = (results / "artifacts/moments").iterdir()
    moment.unlink()
    min((results / "artifacts/sums").iterdir()).unlink()
    again = run_study(study, results)
    assert again.computed("shard ") == 1
    assert again.computed("corpus ") == again.computed("probes ") == 0
    assert again.computed("covariance ") == 1
    assert again.computed("edit ") == 0
    assert_equal_tables(results, first_run.results)


def test_shards_are_not_needed_once_they_are_merged(study, run_study, results, first_run):
    """Sums and token ids may be deleted when C is there: nothing is computed again."""
    shutil.rmtree(results / "artifacts/sums")
    shutil.rmtree(results / "artifacts/corpora")
    assert run_study(study, results).computed() == 0


@pytest.mark.slow
def test_layers_of_a_model_share_one_pass(inputs, run_study, tmp_path, first_run):
    """Two entries with other layers: every shard runs once, and C is that of each layer alone."""
    study = write_toml(inputs / "study.toml", **{"dataset.limit": 2})
    study.write_text(study.read_text() + _SECOND_ENTRY)
    results = tmp_path / "results"
    run_study(study, results)
    counts = computed_by_kind(results)
    assert (counts["corpus"], counts["shard"], counts["probes"]) == (1, N_SHARDS, 1)
    assert counts["covariance"] == 2
    query = "select layer, trace, n_tokens from covariances where layer = 1"
    together, alone = ask(results, query).row(0), ask(first_run.results, query).row(0)
    assert together == pytest.approx(alone, rel=1e-9)
    rows = ask(results, "select distinct covariance_id from covariance_convergence")
    assert rows.height == 2


def test_convergence_is_published(first_run):
    """The rows of the checkpoints are in the snapshot, up to the tokens of C."""
    rows = ask(first_run.results, "from covariance_convergence order by n_shards")
    assert rows["n_shards"].to_list() == [1, 2, 3]
    assert rows["n_probes"].to_list() == [N_REQUESTS] * 3
    assert rows["n_tokens"][-1] == 400
    assert rows["max_change"].null_count() == 1
    (needed,) = ask(first_run.results, "select tokens_needed from covariance_tokens").row(0)
    assert needed is None or needed in rows["n_tokens"]


@pytest.mark.slow
def test_stop_rule_stops(inputs, run_study, tmp_path):
    """Settled before the budget: the other shards never run, and the row has the tokens used."""
    changes = {"covariance.stop_change": 2.5, "covariance.shard_tokens": 30, "dataset.limit": 2}
    study = write_toml(inputs / "study.toml", **changes)
    results = tmp_path / "results"
    first = run_study(study, results)
    rows = ask(results, "from covariance_convergence order by n_shards")
    known = rows.filter(pl.col("max_change").is_not_null())
    assert known.height == 2
    assert rows["n_shards"].to_list() == [2**place for place in range(rows.height)]
    (n_tokens,) = ask(results, "select n_tokens from covariances").row(0)
    assert n_tokens == rows["n_tokens"][-1] < 400
    assert first.computed("shard ") == rows["n_shards"][-1] < len(shard_jobs(study, results))
    assert first.computed("checkpoint ") == rows.height
    again = run_study(study, results)
    assert again.computed() == 0


@pytest.mark.slow
def test_stop_rule_that_is_never_met_takes_the_budget(inputs, run_study, tmp_path):
    """Directions that never settle are an answer too: every token of the budget is used."""
    changes = {"covariance.stop_change": 1e-12, "covariance.shard_tokens": 150}
    study = write_toml(inputs / "study.toml", **changes, **{"dataset.limit": 2})
    run_study(study, tmp_path / "results")
    assert ask(tmp_path / "results", "select n_tokens from covariances").row(0) == (400,)
    rows = ask(tmp_path / "results", "from covariance_convergence")
    assert rows["n_shards"].max() == N_SHARDS


@pytest.mark.slow
def test_several_workers_share_the_shards(backend, study, tmp_path, first_run):
    """While one worker waits for the first shard another sums the next; numbers are the same."""
    results = tmp_path / "results"
    jobs = shard_jobs(study, tmp_path / "elsewhere")
    keys = [job.key for job in jobs]
    (results / LOCKS).mkdir(parents=True)
    held, overlapped = threading.Event(), []

    def hold_first():
        with filelock.FileLock(results / LOCKS / f"{keys[0]}.lock"):
            held.set()
            deadline = time.monotonic() + _WAIT_S
            while not overlapped and time.monotonic() < deadline:
                left = [(results / MANIFESTS / f"{key}.json").is_file() for key in keys[1:]]
                overlapped.extend([True] if all(left) else [])
                time.sleep(0.01)

    holder = threading.Thread(target=hold_first)
    holder.start()
    held.wait(_WAIT_S)
    runner = ThreadPoolTaskRunner(max_workers=2)
    collapse_study.with_options(task_runner=runner)(read_study(study), str(results))
    holder.join()
    assert overlapped
    assert_equal_tables(results, first_run.results)


def test_plan_counts_shards(study, first_run, tmp_path, capsys):
    """The plan says how many shards are cached and how many are to run."""
    for results, text in ((tmp_path, "0 cached, 3 to run"), (first_run.results, "3 cached, 0 to")):
        assert main(["plan", str(study), "--results", str(results)]) == 0
        lines = capsys.readouterr().out.splitlines()
        (line,) = [line for line in lines if "covariance shards" in line]
        assert text in line


def test_plan_counts_shards_of_a_killed_run(study, results, capsys):
    """Without C, shards whose sums are whole count as cached."""
    (moment,) = (results / "artifacts/moments").iterdir()
    moment.unlink()
    min((results / "artifacts/sums").iterdir()).unlink()
    assert main(["plan", str(study), "--results", str(results)]) == 0
    assert "2 cached, 1 to run" in capsys.readouterr().out
