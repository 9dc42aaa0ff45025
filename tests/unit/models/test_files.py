"""A model's files: the same fingerprint however they are stored, and a sentence for each defect."""

import json
import shutil

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HFValidationError
from safetensors.torch import load_file, save_file

from editcollapse.config.spec import ModelSpec
from editcollapse.errors import ModelError, UnknownFamilyError
from editcollapse.models.files import (
    fingerprint_model,
    fingerprint_tokenizer,
    locate_model,
    tensor_headers,
)
from editcollapse.models.loading import load_model


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """Return a copy of a tiny model's folder, to be damaged."""
    return shutil.copytree(tiny_folder("llama"), tmp_path / "model")


def fingerprint(folder):
    """Return the fingerprint of the model in a folder."""
    return fingerprint_model(locate_model(str(folder)))


def shard(folder):
    """Split a folder's weights into two files with an index, as large models come."""
    whole = load_file(folder / "model.safetensors")
    names = sorted(whole)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: whole[name] for name in part}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    text = json.dumps({"metadata": {}, "weight_map": index})
    (folder / "model.safetensors.index.json").write_text(text)
    (folder / "model.safetensors").unlink()


def change_config(folder, **fields):
    """Change fields of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_fingerprint_is_of_the_content(folder, tmp_path):
    """Another folder, and another way to split the weights, have the same fingerprint."""
    before = fingerprint(folder)
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "renamed")
    assert fingerprint(moved) == before
    shard(moved)
    assert fingerprint(moved) == before
    files = locate_model(str(moved))
    assert len(files.weight_files) == 2
    assert files.source == "renamed"
    assert files.weight_bytes == sum(path.stat().st_size for path in files.weight_files)


def test_sharded_model_loads_to_the_same_weights(folder, tmp_path):
    """A sharded copy loads, bit for bit, as the single file does."""
    split = shutil.copytree(folder, tmp_path / "split")
    shard(split)
    one, two = (
        load_model(ModelSpec(name="m", source=str(path), dtype="float64"), "cpu")
        for path in (folder, split)
    )
    assert one.model_id == two.model_id
    pairs = zip(one.model.parameters(), two.model.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_fingerprint_changes_with_one_bit(folder):
    """One bit of one weight makes another model."""
    before = fingerprint(folder)
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert fingerprint(folder) != before


def test_fingerprint_changes_with_the_configuration(folder):
    """A setting that changes the numbers changes the fingerprint; where it was saved does not."""
    before = fingerprint(folder)
    change_config(folder, _name_or_path="x", transformers_version="0", torch_dtype="y", use_cache=1)
    assert fingerprint(folder) == before
    change_config(folder, rms_norm_eps=1e-3)
    assert fingerprint(folder) != before


def test_model_id_depends_on_use(folder):
    """Type, start-token policy and tokenizer are part of the id; the study's name for it is not."""

    def model_id(**options):
        spec = ModelSpec(**({"name": "m", "source": str(folder)} | options))
        return load_model(spec, "cpu").model_id

    plain = model_id()
    assert model_id(name="other", layer=1) == plain
    assert model_id(dtype="float64") != plain
    assert model_id(start_token="never") != plain
    path = folder / "tokenizer_config.json"
    path.write_text(path.read_text() + " ")
    assert model_id() != plain


def test_headers_name_types_and_shapes(folder):
    """A header is read without loading a weight."""
    header = tensor_headers(folder / "model.safetensors")
    entry = header["model.layers.0.mlp.down_proj.weight"]
    assert entry["dtype"] == "F64"
    assert entry["shape"] == [16, 24]


def test_no_folder():
    """What is neither a folder nor of the form of a hub id is refused without asking the hub."""
    with pytest.raises(ModelError, match=r"no model folder \./none"):
        locate_model("./none")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("no route"), "the Hugging Face hub cannot be reached (no route)"),
        (HFValidationError("bad"), "it is no hub id: bad"),
        (ValueError("x"), "the hub gave ValueError: x"),
    ],
)
def test_hub_that_gives_nothing(monkeypatch, error, said):
    """Why the hub gave nothing is said, and that a folder would do."""

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelError) as found:
        locate_model("owner/model")
    assert "no folder owner/model, and" in str(found.value)
    assert said in str(found.value)
    assert "folder." in str(found.value)


def test_no_configuration(folder):
    """A folder without config.json is no model."""
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json in .*save_pretrained wrote"):
        locate_model(str(folder))


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_broken_configuration(folder, text):
    """A config.json that is no JSON object is named."""
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"config\.json of"):
        locate_model(str(folder))


def test_unknown_family(folder):
    """A family without a row is refused with those that there are, nearest first."""
    change_config(folder, model_type="lama")
    with pytest.raises(
        UnknownFamilyError, match=r"no architecture row for model_type 'lama'.*: llama,"
    ):
        locate_model(str(folder))


def test_configuration_without_sizes(folder):
    """A config.json of another model's shape is refused by the missing field."""
    change_config(folder, hidden_size=None)
    with pytest.raises(UnknownFamilyError, match="no num_hidden_layers or hidden_size"):
        locate_model(str(folder))


