"""Tasks called as plain functions: what they hand back, and what they leave."""

import json
from pathlib import Path

import polars as pl
import pytest

from editcollapse.study import generation_jobs
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.generation_jobs import MostDamaging
from editcollapse.study.jobs import Manifest, RecordJob, ReportJob
from editcollapse.study.locks import MANIFESTS
from editcollapse.study.plan import CovariancePlan
from tasks.covariance import (
    corpus_shards,
    covariance_checkpoint,
    probe_keys,
    second_moment,
    shard_sums,
)
from tasks.editing import apply_edits
from tasks.evaluation import continue_edits, evaluate_edits
from tasks.preparing import context_templates, unedited_model
from tasks.results import is_published, is_recorded, record_rows
from tests.support.small_study import BATCH_SIZE, METHODS


@pytest.fixture(scope="module")
def manifests(here) -> dict[str, Manifest]:
    """Return what each unit of the first batch hands back; its edits count as damage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation_jobs, "DAMAGE_RATIO", 0.0)
        return _manifests(here)


def _manifests(here) -> dict[str, Manifest]:
    (model,) = here.models
    here.store_texts(ArtifactStore(here.results))
    templates = context_templates.fn(model.templates)
    moments = CovariancePlan.of(here, model)
    corpus = corpus_shards.fn(moments.corpus_job())
    shards = [shard_sums.fn(job) for job in moments.shard_jobs(corpus)]
    probes = probe_keys.fn(moments.probes_job(templates))
    moment = second_moment.fn(moments.merge_job(shards, probes))
    batch = next(here.edit_jobs(model, templates, moment))
    edits = apply_edits.fn(batch)
    measured = evaluate_edits.fn(here.evaluate_job(batch, edits))
    unedited = unedited_model.fn(here.unedited_job(model))
    worst = MostDamaging(ArtifactStore(here.results), 2, unedited)
    worst.add(batch, edits, measured)
    return {
        "templates": templates,
        "corpus": corpus,
        "shard": shards[0],
        "probes": probes,
        "checkpoint": covariance_checkpoint.fn(moments.checkpoint_job(shards, probes, None)),
        "covariance": moment,
        "unedited": unedited,
        "edits": edits,
        "evaluation": measured,
        "continuations": continue_edits.fn(worst.job(here.results, model.setup)),
    }


def test_manifests_are_references(manifests, here):
    """A task hands back digests and relative paths of whole files, small and as JSON."""
    store = ArtifactStore(here.results)
    for kind, manifest in manifests.items():
        assert manifest.unit_id.startswith(kind)
        assert manifest.refs
        assert all(store.is_whole(ref) for ref in manifest.refs)
        assert not any(ref.path.startswith("/") for ref in manifest.refs)
        text = manifest.model_dump_json()
        assert str(here.results) not in text
        assert len(text) < 4000
        assert Manifest.model_validate(json.loads(text)) == manifest


def test_artifacts_are_safetensors_and_parquet(manifests):
    """Tensors are safetensors, rows are Parquet; each row file knows its table."""
    for manifest in manifests.values():
        assert all(ref.path.endswith(".parquet") and ref.table for ref in manifest.rows)
        tensors = manifest.parts if manifest.tensors is None else (manifest.tensors,)
        assert all(ref.path.endswith(".safetensors") for ref in tensors)


def test_each_unit_says_how_it_came_about(manifests, here):
    """Every unit leaves one provenance row under its own key."""
    for manifest in manifests.values():
        (ref,) = [ref for ref in manifest.rows if ref.table == "provenance"]
        frame = pl.read_parquet(Path(here.results) / ref.path)
        assert frame["unit_id"].to_list() == [manifest.unit_id]


def test_batch_has_a_row_for_each_edit(manifests, here):
    """Edits and measurements have one row for each method and request."""
    for kind, table in (("edits", "edits"), ("evaluation", "measurements")):
        (ref,) = [ref for ref in manifests[kind].rows if ref.table == table]
        assert pl.read_parquet(Path(here.results) / ref.path).height == BATCH_SIZE * len(METHODS)


def test_covariance_is_left_for_other_processes(manifests, here):
    """The covariance's task leaves its manifest where another process that needs it looks."""
    left = Path(here.results) / MANIFESTS / f"{manifests['covariance'].unit_id}.json"
    assert Manifest.model_validate_json(left.read_text()) == manifests["covariance"]


def test_units_are_repeatable(manifests, here):
    """Computed again, a unit gives the same bytes but for its provenance."""
    (model,) = here.models
    first = manifests["edits"]
    batch = next(here.edit_jobs(model, manifests["templates"], manifests["covariance"]))
    (Path(here.results) / MANIFESTS / f"{batch.key}.json").unlink()
    again = apply_edits.fn(batch)
    assert again.tensors == first.tensors
    assert [ref for ref in again.rows if ref.table != "provenance"] == [
        ref for ref in first.rows if ref.table != "provenance"
    ]


def test_unit_that_is_there_is_cached(manifests, here):
    """A task whose unit was left behind says so by the name of its state."""
    (model,) = here.models
    state = context_templates.fn(model.templates)
    assert (state.name, state.type.value) == ("Cached", "COMPLETED")
    assert state.data == manifests["templates"]


def test_rows_are_recorded_once(manifests, here):
    """Row files are entered once; the database knows them afterwards."""
    rows = manifests["edits"].rows
    job = RecordJob(results=str(here.results), rows=rows)
    assert not is_recorded(job)
    assert record_rows.fn(job) > 0
    assert is_recorded(job)
    assert record_rows.fn(job) == 0


def test_snapshot_counts_as_published_when_it_can_be_read(manifests, here, tmp_path):
    """No snapshot, or one that is no database, has to be published."""
    job = ReportJob(results=str(tmp_path), study_id="s", study_name="small", note="", recorded="")
    assert not is_published(job)
    (tmp_path / "results.duckdb").write_bytes(b"no database")
    assert not is_published(job)


def test_texts_travel_with_the_results(here, manifests):
    """The perplexity texts lie in the results folder: a worker needs no input file of the study."""
    texts = ArtifactStore(here.results).json(here.texts_ref)
    assert texts == list(here.texts.texts)
