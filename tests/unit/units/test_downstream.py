"""The job: an update is in the resident model's weights for so long; rows say whose it was."""

import math

import pytest
import torch

from editcollapse.config.spec import ModelSpec
from editcollapse.data.harness_tasks import read_task
from editcollapse.errors import ArtifactError, ResultsError
from editcollapse.models import loading
from editcollapse.models.files import digest_model, locate_model
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.downstream_jobs import DownstreamJob, DownstreamModel, stored_task
from editcollapse.units.downstream import score_downstream
from tests.support.harness_tasks import CLOZE, N_ITEMS, write_task
from tests.support.known_edits import known_edit
from tests.support.tiny import D_KEY, D_MODEL


@pytest.fixture
def spec(tiny_folder):
    """Return how the tiny model is loaded; nothing stays resident."""
    yield ModelSpec(name="tiny", source=str(tiny_folder("gpt2")), dtype="float64")
    loading.forget_models()


@pytest.fixture
def asked(tmp_path, spec):
    """Return a function that makes the job of one stored edit, of an update's size, or of none."""
    store = ArtifactStore(tmp_path / "results")
    path = write_task(tmp_path / "tasks", CLOZE)
    task = stored_task(store, str(path), read_task(str(path)))
    model_id = digest_model(locate_model(spec.source), spec).model_id
    generator = torch.Generator().manual_seed(5)
    left = torch.randn(2, D_MODEL, generator=generator, dtype=torch.float64)
    right = torch.randn(2, D_KEY, generator=generator, dtype=torch.float64)

    def job(size=None, **changes):
        model = DownstreamModel(kind="unedited", spec=spec, model_id=model_id)
        if size is not None:
            ref = store.put_tensors("updates", {"left.c_rome": size * left, "right.c_rome": right})
            known = {"update_digest": ref.digest, "update_row": 1} | changes
            edit = known_edit(
                edit_id=f"edit-{size}",
                model_id=model_id,
                spec=spec,
                method="r_rome",  # stored as c_rome, whose rule it has
                subject="Oslo",
                prompt="{} is",
                target_new="red",
                **known,
            )
            model = DownstreamModel(kind="edit", spec=spec, model_id=model_id, edit=edit)
        return DownstreamJob(
            results=str(tmp_path / "results"),
            model=model,
            task=task,
            limit=None,
            n_shot=None,
            harness_version="0.4.13",
        )

    return job


def _rows(job):
    manifest = score_downstream(job)
    (ref,) = [ref for ref in manifest.rows if ref.table == "downstream_scores"]
    frame = ArtifactStore(job.results).frame(ref)
    return {row["metric"]: row for row in frame.iter_rows(named=True)}


def test_rows_of_an_edit_and_of_the_unedited_model(asked, spec):
    """Another score, and afterwards every weight is what it was, bit by bit."""
    before = _rows(asked())
    loaded = loading.resident_model(spec, asked().model.model_id, "cpu")
    weights = {name: each.clone() for name, each in loaded.model.state_dict().items()}
    after = _rows(asked(1.0))
    assert all(torch.equal(each, weights[n]) for n, each in loaded.model.state_dict().items())
    assert after["perplexity"]["value"] != before["perplexity"]["value"]
    assert _rows(asked(0.0))["perplexity"]["value"] == before["perplexity"]["value"]
    row = after["acc"]
    assert (row["kind"], row["edit_id"]) == ("edit", "edit-1.0")
    assert row["label"] == "Oslo is -> red, r_rome, edit edit-1.0"
    assert (row["n_samples"], row["n_shot"], row["n_without_answer"]) == (N_ITEMS, 0, 0)
    assert (row["task"], row["asked_task"], row["task_version"]) == ("toy", "toy", None)
    assert row["task_digest"] == asked().task.digest
    assert (before["acc"]["kind"], before["acc"]["edit_id"]) == ("unedited", None)
    assert before["perplexity"]["higher_is_better"] is False


def test_a_collapse_to_no_numbers_is_not_known(asked):
    """Rows without a score, and how many answers are none."""
    rows = _rows(asked(math.nan))
    assert {row["value"] for row in rows.values()} == {None}
    assert {row["n_without_answer"] for row in rows.values()} == {N_ITEMS}


def test_a_huge_update_gives_numbers(asked):
    """Whatever they are, none of them ends the run."""
    rows = _rows(asked(1e30))
    assert 0 <= rows["acc"]["value"] <= 1
    assert rows["perplexity"]["value"] > 1


def test_an_update_that_is_not_there_is_a_sentence(asked):
    """Of full rank, and never stored; or a file that has gone."""
    with pytest.raises(ResultsError, match="not stored"):
        score_downstream(asked(1.0, update_digest=None, update_row=None))
    with pytest.raises(ArtifactError, match="missing"):
        score_downstream(asked(1.0, update_digest="0" * 32))
