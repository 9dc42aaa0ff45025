"""C by shards: the same as in one pass, whatever the shards, for several layers at once."""

import dataclasses
import re

import polars as pl
import pytest
import torch

from editcollapse.covariance.second_moment import measure_moment, measure_moments
from editcollapse.data.corpora import open_corpus
from editcollapse.errors import ArtifactError, MomentError
from editcollapse.fingerprints import digest
from editcollapse.models.loading import forget_models
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.plan import CovariancePlan, checkpoints, plan_study
from editcollapse.units.covariance import (
    cut_corpus,
    prepare_moment,
    read_checkpoint,
    read_probes,
    sum_shard,
)
from editcollapse.units.prepare import prepare_templates
from tests.support.cases import TIGHT, Float64Throughout, distance
from tests.support.study_files import write_study
from tests.support.units import measured_moment
from tests.unit.forward.test_keys import full_forward_keys

FAMILIES = ("gpt2", "llama", "gpt_neox_parallel", "gemma2", "phi", "qwen2")
SUMMED_AGAIN = 1e-12
"""Relative tolerance where only the order of float64 additions differs."""
BUDGET = 150


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    """Run on the CPU, and leave no model behind."""
    monkeypatch.setenv("EDITCOLLAPSE_DEVICE", "cpu")
    yield
    forget_models()


@dataclasses.dataclass
class Made:
    """A measured C with what it came from."""

    plan: object
    store: ArtifactStore
    manifest: object

    @property
    def matrix(self):
        """C, (K, K)."""
        return self.store.tensors(self.manifest.tensors)["moment"]

    def frame(self, table):
        """Return the rows of one table."""
        return pl.concat([self.store.frame(r) for r in self.manifest.rows if r.table == table])


@pytest.fixture
def made(tiny_folder, tmp_path):
    """Return a function that measures C of the small study, with changes, by shards."""

    def make(name="study", variant="gpt2", **changes):
        study = write_study(tmp_path / name, tiny_folder(variant), **changes)
        plan = plan_study(study, tmp_path / f"{name}-results")
        (model,) = plan.models
        with Float64Throughout():
            templates = prepare_templates(model.templates)
            manifest = measured_moment(plan, model, templates)
        return Made(plan, ArtifactStore(plan.results), manifest)

    return make


def documents_of(plan):
    """Return the corpus of a plan."""
    return list(open_corpus(plan.study.covariance.source).documents())


@pytest.mark.parametrize("variant", FAMILIES)
def test_shards_equal_one_pass_and_plain_forwards(made, tiny_model, variant):
    """Sharded and merged, C is K^T K / n of one document at a time, run through the whole model."""
    found = made(variant=variant, covariance__shard_tokens=40)
    loaded = tiny_model(variant)
    documents = documents_of(found.plan)
    left, keys = BUDGET, []
    with Float64Throughout():
        for text in documents:
            ids = loaded.encoder.encode(text)[:left]
            if ids:
                keys.append(full_forward_keys(loaded, 1, torch.tensor([ids]))[0])
            left -= len(ids)
        once = measure_moment(loaded, 1, documents, n_tokens=BUDGET, max_length=1024)
    plain = torch.cat(keys)
    assert len(plain) == BUDGET
    assert distance(found.matrix, plain.T @ plain / BUDGET) < TIGHT
    assert distance(found.matrix, once.matrix) < TIGHT
    row = found.frame("covariances").row(0, named=True)
    assert (row["n_tokens"], row["n_texts"]) == (BUDGET, once.n_texts)


@pytest.mark.parametrize("variant", ["gpt2", "mistral"])
def test_several_layers_equal_each_alone(tiny_model, variant):
    """One pass for three layers gives what three passes give."""
    loaded = tiny_model(variant)
    texts = [f"The {word} city stood near Oslo ." for word in ("red", "old", "new")] * 9
    budget = {"n_tokens": 100, "max_length": 20, "shard_tokens": 30}
    with Float64Throughout():
        together = measure_moments(loaded, (2, 0, 1), texts, **budget)
        alone = [measure_moments(loaded, [layer], texts, **budget)[0] for layer in (2, 0, 1)]
    for one, other in zip(together, alone, strict=True):
        assert distance(one.matrix, other.matrix) < SUMMED_AGAIN
        assert (one.n_tokens, one.n_texts) == (other.n_tokens, other.n_texts)


