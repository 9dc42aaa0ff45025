"""Plans and jobs: ids of content alone, the same wherever a study lies."""

import json

import pytest

from editcollapse.config.spec import StudySpec
from editcollapse.errors import ArtifactError, ModelError, MomentError, StudyError
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.jobs import Job, Manifest
from editcollapse.study.plan import plan_study
from editcollapse.study.study_rows import study_rows
from tests.support.study_files import write_study

REF = ArtifactRef(digest="d", path="p", n_bytes=1)


@pytest.fixture
def plan_of(tiny_folder, tmp_path):
    """Return a function that plans the small study, with changes, in a folder of a given name."""

    def make(folder="study", variant="gpt2", results="results", **changes):
        study = write_study(tmp_path / folder, tiny_folder(variant), **changes)
        return plan_study(study, tmp_path / results)

    return make


def edit_jobs(plan):
    """Return the edit jobs of a plan's model, as if its preparations had run."""
    (model,) = plan.models
    templates = Manifest(unit_id="templates", summary="", values=("{}",))
    moment = Manifest(unit_id="moment", summary="", tensors=REF)
    return list(plan.edit_jobs(model, templates, moment))


def ids_of(plan):
    """Return every id and key that a plan gives."""
    (model,) = plan.models
    edits = edit_jobs(plan)
    return {
        "study": plan.study_id,
        "evaluation": plan.evaluation_id,
        "model": model.setup.model_id,
        "settings": model.setup.settings_id,
        "templates": model.templates.key,
        "covariance": model.moment.covariance_id,
        "moment": model.moment.key,
        "unedited": plan.unedited_job(model).key,
        "edits": [job.key for job in edits],
        "edit": edits[0].edit_id("rome", edits[0].requests[0].request_id),
    }


def changed(plan_of, **changes):
    """Return the names of the ids that a change of settings changes."""
    before, after = ids_of(plan_of()), ids_of(plan_of("changed", **changes))
    return {name for name in before if before[name] != after[name]}


def test_ids_do_not_depend_on_folders(plan_of, tmp_path):
    """Moved, renamed, and with other results: every id and key is the same, and holds no path."""
    here, there = plan_of(), plan_of("elsewhere/and renamed", results="other")
    assert ids_of(here) == ids_of(there)
    described = json.dumps([[str(row) for row in rows] for _, rows in study_rows(there)])
    assert str(tmp_path) not in described


def test_collapse_rule_enters_no_id(plan_of):
    """What a study calls a collapse changes no id and no key; a rule that is stated is stored."""
    plain, stated = plan_of(), plan_of(collapse__threshold=50)
    assert stated.study.collapse.rule.threshold == 50
    assert ids_of(stated) == ids_of(plain)
    stored = [json.loads(study_rows(plan)[0][1][0].settings) for plan in (plain, stated)]
    assert "collapse" not in stored[0]
    assert stored[1].pop("collapse") == {"measure": "mean", "ratio": 10.0, "threshold": 50.0}
    assert stored[0] == stored[1]


def test_name_of_a_model_and_of_batches_are_for_people(plan_of):
    """Names, devices and the place in the study enter no unit's key."""
    assert changed(plan_of, model__name="'other'") == set()
    assert changed(plan_of, name="'other'") == {"study"}


def test_device_enters_no_key(plan_of, monkeypatch):
    """The same study on another device, or with other memory, is the same work."""
    before = ids_of(plan_of())
    monkeypatch.setenv("EDITCOLLAPSE_DEVICE", "cuda:3")
    monkeypatch.setenv("EDITCOLLAPSE_TOKENS_PER_FORWARD", "7")
    assert ids_of(plan_of()) == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model__layer": 0}, {"study", "covariance", "moment", "edits", "edit"}),
        ({"value__steps": 4}, {"study", "settings", "edits", "edit"}),
        ({"covariance__damping": 0.02}, {"study", "covariance", "moment", "edits", "edit"}),
        ({"covariance__n_tokens": 99}, {"study", "covariance", "moment", "edits", "edit"}),
        ({"covariance__start_token": "true"}, {"study", "covariance", "moment", "edits", "edit"}),
        ({"covariance__kind": "'identity'"}, {"study", "covariance", "moment", "edits", "edit"}),
        ({"seed": 1}, {"study", "evaluation", "unedited"}),
        ({"evaluation__max_texts": 2}, {"study", "evaluation", "unedited"}),
        ({"evaluation__continuations": 0}, set()),
        ({"methods": "['rome']"}, {"study", "edits"}),
        ({"batch_size": 3}, {"edits"}),
        ({"dataset__limit": 2}, {"study", "edits"}),
    ],
)
def test_setting_changes_what_depends_on_it(plan_of, changes, expected):
    """A setting changes the ids of what it decides, and no other unit is computed again."""
    assert changed(plan_of, **changes) == expected


