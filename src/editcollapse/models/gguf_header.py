"""What a GGUF file says of itself: architecture, sizes, tensors, quantisation. No weight is read.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Read here and not by the
package ``gguf``, whose reader makes an array of every token of the vocabulary (14 s for 262,144),
believes the file's counts, and does not notice that a file ends early.
"""

import dataclasses
import importlib.metadata
import importlib.util
import mmap
import struct
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from packaging.version import Version

from editcollapse.catalog.architectures import architecture_of
from editcollapse.errors import ModelError

SUFFIX = ".gguf"
_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_EXTRA = ("gguf", "accelerate")
_OLDEST = "5.23"
"""Release of transformers: 5.17 cuts words otherwise with the tokenizer of a Gemma GGUF."""
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_NUMBERS |= {12: "d"}
_STRING, _ARRAY = 8, 9
_DEEPEST = 4
"""Arrays in arrays, at most."""
_MOST_DIMENSIONS = 8
_ALIGNMENT = 32
_NOT_QUANTISED = frozenset({"F32", "F16", "BF16", "F64"})
READ_BY_TRANSFORMERS = frozenset(
    {
        *("bloom", "deci", "falcon", "gemma2", "gemma3", "gemma4", "gpt-oss", "gpt2", "lfm2"),
        *("llama", "mamba", "minimax-m2", "mistral", "nemotron", "phi3", "qwen2", "qwen2moe"),
        *("qwen3", "qwen3moe", "stablelm", "starcoder2"),
    }
)
"""Architectures of decoders whose GGUF files transformers reads, as the files name them."""
_FAMILIES = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "gpt-oss": "gpt_oss",
    "minimax-m2": "minimax_m2",
    "qwen2moe": "qwen2_moe",
    "qwen3moe": "qwen3_moe",
}
"""transformers' names where they are others."""
CAPS = ("attn_logit_softcapping", "final_logit_softcapping")
"""Fields of a configuration that bend numbers and are read from the file too."""
_UNSAID_CAPS = {"gemma2": {"attn_logit_softcapping": 50.0}}
"""What transformers takes where a file says nothing."""
_SCALED_POSITIONS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


@dataclasses.dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says of itself."""

    config: dict[str, Any]
    """The fields of transformers' configuration that are read before any weight is."""
    n_numbers: int
    """Numbers in all tensors, dequantised."""
    quantization: str | None
    """Such as ``Q4_1`` or ``Q4_K_M``; None where all tensors are plain numbers."""
    has_chat_template: bool = False
    """Whether its tokenizer has one."""
    licence: str | None = None
    """As the file names it; None where it names none."""


def gguf_in(folder: Path) -> Path | None:
    """Return the GGUF file of a folder; None where it has none.

    Raises:
        ModelError: it has several.
    """
    found = sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file())
    if len(found) > 1:
        raise ModelError(
            f"{folder.name} holds {len(found)} GGUF files ({_some([p.name for p in found])}): name "
            "the file instead of the folder."
        )
    return found[0] if found else None


def read_gguf(path: Path) -> GgufHeader:
    """Return the header of a GGUF file; a file of the same size and time of change is read once.

    Raises:
        ModelError: a package of the extra ``gguf`` is missing; the file is none, is not whole, is
            one part of several or an adapter, or transformers would not read it as it is meant.
        UnknownFamilyError: the architecture table has no row for it.
    """
    lacking = [name for name in _EXTRA if importlib.util.find_spec(name) is None]
    if lacking:
        raise ModelError(
            f"{path.name} is a GGUF file, and reading one needs the package "
            f"{' and '.join(lacking)}: pip install 'editcollapse[gguf]', or pip install "
            f"{' '.join(lacking)}."
        )
    found = importlib.metadata.version("transformers")
    if Version(found) < Version(_OLDEST):
        raise ModelError(
            f"{path.name} is a GGUF file, and transformers {found} reads some tokenizers out of "
            f"one wrongly: pip install 'transformers>={_OLDEST},<6'."
        )
    seen = path.stat()
    return _read(path, seen.st_size, seen.st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, size: int, changed_ns: int) -> GgufHeader:  # noqa: ARG001
    """Return the header of a file; as ``read_gguf``."""
    with path.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise ModelError(
                f"{path.name} is no GGUF file, whatever its name says: it does not begin with "
                "GGUF. Copy or download it again."
            )
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _header(path.name, data, size)