def test_size_of_the_shards_is_irrelevant(made):
    """One shard, four or one a document: the same C, the same id, another unit for each shard."""
    sizes = (1, 40, 65_536)
    found = [made(f"s{size}", covariance__shard_tokens=size) for size in sizes]
    for other in found[1:]:
        assert distance(other.matrix, found[0].matrix) < SUMMED_AGAIN
        assert other.manifest.unit_id == found[0].manifest.unit_id
        columns = ["covariance_id", "n_tokens", "n_texts"]
        rows = [each.frame("covariances").select(columns) for each in (found[0], other)]
        assert rows[0].equals(rows[1])


def test_id_of_a_covariance_is_what_it_was(made):
    """Without a stop rule the id names model, layer, corpus, budget and damping, and no more."""
    found = made(covariance__shard_tokens=77)
    (model,) = found.plan.models
    asked = ("corpus", model.moment.source_digest, BUDGET, 1024, False, None)
    expected = digest("covariance", model.setup.model_id, 1, asked, 0.01)
    assert model.moment.covariance_id == expected


def test_larger_budget_shares_the_shards_that_it_has(made):
    """Of a larger budget only shards with other tokens are new."""
    keys = []
    for name, budget in (("small", 100), ("large", 150)):
        found = made(name, covariance__n_tokens=budget, covariance__shard_tokens=40)
        moments = CovariancePlan.of(found.plan, found.plan.models[0])
        corpus = cut_corpus(moments.corpus_job())
        keys.append([job.key for job in moments.shard_jobs(corpus)])
    assert len(keys[1]) > len(keys[0]) > 2
    n_same = len(keys[0]) - 2  # the last two are of one size
    assert keys[1][:n_same] == keys[0][:n_same]
    assert not set(keys[1][n_same:]) & set(keys[0][n_same:])


def test_convergence_is_recorded(made):
    """One row at each doubling of the shards; the first has nothing to be compared with."""
    found = made(covariance__shard_tokens=30)
    rows = found.frame("covariance_convergence").sort("n_shards")
    assert rows["n_shards"].to_list() == [1, 2, 4]
    assert rows["n_tokens"].is_sorted()
    assert rows["n_tokens"][-1] == found.frame("covariances")["n_tokens"][0] == BUDGET
    assert rows["n_probes"].to_list() == [4, 4, 4]  # one of the five requests is unusable
    assert rows["tokens_per_d_key"][-1] == BUDGET / 24
    assert rows["max_change"].null_count() == 1
    assert rows["max_change"][0] is None
    assert (rows["max_change"] >= rows["median_change"]).drop_nulls().all()
    assert rows["max_change"][-1] > 0


def test_singular_start_has_no_change(made):
    """While C holds fewer tokens than a key has entries, and the row after: not measured."""
    found = made(covariance__shard_tokens=8, covariance__damping=0.0, covariance__n_tokens=150)
    rows = found.frame("covariance_convergence").sort("n_shards")
    short = rows.filter(pl.col("tokens_per_d_key") < 1)
    assert short.height > 0
    assert short["max_change"].null_count() == short.height


def test_checkpoints_agree_with_the_merge(made):
    """Looked at one by one, as with a stop rule, the changes are those seen while merging."""
    found = made(covariance__shard_tokens=30)
    merged = found.frame("covariance_convergence").sort("n_shards")["max_change"].to_list()
    moments = CovariancePlan.of(found.plan, found.plan.models[0])
    sums = [sum_shard(job) for job in moments.shard_jobs(cut_corpus(moments.corpus_job()))]
    probes = read_probes(moments.probes_job(prepare_templates(found.plan.models[0].templates)))
    before, changes = None, []
    for n_shards in checkpoints(len(sums)):
        before = read_checkpoint(moments.checkpoint_job(sums[:n_shards], probes, before))
        changes.append(float(before.values[0]) if before.values else None)
    assert changes == merged
    again = prepare_moment(moments.merge_job(sums[:2], probes, [before]))
    frame = found.store.frame(next(r for r in again.rows if r.table == "covariances"))
    assert frame["n_tokens"][0] < BUDGET
    assert sum(ref.table == "covariance_convergence" for ref in again.rows) == 1


