"""The jobs, from a study file to rows: templates, C, edits, measurements."""

import dataclasses

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from editcollapse.catalog.methods import distinct_rules
from editcollapse.errors import ArtifactError
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.models.loading import forget_models
from editcollapse.rows.frames import rows_of, schema_of
from editcollapse.rows.study import NATURAL_KEYS, ROW_TYPES
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.plan import plan_study
from editcollapse.units import edit, geometry
from editcollapse.units.edit import edit_batch, optimise_in_groups, stored_updates
from editcollapse.units.evaluate import evaluate_batch
from editcollapse.units.prepare import measure_unedited, prepare_templates
from tests.support.cases import LAYER, REQUESTS, TEMPLATES, settings
from tests.support.study_files import records, write_study
from tests.support.units import measured_moment

METHODS = ("rome", "c_rome", "r_rome", "p_rome")
N_USABLE = len(records()) - 1
#: What depends on how a study is cut into batches, and on when it ran.
_BATCH_COLUMNS = ("update_digest", "update_row")


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    """Run on the CPU, and leave no model or factor of C behind."""
    monkeypatch.setenv("EDITCOLLAPSE_DEVICE", "cpu")
    yield
    forget_models()
    geometry._kept.clear()


@dataclasses.dataclass
class Outcome:
    """Everything that a study's units left."""

    store: ArtifactStore
    manifests: list
    edits: list

    def frame(self, table):
        """Return all rows of a table, in the order of its natural key."""
        refs = [ref for one in self.manifests for ref in one.rows if ref.table == table]
        frames = [self.store.frame(ref) for ref in refs]
        return pl.concat(frames).sort(NATURAL_KEYS[table])


def run(study, results):
    """Run all units of a study, as the flow does, without the flow."""
    plan = plan_study(study, results)
    store = ArtifactStore(results)
    plan.store_texts(store)
    (model,) = plan.models
    templates = prepare_templates(model.templates)
    moment = measured_moment(plan, model, templates)
    manifests, edits = [templates, moment, measure_unedited(plan.unedited_job(model))], []
    for job in plan.edit_jobs(model, templates, moment):
        done = edit_batch(job)
        edits.append(done)
        manifests += [done, evaluate_batch(plan.evaluate_job(job, done))]
    return Outcome(store, manifests, edits)


@pytest.fixture
def outcome_of(tiny_folder, tmp_path):
    """Return a function that runs the small study with changes."""

    def make(name="study", variant="gpt2", **changes):
        study = write_study(tmp_path / name, tiny_folder(variant), **changes)
        return run(study, tmp_path / f"{name}-results")

    return make


@pytest.mark.parametrize("variant", ["gpt2", "gemma2"])
def test_rows_have_their_schema_and_fit_together(outcome_of, variant):
    """Every table has its schema, its keys are unique, and measurements belong to edits."""
    outcome = outcome_of(variant=variant)
    tables = {ref.table for one in outcome.manifests for ref in one.rows}
    assert tables == {
        "templates",
        "models",
        "covariances",
        "covariance_convergence",
        "base_perplexities",
        "edits",
        "positions",
        "measurements",
        "base_measurements",
        "provenance",
    }
    for table in tables:
        frame = outcome.frame(table)
        assert dict(frame.schema) == schema_of(table)
        assert frame.select(NATURAL_KEYS[table]).is_unique().all()
        assert type(rows_of(table, frame)[0]) is ROW_TYPES[table]
    edits, measured = outcome.frame("edits"), outcome.frame("measurements")
    assert edits.height == N_USABLE * len(METHODS)
    assert set(measured["edit_id"]) == set(edits["edit_id"])
    assert (
        outcome.frame("positions").height == outcome.frame("base_measurements").height == N_USABLE
    )
    assert set(edits["covariance_id"]) == set(outcome.frame("covariances")["covariance_id"])
    assert set(edits["template_set_id"]) == set(outcome.frame("templates")["template_set_id"])
    assert set(edits["model_id"]) == set(outcome.frame("models")["model_id"])
    assert measured["perplexity"].is_finite().all()


def test_unusable_request_is_reported_and_the_rest_runs(outcome_of):
    """A request that the tokenizer cannot take leaves a reason and no row."""
    outcome = outcome_of()
    unusable = [found for one in outcome.edits for found in one.unusable]
    assert len(unusable) == 1
    request_id, reason = unusable[0]
    assert "no token for the target 'Xyzzy'" in reason
    for table in ("edits", "positions", "base_measurements"):
        assert request_id not in set(outcome.frame(table)["request_id"])


def test_batch_without_a_usable_request(outcome_of):
    """A batch of nothing but unusable requests leaves empty files, not an error."""
    outcome = outcome_of(dataset__case_ids="['99']")
    assert [len(one.unusable) for one in outcome.edits] == [1]
    for table in ("edits", "measurements", "base_measurements", "positions"):
        frame = outcome.frame(table)
        assert frame.height == 0
        assert dict(frame.schema) == schema_of(table)
    assert stored_updates(outcome.store, outcome.edits[0].tensors) == {}


def test_batches_do_not_change_numbers(outcome_of, monkeypatch):
    """Cut into other batches, with other forwards, a study has the same rows."""
    one = outcome_of("one", batch_size=1)
    monkeypatch.setenv("EDITCOLLAPSE_TOKENS_PER_FORWARD", "64")
    two = outcome_of("two", batch_size=64)
    for table in ("edits", "measurements", "base_measurements", "positions", "base_perplexities"):
        frames = [outcome.frame(table).drop(_BATCH_COLUMNS, strict=False) for outcome in (one, two)]
        assert_frame_equal(*frames, rel_tol=1e-9, abs_tol=1e-12)


