"""One model stays resident in a process, and is loaded again when another is asked for."""

import json
import shutil
import weakref
from pathlib import Path

import pytest
import torch

from editcollapse.config.spec import ModelSpec
from editcollapse.errors import ModelError
from editcollapse.models.files import digest_model, locate_model
from editcollapse.models.loading import forget_models, load_model, resident_model


@pytest.fixture(autouse=True)
def _nothing_resident():
    """Begin and end with no resident model."""
    forget_models()
    yield
    forget_models()


class Loads:
    """``load_model`` that remembers what it was asked for."""

    def __init__(self):
        self.names = []

    def __call__(self, spec, device):
        """Load, and remember the name."""
        self.names.append(spec.name)
        return load_model(spec, device)


def spec_of(folder, name="m"):
    """Return a spec for a folder."""
    return ModelSpec(name=name, source=str(folder))


def test_copy_elsewhere_is_named_by_its_own_folder(tiny_folder, tmp_path):
    """Equal files in another folder are another source, though they are the same model."""
    here = spec_of(tiny_folder("gpt2"))
    copy = spec_of(shutil.copytree(here.source, tmp_path / "renamed"))
    model_id = digest_model(locate_model(here.source), here).model_id
    assert resident_model(here, model_id, "cpu").source == Path(here.source).name
    assert resident_model(copy, model_id, "cpu").source == "renamed"


def test_resident_model_is_loaded_once(tiny_folder):
    """Asked twice for the same content, the process loads it once, whatever the name."""
    loads, spec = Loads(), spec_of(tiny_folder("gpt2"))
    model_id = load_model(spec, "cpu").model_id
    first = resident_model(spec, model_id, "cpu", loads)
    assert resident_model(spec_of(tiny_folder("gpt2"), "other"), model_id, "cpu", loads) is first
    assert loads.names == ["m"]


def test_another_model_takes_its_place(tiny_folder):
    """Only one model is resident: the first is loaded again when it is asked for again."""
    loads = Loads()
    specs = [spec_of(tiny_folder(name), name) for name in ("gpt2", "llama")]
    ids = [load_model(spec, "cpu").model_id for spec in specs]
    for index in (0, 1, 0):
        resident_model(specs[index], ids[index], "cpu", loads)
    assert loads.names == ["gpt2", "llama", "gpt2"]


def test_memory_of_the_model_before_is_freed(tiny_folder):
    """What the next model replaces is gone before that one is loaded: both never lie in memory."""
    specs = [spec_of(tiny_folder(name), name) for name in ("gpt2", "llama")]
    ids = [load_model(spec, "cpu").model_id for spec in specs]
    first = weakref.ref(resident_model(specs[0], ids[0], "cpu").model)
    alive = []

    def load(spec, device):
        alive.append(first() is not None)
        return load_model(spec, device)

    resident_model(specs[1], ids[1], "cpu", load)
    assert alive == [False]


def test_files_that_changed_are_refused(tiny_folder, tmp_path):
    """A model whose files are not those of the plan is refused by name, not silently used."""
    folder = shutil.copytree(tiny_folder("gpt2"), tmp_path / "mine")
    spec = spec_of(folder)
    planned = load_model(spec, "cpu").model_id
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="the files of mine changed while the study ran"):
        resident_model(spec, planned, "cpu")


def test_loaded_model_is_for_inference(tiny_model):
    """No dropout, no gradients, the type that was asked for, and the digests of the files."""
    loaded = tiny_model("gpt2", "bfloat16")
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.dtype == torch.bfloat16
    assert loaded.device == torch.device("cpu")
    assert loaded.source == "gpt2"
    assert loaded.n_parameters == sum(p.numel() for p in loaded.model.parameters())
    assert loaded.model_id == loaded.digests.model_id


def test_weights_that_do_not_fit_the_configuration(tiny_folder, tmp_path):
    """A configuration of other sizes than the weights is refused in one sentence."""
    folder = shutil.copytree(tiny_folder("llama"), tmp_path / "mixed")
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"intermediate_size": 24', '"intermediate_size": 20'))
    with pytest.raises(ModelError, match=r"^mixed cannot be loaded: "):
        load_model(spec_of(folder), "cpu")


def test_falcon_with_alibi_never_runs_by_its_plain_attention(tiny_folder, tmp_path):
    """Whatever its config.json asks for: that attention adds alibi to a mask that holds it."""
    folder = shutil.copytree(tiny_folder("falcon_sequential"), tmp_path / "falcon")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"attn_implementation": "eager"}))
    loaded = load_model(spec_of(folder), "cpu")
    assert loaded.model.config.alibi
    assert loaded.model.config._attn_implementation == "sdpa"
    assert not loaded.has_plain_attention


def test_capped_attention_is_never_left_to_a_kernel_without_the_cap(tiny_folder, monkeypatch):
    """Transformers 5.17 says that Gemma 2 may run by torch's SDPA, which knows no soft cap."""
    from transformers.models.gemma2.modeling_gemma2 import Gemma2PreTrainedModel

    monkeypatch.setattr(Gemma2PreTrainedModel, "_supports_sdpa", True)
    loaded = load_model(spec_of(tiny_folder("gemma2")), "cpu")
    assert loaded.model.config.attn_logit_softcapping
    assert loaded.model.config._attn_implementation == "eager"
