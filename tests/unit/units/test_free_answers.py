"""Free answers of a batch: those of transformers' own generate() with each edit in the weights."""

import copy
import dataclasses

import polars as pl
import pytest
import torch

from editcollapse.config.generation import GenerationSpec, JudgeSpec
from editcollapse.evaluation.free_questions import FreeQuestions
from editcollapse.forward.weight_changes import LayerChange, WeightChanges
from editcollapse.models.loading import forget_models, resident_model
from editcollapse.rome.updates import no_update
from editcollapse.study.answer_jobs import JudgeJob, ModelAnswers
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.plan import plan_study
from editcollapse.units.edit import edit_batch, stored_updates
from editcollapse.units.free_answers import answer_freely
from editcollapse.units.generate import Continuer
from editcollapse.units.judging import judge_answers
from editcollapse.units.prepare import prepare_templates
from tests.support.cases import LAYER, REQUESTS, Float64Throughout, drawing
from tests.support.judge_server import judge_server
from tests.support.study_files import write_study
from tests.support.tiny import MAX_LENGTH
from tests.support.units import measured_moment

N_TOKENS = 9
N_FLUENCY = 11
METHODS = ("rome", "c_rome", "r_rome", "p_rome")
GENERATION = {
    "contexts": "['question', 'instruction', 'chat']",
    "n_tokens": N_TOKENS,
    "stops": "['e', 'ou']",
    "fluency_tokens": N_FLUENCY,
}


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    monkeypatch.setenv("EDITCOLLAPSE_DEVICE", "cpu")
    yield
    forget_models()


@dataclasses.dataclass
class Batch:
    """The first batch of a small study, edited, with its job of answers."""

    plan: object
    store: ArtifactStore
    batch: object
    done: object

    @property
    def answers(self):
        """Return the jobs of the study's only model."""
        return ModelAnswers(self.plan, self.plan.models[0])

    def job(self):
        """Return the batch's job."""
        return self.answers.job(self.batch, self.done)

    def rows(self, manifest, table="generated_answers"):
        """Return a manifest's rows."""
        (ref,) = [ref for ref in manifest.rows if ref.table == table]
        return self.store.frame(ref)


@pytest.fixture
def batch_of(tiny_folder, tmp_path):
    """Return a function that edits the first batch of a study with free generation."""

    def make(variant="qwen2", generation=GENERATION, **changes):
        asked = {f"evaluation__generation.{name}": value for name, value in generation.items()}
        study = write_study(
            tmp_path / "study", tiny_folder(variant), batch_size="5", **asked, **changes
        )
        plan = plan_study(study, tmp_path / "results")
        (model,) = plan.models
        templates = prepare_templates(model.templates)
        batch = next(plan.edit_jobs(model, templates, measured_moment(plan, model, templates)))
        return Batch(plan, ArtifactStore(tmp_path / "results"), batch, edit_batch(batch))

    return make


def written(loaded, matrix):
    """Return a copy of the model with a change added to the weight of the edited layer."""
    model = copy.deepcopy(loaded.model)
    row = loaded.architecture
    projection = model.get_submodule(f"{row.decoder}.{row.blocks}.{LAYER}.{row.down_projection}")
    with torch.no_grad():
        projection.weight += matrix.T if row.transposed else matrix
    return model


def generated(loaded, model, ids, n_tokens, stops=None):
    """Return what transformers' generate() adds to some ids."""
    more = {"stop_strings": list(stops), "tokenizer": loaded.encoder.tokenizer} if stops else {}
    with torch.no_grad():
        whole = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            max_new_tokens=n_tokens,
            do_sample=False,
            pad_token_id=0,
            **more,
        )
    return tuple(whole[0, len(ids) :].tolist())


def test_answers_are_those_of_generate_with_edited_weights(batch_of):
    """Every edit, context, probe and the fluency's text, batched, against one after the other."""
    found = batch_of()
    with Float64Throughout():
        frame = found.rows(answer_freely(found.job()))
        loaded = resident_model(found.plan.models[0].setup.spec, found.batch.model.model_id, "cpu")
        encoder, tokenizer = loaded.encoder, loaded.encoder.tokenizer
        updates = stored_updates(found.store, found.done.tensors)
        edits = found.rows(found.done, "edits")
        stops = ("e", "ou")
        stopped = set()
        for edit in edits.filter(pl.col("method") != "r_rome").iter_rows(named=True):
            model = written(loaded, updates[edit["method"]].matrix(edit["update_row"]))
            own = frame.filter(
                (pl.col("edit_id") == edit["edit_id"]) & (pl.col("context") != "chat")
            )
            for row in own.iter_rows(named=True):
                prompt, is_fluency = row["prompt"], row["probe"] == "fluency"
                if row["context"] == "instruction":
                    prompt = f"Please answer the question:\n\nQ: {prompt}\nA:"
                ids = encoder.start_ids + tuple(tokenizer(prompt)["input_ids"])
                asked = (N_FLUENCY, None) if is_fluency else (N_TOKENS, stops)
                after = generated(loaded, model, ids, *asked)
                before = generated(loaded, loaded.model, ids, *asked)
                text = tokenizer.decode(after, skip_special_tokens=True)
                places = [text.find(stop) for stop in stops if stop in text]
                if places and not is_fluency:
                    text = text[: min(places)]
                assert row["text"] == text
                assert row["n_tokens"] == len(after)
                assert row["n_tokens_before"] == len(before)
                assert row["same_tokens"] == (after == before)
                stopped.add(row["stopped_by"])
    assert {"stop string", "length"} <= stopped
    assert not frame["same_tokens"].drop_nulls().all()


