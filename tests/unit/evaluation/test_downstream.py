"""Scores are those of lm_eval by itself on the same weights; nothing of the process changes."""

import importlib
import json
import logging
import math
import random

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from editcollapse.data.harness_tasks import HarnessTask, read_task
from editcollapse.errors import DatasetError, StudyError
from editcollapse.evaluation.downstream import HarnessSettings, score_task
from editcollapse.stored.updates import LayerUpdate
from editcollapse.stored.weights import in_weights, stored_weight, with_change
from tests.support.harness_tasks import CHOICES, CLOZE, N_ITEMS, WRITES, items, write_task
from tests.support.tiny import D_KEY, D_MODEL, N_LAYERS

_FORMS = {"choices": CHOICES, "cloze": CLOZE, "writes": WRITES}


@pytest.fixture
def by_itself(monkeypatch, tmp_path):
    """Return a function that lets lm_eval score a plain model, as its own command would."""
    import datasets
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    monkeypatch.setattr(evaluator, "add_env_info", lambda _: None)  # asks pip; takes seconds

    def scored(model, tokenizer, path, **asked):
        monkeypatch.chdir(path.parent)
        language_model = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=16)
        found = evaluator.simple_evaluate(
            model=language_model,
            tasks=[path.stem],
            task_manager=TaskManager(include_path=str(path.parent), include_defaults=False),
            bootstrap_iters=2,
            log_samples=False,
            **asked,
        )
        metrics = found["results"][path.stem]
        drawn = "perplexity_stderr,none"  # from samples drawn anew
        return {
            key: value
            for key, value in metrics.items()
            if "," in key and value != "N/A" and key != drawn
        }

    return scored


def _ours(loaded, path, **asked):
    found = score_task(loaded, read_task(str(path)), HarnessSettings(**asked))
    scores = {f"{each.metric},{each.filter}": each.value for each in found}
    errors = {f"{each.metric}_stderr,{each.filter}": each.stderr for each in found}
    return scores | {name: value for name, value in errors.items() if value is not None}


def _same(ours, theirs):
    """Whether scores are the same: shares exactly, a perplexity to float64's rounding.

    GPT-2's activation is one kernel in a loaded model, and four in a plain one.
    """
    perplexity = "perplexity,none"
    if perplexity in theirs:
        assert ours.pop(perplexity) == pytest.approx(theirs.pop(perplexity), rel=1e-12)
    return ours == theirs


def _update(layer=1, size=1.0):
    generator = torch.Generator().manual_seed(5)
    left = torch.randn(D_MODEL, 1, generator=generator, dtype=torch.float64)
    right = torch.randn(1, D_KEY, generator=generator, dtype=torch.float64)
    return LayerUpdate(layer, size * left, right)