def test_pickles_only(folder):
    """A folder with pickled weights is refused, and the file is never opened."""
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"found none\. Pickles are never loaded"):
        locate_model(str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(ModelError, match=r"found only pytorch_model\.bin, which are pickles"):
        locate_model(str(folder))


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_truncated_weights(folder, keep):
    """A weight file cut anywhere is not whole, before transformers sees it."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors is not a whole safetensors file"):
        fingerprint(folder)
    with pytest.raises(ModelError, match="copy or download it again"):
        load_model(ModelSpec(name="m", source=str(folder)), "cpu")


@pytest.mark.parametrize("header", [b"[]", b'{"a": 3}', b'{"a": {}}', b"\xff{"])
def test_foreign_header(folder, header):
    """A file that only looks like safetensors is refused."""
    path = folder / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ModelError, match="is not a whole safetensors file"):
        fingerprint(folder)


def test_index_without_its_files(folder):
    """An index that names files which are not there, or is itself broken, is refused."""
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="lacks the weight files model-00002-of-00002"):
        locate_model(str(folder))
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="no usable weight_map"):
        locate_model(str(folder))


def test_missing_weights_are_refused(folder):
    """A whole file that lacks a weight is refused: transformers would fill it at random."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks .*model\.layers\.1\.mlp\.down_proj\.weight"):
        load_model(ModelSpec(name="m", source=str(folder)), "cpu")


def test_folder_without_a_tokenizer(folder):
    """Weights alone cannot be edited: the tokenizer has to stand beside them."""
    files = locate_model(str(folder))
    before = fingerprint_tokenizer(files)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match=r"no tokenizer in model: .*tokenizer\.save_pretrained"):
        fingerprint_tokenizer(files)
    assert len(before) == 32


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"load_in_8bit": True}, "bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq", "bits": 4}, "awq"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({}, "of an unnamed method"),
        ("int8", "of an unnamed method"),
    ],
)
def test_quantised_weights_are_refused(folder, entry, named):
    """Codes are no numbers to add to: refused from the configuration alone, whatever wrote them."""
    change_config(folder, quantization_config=entry)
    found = rf"quantised weights \({named}, says quantization_config.*before quantisation"
    with pytest.raises(ModelError, match=found):
        locate_model(str(folder))


def test_quantisation_is_found_in_its_older_places(folder):
    """Other tools' entry and AutoGPTQ's own file count; an entry that is null does not."""
    change_config(folder, quantization_config=None)
    assert locate_model(str(folder))
    (folder / "quantize_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"\(gptq, says quantize_config.json\)"):
        locate_model(str(folder))
    (folder / "quantize_config.json").unlink()
    change_config(folder, compression_config={"quant_method": "compressed-tensors"})
    with pytest.raises(ModelError, match=r"\(compressed-tensors, says compression_config"):
        locate_model(str(folder))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "tensor",
    [
        "model.embed_tokens.weight",
        "model.norm.weight",
        "model.layers.2.mlp.down_proj.weight",
        "lm_head.weight",
    ],
)
def test_weight_that_is_no_number_is_named(folder, tensor, dtype, number):
    """Tensor, file and count are told, wherever the weight lies and in whatever type it is."""
    weights = load_file(folder / "model.safetensors")
    weights = {name: each.to(getattr(torch, dtype)) for name, each in weights.items()}
    weights[tensor].view(-1)[-2:] = number
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    n_all = weights[tensor].numel()
    found = rf"NaN or infinite.*: {tensor} of model\.safetensors \(2 of {n_all} numbers\)\. Copy"
    with pytest.raises(ModelError, match=found):
        load_model(ModelSpec(name="m", source=str(folder), layer=1, dtype=dtype), "cpu")


def test_every_broken_tensor_counts_but_three_are_shown(folder):
    """Weights in several files: each tensor is told with its own; the rest is a number."""
    shard(folder)
    n_broken = 0
    for path in folder.glob("model-*.safetensors"):
        weights = load_file(path)
        n_broken += len(weights)
        for each in weights.values():
            each.view(-1)[0] = float("nan")
        save_file(weights, path, {"format": "pt"})
    found = rf" of model-00001-of-00002\.safetensors .* and {n_broken - 3} more tensors"
    with pytest.raises(ModelError, match=found):
        load_model(ModelSpec(name="m", source=str(folder), layer=1, dtype="float32"), "cpu")


def test_weight_too_large_for_the_type_asked_for(folder):
    """A weight that float16 cannot hold is infinite there and none in the file: told as such."""
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = 1e5
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    found = r'infinite in dtype = "float16" and finite in its files: model\.norm\.weight\. Use'
    with pytest.raises(ModelError, match=found):
        load_model(ModelSpec(name="m", source=str(folder), layer=1, dtype="float16"), "cpu")
    assert load_model(ModelSpec(name="m", source=str(folder), layer=1, dtype="float32"), "cpu")
