"""The units of the root-cause study: jobs by content, rows, the vectors' file, mistakes."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from editcollapse.errors import DatasetError, StudyError
from editcollapse.models.loading import forget_models
from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.study import anatomy_jobs
from editcollapse.study.anatomy_jobs import (
    AnatomyJob,
    EncoderProfilesJob,
    ProfilesJob,
    RomeOutcome,
    chosen_requests,
)
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.plan import plan_study
from editcollapse.units.anatomy import profile_model, study_anatomy
from editcollapse.units.edit import edit_batch
from editcollapse.units.prepare import prepare_templates
from tests.support.study_files import write_study
from tests.support.units import measured_moment


@pytest.fixture(scope="module")
def prepared(tiny_folder, tmp_path_factory):
    """Return the plan of a small study, and its root-cause job, edits made."""
    folder = tmp_path_factory.mktemp("anatomy")
    study = write_study(folder, tiny_folder("gpt2"))
    plan = plan_study(study, folder / "results")
    (model,) = plan.models
    plan.store_texts(ArtifactStore(plan.results))
    templates = prepare_templates(model.templates)
    moment = measured_moment(plan, model, templates)
    batch = next(plan.edit_jobs(model, templates, moment))
    requests = tuple(record.request for record in plan.requests.records)
    whole = batch.model_copy(update={"requests": requests, "methods": ("rome",)})
    (rows,) = (ref for ref in edit_batch(whole).rows if ref.table == "edits")
    outcomes = [
        RomeOutcome(
            request_id=row["request_id"], numerator_norm=row["numerator_norm"], is_collapsed=False
        )
        for row in ArtifactStore(plan.results).frame(rows).iter_rows(named=True)
    ]
    yield plan, AnatomyJob.of(plan.study_id, whole, outcomes, CollapseRule(), 0)
    forget_models()


def frames(job, manifest):
    """Return a manifest's frames by table."""
    store = ArtifactStore(job.results)
    return {ref.table: store.frame(ref) for ref in manifest.rows}


def test_points_and_vectors_are_the_same(prepared):
    """Each point names the row of the file with its request, kind and norm; no more is there."""
    _, job = prepared
    manifest = study_anatomy(job)
    found = frames(job, manifest)
    (row,) = found["anatomies"].rows(named=True)
    (file,) = manifest.parts
    assert (row["vectors_path"], row["vectors_digest"]) == (file.path, file.digest)
    assert (row["n_requests"], row["n_first_token"], row["n_collapsed"]) == (4, 1, 0)
    vectors = ArtifactStore(job.results).frame(file)
    assert dict(vectors.schema) == {
        "request_id": pl.String,
        "kind": pl.String,
        "vector": pl.List(pl.Float32),
    }
    points = found["key_points"]
    assert points.height == vectors.height == 4 * 4 + 3
    assert points["vector_row"].n_unique() == vectors.height
    for point in points.iter_rows(named=True):
        vector = vectors.row(point["vector_row"], named=True)
        assert (vector["request_id"], vector["kind"]) == (point["request_id"], point["kind"])
        assert np.linalg.norm(vector["vector"]) == pytest.approx(point["norm"], rel=1e-6)
        assert len(vector["vector"]) == row["d_key"]
        assert point["tsne_x"] is None  # four requests are too few
    assert row["tsne_perplexity"] is None
    assert found["anatomy_findings"].is_empty()
    assert manifest.unusable == ()  # what the model cannot take has no edit, and was left out


def test_same_content_gives_the_same_file(prepared):
    """Computed twice, rows and vectors are the same to the last bit."""
    _, job = prepared
    first, again = study_anatomy(job), study_anatomy(job)
    assert first.parts == again.parts
    for one, other in zip(first.rows, again.rows, strict=True):
        assert one == other or one.table == "provenance"


