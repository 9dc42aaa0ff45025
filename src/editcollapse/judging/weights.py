"""A model's weights by name, a block of rows at a time: from safetensors, or of a loaded model.

Files name tensors as the release of transformers that wrote them did (with or without the
decoder's name in front, or inside a multimodal checkpoint); here each has the name of the module
that transformers loads it into, so that two checkpoints of one model can be compared.
"""

import dataclasses
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from editcollapse.catalog.architectures import Architecture
from editcollapse.errors import ModelError
from editcollapse.models.files import ModelFiles, tensor_headers

BLOCK = 1 << 22
"""Numbers of a tensor that are looked at together: 32 MiB as float64."""


@dataclasses.dataclass(frozen=True, slots=True)
class WeightPlace:
    """One tensor of a model: where it stands."""

    name: str
    """As in the model's ``state_dict``."""
    shape: tuple[int, ...]
    layer: int | None
    """Its block; None outside them."""
    part: str
    """``down projection``, ``linear`` (another linear map of a block), ``embedding``, ``head``,
    ``norm``, ``bias`` or ``other``."""
    is_transposed: bool
    """Whether a linear weight is stored as (in, out), as Conv1D's."""

    @property
    def is_linear(self) -> bool:
        """Whether it is the matrix of a linear map inside a block."""
        return self.part in {"down projection", "linear"}

    @property
    def module(self) -> str:
        """Path of the module that it is the weight of."""
        return self.name.rpartition(".")[0]

    @property
    def n_entries(self) -> int:
        """Its numbers."""
        return torch.Size(self.shape).numel()


class ModelWeights:
    """Names, shapes and places of a model's tensors, from its configuration alone.

    Args:
        model: the causal LM, on any device, also ``meta``.
        files: where its tensors may be stored, for the names in them.
    """

    def __init__(self, model: nn.Module, files: ModelFiles) -> None:
        row = files.architecture
        self._prefix = f"{row.decoder}."
        self._renamed = {} if files.text_part is None else files.text_part.renamed
        head: Any = model.get_output_embeddings()  # type: ignore[operator]
        embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
        modules = dict(model.named_modules(remove_duplicate=False))
        self.is_tied = bool(getattr(model.config, "tie_word_embeddings", False))
        self.head = next((f"{n}.weight" for n, m in modules.items() if m is head), None)
        self.embedding = next(f"{n}.weight" for n, m in modules.items() if m is embedding)
        self.places: dict[str, WeightPlace] = {}
        """Name to place, in the model's order."""
        for name, each in model.named_parameters(remove_duplicate=False):
            self.places[name] = self._place(name, each, modules, row)

    def canonical(self, stored: str) -> str | None:
        """Return the model's name of a tensor of a file; None where the model has none such."""
        renamed = [re.sub(old, new, stored) for old, new in self._renamed.items()]
        for name in (stored, f"{self._prefix}{stored}", *renamed):
            if name in self.places:
                return name
        return None

    def _place(
        self, name: str, weight: Tensor, modules: dict[str, nn.Module], row: Architecture
    ) -> WeightPlace:
        path, _, field = name.rpartition(".")
        blocks = re.escape(f"{row.decoder}.{row.blocks}.")
        found = re.match(rf"{blocks}(\d+)\.(.+)$", path)
        layer = None if found is None else int(found[1])
        module = getattr(modules[path], "own", modules[path])  # a packed product stands for its own
        shape = tuple(weight.shape)
        part = _part(module, field, found and found[2] == row.down_projection, in_block=layer)
        if name in {self.embedding, self.head}:
            part = "embedding" if name == self.embedding else "head"
        return WeightPlace(name, shape, layer, part, isinstance(module, Conv1D))


def _part(module: nn.Module, field: str, is_down: Any, *, in_block: int | None) -> str:
    if field == "bias":
        return "bias"
    if isinstance(module, nn.Linear | Conv1D) and field == "weight" and in_block is not None:
        return "down projection" if is_down else "linear"
    if isinstance(module, nn.Embedding):
        return "embedding"
    return "norm" if "norm" in type(module).__name__.lower() else "other"