def _plain(folder, dtype=torch.float64):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return model, AutoTokenizer.from_pretrained(folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", ["gpt2", "llama", "qwen2"])
@pytest.mark.parametrize("form", list(_FORMS))
def test_scores_are_those_of_lm_eval_by_itself(
    tiny_model, tiny_folder, by_itself, tmp_path, variant, form
):
    """Unedited and edited, exactly: an update in memory is an edited model to it."""
    path = write_task(tmp_path / "tasks", _FORMS[form])
    loaded = tiny_model(variant)
    model, tokenizer = _plain(tiny_folder(variant))
    before = _ours(loaded, path)
    assert _same(dict(before), by_itself(model, tokenizer, path))
    with in_weights(loaded.model, [_update()]):
        after = _ours(loaded, path)
    with torch.no_grad():
        weight = stored_weight(model, loaded.architecture, 1)
        weight.copy_(with_change(weight, _update()))
    assert _ours(loaded, path) == before
    if form != "writes":
        assert after != before
    assert _same(after, by_itself(model, tokenizer, path))


@pytest.mark.filterwarnings("ignore")
def test_limit_and_examples_are_lm_evals(tiny_model, tiny_folder, by_itself, tmp_path):
    """Its seeds choose the same examples."""
    path = write_task(tmp_path / "tasks")
    model, tokenizer = _plain(tiny_folder("gpt2"))
    ours = _ours(tiny_model("gpt2"), path, limit=7, n_shot=2)
    assert ours == by_itself(model, tokenizer, path, limit=7, num_fewshot=2)
    (first, _) = score_task(
        tiny_model("gpt2"), read_task(str(path)), HarnessSettings(limit=7, n_shot=2)
    )
    assert (first.n_samples, first.n_shot, first.version) == (7, 2, "1.5")
    assert (first.metric, first.filter, first.higher_is_better) == ("acc", "none", True)


@pytest.mark.filterwarnings("ignore")
def test_packed_products_give_the_same_accuracy(tiny_folder, by_itself, tmp_path):
    """A float32 model on a CPU has packed matrices, packed anew under an update and after it."""
    from editcollapse.config.spec import ModelSpec
    from editcollapse.models.loading import load_model

    path = write_task(tmp_path / "tasks")
    spec = ModelSpec(name="tiny", source=str(tiny_folder("gpt2")))
    loaded = load_model(spec, "cpu")
    model, tokenizer = _plain(tiny_folder("gpt2"), torch.float32)
    before = _ours(loaded, path)
    with in_weights(loaded.model, [_update()]):
        after = _ours(loaded, path)
    assert (before, before) == (by_itself(model, tokenizer, path), _ours(loaded, path))
    with torch.no_grad():
        weight = stored_weight(model, loaded.architecture, 1)
        weight.copy_(with_change(weight, _update()))
    assert after == by_itself(model, tokenizer, path)


def test_model_tokenizer_and_generators_stay_as_they_are(tiny_model, tmp_path, capfd):
    """Weights bit by bit, no padding token, no drawn number, no log level, no bar."""
    loaded = tiny_model("gpt2")
    path = write_task(tmp_path)
    weights = {name: each.clone() for name, each in loaded.model.state_dict().items()}
    pointers = {name: each.data_ptr() for name, each in loaded.model.named_parameters()}
    names = set(vars(loaded.model))
    state = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    importlib.import_module("datasets")  # sets its own level when it is first imported
    levels = [logging.getLogger(name).level for name in ("lm_eval", "datasets")]
    seen = []
    capfd.readouterr()
    score_task(loaded, read_task(str(path)), HarnessSettings(), lambda *counts: seen.append(counts))
    assert capfd.readouterr() == ("", "")
    assert seen[-1] == (3 * N_ITEMS, 3 * N_ITEMS)
    assert random.getstate() == state[0]
    assert (np.random.get_state()[1] == state[1]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state[2])
    assert loaded.encoder.tokenizer.pad_token is None
    assert [logging.getLogger(name).level for name in ("lm_eval", "datasets")] == levels
    assert set(vars(loaded.model)) == names
    assert {n: each.data_ptr() for n, each in loaded.model.named_parameters()} == pointers
    assert all(torch.equal(each, weights[n]) for n, each in loaded.model.state_dict().items())


@pytest.mark.parametrize("form", list(_FORMS))
def test_logits_that_are_no_numbers_give_no_score(tiny_model, tmp_path, form):
    """lm_eval would count the first choice, or its text; what is not known is None."""
    loaded = tiny_model("gpt2")
    path = write_task(tmp_path, _FORMS[form])
    broken = LayerUpdate(N_LAYERS - 1, torch.full((D_MODEL, D_KEY), math.nan).double(), None)
    with in_weights(loaded.model, [broken]):
        found = score_task(loaded, read_task(str(path)), HarnessSettings())
    assert {(each.value, each.stderr) for each in found} == {(None, None)}
    assert {each.n_without_answer for each in found} == {N_ITEMS * (3 if form == "choices" else 1)}
    assert {each.n_samples for each in found} == {N_ITEMS}


def test_a_perplexity_too_large_for_a_float_is_inf(tiny_model, tmp_path):
    """lm_eval by itself ends with an OverflowError."""
    loaded = tiny_model("gpt2")
    path = write_task(tmp_path, CLOZE)
    with torch.no_grad():
        head = loaded.model.get_output_embeddings().weight
        saved = head.clone()
        head.mul_(1e4)
    try:
        found = {s.metric: s for s in score_task(loaded, read_task(str(path)), HarnessSettings())}
    finally:
        with torch.no_grad():
            head.copy_(saved)
    assert found["perplexity"].value == math.inf
    assert 0 <= found["acc"].value <= 1


@pytest.mark.parametrize("policy", ["tokenizer", "never", "always"])
def test_start_token_is_the_studys(tiny_model, tmp_path, policy):
    """A model whose texts open with a start token is asked so: another policy, other numbers."""
    path = write_task(tmp_path, CLOZE)
    own = _ours(tiny_model("gpt2"), path, start_token=policy)
    plain = _ours(tiny_model("gpt2"), path)
    assert (own != plain) == (policy == "always")
    opened = _ours(tiny_model("llama"), path, start_token=policy)
    assert (opened != _ours(tiny_model("llama"), path)) == (policy == "never")


def _task(**changes):
    config = {
        "task": "toy",
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
    }
    return HarnessTask("toy", json.dumps({"config": config | changes, "data": {"test": items()}}))


def test_templates_reach_nothing_but_their_records(tiny_model):
    """Jinja's way from a text to all of Python is shut."""
    way = "{{ question.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(DatasetError, match="cannot make task toy: SecurityError"):
        score_task(tiny_model("gpt2"), _task(doc_to_text=way), HarnessSettings())


def test_no_metric_is_fetched(tiny_model, monkeypatch):
    """One that lm_eval lacks lies on the hub as code."""
    import evaluate

    monkeypatch.setattr(evaluate, "load", lambda *_: pytest.fail("fetched"))
    with pytest.raises(StudyError, match="no code of the hub is run here"):
        score_task(
            tiny_model("gpt2"), _task(metric_list=[{"metric": "someones"}]), HarnessSettings()
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"doc_to_text": "{{nothing}}"}, "UndefinedError"),
        ({"output_type": "songs"}, "output_type"),
        ({"no_such_field": 1}, "no_such_field"),
    ],
)
def test_a_task_that_lm_eval_cannot_make_is_a_sentence(tiny_model, changes, said):
    """Its own words, behind the task's name."""
    with pytest.raises(DatasetError, match=f"cannot make task toy: .*{said}"):
        score_task(tiny_model("gpt2"), _task(**changes), HarnessSettings())


def test_an_item_without_an_answer_is_a_sentence(tiny_model):
    """lm_eval asserts; a user is told where to look."""
    with pytest.raises(DatasetError, match="cannot ask task toy: AssertionError"):
        score_task(
            tiny_model("gpt2"),
            _task(output_type="loglikelihood", doc_to_target="{{question[:0]}}"),
            HarnessSettings(),
        )


def test_where_a_package_of_it_is_missing_the_extra_is_named(monkeypatch):
    """An installed lm_eval that cannot be imported is a sentence too."""
    from editcollapse.evaluation import harness

    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(harness.importlib, "import_module", missing)
    with pytest.raises(StudyError, match=r"cannot be loaded .*editcollapse\[downstream\]"):
        harness.load_harness.__wrapped__()
