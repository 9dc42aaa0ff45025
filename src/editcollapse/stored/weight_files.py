"""A model's weight files with some tensors changed: read one by one, written in shards.

Everything but the edited down projections is copied byte by byte, unless another type is asked for.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from editcollapse.errors import ModelError
from editcollapse.models.files import ModelFiles, tensor_headers
from editcollapse.runtime.environment import Report, tell

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Types of safetensors that are converted where a type is asked for; others stay."""
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"

Change = Callable[[Tensor, torch.dtype], Tensor]
"""Gives the edited tensor of a stored one, in a type."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a model's files."""

    name: str
    path: Path
    shape: tuple[int, ...]
    kind: str
    """Type, in safetensors' words."""

    def n_bytes(self, dtype: torch.dtype | None, size: int) -> int:
        """Return its size when written.

        Args:
            dtype: asked for; None to keep its own.
            size: its own size in bytes.
        """
        if dtype is None or self.kind not in _FLOATS:
            return size
        return math.prod(self.shape) * dtype.itemsize


def stored_tensors(files: ModelFiles) -> dict[str, StoredTensor]:
    """Return the tensors of a model's safetensors files by name.

    Raises:
        ModelError: a file is not whole.
    """
    found = {}
    for path in files.weight_files:
        for name, entry in tensor_headers(path).items():
            found[name] = StoredTensor(name, path, tuple(entry["shape"]), entry["dtype"])
    return found


def down_projection_name(files: ModelFiles, tensors: Mapping[str, StoredTensor], layer: int) -> str:
    """Return the name under which a layer's down projection is stored.

    Checkpoints name their tensors with or without the decoder's own name, and a multimodal one has
    the text model below a prefix.

    Raises:
        ModelError: no tensor has such a name, or several have.
    """
    row = files.architecture
    inside = f"{row.down_projection_in_decoder(layer)}.weight"
    starts = files.text_part.decoders if files.text_part is not None else (f"{row.decoder}.", "")
    found = [name for name in (f"{start}{inside}" for start in starts) if name in tensors]
    if len(found) != 1:
        raise ModelError(
            f"{files.source} stores {'no tensor' if not found else 'several tensors'} {inside}: "
            "its files name the weights otherwise than transformers. Load the model and save it "
            "with save_pretrained, then export from that folder."
        )
    return found[0]


def read_tensor(tensor: StoredTensor) -> Tensor:
    """Return a tensor of a file, as it is stored."""
    with safe_open(tensor.path, framework="pt") as stored:
        found: Tensor = stored.get_tensor(tensor.name)
    return found


def stored_weight_of(files: ModelFiles, layer: int) -> Tensor:
    """Return W of a layer's down projection, (D, K), of a model's safetensors files.

    Raises:
        ModelError: a file is not whole, or names its tensors otherwise.
    """
    tensors = stored_tensors(files)
    found = read_tensor(tensors[down_projection_name(files, tensors, layer)])
    return found.T if files.architecture.transposed else found


def write_weights(
    folder: Path,
    tensors: Mapping[str, StoredTensor],
    changes: Mapping[str, Change],
    dtype: torch.dtype | None,
    max_shard_bytes: int,
) -> tuple[str, ...]:
    """Write all tensors of a model into a folder, some of them changed; return the files' names.

    A shard is in memory as a whole, the model never is.

    Args:
        folder: that is written.
        tensors: of the unedited model.
        changes: by name.
        dtype: of all floating-point tensors; None to keep each one's own.
        max_shard_bytes: of one file, unless one tensor is larger.
    """
    shards = list(_shards(tensors, dtype, max_shard_bytes))
    names = [_SINGLE] if len(shards) == 1 else _shard_names(len(shards))
    weight_map: dict[str, str] = {}
    n_bytes = n_done = 0
    for file, shard in zip(names, shards, strict=True):
        written: dict[str, Tensor] = {}
        for name in shard:
            written[name] = _written(tensors[name], changes.get(name), dtype)
            n_bytes += written[name].numel() * written[name].element_size()
            n_done += 1
            tell(Report(f"export: writing {file}", n_done, len(tensors), "tensor"))
        save_file(written, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": n_bytes}, "weight_map": weight_map}
        text = json.dumps(index, indent=2, sort_keys=True)
        (folder / _INDEX).write_text(f"{text}\n", encoding="utf-8")
    return tuple(names)


def _written(tensor: StoredTensor, change: Change | None, dtype: torch.dtype | None) -> Tensor:
    stored = read_tensor(tensor)
    target = stored.dtype if dtype is None or not stored.is_floating_point() else dtype
    return (stored.to(target) if change is None else change(stored, target)).contiguous()


def _shards(
    tensors: Mapping[str, StoredTensor], dtype: torch.dtype | None, max_shard_bytes: int
) -> Iterator[Sequence[str]]:
    """Yield the names of each shard's tensors, in the order in which they are stored."""
    sizes = {}
    for path in {each.path for each in tensors.values()}:
        for name, entry in tensor_headers(path).items():
            first, last = entry["data_offsets"]
            sizes[name] = last - first
    shard: list[str] = []
    n_bytes = 0
    for name, tensor in tensors.items():
        size = tensor.n_bytes(dtype, sizes[name])
        if shard and n_bytes + size > max_shard_bytes:
            yield shard
            shard, n_bytes = [], 0
        shard.append(name)
        n_bytes += size
    yield shard


def _shard_names(n_shards: int) -> list[str]:
    return [f"model-{i + 1:05d}-of-{n_shards:05d}.safetensors" for i in range(n_shards)]
