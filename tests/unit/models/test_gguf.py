"""GGUF as an input: the numbers of the same model's safetensors, and a sentence for each defect."""

import contextlib
import importlib.metadata
import importlib.util
import shutil
import struct

import numpy as np
import pytest
import torch
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

from editcollapse.config.spec import ModelSpec
from editcollapse.errors import ModelError, UnknownFamilyError
from editcollapse.models.files import digest_model, locate_model, name_of
from editcollapse.models.gguf_header import READ_BY_TRANSFORMERS, read_gguf
from editcollapse.models.loading import load_model
from editcollapse.rome.check import check_model
from tests.support.tiny_gguf import CONFIGS, D_KEY, D_MODEL, N_LAYERS, write_twins

TEXT = "The capital of Arden is Lumo Bram"


def loaded(path, dtype="float32"):
    """Return a model as studies load it."""
    return load_model(ModelSpec(name="tiny", source=str(path), dtype=dtype), "cpu")


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Return a tiny llama as GGUF and as safetensors."""
    return write_twins("llama", tmp_path_factory.mktemp("gguf"))


@pytest.fixture
def damaged(twins, tmp_path):
    """Return a copy of the GGUF, to be damaged."""
    return shutil.copy(twins.gguf, tmp_path / "tiny.gguf")


@pytest.mark.parametrize("architecture", CONFIGS)
def test_gguf_gives_the_numbers_of_the_safetensors(architecture, tmp_path):
    twins = write_twins(architecture, tmp_path)
    ours, theirs = loaded(twins.folder), loaded(twins.gguf)
    ids = theirs.encoder.sequence(TEXT)
    assert ids == ours.encoder.sequence(TEXT)
    with torch.no_grad():
        expected, found = (each.model(torch.tensor([ids])).logits for each in (ours, theirs))
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert theirs.widths == ours.widths
    assert theirs.quantization is None
    assert check_model(theirs).passed


@pytest.mark.parametrize(
    ("file_type", "named"), [(7, "Q8_0"), (None, "Q8_0"), (15, "Q4_K_M"), (1, "Q8_0")]
)
def test_quantised_weights_are_dequantised_and_named(file_type, named, tmp_path):
    """The file's own word counts; without one, or with one that cannot be, the tensors' type."""
    twins = write_twins("llama", tmp_path, "Q8_0", file_type=file_type)
    files = locate_model(str(twins.gguf))
    assert files.quantization == named
    model, reference = loaded(twins.gguf), loaded(twins.folder)
    for ours, theirs in zip(reference.model.parameters(), model.model.parameters(), strict=True):
        assert (ours - theirs).abs().max() <= 1e-6
    assert f"float32 dequantised from {named}" in check_model(model).lines()[0]


def test_gguf_in_the_asked_type(twins):
    assert loaded(twins.gguf, "bfloat16").dtype == torch.bfloat16
    assert loaded(twins.gguf, "float64").dtype == torch.float64


def test_sizes_are_known_without_weights(twins):
    files = locate_model(str(twins.gguf))
    widths = files.widths
    assert (widths.n_layers, widths.d_model, widths.d_key) == (N_LAYERS, D_MODEL, D_KEY)
    assert widths.n_vocabulary == loaded(twins.folder).widths.n_vocabulary
    assert files.weight_bytes == 4 * loaded(twins.folder).n_parameters
    assert files.source == "tiny.gguf"
    assert name_of(files.source) == "tiny"


def test_fingerprint_is_of_the_file(twins, damaged):
    """A file, its folder and a copy of another name are one model; another byte is another."""
    spec = ModelSpec(name="tiny", source=str(twins.gguf))
    expected = digest_model(locate_model(str(damaged)), spec)
    alone = digest_model(locate_model(str(damaged.parent)), spec)
    renamed = damaged.rename(damaged.with_name("other.gguf"))
    assert expected == alone == digest_model(locate_model(str(renamed)), spec)
    data = bytearray(renamed.read_bytes())
    data[-1] ^= 1
    renamed.write_bytes(data)
    assert digest_model(locate_model(str(renamed)), spec).fingerprint != expected.fingerprint


def test_safetensors_go_before_a_gguf_in_one_folder(twins, tmp_path):
    folder = shutil.copytree(twins.folder, tmp_path / "both")
    shutil.copy(twins.gguf, folder)
    assert locate_model(str(folder)).gguf is None


def test_several_gguf_files_in_a_folder_are_refused(damaged):
    shutil.copy(damaged, damaged.with_name("another.gguf"))
    with pytest.raises(ModelError, match=r"2 GGUF files \(another\.gguf, tiny\.gguf\): name"):
        locate_model(str(damaged.parent))


@pytest.mark.parametrize("name", ["gguf", "accelerate"])
def test_missing_extra_is_named(twins, name, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked: None if asked == name else found(asked)
    )
    with pytest.raises(ModelError, match=rf"needs the package {name}: pip install"):
        locate_model(str(twins.gguf))


def test_a_release_that_reads_tokenizers_wrongly_is_refused(twins, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "5.17.0")
    with pytest.raises(ModelError, match=r"transformers 5\.17\.0 reads .* wrongly: pip install"):
        locate_model(str(twins.gguf))


def test_no_such_file():
    with pytest.raises(ModelError, match=r"no model file none\.gguf"):
        locate_model("none.gguf")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.6, 0.999])
def test_cut_file_is_refused(damaged, share):
    data = damaged.read_bytes()
    damaged.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError, match=r"is no GGUF file|is not a whole GGUF file"):
        locate_model(str(damaged))


def test_other_files_are_refused(damaged):
    damaged.write_bytes(b"PK\3\4 not a model")
    with pytest.raises(ModelError, match="is no GGUF file, whatever its name says"):
        locate_model(str(damaged))
    damaged.write_bytes(b"GGUF" + struct.pack("<I", 1) + bytes(64))
    with pytest.raises(ModelError, match="is GGUF of version 1"):
        locate_model(str(damaged))


def test_counts_of_a_hostile_header_are_not_believed(damaged):
    """Every count of the first bytes as large as it can be: a sentence, at once."""
    data = damaged.read_bytes()
    for at in range(8, 200, 4):
        damaged.write_bytes(data[:at] + b"\xff" * 8 + data[at + 8 :])
        with contextlib.suppress(ModelError, UnknownFamilyError):
            locate_model(str(damaged))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"split.count": 3}, "is one of 3 parts"),
        ({"general.type": "adapter"}, "holds no model but, as it says, 'adapter'"),
        ({"llama.rope.scaling.type": "yarn"}, "scaled rotary positions .rope.scaling.type"),
    ],
)
def test_what_would_be_another_model_is_refused(more, sentence, tmp_path):
    twins = write_twins("llama", tmp_path, more=more)
    with pytest.raises(ModelError, match=sentence):
        locate_model(str(twins.gguf))


def test_architecture_that_transformers_does_not_read(damaged):
    data = damaged.read_bytes().replace(b"llama", b"rwkv7", 1)
    damaged.write_bytes(data)
    with pytest.raises(ModelError, match="architecture 'rwkv7', of which transformers reads no"):
        locate_model(str(damaged))


def test_architecture_without_a_row(damaged):
    damaged.write_bytes(damaged.read_bytes().replace(b"llama", b"mamba"))
    with pytest.raises(UnknownFamilyError, match="no architecture row for model_type 'mamba'"):
        locate_model(str(damaged))


def test_architectures_are_those_of_transformers():
    spelled = {name.replace("-", "").replace("_", "") for name in READ_BY_TRANSFORMERS}
    theirs = {name.replace("_", "") for name in GGUF_SUPPORTED_ARCHITECTURES}
    assert spelled == theirs - {"general", "tokenizer", "t5", "umt5"}


def test_weights_that_are_no_numbers_are_refused(damaged):
    data = bytearray(damaged.read_bytes())
    data[-4:] = np.float32("nan").tobytes()
    damaged.write_bytes(data)
    with pytest.raises(ModelError, match=r"NaN or infinite.* of tiny\.gguf \(1 of"):
        loaded(damaged)


def test_header_is_read_once_while_the_file_is_the_same(twins, damaged):
    assert read_gguf(twins.gguf) is read_gguf(twins.gguf)
    assert read_gguf(damaged) == read_gguf(twins.gguf)
    damaged.write_bytes(damaged.read_bytes()[:-64])
    with pytest.raises(ModelError, match="is not a whole GGUF file"):
        read_gguf(damaged)
