"""A model's files, read without torch: where they are, what they hold, their fingerprint.

What a safetensors file says of itself is believed only where it fits the file.
"""

import dataclasses
import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editcollapse.catalog.architectures import (
    TEXT_PARTS,
    Architecture,
    TextPart,
    Widths,
    architecture_of,
    widths_of,
)
from editcollapse.data.hub import hub_refusal
from editcollapse.errors import ModelError
from editcollapse.fingerprints import DIGEST_BYTES, canonical, digest, digest_file
from editcollapse.models.chat import no_chat_template
from editcollapse.models.gguf_header import SUFFIX as GGUF_SUFFIX
from editcollapse.models.gguf_header import GgufHeader, gguf_in, read_gguf

if TYPE_CHECKING:
    from editcollapse.config.spec import ModelSpec


_HEADER_LIMIT = 100_000_000
_CHUNK = 1 << 22
_FLOAT32_BYTES = 4


def tensor_headers(path: Path) -> dict[str, dict[str, Any]]:
    """Return name to ``{"dtype", "shape", "data_offsets"}`` of a safetensors file.

    Raises:
        ModelError: the file is not safetensors or is cut short.
    """
    header, _ = _read_header(path)
    return header


@lru_cache(maxsize=256)
def tensor_digests(path: Path, size: int, changed_ns: int) -> tuple[tuple[str, str], ...]:  # noqa: ARG001
    """Return each tensor's name and the digest of its type, shape and bytes.

    A file of the same size and time of change is read once in a process.

    Raises:
        ModelError: as ``tensor_headers``.
    """
    header, start = _read_header(path)
    digests = {}
    with path.open("rb") as stream:
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
            hasher.update(f"{entry['dtype']}{entry['shape']}".encode())
            stream.seek(start + first)
            left = last - first
            while left:
                chunk = stream.read(min(left, _CHUNK))
                hasher.update(chunk)
                left -= len(chunk)
            digests[name] = hasher.hexdigest()
    return tuple(digests.items())


def _read_header(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """Return the header without its metadata, and the offset at which the data begins."""
    broken = f"{path.name} is not a whole safetensors file: copy or download it again."
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= min(_HEADER_LIMIT, size - 8):
            raise ModelError(broken)
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError) as error:
            raise ModelError(broken) from error
    if not isinstance(header, dict):
        raise ModelError(broken)
    header.pop("__metadata__", None)
    if not all(_is_entry(entry) for entry in header.values()):
        raise ModelError(broken)
    # Tensors lie one behind the other and fill the file: none is there twice, none is missing.
    end = 0
    for first, last in sorted(tuple(entry["data_offsets"]) for entry in header.values()):
        if first != end:
            raise ModelError(broken)
        end = last
    if 8 + length + end != size:
        raise ModelError(broken)
    return header, 8 + length


def _is_entry(entry: Any) -> bool:
    """Return whether a header's entry has the form that it must have."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return False
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list):
        return False
    counts = [*shape, *offsets]
    plain = all(type(count) is int and count >= 0 for count in counts)
    return plain and len(offsets) == 2 and offsets[0] <= offsets[1]  # noqa: PLR2004


_NOT_IN_NAMES = re.compile(r"[^\w.-]")
_LONGEST_NAME = 80
_HUB_ID = re.compile(r"^[\w.-]+(/[\w.-]+)?$")
_PATTERNS = [
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "tokenizer.model",
    "*.txt",
    "README.md",
    "LICENSE*",
]
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
)
_CHAT_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
_VOLATILE = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache")
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
_ADAPTER = "adapter_config.json"
_QUANTISED = ("quantization_config", "compression_config")
_GPTQ_FILE = "quantize_config.json"
"""What AutoGPTQ wrote before config.json had a place for it."""
_ATTENTION = ("_attn_implementation", "attn_implementation")
_ATTENTIONS = (None, "eager", "sdpa")
"""What a configuration may ask for; other names make transformers fetch code from the hub."""


@dataclasses.dataclass(frozen=True, slots=True)
class PlainFolder:
    """A model's folder: its configuration and its weights, of whatever family."""

    folder: Path
    source: str
    """The hub id, the folder's own name, or a GGUF file's: nothing of the machine."""
    config: dict[str, Any]
    weight_files: tuple[Path, ...]
    gguf: GgufHeader | None = dataclasses.field(default=None, kw_only=True)
    """Of the one weight file, where it is a GGUF, which holds everything else as well."""

    @property
    def weight_bytes(self) -> int:
        """Size of the weights on disk; of a GGUF, as float32."""
        if self.gguf is not None:
            return _FLOAT32_BYTES * self.gguf.n_numbers
        return sum(path.stat().st_size for path in self.weight_files)

    @property
    def quantization(self) -> str | None:
        """What the weights were dequantised from; None where they are plain numbers."""
        return None if self.gguf is None else self.gguf.quantization


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFiles(PlainFolder):
    """A model in a local folder, as far as its files tell."""

    architecture: Architecture
    widths: Widths
    text_part: TextPart | None = dataclasses.field(default=None, kw_only=True)
    """Of a multimodal checkpoint, where ``config`` is its text model's."""


