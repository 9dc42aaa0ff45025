"""Cache keys: by content alone, the same for every place, and different for every question."""

import pytest
from prefect.cache_policies import NO_CACHE

from editcollapse.config.generation import GenerationSpec, JudgeSpec
from editcollapse.study.answer_jobs import AnswersJob, EditToAnswer, JudgeJob
from editcollapse.study.artifacts import ArtifactRef
from editcollapse.study.generation_jobs import EditToContinue, GenerationJob
from editcollapse.study.jobs import EvaluateJob, ForecastJob, Manifest, RecordJob, ReportJob
from editcollapse.study.plan import CovariancePlan, StudyPlan
from tasks.covariance import (
    corpus_shards,
    covariance_checkpoint,
    probe_keys,
    second_moment,
    shard_sums,
)
from tasks.editing import apply_edits
from tasks.evaluation import continue_edits, evaluate_edits
from tasks.forecasting import forecast_edits
from tasks.generation import answer_freely, judge_answers
from tasks.preparing import context_templates, unedited_model
from tasks.results import publish_report, record_rows

_REF = ArtifactRef(digest="d1", path="artifacts/updates/d1.safetensors", n_bytes=1)
TASKS = {
    "templates": (context_templates, "templates {}"),
    "corpus": (corpus_shards, "corpus {}"),
    "shard": (shard_sums, "shard {}, 1 of 1"),
    "probes": (probe_keys, "probes {}"),
    "checkpoint": (covariance_checkpoint, "checkpoint {} layer 1, 1 shards"),
    "moment": (second_moment, "covariance {} layer 1"),
    "unedited": (unedited_model, "unedited {}"),
    "edits": (apply_edits, "edit {} layer 1, rome, c_rome, r_rome, batch 1 of 4"),
    "evaluation": (evaluate_edits, "evaluate {} layer 1, rome, c_rome, r_rome, batch 1 of 4"),
    "forecast": (forecast_edits, "forecast {} layer 1, batch 1 of 4"),
    "continuations": (continue_edits, "continue {} layer 1, 1 edits"),
    "answers": (answer_freely, "answers of {}, 1 edits, batch 1 of 4"),
    "judged": (judge_answers, "judge {}, 1 edits, batch 1 of 4"),
    "report": (publish_report, "report small"),
}


def jobs(plan: StudyPlan) -> dict:
    """Return one job for each task."""
    (model,) = plan.models
    templates = Manifest(unit_id="t", summary="", values=("{}", "The river . {}"))
    moment = Manifest(unit_id="m", summary="", tensors=_REF)
    moments = CovariancePlan.of(plan, model)
    one = Manifest(unit_id="p", summary="", parts=(_REF,))
    edits = next(plan.edit_jobs(model, templates, moment))
    results = str(plan.results)
    worst = EditToContinue(edit_id="e", prompt="Mira is", updates=_REF, method="rome", update_row=0)
    asked = EditToAnswer(edit_id="e", request_id="r", update_row=0, method="rome")
    answers = AnswersJob(
        results=results,
        model=model.setup,
        generation=GenerationSpec(),
        requests=edits.requests,
        edits=(asked,),
        updates=_REF,
        batch_label=edits.batch_label,
    )
    judge = JudgeSpec(url="http://127.0.0.1:1/v1", model="stub")
    return {
        "answers": answers,
        "judged": JudgeJob(results=results, judge=judge, answers=(_REF,), label=answers.label),
        "templates": model.templates,
        "corpus": moments.corpus_job(),
        "shard": moments.shard_jobs(one)[0],
        "probes": moments.probes_job(templates),
        "checkpoint": moments.checkpoint_job([one], one, None),
        "moment": moments.merge_job([one], one),
        "unedited": plan.unedited_job(model),
        "edits": edits,
        "evaluation": plan.evaluate_job(edits, moment),
        "forecast": ForecastJob.of(edits),
        "continuations": GenerationJob(results=results, model=model.setup, edits=(worst,)),
        "report": ReportJob(
            results=results, study_id=plan.study_id, study_name="small", note="", recorded="k"
        ),
    }


