"""Which edits are asked, and what a score's key depends on."""

import dataclasses
import math

import pytest

from editcollapse.config.downstream import DownstreamSpec
from editcollapse.config.spec import ModelSpec
from editcollapse.data.harness_tasks import HarnessTask
from editcollapse.errors import StudyError
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.downstream_jobs import (
    AskedTask,
    DownstreamJob,
    DownstreamModel,
    check_named,
    chosen_edits,
    stored_task,
)
from tests.support.known_edits import SPEC, known_edit


def _edit(name, ratio=1.0, **changes):
    return known_edit(edit_id=name, perplexity_ratio=ratio, **changes)


EDITS = (
    *(_edit(f"mild {n:02}", 1 + n / 1000) for n in range(40)),
    *(_edit(f"bad {n}", 10.0**n) for n in range(2, 7)),
    _edit("inf", math.inf),
    _edit("nan", math.nan),
    _edit("unmeasured", None),
    _edit("dropped", 1e9, update_digest=None, update_row=None),
)


def _names(*asked, seed=0):
    return [each.edit_id for each in chosen_edits(EDITS, *asked, seed)]


def test_the_worst_are_nan_then_inf_then_the_largest():
    """What was not measured, or not stored, is none of them."""
    assert _names(4, 0, ()) == ["nan", "inf", "bad 6", "bad 5"]
    assert _names(0, 0, ()) == []
    assert len(_names(99, 0, ())) == len(EDITS) - 2


def test_a_sample_is_spread_over_the_logarithm_of_the_perplexity():
    """Few of forty mild edits, each of the bad ones; what the worst have taken comes no more."""
    found = _names(2, 9, ())
    assert found[:2] == ["nan", "inf"]
    assert sum(name.startswith("bad") for name in found) == 5
    assert sum(name.startswith("mild") for name in found) == 4
    assert _names(2, 9, ()) == found
    assert _names(2, 9, (), seed=1) != found
    assert [each.edit_id for each in chosen_edits(EDITS[::-1], 2, 9, (), 0)] == found


def test_edits_of_one_perplexity_can_be_sampled():
    """No width to part; none at all is fine too."""
    same = [_edit(str(n), 2.0) for n in range(5)]
    assert len(chosen_edits(same, 0, 3, (), 0)) == 3
    assert chosen_edits([], 3, 3, (), 0) == ()


def test_edits_are_named_by_the_beginning_of_their_ids():
    """Also one that was not measured; each is taken once."""
    assert _names(1, 0, ("nan", "unmeas")) == ["nan", "unmeasured"]
    check_named(EDITS, ("nan", "unmeas"), "s")
    with pytest.raises(StudyError, match="5 edits of study 's' have ids that begin with 'bad'"):
        check_named(EDITS, ("bad",), "s")
    with pytest.raises(StudyError, match="no edit of study 's' has an id"):
        check_named(EDITS, ("other",), "s")


def _job(**changes):
    ref = ArtifactRef(digest="abc", path="artifacts/tasks/abc.json", n_bytes=1)
    model = DownstreamModel(kind="edit", spec=SPEC, model_id="m", edit=_edit("e"))
    known = {
        "results": "/results",
        "model": model,
        "task": AskedTask(asked="t.yaml", name="t", content=ref),
        "limit": None,
        "n_shot": None,
        "harness_version": "0.4.13",
    }
    return DownstreamJob(**(known | changes))


def test_a_key_depends_on_content_alone():
    """Not on the results folder, the model's place, or where the YAML lay."""
    job = _job()
    spec = ModelSpec(name="other", source="/elsewhere")
    same = [
        job.model_copy(update={"results": "/other"}),
        job.model_copy(update={"model": job.model.model_copy(update={"spec": spec})}),
        job.model_copy(update={"task": job.task.model_copy(update={"asked": "u.yaml"})}),
    ]
    assert {(each.key, each.score_set_id) for each in same} == {(job.key, job.score_set_id)}


def test_another_model_task_or_way_to_ask_has_another_key():
    """Model, update, task, its content, limit, examples and lm_eval's version."""
    job = _job()
    content = job.task.content.model_copy(update={"digest": "other"})
    moved = dataclasses.replace(_edit("e"), update_digest="new")
    jobs = [
        job,
        _job(limit=5),
        _job(n_shot=0),
        _job(n_shot=5),
        _job(harness_version="0.5"),
        _job(task=job.task.model_copy(update={"name": "u"})),
        _job(task=job.task.model_copy(update={"content": content})),
        _job(task=job.task.model_copy(update={"content": None})),
        _job(model=job.model.model_copy(update={"edit": _edit("f")})),
        _job(model=job.model.model_copy(update={"edit": moved})),
        _job(model=job.model.model_copy(update={"model_id": "n"})),
        _job(model=DownstreamModel(kind="unedited", spec=SPEC, model_id="m")),
        _job(model=DownstreamModel(kind="exported", spec=SPEC, model_id="m")),
    ]
    assert len({each.key for each in jobs}) == len(jobs)
    assert len({each.score_set_id for each in jobs}) == len(jobs)


def test_a_local_tasks_content_goes_with_the_results(tmp_path):
    """A worker elsewhere reads it there; no path of this machine is kept."""
    store = ArtifactStore(tmp_path)
    found = stored_task(store, "/home/me/t.yaml", HarnessTask("t", '{"config": {}}'))
    assert found.asked == "t.yaml"
    assert store.json(found.content) == '{"config": {}}'
    assert stored_task(store, "piqa", HarnessTask("piqa")).digest is None


def test_names_of_a_spec_are_distinct():
    """And there is a task."""
    with pytest.raises(ValueError, match="`tasks` must be distinct"):
        DownstreamSpec(tasks=("a", "a"))
    with pytest.raises(ValueError, match="at least 1"):
        DownstreamSpec(tasks=())
    with pytest.raises(ValueError, match="tasks"):
        DownstreamSpec(tasks=(" ",))