def test_stop_rule_enters_the_id(made, tiny_folder, tmp_path):
    """With a stop rule the bound, the shards and the probes decide how many tokens C holds."""

    def id_of(name, **changes):
        study = write_study(tmp_path / name, tiny_folder("gpt2"), **changes)
        return plan_study(study, tmp_path / "results").models[0].moment.covariance_id

    changes = [
        {},
        {"covariance__stop_change": 0.1},
        {"covariance__stop_change": 0.2},
        {"covariance__stop_change": 0.1, "covariance__shard_tokens": 30},
        {"covariance__stop_change": 0.1, "dataset__limit": 2},
        {"covariance__stop_change": 0.1, "templates__kind": "'five_words'"},
    ]
    ids = [id_of(f"changed-{place}", **change) for place, change in enumerate(changes)]
    assert len(set(ids)) == len(ids)
    assert id_of("limited", dataset__limit=2) == ids[0]


def test_stop_rule_needs_a_probe(made):
    """Without a usable request there is nothing to stop by; without a stop rule it does not matter.

    The last row then says that nothing was measured.
    """
    found = made(dataset__case_ids="['99']")
    rows = found.frame("covariance_convergence")
    assert rows["n_probes"].to_list() == [0, 0]
    assert rows["max_change"].to_list() == [None, None]
    moments = CovariancePlan.of(found.plan, found.plan.models[0])
    sums = [sum_shard(job) for job in moments.shard_jobs(cut_corpus(moments.corpus_job()))]
    probes = read_probes(moments.probes_job(prepare_templates(found.plan.models[0].templates)))
    with pytest.raises(MomentError, match=r"stop_change` needs probe keys.*Leave it out"):
        read_checkpoint(moments.checkpoint_job(sums, probes, None))


def test_corpus_that_is_too_small_is_told(made, caplog):
    """All tokens there are are used, the row says how many, and a warning names both counts."""
    found = made(covariance__n_tokens=100_000)
    n_tokens = found.frame("covariances")["n_tokens"][0]
    assert BUDGET < n_tokens < 1000
    assert f"the corpus holds {n_tokens} tokens of the 100000 asked for" in caplog.text


def test_padding_is_told(made, caplog):
    """The share of padding of each shard is in the log."""
    with caplog.at_level("INFO", logger="editcollapse.covariance.second_moment"):
        made()
    told = re.findall(r"(\d+) tokens of \d+ texts in \d+ batches, [\d.]+ % padding", caplog.text)
    assert sum(map(int, told)) == BUDGET


def test_merge_without_shards_is_explained(made):
    """A merge that is given no sums says which unit comes first."""
    found = made()
    with pytest.raises(MomentError, match=r"was asked of no shards.*sum_shard"):
        prepare_moment(found.plan.models[0].moment)


def test_sums_of_other_layers_are_refused(made):
    """Files that are not one for each layer of the pass are not guessed at."""
    found = made()
    moments = CovariancePlan.of(found.plan, found.plan.models[0])
    corpus = cut_corpus(moments.corpus_job())
    sums = [sum_shard(job) for job in moments.shard_jobs(corpus)]
    wider = dataclasses.replace(moments, layers=(0, 1))
    with pytest.raises(ArtifactError, match="left 1 files for layers"):
        wider.merge_job(sums, sums[0])


def test_keys_that_are_not_finite_name_their_layer(made, tiny_model, monkeypatch):
    """Of several layers the one whose keys overflow is named."""
    loaded = tiny_model("gpt2")
    spoiled = loaded.blocks[1].get_submodule("mlp.c_fc").weight
    saved = spoiled.detach().clone()
    try:
        with torch.no_grad():
            spoiled.fill_(torch.inf)
        with pytest.raises(MomentError, match="keys of layer 1 of gpt2 are not finite"):
            measure_moments(loaded, (0, 1), ["Lumo is"], n_tokens=5, max_length=5)
    finally:
        with torch.no_grad():
            spoiled.copy_(saved)


def test_error_of_float32_sums_names_its_layer(tiny_model, monkeypatch):
    """Products too far from float64 ones are refused for the layer they are of."""
    monkeypatch.setattr("editcollapse.covariance.second_moment._TOLERATED_ERROR", 0.0)
    loaded = tiny_model("gpt2", "float32")
    with pytest.raises(MomentError, match=r"of layer 2 of gpt2 are .* from float64.*float64"):
        measure_moments(loaded, (2,), ["Lumo is the capital of Arden"], n_tokens=50, max_length=50)