@pytest.mark.parametrize("name", TASKS)
def test_prefect_caches_no_task(name):
    """The manifests are the one cache: Prefect keeps nothing of a task, and reads nothing."""
    task, _ = TASKS[name]
    assert task.cache_policy is NO_CACHE
    assert task.persist_result is False


@pytest.mark.parametrize("name", TASKS)
def test_key_does_not_depend_on_the_results_folder(here, there, name):
    """Another results folder, inputs folder and name of the model give the same key."""
    assert jobs(here)[name].key == jobs(there)[name].key


def test_keys_differ_by_task(here):
    """No two tasks share a key."""
    keys = [job.key for job in jobs(here).values()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("change", [{"batch_index": 9}, {"batch_label": "10 of 12"}])
def test_place_in_the_study_is_not_in_the_key(here, change):
    """A batch may move within a study."""
    job = jobs(here)["edits"]
    assert job.model_copy(update=change).key == job.key


@pytest.mark.parametrize(
    "change",
    [
        {"methods": ("rome",)},
        {"template_set_id": "other"},
        {"covariance_id": "other"},
        {"requests": ()},
    ],
)
def test_what_is_computed_is_in_the_key(here, change):
    """Other methods, templates, covariance or requests are another unit."""
    job = jobs(here)["edits"]
    assert job.model_copy(update=change).key != job.key


def test_evaluation_follows_its_updates(here):
    """Other updates, texts or seed are another evaluation."""
    job: EvaluateJob = jobs(here)["evaluation"]
    other = _REF.model_copy(update={"digest": "d2"})
    changes = ({"updates": other}, {"texts": other}, {"seed": 9}, {"evaluation_id": "x"})
    keys = {job.model_copy(update=change).key for change in changes}
    assert len(keys | {job.key}) == len(changes) + 1


@pytest.mark.parametrize(
    "change",
    [{"edit_id": "other"}, {"prompt": "Oslo is"}, {"method": "c_rome"}, {"update_row": 1}],
)
def test_continuations_follow_their_edits(here, change):
    """Another edit, prompt or update, or more tokens, are other texts."""
    job: GenerationJob = jobs(here)["continuations"]
    other = job.edits[0].model_copy(update=change)
    longer = job.model_copy(update={"n_new_tokens": 9})
    keys = {job.key, longer.key, job.model_copy(update={"edits": (other,)}).key}
    assert len(keys) == 3


def test_judge_is_who_and_what_it_is_asked(here):
    """Another model or prompt is another judge; another address of the same is not."""
    job: JudgeJob = jobs(here)["judged"]
    keys = {
        job.model_copy(update={"judge": job.judge.model_copy(update=change)}).key
        for change in ({"model": "other"}, {"prompt": "?"}, {"url": "http://127.0.0.1:2/v1"}, {})
    }
    assert len(keys) == 3
    assert not job.needs_device


def test_recording_is_never_cached():
    """The database itself knows what it has: a record of Prefect's could only be wrong."""
    job = RecordJob(results="r", rows=(_REF, _REF))
    assert record_rows.cache_policy is NO_CACHE
    assert record_rows.task_run_name.format(job=job) == "record 2 row files"
    assert not record_rows.tags


@pytest.mark.parametrize("name", TASKS)
def test_task_is_named_after_its_work(here, there, name):
    """Run names say what runs, under the name that the study gives to the model."""
    task, wanted = TASKS[name]
    for plan, model in ((here, "tiny"), (there, "nickname")):
        assert task.task_run_name.format(job=jobs(plan)[name]) == wanted.format(model)


@pytest.mark.parametrize("name", TASKS)
def test_task_says_what_it_needs(name):
    """What needs an accelerator says so; no task has a time limit.

    All have the same tag: a server is asked for the slots of a set of tags, and "no limit" is
    remembered for a while by the set.
    """
    task, _ = TASKS[name]
    assert task.timeout_seconds is None
    assert task.tags == (set() if name == "report" else {"gpu"})
    assert task.description