def test_each_edit_has_its_rows(batch_of):
    """All probes in all contexts; methods with one rule have the same texts under each name."""
    found = batch_of()
    job = found.job()
    frame = found.rows(answer_freely(job))
    asked = [record.request for record in found.plan.requests.records]
    assert len(job.edits) == len(METHODS) * len(asked)
    prompts = sum(1 + len(r.paraphrase_prompts) + len(r.neighborhood_prompts) for r in asked)
    assert frame.height == len(METHODS) * (3 * prompts + len(asked))
    edits = found.rows(found.done, "edits").select("edit_id", "method", "request_id")
    named = frame.join(edits, on="edit_id").drop("edit_id")
    keys = ["request_id", "context", "probe", "prompt_index"]
    same = [named.filter(pl.col("method") == m).drop("method").sort(keys) for m in METHODS[1:3]]
    assert same[0].equals(same[1])
    neighborhood = frame.filter(pl.col("probe") == "neighborhood")
    assert set(neighborhood["target"]) == {"Tarn", "Old Tarn"}
    fluency = frame.filter(pl.col("probe") == "fluency")
    assert fluency["ngram_entropy"].null_count() == 0
    assert frame.filter(pl.col("probe") != "fluency")["ngram_entropy"].null_count() == (
        frame.height - fluency.height
    )


def test_model_without_a_chat_template_says_so(batch_of):
    """No text, no score, and the reason."""
    found = batch_of()
    chat = found.rows(answer_freely(found.job())).filter(pl.col("context") == "chat")
    assert chat.height
    assert set(chat["reason"]) == {"the tokenizer of model has no usable chat template"}
    for column in ("text", "n_tokens", "stopped_by", "exact_match", "same_tokens"):
        assert chat[column].null_count() == chat.height


def test_contexts_in_tokens(tiny_model):
    """A chat is the template's own text; a prompt without a position left is refused."""
    loaded = tiny_model("llama")
    tokenizer = loaded.encoder.tokenizer
    spec = GenerationSpec(contexts=("question", "instruction", "chat"), probes=("rewrite",))
    own, tokenizer.chat_template = (
        tokenizer.chat_template,
        ("{% for m in messages %}{{ 'The city . ' + m['content'] + ' said' }}{% endfor %}"),
    )
    try:
        question, instruction, chat = FreeQuestions(loaded.encoder, spec).of(REQUESTS[0])
    finally:
        tokenizer.chat_template = own
    prompt = tokenizer.decode(tokenizer(REQUESTS[0].filled_prompt)["input_ids"])
    assert prompt.startswith("<s> Lumo is")
    assert tokenizer.decode(question.ids) == prompt
    assert tokenizer.decode(instruction.ids).count(prompt[4:]) == 1
    frame = "The city . Lumo is the capital of said"
    assert list(chat.ids) == tokenizer(frame, add_special_tokens=False)["input_ids"]
    long = dataclasses.replace(REQUESTS[0], prompt="{}" + " river" * (MAX_LENGTH - 2))
    (found,) = FreeQuestions(loaded.encoder, GenerationSpec(probes=("rewrite",))).of(long)
    assert found.ids is None
    assert "leaves no position" in found.reason


def test_limits_choose_requests_and_prompts(batch_of):
    """The first so many requests, a text before their prompt or none, and prompts of a kind."""
    found = batch_of(generation={"limit": 1, "max_prompts": 1, "fluency_tokens": 0})
    frame = found.rows(answer_freely(found.job()))
    assert frame["edit_id"].n_unique() == len(METHODS)
    assert set(frame["prompt_index"]) == {0}
    (first, *others) = [record.request for record in found.plan.requests.records]
    assert found.answers._is_asked(first)
    assert found.answers._is_asked(dataclasses.replace(first, prompt=f"It is. {first.prompt}"))
    assert not any(map(found.answers._is_asked, others))


