"""What an export is asked for, and what it says of itself."""

import dataclasses
import re
from typing import Literal

from torch import Tensor

from editcollapse.catalog.architectures import Architecture
from editcollapse.errors import ModelError, StudyError
from editcollapse.models.loading import load_model
from editcollapse.stored.models import BaseModel
from editcollapse.stored.weight_files import DTYPES, stored_weight_of

ExportKind = Literal["weights", "adapter", "factors"]
KINDS: tuple[ExportKind, ...] = ("weights", "adapter", "factors")
KEPT = "kept"
"""Type of weights that are written as they are stored."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How an update is exported."""

    kind: ExportKind = "weights"
    dtype: str = KEPT
    """Type of the weights: as in the unedited model's files, or a name; of an adapter float32,
    where it is kept."""
    rank: int | None = None
    """Of an adapter, at most: the update's largest directions; None: all of them."""
    max_shard_size: str = "5GB"
    """Of one file of weights."""
    overwrite: bool = False
    """Whether an earlier export in the folder may go."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise StudyError(f"`kind` {self.kind!r}: give one of {', '.join(KINDS)}.")
        if self.dtype != KEPT and self.dtype not in DTYPES:
            raise StudyError(f"`dtype` {self.dtype!r}: give {KEPT}, {', '.join(DTYPES)}.")
        if self.rank is not None and (self.rank < 1 or self.kind != "adapter"):
            raise StudyError(
                f"`rank` {self.rank}: it is of an adapter, and at least 1. Leave it out otherwise."
            )
        if not self.shard_bytes > 0:
            raise StudyError(f"`max_shard_size` {self.max_shard_size!r}: give at least 1 byte.")

    @property
    def shard_bytes(self) -> int:
        """Largest size of one file of weights, in bytes.

        Raises:
            StudyError: it is no size.
        """
        found = _SIZE.fullmatch(self.max_shard_size.strip())
        if found is None:
            raise StudyError(
                f"`max_shard_size` {self.max_shard_size!r}: give a number and its unit, such as "
                "500MB or 5GB."
            )
        return int(float(found[1]) * 1000 ** _POWERS[found[2].upper()])


@dataclasses.dataclass(frozen=True, slots=True)
class Base:
    """The unedited model, as far as an export needs it."""

    name: str
    """Hub id, or the bare name of a folder or file."""
    revision: str | None
    architecture: Architecture
    found: BaseModel | None
    """On this machine; None where it is not known: then no weights are exported."""

    @classmethod
    def of(cls, found: BaseModel) -> "Base":
        """Return a model that was found."""
        files = found.files
        return cls(files.source, found.spec.revision, files.architecture, found)

    def weight(self, layer: int) -> Tensor:
        """Return W of a layer as studies load it, (D, K); for editors that restrain a sum.

        Raises:
            ModelError: the model is not known on this machine.
        """
        if self.found is None:
            raise ModelError(
                f"the sum of this editor's updates is restrained by the weights of {self.name}, "
                "and the model is not found. Say where it lies with `model`."
            )
        spec, files = self.found.spec, self.found.files
        if files.gguf is not None:
            return load_model(spec, "cpu", files).weight(layer)
        return stored_weight_of(files, layer).to(DTYPES[spec.dtype])


@dataclasses.dataclass(frozen=True, slots=True)
class LayerLoss:
    """What of one layer's update is not in an export."""

    layer: int
    rank: int | None
    """Of the adapter; None for weights."""
    rounded: float
    """Norm of what rounding has changed, over that of the update."""
    cut: float
    """Norm of the directions that a smaller rank leaves out, over that of the update."""


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What one kind of export has written, in the words of its card."""

    losses: tuple[LayerLoss, ...]
    notes: tuple[str, ...]
    what: str
    usage: str
    library: str
    relation: str | None