def test_key_is_of_content_alone(prepared):
    """Outcomes, rule and seed change the key; results folder and a model's name do not."""
    _, job = prepared
    fell = (job.outcomes[0].model_copy(update={"is_collapsed": True}), *job.outcomes[1:])
    for change in ({"outcomes": fell}, {"rule": CollapseRule(ratio=3)}, {"seed": 1}):
        assert job.model_copy(update=change).key != job.key
    moved = job.model_copy(update={"results": "elsewhere", "outcomes": job.outcomes[::-1]})
    assert moved.key == job.key
    assert job.key.startswith("anatomy-")


def test_requests_without_an_edit_are_told(prepared):
    """The sentence names one and says what to do."""
    _, job = prepared
    with pytest.raises(StudyError, match=r"4 requests of .* have no edit by rome, first that of"):
        study_anatomy(job.model_copy(update={"outcomes": ()}))


def test_model_that_takes_no_request_is_told(prepared):
    """A dataset of a foreign language is no reason for a traceback."""
    _, job = prepared
    strange = tuple(
        dataclasses.replace(request, target_new="Xyzzy") for request in job.edits.requests
    )
    edits = job.edits.model_copy(update={"requests": strange})
    with pytest.raises(StudyError, match="takes none of the study's 4 requests"):
        study_anatomy(job.model_copy(update={"edits": edits}))


def test_unmeasured_outcomes_are_no_group(prepared):
    """Where an edit was not measured, nothing is said of collapsed ones."""
    _, job = prepared
    unknown = (job.outcomes[0].model_copy(update={"is_collapsed": None}), *job.outcomes[1:])
    found = frames(job, study_anatomy(job.model_copy(update={"outcomes": unknown})))
    assert found["anatomies"]["n_collapsed"].to_list() == [None]
    assert found["key_points"]["is_collapsed"].null_count() > 0


def test_too_many_requests_are_drawn(monkeypatch):
    """All that collapsed come first, up to half; the rest is drawn by the seed."""
    monkeypatch.setattr(anatomy_jobs, "MAX_REQUESTS", 10)
    names = [f"r{n}" for n in range(30)]

    def chosen(n_collapsed, seed=0):
        outcomes = [
            RomeOutcome(request_id=name, numerator_norm=1, is_collapsed=n < n_collapsed)
            for n, name in enumerate(names)
        ]
        return chosen_requests(names, outcomes, seed)

    for n_collapsed, expected in ((3, 3), (5, 5), (12, 5), (28, 8)):
        found = chosen(n_collapsed)
        assert len(found) == 10
        assert len(found & set(names[:n_collapsed])) == expected
    assert chosen(3) == chosen(3) != chosen(3, seed=1)
    assert chosen_requests(names[:10] * 2, [], 0) == set(names[:10])


def test_profile_of_a_model_is_of_its_prompts_texts(prepared):
    """Each block has rows from position 0 on, as far as two texts reach."""
    plan, _ = prepared
    job = ProfilesJob(results=plan.results, model=plan.models[0].setup, texts=plan.texts_ref)
    frame = frames(job, profile_model(job))["position_profiles"]
    assert set(frame["layer"]) == {0, 1, 2}
    assert set(frame["stack"]) == {"decoder"}
    assert set(frame["text_set_digest"]) == {job.text_set_digest}
    assert frame["position"].min() == 0
    assert frame.filter(position=0)["n_texts"].to_list() == [5, 5, 5]
    assert frame["n_texts"].min() == 2
    other = EncoderProfilesJob(
        results=plan.results, source="s", encoder_id="e", texts=plan.texts_ref
    )
    assert other.key != job.key
    assert other.model_copy(update={"source": "moved"}).key == other.key


def test_texts_too_few_for_a_profile_are_told(prepared):
    """One text has no spread."""
    plan, _ = prepared
    texts = ArtifactStore(plan.results).put_json("texts", ["Lumo is the capital of Arden", "Lumo"])
    job = ProfilesJob(results=plan.results, model=plan.models[0].setup, texts=texts)
    with pytest.raises(DatasetError, match="need two texts of at least two tokens"):
        profile_model(job)