def test_methods_with_one_rule_share_one_update(outcome_of):
    """r-ROME is recorded under its own name with C-ROME's numbers; its update is stored once."""
    outcome = outcome_of()
    edits, measured = outcome.frame("edits"), outcome.frame("measurements")
    by_method = {
        name: measured.join(edits.filter(method=name).select("edit_id", "request_id"), on="edit_id")
        .sort("request_id")
        .drop("edit_id")
        for name in METHODS
    }
    assert by_method["r_rome"].equals(by_method["c_rome"])
    assert not by_method["rome"].equals(by_method["c_rome"])
    stored = stored_updates(outcome.store, outcome.edits[0].tensors)
    assert set(stored) == {"rome", "c_rome", "p_rome"}


def test_stored_updates_are_those_of_the_rows(outcome_of):
    """A row names its file and its place there; the update has the norm that the row says."""
    outcome = outcome_of(batch_size=64)
    (done,) = outcome.edits
    updates = stored_updates(outcome.store, done.tensors)
    edits = outcome.frame("edits")
    assert set(edits["update_digest"]) == {done.tensors.digest}
    for row in edits.filter(method="rome").iter_rows(named=True):
        matrix = updates["rome"].matrix(row["update_row"])
        assert float(matrix.norm()) == pytest.approx(row["update_norm"], rel=1e-9)
    tensors = outcome.store.tensors(done.tensors)
    assert set(tensors) >= {"delta", "bare_key", "prefixed_key"}
    assert all(tensor.dtype == torch.float64 for tensor in tensors.values())


def test_identity_and_statistics(outcome_of, tmp_path):
    """C = I leaves no tensor; a measured C, given back as statistics, gives the same edits."""
    plain = outcome_of("identity", covariance__kind="'identity'")
    assert plain.manifests[1].tensors is None
    assert plain.frame("covariances")["artifact_digest"].to_list() == [None]
    measured = outcome_of("measured")
    matrix = measured.store.tensors(measured.manifests[1].tensors)["moment"]
    from safetensors.torch import save_file

    (tmp_path / "given").mkdir()
    save_file({"moment": matrix, "count": torch.tensor(150)}, tmp_path / "given" / "c.safetensors")
    given = outcome_of(
        "given", covariance__kind="'statistics'", model__statistics="'c.safetensors'"
    )
    columns = ["request_id", "method", "rho", "update_norm", "loss"]
    frames = [
        outcome.frame("edits").select(columns).sort("request_id", "method")
        for outcome in (measured, given)
    ]
    assert_frame_equal(*frames, rel_tol=1e-9)
    row = given.frame("covariances").row(0, named=True)
    assert (row["kind"], row["source"], row["n_tokens"]) == ("statistics", "c.safetensors", 150)


def test_drawn_templates_are_recorded(outcome_of):
    """Templates drawn from the model are rows with their seed, and the edits use them."""
    outcome = outcome_of(
        variant="llama", templates__kind="'five_words'", templates__lengths="[[5, 5]]", seed=3
    )
    frame = outcome.frame("templates")
    assert frame.height == 6
    assert frame["template"][0] == "{}"
    assert set(frame["seed"]) == {3}
    assert tuple(frame["template"]) == outcome.manifests[0].values


def test_changed_updates_are_refused(outcome_of):
    """A file of updates that was damaged on disk is not measured."""
    outcome = outcome_of(dataset__limit=1)
    path = outcome.store.here / outcome.edits[0].tensors.path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="changed since it was written"):
        stored_updates(outcome.store, outcome.edits[0].tensors)


def test_progress_counts_passes_of_all_groups(tiny_model, monkeypatch):
    """Pass by pass up to the end, group after group; groups that stop early count as whole."""
    loaded = tiny_model("gpt2")
    rewrites, _ = build_rewrites(loaded.encoder, TEMPLATES, REQUESTS)
    monkeypatch.setattr(edit, "pass_groups", lambda *_: [[0, 1], [2, 3]])
    reports = []
    optimise_in_groups(
        HookedLayer(loaded, LAYER),
        rewrites,
        settings(steps=4),
        lambda *report: reports.append(report),
    )
    assert {total for _, total in reports} == {8}
    done = [each for each, _ in reports]
    assert done == sorted(done)
    assert set(done) == set(range(1, 9))


def test_measuring_counts_prompts_and_texts(tiny_folder, tmp_path):
    """The probes' prompts, then the perplexity texts under each distinct update."""
    study = write_study(tmp_path / "counted", tiny_folder("gpt2"))
    plan = plan_study(study, tmp_path / "results")
    plan.store_texts(ArtifactStore(plan.results))
    (model,) = plan.models
    templates = prepare_templates(model.templates)
    job = next(plan.edit_jobs(model, templates, measured_moment(plan, model, templates)))
    prompts, texts = [], []
    evaluate_batch(
        plan.evaluate_job(job, edit_batch(job)),
        lambda *report: prompts.append(report),
        lambda *report: texts.append(report),
    )
    assert prompts[-1][0] == prompts[-1][1]
    n_updates = len(set(distinct_rules(job.methods).values()))
    assert texts[-1] == (n_updates * len(plan.chosen_texts),) * 2
    assert [done for done, _ in texts] == sorted(done for done, _ in texts)
