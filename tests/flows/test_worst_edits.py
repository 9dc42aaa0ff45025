"""What the most damaging edits write: chosen, written, recorded once, and shown with the worst."""

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import storage.ask as storage_ask
from editcollapse.study import generation_jobs
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.generation_jobs import N_NEW_TOKENS, MostDamaging
from editcollapse.study.jobs import Manifest
from editcollapse.study.locks import MANIFESTS
from editcollapse.units.edit import stored_updates
from flows.__main__ import main
from storage.ask import ask, findings
from tests.support.flow_runs import manifests
from tests.support.small_study import START

N_WORST = 10
LAYER = 1
RATIO = 1.0
"""What counts as damage here: no edit of a random model reaches twice its perplexity."""


@pytest.fixture(scope="module")
def damaged(study, run_study, tmp_path_factory):
    """Return a run of the small study in which edits have done damage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation_jobs, "DAMAGE_RATIO", RATIO)
        return run_study(study, tmp_path_factory.mktemp("damaged") / "results")


def test_worst_edits_of_a_model_are_continued(damaged):
    """One unit a model: the ten edits with the largest perplexity, and their prompts."""
    assert len(manifests(damaged.results, "continuations-")) == 1
    assert [name for name in damaged.states if name.startswith("continue ")] == [
        f"continue tiny layer 1, {N_WORST} edits"
    ]
    worst = ask(
        damaged.results,
        "select edit_id, replace(prompt, '{}', subject) as prompt from edit_outcomes "
        "where perplexity_ratio > 1 order by perplexity desc, edit_id limit 10",
    )
    found = ask(damaged.results, "from continuations")
    assert set(found["n_new_tokens"]) == {N_NEW_TOKENS}
    columns = ["edit_id", "prompt"]
    assert found.select(columns).sort("edit_id").equals(worst.sort("edit_id"))


def test_texts_are_those_of_the_written_models(damaged, study):
    """Each text is what the model writes in float64 with the stored update in its weight."""
    folder = study.with_name("model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    store = ArtifactStore(damaged.results)
    found = ask(
        damaged.results,
        "select continuations.*, method, update_digest, update_row from continuations "
        "join edits using (edit_id)",
    )
    for row in found.iter_rows(named=True):
        model = AutoModelForCausalLM.from_pretrained(folder).double().eval()
        assert _written_by(model, tokenizer, row["prompt"]) == row["text_before"]
        path = f"artifacts/updates/{row['update_digest']}.safetensors"
        n_bytes = (damaged.results / path).stat().st_size
        ref = ArtifactRef(digest=row["update_digest"], path=path, n_bytes=n_bytes)
        method = "c_rome" if row["method"] == "r_rome" else row["method"]
        update = stored_updates(store, ref)[method].matrix(row["update_row"])
        with torch.no_grad():
            model.transformer.h[LAYER].mlp.c_proj.weight += update.T
        assert _written_by(model, tokenizer, row["prompt"]) == row["text_after"]
    assert (found["text_before"] != found["text_after"]).any()


def _written_by(model, tokenizer, prompt):
    """Return what a model adds to a prompt, the likeliest token after the other."""
    ids = list(tokenizer(prompt)["input_ids"])
    size = len(ids)
    end = tokenizer.convert_tokens_to_ids(START)
    with torch.no_grad():
        while len(ids) < size + N_NEW_TOKENS and ids[-1] != end:
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    added = tokenizer.decode(ids[size:], skip_special_tokens=True)
    return f" {added}" if added else ""


def test_findings_carry_the_texts(damaged, monkeypatch):
    """The worst edits of a study have their texts beside them."""
    monkeypatch.setattr(storage_ask, "DAMAGE_RATIO", RATIO)
    worst = findings(damaged.results, damaged.study_id).worst.frame
    assert worst.height == N_WORST
    assert worst["text_before"].null_count() == worst["text_after"].null_count() == 0


@pytest.mark.parametrize("place", ["empty", "finished"])
def test_plan_counts_the_texts(place, damaged, study, tmp_path, capsys, monkeypatch):
    """The plan says whether the texts are there; which edits are the worst is not known before."""
    monkeypatch.setattr(generation_jobs, "DAMAGE_RATIO", RATIO)
    results = tmp_path if place == "empty" else damaged.results
    assert main(["plan", str(study), "--results", str(results)]) == 0
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if "texts of the worst" in line
    ]
    assert ("0 cached, 1 to run" if place == "empty" else "1 cached, 0 to run") in line


def test_study_without_damage_writes_nothing(first_run, study, capsys):
    """No edit of the small study doubles the perplexity: no texts, and the plan lists none."""
    ratios = ask(first_run.results, "select max(perplexity_ratio) as worst from edit_outcomes")
    assert ratios["worst"].item() < generation_jobs.DAMAGE_RATIO
    assert manifests(first_run.results, "continuations-") == {}
    assert not [name for name in first_run.states if name.startswith("continue ")]
    assert main(["plan", str(study), "--results", str(first_run.results)]) == 0
    assert "texts of the worst" not in capsys.readouterr().out
    worst = findings(first_run.results, first_run.study_id).worst.frame
    assert worst["text_after"].null_count() == worst.height


def test_model_without_edits_has_no_texts(damaged):
    """Where a model took no request, the job counts as done and nothing is computed."""
    from flows.run.study_run import continue_worst

    counted = []
    run = SimpleNamespace(listed=SimpleNamespace(correct=lambda *n: counted.append(n)))
    plan = SimpleNamespace(
        results=str(damaged.results),
        study=SimpleNamespace(
            evaluation=SimpleNamespace(continuations=N_WORST), rank_one_methods=("rome",)
        ),
    )
    store = ArtifactStore(damaged.results)
    (key,) = manifests(damaged.results, "unedited-")
    text = (damaged.results / MANIFESTS / f"{key}.json").read_text()
    worst = MostDamaging(store, N_WORST, Manifest.model_validate_json(text))
    continue_worst(run, None, plan, SimpleNamespace(setup=None), worst)
    assert counted == [(1, 0)]
