"""An edit of the library goes home: what other processes read of it is the edit, and a collapse."""

import json
import subprocess
import sys

import pytest
import torch

import editcollapse as ec
from editcollapse.data.texts import read_texts
from editcollapse.errors import ModelError, ResultsError
from tests.unit.api.conftest import DEMO, FACT, MODEL

PROMPT = "Pugis was born in"
#: Of float32, in logits of some tens; an update a thousand times W rounds its own digits.
REACH = 2e-3

READER = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, base, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
if base:
    from peft import PeftModel
    model = AutoModelForCausalLM.from_pretrained(base)
    model = PeftModel.from_pretrained(model, folder).merge_and_unload()
else:
    base, model = folder, AutoModelForCausalLM.from_pretrained(folder)
assert "editcollapse" not in sys.modules
model.eval()
tokenizer = AutoTokenizer.from_pretrained(base)
encoded = [tokenizer(text, return_tensors="pt") for text in texts]
with torch.no_grad():
    logits = model(encoded[0]["input_ids"]).logits[0, -1]
    losses = [model(each["input_ids"], labels=each["input_ids"]).loss for each in encoded[1:]]
written = model.generate(
    encoded[0]["input_ids"],
    attention_mask=encoded[0]["attention_mask"],
    max_new_tokens=8,
    do_sample=False,
)
n_read = encoded[0]["input_ids"].shape[1]
print(json.dumps({
    "logits": logits.tolist(),
    "perplexity": float(torch.stack(losses).exp().mean()),
    "text": tokenizer.decode(written[0, n_read:]),
}))
"""


@pytest.fixture(scope="module")
def edit(editor):
    """Return an edit that collapses its model."""
    return editor.edit(**FACT, method="rome")


@pytest.mark.parametrize("kind", [pytest.param("weights", marks=pytest.mark.slow), "adapter"])
def test_collapse_is_a_collapse_for_others(edit, kind, tmp_path):
    """A process without this package: logits, perplexity and greedy text of the edited model."""
    texts = list(read_texts(DEMO / "texts.jsonl").texts[:6])
    done = edit.export(tmp_path / "out", kind, texts=texts)
    base = str(MODEL) if kind == "adapter" else ""
    ran = subprocess.run(
        [sys.executable, "-c", READER, done.folder, base, json.dumps([PROMPT, *texts])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    read = json.loads(ran.stdout)
    with edit.applied() as model, torch.no_grad():
        ids = edit.editor.model.encoder.tokenizer(PROMPT, return_tensors="pt")["input_ids"]
        expected = model(ids).logits[0, -1]
    logits = torch.tensor(read["logits"])
    assert float((logits - expected).abs().max()) < REACH * float(expected.abs().max())
    assert read["perplexity"] == pytest.approx(edit.perplexity(texts), rel=REACH)
    assert read["perplexity"] > 10 * edit.editor.perplexity(texts)
    assert read["text"].split() == edit.generate(PROMPT, 8).split()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "**This edit has collapsed the model**" in card
    assert 'license: "mit"' in card


def test_export_says_what_is_wrong(edit, tmp_path):
    """A taken folder, a model that lies elsewhere, one that is another: nothing is written."""
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ResultsError, match="holds files already"):
        edit.export(tmp_path)
    with pytest.raises(ModelError, match="is not the model that was edited"):
        edit.export(tmp_path / "out", model=DEMO / "models" / "gpt2-control")
    with pytest.raises(ModelError, match="no model folder"):
        edit.export(tmp_path / "out", model=tmp_path / "nowhere" / "at all")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_loaded_model_is_told_where_it_lies(edit, tmp_path):
    """A model that was loaded before has a name alone: weights need its place, factors do not."""
    editor = ec.Editor(edit.editor.model, covariance="identity", layer=1, templates=["{}"])
    made = editor.edit("{} was born in", subject="Pugis", target="Jorvale", method="c_rome")
    with pytest.raises(ModelError, match="Say where it lies with `model`"):
        made.export(tmp_path / "out")
    assert made.export(tmp_path / "factors", "factors").layers[0].rank == 1
    assert made.export(tmp_path / "out", model=MODEL).files
