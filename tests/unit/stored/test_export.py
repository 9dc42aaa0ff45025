"""Exports: plain transformers and peft read back what was measured; nothing else has changed."""

import json

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file

from editcollapse.errors import ModelError, ResultsError, StudyError
from editcollapse.stored import export as exporting
from editcollapse.stored.export import export_update
from editcollapse.stored.export_options import Base, ExportOptions
from editcollapse.stored.folder import RECORD
from editcollapse.stored.licences import UNKNOWN
from editcollapse.stored.updates import LayerUpdate, StoredUpdate
from editcollapse.stored.weight_files import down_projection_name, read_tensor, stored_tensors
from editcollapse.stored.weights import in_weights
from editcollapse.study.known_updates import UpdateFacts
from tests.support.edited import (
    FACTS,
    base_of,
    found,
    in_dtype,
    logits_of,
    plain,
    update_of,
)
from tests.support.tiny import unlike_families
from tests.support.tiny_gguf import write_twins

HEADS = ("gpt2", "gpt2_untied_square", "llama", "llama_square")
"""Conv1D and Linear, each with a tied and an untied head."""
DTYPES = ("float64", "float32", "bfloat16")
ROUNDING = {"float64": 1e-12, "float32": 2e-4, "bfloat16": 0.3}
"""Of logits of about 10, where the change is a product in the type of the weights."""
#: peft asks transformers 5 for a name that it will lose.
old_name = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
models = pytest.mark.parametrize("variant", HEADS)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture
def base(tiny_folder, tmp_path):
    """Return a function that gives a tiny model in a type."""

    def make(variant="gpt2", dtype="float64"):
        return found(in_dtype(tiny_folder(variant), tmp_path / "base", dtype), dtype)

    return make


def export(base, update, folder, **options):
    """Export an update; return the folder."""
    export_update(update, base_of(base), FACTS, folder, ExportOptions(**options))
    return folder


@models
@dtypes
def test_transformers_reads_the_edited_model(base, variant, dtype, tmp_path):
    """Equal logits, bit by bit, to the model with the update in its weights; all else as it was."""
    model = base(variant, dtype)
    update = update_of(model, {0: 1, 1: 3})
    folder = export(model, update, tmp_path / "edited")
    read = plain(folder)
    assert str(read.dtype) == f"torch.{dtype}"
    unedited = plain(model.files.folder)
    before = logits_of(unedited)
    with in_weights(unedited, update):
        assert torch.equal(logits_of(read), logits_of(unedited))
        assert not torch.equal(logits_of(unedited), before)
    assert torch.equal(logits_of(unedited), before)

    old, new = (load_file(path / "model.safetensors") for path in (model.files.folder, folder))
    tensors = stored_tensors(model.files)
    edited = {down_projection_name(model.files, tensors, layer) for layer in (0, 1)}
    assert old.keys() == new.keys()
    assert {name for name in old if not torch.equal(old[name], new[name])} == edited
    beside = {path.name for path in model.files.folder.iterdir()}
    assert beside | {"README.md", RECORD} == {path.name for path in folder.iterdir()}


@models
@dtypes
@old_name
def test_peft_reads_the_adapter(base, variant, dtype, tmp_path):
    """Loaded, and merged, it is the edited model; unloaded it is the unedited one, bit by bit."""
    model = base(variant, dtype)
    update = update_of(model, {0: 1, 1: 3}, size=0.2)
    folder = export(model, update, tmp_path / "adapter", kind="adapter")
    unedited = plain(model.files.folder)
    before = {name: each.clone() for name, each in unedited.state_dict().items()}
    with in_weights(unedited, update):
        expected = logits_of(unedited)
    reach = ROUNDING[dtype] * float(expected.abs().max())

    adapted = PeftModel.from_pretrained(unedited, folder)
    assert {name for name, _ in adapted.named_parameters() if "lora_" in name}
    assert float((logits_of(adapted) - expected).abs().max()) < reach
    back = adapted.unload()
    assert back.state_dict().keys() == before.keys()
    assert all(torch.equal(each, before[name]) for name, each in back.state_dict().items())

    merged = PeftModel.from_pretrained(plain(model.files.folder), folder).merge_and_unload()
    assert float((logits_of(merged) - expected).abs().max()) < reach


