"""What an edited model is given as: a model's files, a LoRA adapter, or changes by weight name.

Nothing is loaded here: files are told apart, held against the model that they are said to be made
from, and identified by content. Pickles are never read.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from editcollapse.errors import ModelError
from editcollapse.fingerprints import digest, digest_file
from editcollapse.judging.lora_config import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    LoraConfig,
    read_lora_config,
)
from editcollapse.models.files import (
    ModelFiles,
    fingerprint_model,
    fingerprint_tokenizer,
    folder_of,
    has_tokenizer,
    locate_model,
    tensor_headers,
)

EditedKind = Literal["model", "adapter", "delta"]

_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".npy")
_SAFETENSORS = ".safetensors"


@dataclasses.dataclass(frozen=True, slots=True)
class EditedSource:
    """An edited model, as far as its files tell."""

    kind: EditedKind
    source: str
    """The hub id, or the folder's or file's own name: nothing of the machine."""
    digest: str
    """Of all that decides the edited model's numbers, beside the unedited one."""
    model: ModelFiles | None = None
    """Of a whole model."""
    weights: Path | None = None
    """The file of an adapter's factors, or of a delta."""
    lora: LoraConfig | None = None
    """Of an adapter."""


def identify_edited(source: str, revision: str | None, base: ModelFiles) -> EditedSource:
    """Return what an edited model is given as.

    Args:
        source: a folder, a GGUF file or a hub id of a model or of a LoRA adapter, or a safetensors
            file of changes.
        revision: branch, tag or commit, for a hub id.
        base: the model that it is said to be made from.

    Raises:
        ModelError: there is no such thing, it is a pickle, an adapter other than LoRA, or a model
            of another family or of other sizes.
    """
    path = Path(source).expanduser()
    if path.is_file() and path.suffix.lower() in _PICKLES:
        raise ModelError(
            f"{path.name} is a pickle or of no known kind, and pickles are never loaded. Where you "
            "trust it, convert it there: safetensors.torch.save_file(changes, "
            '"delta.safetensors"), where changes holds for each weight NAME its change, or its '
            "factors as NAME.matU and NAME.matV."
        )
    if path.is_file() and path.suffix.lower() == _SAFETENSORS:
        tensor_headers(path)
        return EditedSource("delta", path.name, digest_file(path), weights=path)
    is_gguf = path.suffix.lower() == ".gguf"
    folder = path if is_gguf else folder_of(source, revision)
    if not is_gguf and (folder / CONFIG_FILE).is_file():
        return _adapter(folder, source if not path.is_dir() else folder.resolve().name)
    edited = locate_model(source, revision)
    _check_same_shape(base, edited)
    own_tokenizer = fingerprint_tokenizer(edited) if has_tokenizer(edited) else None
    found = digest("edited model", fingerprint_model(edited), own_tokenizer)
    return EditedSource("model", edited.source, found, model=edited)


def _adapter(folder: Path, name: str) -> EditedSource:
    """Return a LoRA adapter. Raises ModelError where it is another, or a model lies beside it."""
    if (folder / "config.json").is_file():
        raise ModelError(
            f"{name} holds {CONFIG_FILE} and config.json: an adapter and a model in one folder, so "
            "that it is not clear which is meant. Put them into folders of their own."
        )
    lora = read_lora_config(folder, name)
    weights = folder / WEIGHTS_FILE
    tensor_headers(weights)
    return EditedSource(
        "adapter", name, digest("adapter", lora, digest_file(weights)), weights=weights, lora=lora
    )


def _check_same_shape(base: ModelFiles, edited: ModelFiles) -> None:
    """Raise ModelError where two models are of other families or sizes."""
    if base.architecture.family != edited.architecture.family:
        raise ModelError(
            f"{edited.source} is a {edited.architecture.family}, and {base.source} a "
            f"{base.architecture.family}: neither is made from the other. Give a model and what "
            "was made from it."
        )
    if base.widths != edited.widths:
        raise ModelError(
            f"{edited.source} has another shape than {base.source}: {_in_words(edited)}; "
            f"{_in_words(base)}. A check compares a model with what it was made from, weight by "
            "weight: give that."
        )


def _in_words(files: ModelFiles) -> str:
    widths = files.widths
    return (
        f"{files.source} has {widths.n_layers} layers, D {widths.d_model}, K {widths.d_key}, "
        f"{widths.n_vocabulary} tokens"
    )
