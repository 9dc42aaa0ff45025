"""Of a multimodal checkpoint the text model alone is loaded, whichever names its weights have."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma3ForConditionalGeneration

from editcollapse.catalog.architectures import TEXT_PARTS
from editcollapse.config.spec import ModelSpec
from editcollapse.errors import ModelError
from editcollapse.models.files import locate_model
from editcollapse.models.loading import load_model
from tests.support.cases import TIGHT, Float64Throughout, distance

VARIANT = "gemma3_multimodal"
IDS = torch.arange(4, 13)[None]


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """Return a copy of a tiny multimodal checkpoint."""
    return shutil.copytree(tiny_folder(VARIANT), tmp_path / "gemma")


def load(folder):
    """Return the model of a folder in float64."""
    return load_model(ModelSpec(name="m", source=str(folder), dtype="float64"), "cpu")


def change_text_config(folder, change):
    """Let a function change the text model's configuration in place."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config["text_config"])
    path.write_text(json.dumps(config))


def logits(model):
    """Return a model's logits without casts to float32."""
    with Float64Throughout(), torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def test_text_model_is_that_of_the_whole(folder):
    """No weight of the vision tower is loaded, and texts have the whole model's logits."""
    loaded = load(folder)
    names = [name for name, _ in loaded.model.named_parameters()]
    assert not [name for name in names if "vision" in name or "projector" in name]
    assert loaded.architecture.family == "gemma3_text"
    whole = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float64)
    assert distance(logits(loaded.model), logits(whole)) < TIGHT


def test_names_and_configuration_as_published(folder):
    """Published files nest the names otherwise and leave out what is as in the defaults."""
    expected = load(folder)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    saved, published = sorted(
        TEXT_PARTS["gemma3"].decoders,
        key=lambda prefix: not any(n.startswith(prefix) for n in tensors),
    )
    renamed = {name.replace(saved, published, 1): tensor for name, tensor in tensors.items()}
    assert renamed.keys() != tensors.keys()
    save_file(renamed, path, metadata={"format": "pt"})
    found = load(folder)
    assert torch.equal(logits(found.model), logits(expected.model))
    assert found.widths == expected.widths
    change_text_config(folder, lambda config: config.pop("vocab_size"))
    assert locate_model(str(folder)).widths == expected.widths


def test_another_vision_tower_is_another_checkpoint(folder):
    """The fingerprint is of everything in the files."""
    before = load(folder).model_id
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "projector" in name)
    save_file(tensors | {name: tensors[name] + 1}, path, metadata={"format": "pt"})
    assert load(folder).model_id != before


def test_no_text_model(folder):
    """A configuration that does not say what its text model is is refused."""
    (folder / "config.json").write_text('{"model_type": "gemma3"}')
    with pytest.raises(ModelError, match="has no text_config"):
        locate_model(str(folder))


def test_text_model_s_own_configuration_is_checked(folder):
    """What is refused at the top is refused inside: attention that is code, quantised weights."""
    change_text_config(folder, lambda config: config.update(attn_implementation="owner/kernels"))
    with pytest.raises(ModelError, match="asks for the attention 'owner/kernels'"):
        locate_model(str(folder))


def test_lost_weights(folder):
    """A text model without one of its weights is refused, though transformers would go on."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors.pop(next(name for name in tensors if name.endswith("layers.1.mlp.down_proj.weight")))
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights .*down_proj"):
        load(folder)