def name_of(source: str) -> str:
    """Name of a model in a study that names it by its source alone.

    Args:
        source: a folder, a GGUF file or a hub id; the last part counts.
    """
    name = Path(source).name.removesuffix(GGUF_SUFFIX)
    return _NOT_IN_NAMES.sub("_", name)[:_LONGEST_NAME]


def locate_model(source: str, revision: str | None = None) -> ModelFiles:
    """Return the files of a model on this machine or on the Hugging Face hub.

    Args:
        source: a folder, a GGUF file, or a hub id, which is downloaded into the hub's own cache.
        revision: branch, tag or commit, for a hub id.

    Raises:
        ModelError: no such folder, file or hub model; no ``config.json`` and safetensors weights
            and no GGUF file in it; or a GGUF that cannot be read.
        UnknownFamilyError: the architecture table has no row for it.
    """
    plain = plain_folder(source, revision)
    part = TEXT_PARTS.get(str(plain.config.get("model_type")))
    if part is not None:
        plain = dataclasses.replace(plain, config=_text_config(plain, part))
    row = architecture_of(plain.config, source)
    return ModelFiles(
        folder=plain.folder,
        source=plain.source,
        config=plain.config,
        architecture=row,
        widths=widths_of(plain.config, source),
        text_part=part,
        weight_files=plain.weight_files,
        gguf=plain.gguf,
    )


def _text_config(whole: PlainFolder, part: TextPart) -> dict[str, Any]:
    """Return the text model's configuration inside a multimodal checkpoint's.

    Raises:
        ModelError: there is none, or it asks for other than plain weights.
    """
    own = whole.config.get(part.config)
    if not isinstance(own, dict):
        raise ModelError(
            f"config.json of {whole.source} has no {part.config}, which says what its text model "
            "is. Is it the model's own config.json?"
        )
    _check_plain(whole.folder, own, whole.source)
    stored = {name: whole.config[name] for name in ("dtype", "torch_dtype") if name in whole.config}
    # Published files leave out what is as in transformers' defaults, the vocabulary among it.
    rows = {"vocab_size": _n_embedded(whole.weight_files, part)}
    return stored | rows | own | {"model_type": part.family}


def _n_embedded(weight_files: tuple[Path, ...], part: TextPart) -> int:
    """Return the rows of a text model's embedding; 0 where no tensor has its name."""
    names = [f"{prefix}embed_tokens.weight" for prefix in part.decoders]
    headers = [tensor_headers(path) for path in weight_files]
    shapes = [header[name]["shape"] for header in headers for name in names if name in header]
    return int(shapes[0][0]) if shapes and shapes[0] else 0


def plain_folder(source: str, revision: str | None = None) -> PlainFolder:
    """Return the files of a model of any family: configuration and weights, nothing that runs.

    A folder's GGUF file counts only where it has no safetensors.

    Args:
        source: a folder, a GGUF file, or a hub id, which is downloaded into the hub's own cache.
        revision: branch, tag or commit, for a hub id.

    Raises:
        ModelError: as ``locate_model``.
        UnknownFamilyError: a GGUF's family is not in the architecture table.
    """
    folder = Path(source).expanduser()
    gguf = _gguf_of(folder)
    if gguf is not None:
        header = read_gguf(gguf)
        return PlainFolder(gguf.parent, gguf.name, header.config, (gguf,), gguf=header)
    if not folder.is_dir():
        folder = _download(source, revision)
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise ModelError(f"no config.json in {source}: give the folder that save_pretrained wrote.")
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"config.json of {source} is not JSON: {error}.") from error
    if not isinstance(config, dict):
        raise ModelError(f"config.json of {source} holds no object.")
    _check_plain(folder, config, source)
    name = source if not Path(source).expanduser().is_dir() else folder.resolve().name
    return PlainFolder(folder, name, config, _weight_files(folder, source))


