"""A model folder runs no code, and what does not fit in it is refused in a sentence."""

import json
import shutil
import struct
import sys
from pathlib import Path

import pytest

from editcollapse.config.spec import ModelSpec
from editcollapse.errors import ModelError
from editcollapse.models.files import fingerprint_model, locate_model
from editcollapse.models.loading import load_model
from flows.__main__ import USER_ERROR, main

_NESTED = b'{"a":' * 200_000
_ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.fixture
def model(study: Path, tmp_path: Path) -> Path:
    """Return the folder of a small model, free to be spoiled."""
    return shutil.copytree(study.parent / "model", tmp_path / "model")


def _load(folder: Path):
    return load_model(ModelSpec(name="x", source=str(folder)), "cpu")


def _change(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _canary(folder: Path) -> Path:
    """Put code into a model folder under all likely names; return the file that it would leave."""
    mark = folder.parent / "canary"
    code = f"open({str(mark)!r}, 'w').close()\nclass Evil:\n    pass\n"
    for name in ("evil", "modeling_evil", "configuration_evil", "tokenization_evil", "generate"):
        (folder / f"{name}.py").write_text(code)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate/generate.py").write_text(code)
    return mark


CODE = {
    "config.json": [
        {"auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}},
        {"auto_map": {"AutoModelForCausalLM": "someone/repository--evil.Evil"}},
        {"architectures": ["Evil"], "auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}},
    ],
    "tokenizer_config.json": [
        {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}},
        {
            "tokenizer_class": "Evil",
            "auto_map": {"AutoTokenizer": ["tokenization_evil.Evil", None]},
        },
        {"chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}"},
    ],
}


@pytest.mark.parametrize(
    ("name", "changes"), [(name, change) for name, many in CODE.items() for change in many]
)
def test_code_of_a_model_is_never_run(model, name, changes):
    """Custom classes are left alone: the known architecture is loaded, and no file is imported."""
    mark = _canary(model)
    _change(model / name, **changes)
    loaded = _load(model)
    assert type(loaded.model).__module__.startswith("transformers.models.gpt2")
    assert type(loaded.encoder.tokenizer).__module__.startswith("transformers.")
    assert not mark.exists()
    assert not [name for name in sys.modules if name.endswith(("evil", "transformers_modules"))]


@pytest.mark.parametrize("name", ["_attn_implementation", "attn_implementation"])
@pytest.mark.parametrize("kernel", ["someone/kernel", "kernels-community/flash-attn", {"": "x/y"}])
def test_kernel_of_the_hub_is_refused(model, capsys, name, kernel):
    """Transformers would download and run what an attention's name says, without being asked."""
    _change(model / "config.json", **{name: kernel})
    assert main(["check-model", str(model)]) == USER_ERROR
    err = capsys.readouterr().err
    assert "which may be code to download" in err
    assert "Traceback" not in err


def test_adapter_is_refused(model):
    """An adapter makes peft load another model than the one whose weights are here."""
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    with pytest.raises(ModelError, match=r"holds adapter_config\.json.*Merge it into the weights"):
        _load(model)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"])
def test_pickles_are_refused_by_name_or_left_alone(model, name):
    """A pickle alone is refused; beside safetensors it is not opened."""
    (model / name).write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    _load(model)
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=rf"found only {name}.*Pickles are never loaded"):
        _load(model)


HEADERS = {
    "backwards": {"a": _ENTRY, "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 4]}},
    "before the data": {"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 8]}},
    "two in one place": {"a": _ENTRY, "b": _ENTRY},
    "a hole": {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
    "past the end": {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 60]}},
    "text offsets": {"a": {"dtype": "F32", "shape": [2], "data_offsets": ["0", "8"]}},
    "float offsets": {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0.0, 8.0]}},
    "truth offsets": {"a": {"dtype": "F32", "shape": [2], "data_offsets": [False, 8]}},
    "three offsets": {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 9]}},
    "no type": {"a": {"shape": [2], "data_offsets": [0, 8]}},
    "no shape": {"a": {"dtype": "F32", "data_offsets": [0, 8]}},
    "a list": [_ENTRY],
}


@pytest.mark.parametrize("header", HEADERS)
def test_header_that_does_not_fit_is_refused(model, header):
    """Offsets are believed only where they fill the file: nothing hangs, nothing is read twice."""
    text = json.dumps(HEADERS[header]).encode()
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"x" * 8)
    with pytest.raises(ModelError, match="is not a whole safetensors file"):
        fingerprint_model(locate_model(str(model)))


@pytest.mark.parametrize(
    ("claimed", "text"),
    [(99_000_000, b"{}"), (1 << 63, b"{}"), (None, _NESTED), (None, b"9" * 5000), (None, b"\xff")],
    ids=["99 MB", "2^63", "nested", "a number", "no text"],
)
def test_absurd_header_is_refused(model, claimed, text):
    """A header longer than its file, nested without end, or no JSON costs no memory and no time."""
    length = len(text) if claimed is None else claimed
    (model / "model.safetensors").write_bytes(struct.pack("<Q", length) + text)
    with pytest.raises(ModelError, match="is not a whole safetensors file"):
        _load(model)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_embd": 10**9},
        {"n_layer": 10**9},
        {"n_layer": 0},
        {"vocab_size": 10**13},
        {"n_embd": -5},
        {"n_embd": True},
        {"n_embd": float("nan")},
        {"n_head": 0},
        {"dtype": "os.system"},
    ],
    ids=str,
)
def test_configuration_that_is_not_the_weights_is_refused(model, changes):
    """Sizes that the weights do not have are told in a sentence; memory is asked for by none."""
    _change(model / "config.json", **changes)
    with pytest.raises(ModelError):
        _load(model)


@pytest.mark.parametrize(
    "name",
    ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"],
)
def test_nesting_without_end_is_refused(model, name):
    """Each JSON file of a model may be nested deeper than any parser goes."""
    (model / name).write_bytes(_NESTED)
    if name.endswith("index.json"):
        (model / "model.safetensors").unlink()
    with pytest.raises(ModelError):
        _load(model)


@pytest.mark.parametrize(
    "weights", ["../elsewhere.safetensors", "/elsewhere.safetensors", "sub/x.safetensors", 3, None]
)
def test_index_names_files_of_its_folder_alone(model, weights):
    """An index that leads elsewhere is refused, though the file is there."""
    shutil.copy(model / "model.safetensors", model.parent / "elsewhere.safetensors")
    (model / "sub").mkdir()
    (model / "model.safetensors").rename(model / "sub/x.safetensors")
    if weights == "/elsewhere.safetensors":
        weights = str(model.parent / "elsewhere.safetensors")
    index = {"weight_map": {"transformer.wte.weight": weights}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"lacks the weight files|has no usable weight_map"):
        _load(model)


def test_link_to_a_file_that_is_no_model_is_refused(model):
    """Links are how the hub's cache stores files; what they lead to has to be weights."""
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match="is not a whole safetensors file"):
        _load(model)