def test_nothing_is_asked_where_the_study_has_no_table(batch_of):
    """No job, and none is counted."""
    found = batch_of(generation={})
    assert found.job() is None
    assert found.answers.n_jobs == 0


@pytest.mark.parametrize("change", ["n_tokens", "stops", "contexts", "max_prompts"])
def test_key_follows_what_is_asked(batch_of, change):
    """Other lengths, stops, contexts or prompts are other answers; the place is no part of it."""
    job = batch_of().job()
    values = {"n_tokens": 3, "stops": ("x",), "contexts": ("question",), "max_prompts": 1}
    other = job.generation.model_copy(update={change: values[change]})
    assert job.model_copy(update={"generation": other}).key != job.key
    assert job.model_copy(update={"batch_label": "9 of 9"}).key == job.key


@pytest.mark.parametrize("variant", ["gpt2", "gemma2", "opt"])
def test_changes_of_several_layers_are_those_of_generate(tiny_model, variant):
    """Factors of two layers, another pair for each row, beside the model without them."""
    loaded = tiny_model(variant)
    draw = drawing(5)
    d, k = loaded.widths.d_model, loaded.widths.d_key
    changes = WeightChanges(
        tuple(LayerChange(layer, draw((2, d, 3)), draw((2, 3, k))) for layer in (1, 2))
    )
    rows = [loaded.encoder.sequence(request.filled_prompt) for request in REQUESTS[:3]]
    owner = [1, 0, 1]
    with Float64Throughout():
        found = Continuer(loaded, changes.lowest, N_TOKENS).written(rows, changes, owner)
        plain = Continuer(loaded, 1, N_TOKENS).written(rows, no_update(loaded.widths), [0, 0, 0])
        row = loaded.architecture
        for ids, own, each in zip(rows, owner, found, strict=True):
            model = copy.deepcopy(loaded.model)
            for change in changes.layers:
                path = f"{row.decoder}.{row.blocks}.{change.layer}.{row.down_projection}"
                with torch.no_grad():
                    matrix = change.matrix(own)
                    weight = model.get_submodule(path).weight
                    weight += matrix.T if row.transposed else matrix
            assert each.ids == generated(loaded, model, ids, N_TOKENS)
    assert found != plain


@pytest.fixture
def answered(batch_of):
    """Return a batch with answers, and a function that judges them."""
    found = batch_of(generation=GENERATION | {"contexts": "['question']"})
    done = answer_freely(found.job())

    def judge(reply, earlier=()):
        with judge_server(reply) as stub:
            job = JudgeJob(
                results=str(found.store.here),
                judge=JudgeSpec(url=stub.url, model="stub"),
                answers=tuple(ref for ref in done.rows if ref.table == "generated_answers"),
                earlier=earlier,
                label="x",
            )
            from editcollapse.evaluation.judge import Judge

            manifest = judge_answers(job, judge_of=lambda spec: Judge(spec, lambda _: None))
        return manifest, found.rows(manifest, "judged_answers"), stub

    return judge


def test_judge_sees_each_text_once(answered):
    """Rewrites and paraphrases, not the neighborhood; replies are stored as they came."""
    manifest, rows, stub = answered(lambda prompt: "A" if "Arden" in prompt else "C")
    assert manifest.values == ()
    assert len(stub.prompts) == len(set(stub.prompts)) < rows.height
    assert set(rows["probe"]) == {"rewrite", "paraphrase"}
    assert set(rows["verdict"]) == {"correct", "not attempted"}
    assert (rows["is_correct"] == (rows["verdict"] == "correct")).all()
    assert rows["reason"].null_count() == rows.height


def test_failing_judge_leaves_nothing_but_null_and_is_asked_again(answered):
    """It is given up after three failures; the next job asks only for what is open."""
    manifest, rows, stub = answered(lambda _: 401)
    assert len(stub.asked) == 3
    assert manifest.values == (f"{rows.height} open",)
    for column in ("reply", "verdict", "is_correct"):
        assert rows[column].null_count() == rows.height
    assert any("not asked" in reason for reason in rows["reason"])

    replies = iter(["A", "nonsense"])
    manifest, rows, stub = answered(lambda _: next(replies, 401))
    n_open = rows["reply"].null_count()
    assert 0 < n_open < rows.height
    left = tuple(ref for ref in manifest.rows if ref.table == "judged_answers")
    again, rows, other = answered(lambda _: "B", left)
    assert again.values == ()
    assert not {stub.prompts[0], stub.prompts[1]} & set(other.prompts)
    assert rows.filter(pl.col("reply") == "A").height > 0
    nonsense = rows.filter(pl.col("reply") == "nonsense")
    assert nonsense["is_correct"].null_count() == nonsense.height > 0