def described_weights(files: ModelFiles, config: Any = None) -> ModelWeights:
    """Return a model's tensors as its configuration has them; none is loaded.

    Args:
        files: the model's.
        config: what ``read_config`` returned; read here where left out.

    Raises:
        ModelError: transformers makes no model of the configuration.
    """
    from transformers import AutoModelForCausalLM

    own = read_config(files) if config is None else config
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(own, trust_remote_code=False)
    except Exception as error:  # transformers has no one error for a configuration that is no good
        raise ModelError(f"no model can be made of the configuration of {files.source}.") from error
    return ModelWeights(model, files)


def read_config(files: ModelFiles) -> Any:
    """Return a model's configuration as transformers reads it, with its defaults.

    Raises:
        ModelError: it cannot be read.
    """
    from transformers import AutoConfig

    reading: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    if files.gguf is not None:
        reading["gguf_file"] = files.weight_files[0].name
    try:
        config = AutoConfig.from_pretrained(files.folder, **reading)
    except Exception as error:
        raise ModelError(f"the configuration of {files.source} cannot be read.") from error
    return config if files.text_part is None else config.get_text_config()


class Weights(Protocol):
    """Protocol of what gives a model's weights."""

    places: dict[str, WeightPlace]

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Return some rows of a tensor as they are stored."""

    def is_shared(self, name: str) -> bool:
        """Return whether a head's weight is the embedding's."""


class LoadedWeights:
    """The weights of a model in memory; what a GGUF's are, dequantised.

    Args:
        model: the causal LM.
        files: its files.
    """

    def __init__(self, model: nn.Module, files: ModelFiles) -> None:
        described = ModelWeights(model, files)
        self.places = described.places
        self._head, self._embedding = described.head, described.embedding
        self._weights = dict(model.named_parameters(remove_duplicate=False))

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Return some rows of a tensor."""
        return self._weights[name].detach()[first:last]

    def is_shared(self, name: str) -> bool:
        """Return whether a head's weight is the embedding's."""
        return name == self._head and self._weights[name] is self._weights[self._embedding]


class StoredWeights:
    """The weights in safetensors files, of which a block of rows is read at a time.

    A context manager: the files are open meanwhile.

    Args:
        files: the model's.
        described: its tensors.

    Raises:
        ModelError: a tensor is missing, or has another shape than the configuration says.
    """

    def __init__(self, files: ModelFiles, described: ModelWeights) -> None:
        self.places = described.places
        self._files: dict[str, tuple[Path, str]] = {}
        self._opened = ExitStack()
        self._handles: dict[Path, Any] = {}
        self.unread: list[str] = []
        """Tensors of the files that the model does not have, such as old releases' masks."""
        for path in files.weight_files:
            for stored, entry in tensor_headers(path).items():
                name = described.canonical(stored)
                if name is None:
                    self.unread.append(stored)
                    continue
                if tuple(entry["shape"]) != self.places[name].shape:
                    raise ModelError(
                        f"{stored} of {files.source} has shape {entry['shape']}, and its "
                        f"configuration says {list(self.places[name].shape)}. Is config.json the "
                        "model's own?"
                    )
                self._files[name] = (path, stored)
        self._head, self._embedding = described.head, described.embedding
        tied = {self._head: self._embedding, self._embedding: self._head}
        for name in self.places:
            other = tied.get(name) if described.is_tied else None
            if name not in self._files and other is not None and other in self._files:
                self._files[name] = self._files[other]
        lacking = [name for name in self.places if name not in self._files]
        if lacking:
            raise ModelError(
                f"{files.source} lacks {len(lacking)} weights of its own configuration "
                f"({', '.join(lacking[:3])}): copy or download it again."
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._opened.close()
        self._handles.clear()

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Return some rows of a tensor."""
        from safetensors import safe_open

        path, stored = self._files[name]
        if path not in self._handles:
            self._handles[path] = self._opened.enter_context(safe_open(path, framework="pt"))
        found: Tensor = self._handles[path].get_slice(stored)[first:last]
        return found

    def is_shared(self, name: str) -> bool:
        """Return whether a head's weight is the embedding's."""
        return name == self._head and self._files[name] == self._files[self._embedding]


def row_blocks(place: WeightPlace) -> Iterator[tuple[int, int]]:
    """Yield the first row and the one behind the last of each block of a tensor."""
    n_rows = place.shape[0] if place.shape else 0
    step = max(1, BLOCK * n_rows // max(1, place.n_entries))
    for first in range(0, n_rows, step):
        yield first, min(n_rows, first + step)