def test_seed_decides_drawn_templates_only(plan_of):
    """Templates that are drawn depend on the seed; those of a file do not."""
    drawn = {"templates__kind": "'five_words'"}
    one, two = plan_of(**drawn), plan_of(seed=1, **drawn)
    assert one.models[0].templates.key != two.models[0].templates.key
    assert one.models[0].templates.given is None
    assert plan_of().models[0].templates.given[0] == "{}"


def test_use_of_the_model_changes_every_unit(plan_of):
    """Another type of weights, or another start-token policy, is another model."""
    everything = set(ids_of(plan_of()))
    assert changed(plan_of, model__dtype="'float32'") == everything - {"evaluation", "settings"}
    assert changed(plan_of, **{"model.start_token": "'always'"}) == everything - {
        "evaluation",
        "settings",
    }


def test_plan_counts_and_splits(plan_of):
    """Batches hold the requests in the dataset's order; the last one may be smaller."""
    plan = plan_of()
    jobs = edit_jobs(plan)
    assert plan.n_batches == len(jobs) == 3
    assert [len(job.requests) for job in jobs] == [2, 2, 1]
    assert [job.batch_label for job in jobs] == ["1 of 3", "2 of 3", "3 of 3"]
    records = [record.request for record in plan.requests.records]
    assert [request for job in jobs for request in job.requests] == records
    assert plan.n_edits == 5 * 4
    assert {table for table, _ in study_rows(plan)} == {
        "studies", "study_models", "datasets", "requests", "rejections", "evaluations",
        "value_settings",
    }  # fmt: skip
    assert len({job.key for job in jobs}) == 3


def test_jobs_are_plain_data(plan_of):
    """A job survives JSON, as a worker receives it, with the same key."""
    plan = plan_of()
    (model,) = plan.models
    edits = edit_jobs(plan)[0]
    done = Manifest(unit_id="u", summary="s", tensors=REF, unusable=(("id", "why"),))
    evaluate = plan.evaluate_job(edits, done)
    assert evaluate.skipped == ("id",)
    for job in (model.templates, model.moment, edits, evaluate, plan.unedited_job(model)):
        again = type(job).model_validate_json(job.model_dump_json())
        assert again == job
        assert again.key == job.key
        assert job.model_copy(update={"results": "elsewhere"}).key == job.key
    with pytest.raises(ArtifactError, match="u left no updates"):
        plan.evaluate_job(edits, Manifest(unit_id="u", summary="s"))
    moved = edits.model_copy(update={"batch_index": 7, "batch_label": "8 of 9"})
    assert moved.key == edits.key
    with pytest.raises(TypeError, match="Job has no cache key"):
        _ = Job(results="r").key


def test_texts_are_stored_as_measured(plan_of, tmp_path):
    """The texts that are measured are written, cut as the study says."""
    plan = plan_of(evaluation__max_texts=2)
    store = ArtifactStore(tmp_path)
    ref = plan.store_texts(store)
    assert store.json(ref) == list(plan.texts.texts[:2])
    assert ref == plan.texts_ref


def test_manifest_lists_its_files():
    """A manifest's files are its rows and its tensors."""
    assert Manifest(unit_id="u", summary="s", rows=(REF,), tensors=REF).refs == (REF, REF)
    assert Manifest(unit_id="u", summary="s", rows=(REF,)).refs == (REF,)


def test_impossible_plans_are_refused(plan_of, tiny_folder, tmp_path):
    """A layer that is not there, a model named twice, and statistics that are missing."""
    with pytest.raises(ModelError, match="layer 9 of model 'tiny': it has layers 0 to 2"):
        plan_of(model__layer=9)
    with pytest.raises(MomentError, match=r"no statistics file .* for model 'tiny'"):
        plan_of(covariance__kind="'statistics'", model__statistics="'none.npz'")
    study = write_study(tmp_path / "twice", tiny_folder("gpt2"))
    twin = study.models[0].model_copy(update={"name": "twin"})
    twice = StudySpec.model_validate(study.model_copy(update={"models": (*study.models, twin)}))
    with pytest.raises(
        StudyError, match="names the same model, layer, start token and chat template twice"
    ):
        plan_study(twice, tmp_path)


def test_layer_of_an_unpublished_model_is_a_marked_guess(plan_of, tiny_folder, tmp_path):
    """Where neither study nor preset names a layer, it is guessed by depth and says so."""
    study = write_study(tmp_path / "free", tiny_folder("gpt2"))
    model = study.models[0].model_copy(update={"layer": None})
    plan = plan_study(study.model_copy(update={"models": (model,)}), tmp_path)
    assert plan.models[0].setup.layer == 1
    assert plan.models[0].setup.layer_source == "unpublished"