def _gguf_of(path: Path) -> Path | None:
    """Return the GGUF file that a path names or that its folder holds beside no safetensors.

    Raises:
        ModelError: there is no such file, or the folder holds several.
    """
    if path.suffix.lower() == GGUF_SUFFIX and not path.is_dir():
        if not path.is_file():
            raise ModelError(f"no model file {path}. Give an existing .gguf file.")
        return path.resolve()
    if not path.is_dir() or any((path / name).is_file() for name in _SAFETENSORS):
        return None
    return gguf_in(path.resolve())


def fingerprint_model(files: ModelFiles) -> str:
    """Return the digest of configuration and weights, the same however they are split into files.

    Of a GGUF, that of the file's bytes.

    Raises:
        ModelError: a weight file is not whole, or the configuration is of another model.
    """
    if files.gguf is not None:
        return digest("gguf", _digest_gguf(files))
    tensors = _tensors_of(files)
    if not 1 <= files.widths.n_layers <= len(tensors):
        raise ModelError(
            f"config.json of {files.source} says {files.widths.n_layers} layers, but its weights "
            f"hold {len(tensors)} tensors. Is it the model's own config.json?"
        )
    return digest("model", _lasting_config(files), sorted(tensors.items()))


def fingerprint_folder(files: PlainFolder) -> str:
    """Return the digest of configuration, weights and tokenizer of a model of any family.

    Raises:
        ModelError: a weight file is not whole, or there is no tokenizer.
    """
    if files.gguf is not None:
        return digest("folder", _digest_gguf(files))
    tensors = sorted(_tensors_of(files).items())
    return digest("folder", _lasting_config(files), tensors, fingerprint_tokenizer(files))


def fingerprint_tokenizer(files: PlainFolder) -> str:
    """Return the digest of the tokenizer's files.

    Raises:
        ModelError: there are none.
    """
    if files.gguf is not None:
        return digest("gguf-tokenizer", _digest_gguf(files))
    found = [name for name in _TOKENIZER_FILES if (files.folder / name).is_file()]
    if not set(found) & {"tokenizer.json", "tokenizer.model", "vocab.json"}:
        raise ModelError(
            f"no tokenizer in {files.source}: found none of tokenizer.json, tokenizer.model, "
            "vocab.json. Save it beside the weights with tokenizer.save_pretrained(folder)."
        )
    return digest("tokenizer", [[name, digest_file(files.folder / name)] for name in found])


@dataclasses.dataclass(frozen=True, slots=True)
class ModelDigests:
    """Content digests of a model and its tokenizer."""

    fingerprint: str
    """Of configuration and weights."""
    tokenizer_digest: str
    dtype: str
    start_token_policy: str
    chat_template: str | None = None
    """Of the tokenizer's chat template; None where prompts are not put into it."""

    @property
    def model_id(self) -> str:
        """Id of the model as a study uses it."""
        parts = canonical(self)
        if self.chat_template is None:  # as before there was such a setting
            del parts["chat_template"]
        return digest("model-as-used", parts)


def digest_model(files: ModelFiles, spec: "ModelSpec") -> ModelDigests:
    """Return a model's digests as a study uses it.

    Raises:
        ModelError: a weight file is not whole, there is no tokenizer, or it has no chat template
            and the study wants one.
    """
    return ModelDigests(
        fingerprint=fingerprint_model(files),
        tokenizer_digest=fingerprint_tokenizer(files),
        dtype=spec.dtype,
        start_token_policy=spec.start_token,
        chat_template=_digest_chat_template(files) if spec.chat_template else None,
    )