def _header(name: str, data: mmap.mmap, size: int) -> GgufHeader:
    """Return the header of a file's bytes, having held its tensors against its size."""
    broken = ModelError(f"{name} is not a whole GGUF file: copy or download it again.")
    try:
        cursor = _Cursor(data, len(_MAGIC))
        version = cursor.number(4)
        if version not in _VERSIONS:
            raise ModelError(
                f"{name} is GGUF of version {version}; versions 2 and 3 in little-endian order are "
                "read. Convert it anew with llama.cpp."
            )
        n_tensors, n_fields = cursor.number(10), cursor.number(10)
        fields = {cursor.text(): cursor.value(cursor.number(4)) for _ in range(n_fields)}
        tensors = [_Tensor.at(cursor) for _ in range(n_tensors)]
    except (struct.error, KeyError, UnicodeDecodeError, IndexError) as error:
        raise broken from error
    if fields.get("split.count", 0) not in (0, 1):
        raise ModelError(
            f"{name} is one of {fields['split.count']} parts of a model: join them with "
            "llama.cpp's llama-gguf-split --merge."
        )
    if fields.get("general.type", "model") != "model":
        raise ModelError(
            f"{name} holds no model but, as it says, {fields['general.type']!r}. Give the GGUF of "
            "the model itself."
        )
    _check_whole(tensors, cursor.at, fields, size, broken)
    config = _config(name, fields, tensors)
    licence = fields.get("general.license")
    return GgufHeader(
        config,
        sum(each.n_numbers for each in tensors),
        _named(fields, tensors),
        has_chat_template="tokenizer.chat_template" in fields,
        licence=licence if isinstance(licence, str) and licence else None,
    )


class _Cursor:
    """Reads values one behind the other; past the end it raises struct's error or IndexError."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self.data = data
        self.at = at

    def number(self, kind: int) -> Any:
        """Return the next number of one of GGUF's types."""
        code = f"<{_NUMBERS[kind]}"
        (found,) = struct.unpack_from(code, self.data, self.at)
        self.at += struct.calcsize(code)
        return found

    def text(self) -> str:
        """Return the next string."""
        start = self.at + 8
        end = start + self.number(10)
        if end > len(self.data):
            raise IndexError(end)
        self.at = end
        return self.data[start:end].decode()

    def value(self, kind: int, depth: int = 0) -> Any:
        """Return the next value; of an array its length."""
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(kind)
        if depth > _DEEPEST:
            raise IndexError(depth)
        inner, length = self.number(4), self.number(10)
        if inner in _NUMBERS:
            self.at += length * struct.calcsize(f"<{_NUMBERS[inner]}")
        elif inner == _STRING:
            self._pass_texts(length)
        else:
            for _ in range(length):
                self.value(inner, depth + 1)
        if self.at > len(self.data):
            raise IndexError(self.at)
        return _Array(length)

    def _pass_texts(self, length: int) -> None:
        """Go past so many strings."""
        at, data, unpack = self.at, self.data, struct.Struct("<Q").unpack_from
        for _ in range(length):
            at += 8 + unpack(data, at)[0]
        self.at = at