def test_factors_are_the_update(base, tmp_path):
    """Bare factors multiply to it; what is whole stays whole."""
    model = base()
    update = update_of(model, {0: 2, 2: None})
    folder = export(model, update, tmp_path / "factors", kind="factors")
    stored = load_file(folder / "factors.safetensors")
    assert torch.equal(stored["left.0"] @ stored["right.0"], update.layers[0].matrix)
    assert torch.equal(stored["whole.2"], update.layers[1].matrix)


def test_adapter_needs_no_model(base, tmp_path):
    """An adapter is written of an update alone; weights are not."""
    model = base()
    update = update_of(model, {1: 1})
    known = Base("org/model", "main", model.files.architecture, None)
    options = ExportOptions(kind="adapter")
    export_update(update, known, FACTS, tmp_path / "adapter", options)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/model"
    with pytest.raises(ModelError, match="Say where it lies with `model`"):
        export_update(update, known, FACTS, tmp_path / "weights", ExportOptions())
    assert not (tmp_path / "weights").exists()


def test_large_models_are_written_in_shards(base, tmp_path):
    """No file is larger than asked for, and all together are the model."""
    model = base("llama")
    update = update_of(model, {1: 1})
    folder = export(model, update, tmp_path / "edited", max_shard_size="10kB")
    files = sorted(folder.glob("model-*.safetensors"))
    assert len(files) > 2
    assert all(path.stat().st_size < 15_000 for path in files)
    whole = export(model, update, tmp_path / "whole")
    assert torch.equal(logits_of(plain(folder)), logits_of(plain(whole)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_another_type_is_written_and_said(base, dtype, tmp_path):
    """All weights, and the configuration, are of the type that is asked for."""
    model = base("gpt2", "float64")
    folder = export(model, update_of(model, {1: 1}), tmp_path / "edited", dtype=dtype)
    assert str(plain(folder).dtype) == f"torch.{dtype}"
    record = json.loads((folder / RECORD).read_text())
    (layer,) = record["layers"]
    assert layer["rounded"] < {"float32": 1e-6, "bfloat16": 0.02}[dtype]
    said = "Rounding to the type" in (folder / "README.md").read_text()
    assert said == (dtype == "bfloat16")


def test_update_is_rounded_once(base, tmp_path):
    """W + dW in float64, then the type: an update below W's last digit is not lost in parts."""
    model = base("llama", "bfloat16")
    update = update_of(model, {1: 2})
    folder = export(model, update, tmp_path / "edited")
    tensors = stored_tensors(model.files)
    name = down_projection_name(model.files, tensors, 1)
    exact = read_tensor(tensors[name]).double() + update.layers[0].matrix
    assert torch.equal(load_file(folder / "model.safetensors")[name], exact.to(torch.bfloat16))


@unlike_families
def test_every_family_is_exported(base, variant, tmp_path):
    """Whatever a checkpoint calls its tensors, the one that is edited is the down projection."""
    model = base(variant)
    update = update_of(model, {1: 1})
    read = plain(export(model, update, tmp_path / "edited"))
    unedited = plain(model.files.folder)
    with in_weights(unedited, update):
        assert torch.equal(logits_of(read), logits_of(unedited))


def test_multimodal_checkpoint_keeps_its_other_parts(tiny_folder, tmp_path):
    """Of a multimodal checkpoint the text model alone is edited; the folder stays whole."""
    model = found(tiny_folder("gemma3_multimodal"), "float64")
    update = update_of(model, {1: 1})
    folder = export(model, update, tmp_path / "edited")
    again = found(folder, "float64")
    old, new = (stored_tensors(each.files) for each in (model, again))
    changed = [n for n in old if not torch.equal(read_tensor(old[n]), read_tensor(new[n]))]
    assert old.keys() == new.keys()
    assert changed == [down_projection_name(model.files, old, 1)]


def test_gguf_is_written_dequantised_and_says_so(tmp_path):
    """Its weights as plain numbers, the update in them, and a card that says what they were."""
    twins = write_twins("llama", tmp_path / "models", "Q8_0", file_type=7)
    model = found(twins.gguf, "float32")
    update = update_of(model, {1: 1})
    folder = export(model, update, tmp_path / "edited")
    unedited = plain(twins.gguf.parent, gguf_file=twins.gguf.name, dtype=torch.float32)
    with in_weights(unedited, update):
        assert torch.equal(logits_of(plain(folder)), logits_of(unedited))
    card = (folder / "README.md").read_text()
    assert "`tiny.gguf` of Q8_0: these are its weights dequantised to float32" in card
    assert "tokenizer.json" in {path.name for path in folder.iterdir()}


def test_full_rank_is_no_adapter_unless_cut(base, tmp_path):
    """A full-rank update is refused with a remedy; cut, it says what is lost."""
    model = base()
    update = update_of(model, {1: None})
    with pytest.raises(ResultsError, match=r"full rank \(16 directions in 16 x 24\).*`rank`"):
        export(model, update, tmp_path / "adapter", kind="adapter")
    assert not (tmp_path / "adapter").exists()
    folder = export(model, update, tmp_path / "adapter", kind="adapter", rank=4)
    values = torch.linalg.svdvals(update.layers[0].matrix)
    lost = float(values[4:].norm() / values.norm())
    (layer,) = json.loads((folder / RECORD).read_text())["layers"]
    assert layer["rank"] == 4
    assert layer["cut"] == pytest.approx(lost)
    assert f"left out is {lost:.3g} of its Frobenius norm" in (folder / "README.md").read_text()


def test_whole_update_of_low_rank_is_an_adapter(base, tmp_path):
    """A sum that is stored whole has the directions that it has."""
    model = base()
    factors = update_of(model, {1: 3}).layers[0]
    update = StoredUpdate(
        model.model_id, model.spec, "whole", (LayerUpdate(1, factors.matrix, None),)
    )
    folder = export(model, update, tmp_path / "adapter", kind="adapter")
    (layer,) = json.loads((folder / RECORD).read_text())["layers"]
    assert (layer["rank"], layer["cut"]) == (3, 0.0)


def test_no_update_at_all_is_an_adapter_of_zeros(base, tmp_path):
    """A sum of nothing, as of a sequence whose guard refused all, changes nothing."""
    model = base()
    zeros = torch.zeros(16, 24, dtype=torch.float64)
    update = StoredUpdate(model.model_id, model.spec, "none", (LayerUpdate(1, zeros, None),))
    folder = export(model, update, tmp_path / "adapter", kind="adapter")
    tensors = load_file(folder / "adapter_model.safetensors")
    assert all(not each.any() for each in tensors.values())


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["weights", "adapter", "factors"])
def test_what_is_no_number_is_refused(base, kind, number, tmp_path):
    model = base()
    update = update_of(model, {1: 1})
    update.layers[0].left[3] = number
    with pytest.raises(ResultsError, match="layer 1 holds NaN or infinite numbers"):
        export(model, update, tmp_path / "out", kind=kind)
    assert list(tmp_path.iterdir()) == [tmp_path / "base"]


@pytest.mark.parametrize("kind", ["weights", "adapter", "factors"])
def test_numbers_beyond_a_type_are_refused(base, kind, tmp_path):
    """float16 ends at 65504."""
    model = base()
    update = update_of(model, {1: 1}, size=1e12)
    with pytest.raises(ModelError, match=r"that torch\.float16 has not"):
        export(model, update, tmp_path / "out", kind=kind, dtype="float16")
    assert not (tmp_path / "out").exists()


def test_update_of_another_model_is_refused(base, tiny_folder, tmp_path):
    model = base("gpt2")
    other = found(tiny_folder("gpt2_untied_square"), "float64")
    with pytest.raises(ModelError, match=r"is \(16, 24\), and W of the model there \(16, 16\)"):
        export(other, update_of(model, {1: 1}), tmp_path / "out")
    with (
        pytest.raises(ModelError, match=r"is \(16, 24\) and the model's W there \(16, 16\)"),
        in_weights(plain(other.files.folder), update_of(model, {1: 1})),
    ):
        pass


def test_weights_come_back_after_an_error(base):
    """Whatever happens in the block."""
    model = base("llama", "bfloat16")
    loaded = plain(model.files.folder)
    before = {name: each.clone() for name, each in loaded.state_dict().items()}
    with pytest.raises(KeyError), in_weights(loaded, update_of(model, {0: 1, 2: None})):
        raise KeyError
    assert all(torch.equal(each, before[name]) for name, each in loaded.state_dict().items())


def test_folders_of_others_stay(base, tmp_path):
    """What holds files is refused; an earlier export goes when asked, someone's files never."""
    model = base()
    update, folder = update_of(model, {1: 1}), tmp_path / "out"
    export(model, update, folder, kind="factors")
    with pytest.raises(ResultsError, match=r"holds files already.*`overwrite`"):
        export(model, update, folder, kind="factors")
    export(model, update, folder, kind="adapter", overwrite=True)
    assert not (folder / "factors.safetensors").exists()
    (folder / RECORD).unlink()
    with pytest.raises(ResultsError, match="files that no export wrote"):
        export(model, update, folder, kind="factors", overwrite=True)
    assert (folder / "adapter_config.json").exists()


def test_failed_export_leaves_what_was_there(base, monkeypatch, tmp_path):
    """The folder is there as a whole or not at all, and the earlier export stays."""
    model = base()
    update, folder = update_of(model, {1: 1}), tmp_path / "out"
    export(model, update, folder, kind="factors")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "card_text", full)
    with pytest.raises(ResultsError, match=r"No space left on device\. Nothing of it was kept"):
        export(model, update, folder, overwrite=True)
    assert (folder / "factors.safetensors").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"base", "out"}