def _digest_gguf(files: PlainFolder) -> str:
    """Return the digest of a GGUF file's bytes."""
    (path,) = files.weight_files
    seen = path.stat()
    return _digest_unchanged(path, seen.st_size, seen.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest_unchanged(path: Path, size: int, changed_ns: int) -> str:  # noqa: ARG001
    """Return the digest of a file's bytes, read once in a process while it is the same."""
    return digest_file(path)


def _digest_chat_template(files: PlainFolder) -> str:
    """Return the digest of the files that may hold the tokenizer's chat template.

    Raises:
        ModelError: none of them does.
    """
    if files.gguf is not None:
        if not files.gguf.has_chat_template:
            raise no_chat_template(files.source)
        return digest("gguf-chat-template", _digest_gguf(files))
    settings = files.folder / "tokenizer_config.json"
    found = [name for name in _CHAT_TEMPLATE_FILES if (files.folder / name).is_file()]
    if settings.is_file() and "chat_template" in _json_object(settings):
        found.append(settings.name)
    if not found:
        raise no_chat_template(files.source)
    return digest("chat-template", [[name, digest_file(files.folder / name)] for name in found])


def _json_object(path: Path) -> dict[str, Any]:
    """Return a JSON file's object; without entries where it holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _lasting_config(files: PlainFolder) -> dict[str, Any]:
    """Return the configuration without what a new release of transformers writes otherwise."""
    return {key: value for key, value in files.config.items() if key not in _VOLATILE}


def _tensors_of(files: PlainFolder) -> dict[str, str]:
    """Return the digest of each tensor. Raises ModelError where a weight file is not whole."""
    tensors: dict[str, str] = {}
    for path in files.weight_files:
        seen = path.stat()
        tensors.update(tensor_digests(path, seen.st_size, seen.st_mtime_ns))
    return tensors


def _check_plain(folder: Path, config: dict[str, Any], source: str) -> None:
    """Raise ModelError where other than the plain weights of this folder would be loaded."""
    if (folder / _ADAPTER).is_file():
        raise ModelError(
            f"{source} holds {_ADAPTER}: it is an adapter, or a model with one. Merge it into the "
            "weights (merge_and_unload in peft) and save the model alone."
        )
    _check_not_quantised(folder, config, source)
    asked = [config[name] for name in _ATTENTION if name in config]
    foreign = [name for name in asked if name not in _ATTENTIONS]
    if foreign:
        raise ModelError(
            f"config.json of {source} asks for the attention {foreign[0]!r}, which may be code to "
            "download. Remove that entry from it: eager and sdpa are what is used here."
        )


def _check_not_quantised(folder: Path, config: dict[str, Any], source: str) -> None:
    """Raise ModelError where the weights are codes of a quantisation instead of numbers."""
    entries = {name: config[name] for name in _QUANTISED if config.get(name) is not None}
    if entries:
        where, entry = next(iter(entries.items()))
        where = f"{where} in config.json"
    elif (folder / _GPTQ_FILE).is_file():
        where, entry = _GPTQ_FILE, {"quant_method": "gptq"}
    else:
        return
    named = entry.get("quant_method") if isinstance(entry, dict) else None
    if named is None and isinstance(entry, dict):
        is_bytes = any(entry.get(f"load_in_{bits}bit") for bits in (4, 8))
        named = "bitsandbytes" if is_bytes else None
    raise ModelError(
        f"{source} holds quantised weights ({named or 'of an unnamed method'}, says {where}), "
        "which cannot be edited in place: they are codes, and an update is a sum of numbers. Give "
        "the checkpoint before quantisation, or dequantise it (model.dequantize() in transformers, "
        'then save_pretrained) and study it in "bfloat16".'
    )


def _weight_files(folder: Path, source: str) -> tuple[Path, ...]:
    """Return the safetensors files that transformers would load."""
    single, index = (folder / name for name in _SAFETENSORS)
    if single.is_file():
        return (single,)
    if not index.is_file():
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        found = f"only {', '.join(pickles)}, which are pickles or foreign" if pickles else "none"
        raise ModelError(
            f"no model.safetensors in {source}: found {found}. Pickles are never loaded; convert "
            "with model.save_pretrained(folder, safe_serialization=True) where you trust the file."
        )
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        paths = tuple(folder / name for name in names)
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{index.name} of {source} has no usable weight_map.") from error
    missing = [path.name for path in paths if not path.is_file() or path.parent != folder]
    if missing:
        raise ModelError(
            f"{source} lacks the weight files {', '.join(missing)} that its index names."
        )
    return paths


def _download(source: str, revision: str | None) -> Path:
    """Return the local snapshot of a hub model."""
    if not _HUB_ID.match(source) or source.startswith("."):
        raise ModelError(f"no model folder {source}. Give an existing folder or a hub id.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=_PATTERNS))
    except HFValidationError as error:
        raise ModelError(
            f"no folder {source}, and it is no hub id: {error}. Give an existing folder."
        ) from error
    except Exception as error:  # whatever network, disk or hub raise
        refusal = hub_refusal(error, "model", source, revision)
        raise ModelError(f"no folder {source}, and {refusal}, or give a model's folder.") from error