@dataclasses.dataclass(frozen=True, slots=True)
class _Array:
    """An array that was passed over."""

    length: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor as the header tells of it."""

    name: str
    kind: str
    """Such as ``F32`` or ``Q4_1``."""
    shape: tuple[int, ...]
    n_numbers: int
    n_bytes: int
    offset: int
    """From the first tensor's."""

    @classmethod
    def at(cls, cursor: _Cursor) -> "_Tensor":
        """Return the next tensor. Raises KeyError or IndexError for what cannot be."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        name, n_dimensions = cursor.text(), cursor.number(4)
        if n_dimensions > _MOST_DIMENSIONS:
            raise IndexError(n_dimensions)
        shape = tuple(cursor.number(10) for _ in range(n_dimensions))
        code, offset = cursor.number(4), cursor.number(10)
        if code not in set(GGMLQuantizationType):
            raise KeyError(code)
        kind = GGMLQuantizationType(code)
        in_block, block_bytes = GGML_QUANT_SIZES[kind]
        n_numbers = 1
        for width in shape:
            n_numbers *= width
        return cls(name, kind.name, shape, n_numbers, n_numbers // in_block * block_bytes, offset)


def _check_whole(
    tensors: list[_Tensor], after: int, fields: dict[str, Any], size: int, broken: ModelError
) -> None:
    """Raise where the file is shorter than its tensors say; ``after`` the header they begin."""
    alignment = fields.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or not tensors:
        raise broken
    start = -(-after // alignment) * alignment
    if max(start + each.offset + each.n_bytes for each in tensors) > size:
        raise broken


def _config(name: str, fields: dict[str, Any], tensors: list[_Tensor]) -> dict[str, Any]:
    """Return what a configuration of transformers would say, as far as it is read."""
    architecture = str(fields.get("general.architecture"))
    if architecture not in READ_BY_TRANSFORMERS:
        known = ", ".join(sorted(READ_BY_TRANSFORMERS))
        raise ModelError(
            f"{name} is of architecture {architecture!r}, of which transformers reads no GGUF (it "
            f"reads {known}): give the model's safetensors instead."
        )
    scaled = [each.name for each in tensors if each.name in _SCALED_POSITIONS]
    kind = fields.get(f"{architecture}.rope.scaling.type", "none")
    if architecture != "gpt-oss" and (scaled or kind != "none"):
        what = scaled[0] if scaled else f"rope.scaling.type = {kind!r}"
        raise ModelError(
            f"{name} holds scaled rotary positions ({what}), which transformers leaves out when it "
            "reads a GGUF, so that another model would run: give the model's safetensors instead."
        )
    family = _FAMILIES.get(architecture, architecture)
    n_experts = fields.get(f"{architecture}.expert_count", 0)  # Mixtral's architecture is llama's
    row = architecture_of({"model_type": family, "num_experts": n_experts}, name)
    sizes = [
        fields.get(f"{architecture}.{key}")
        for key in ("block_count", "embedding_length", "feed_forward_length")
    ]
    if not all(isinstance(each, int) for each in sizes):
        raise ModelError(
            f"{name} does not say one number of blocks, width and MLP width for the whole model "
            f"(found {', '.join(map(_shown, sizes))}): give the model's safetensors instead."
        )
    tokens = fields.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, _Array):
        raise ModelError(f"{name} holds no tokenizer: convert the model with its tokenizer.")
    config = {"model_type": family, "dtype": "float32"} | dict(
        zip(row.size_fields, sizes, strict=True)
    )
    config["vocab_size"] = fields.get(f"{architecture}.vocab_size", tokens.length)
    said = {cap: fields.get(f"{architecture}.{cap}") for cap in CAPS}
    caps = _UNSAID_CAPS.get(family, {}) | {cap: at for cap, at in said.items() if at is not None}
    return config | caps


def _named(fields: dict[str, Any], tensors: list[_Tensor]) -> str | None:
    """Return the quantisation: the file's own word, or the type of most quantised bytes."""
    from gguf.constants import LlamaFileType

    taken: Counter[str] = Counter()
    for each in tensors:
        if each.kind not in _NOT_QUANTISED:
            taken[each.kind] += each.n_bytes
    if not taken:
        return None
    said = fields.get("general.file_type")
    if said in set(LlamaFileType):
        name = str(LlamaFileType(said).name).removeprefix("MOSTLY_").removeprefix("ALL_")
        if name not in _NOT_QUANTISED and name != "GUESSED":
            return name
    return taken.most_common(1)[0][0]


def _shown(value: Any) -> str:
    return f"an array of {value.length}" if isinstance(value, _Array) else repr(value)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"  # noqa: PLR2004