def header_of(folder):
    """Return a card's header."""
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def test_card_has_the_licence_of_the_base(base, tmp_path):
    """Of its card, in all its fields; unknown where it has none."""
    model = base()
    update = update_of(model, {1: 1})
    assert header_of(export(model, update, tmp_path / "a"))["license"] == UNKNOWN
    card = "---\nlicense: other\nlicense_name: own\nlicense_link: https://x.y/z\n---\n# base\n"
    (model.files.folder / "README.md").write_text(card)
    header = header_of(export(model, update, tmp_path / "b", kind="adapter"))
    assert header["license"] == "other"
    assert (header["license_name"], header["license_link"]) == ("own", "https://x.y/z")
    assert header["base_model"] == "base"
    assert (header["base_model_relation"], header["library_name"]) == ("adapter", "peft")
    for broken in ("---\n- [\n---\n", "---\nlicense: 3\n---\n", "no header"):
        (model.files.folder / "README.md").write_text(broken)
        header = header_of(export(model, update, tmp_path / "b", kind="factors", overwrite=True))
        assert header["license"] == UNKNOWN


def test_hostile_texts_are_code_in_the_card(base, tmp_path):
    """No text of a data set is markup, a table's end, or a header of its own."""
    model = base()
    facts = UpdateFacts(
        method="rome",
        layers=(1,),
        subject="a`b``c | d\n---\nlicense: none",
        prompt="{} <script>alert(1)</script>\x1b[31m",
        target_new="`",
    )
    folder = tmp_path / "out"
    export_update(update_of(model, {1: 1}), base_of(model), facts, folder, ExportOptions())
    card = (folder / "README.md").read_text()
    assert header_of(folder)["license"] == UNKNOWN
    assert "``` a`b``c \\| d\\n---\\nlicense: none ```" in card
    assert "`{} <script>alert(1)</script>\\x1b[31m`" in card
    assert "`` ` ``" in card


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "pickle"}, "`kind` 'pickle'"),
        ({"dtype": "int8"}, "`dtype` 'int8'"),
        ({"rank": 2}, "`rank` 2: it is of an adapter"),
        ({"kind": "adapter", "rank": 0}, "`rank` 0"),
        ({"max_shard_size": "large"}, "`max_shard_size` 'large'"),
        ({"max_shard_size": "0GB"}, "`max_shard_size` '0GB'"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(StudyError, match=words):
        ExportOptions(**options)
