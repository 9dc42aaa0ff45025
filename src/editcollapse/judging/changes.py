"""What has been done to a model's weights: another checkpoint, LoRA factors, or changes by name.

Each gives the difference D = W' - W of a block of rows in float64. Of factors it is their exact
product, in the orientation that the weight is stored in: Conv1D's are transposed, as ``peft`` does.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from editcollapse.errors import ModelError
from editcollapse.judging.lora_config import LoraConfig
from editcollapse.judging.weights import ModelWeights, WeightPlace, Weights

_LORA = re.compile(r"^(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.[\w-]+)?\.weight$")
_FACTOR = re.compile(r"^(.+)\.mat([UV])$")
_SHOWN = 3


class Change(Protocol):
    """Protocol of what has been done to a model's weights."""

    def names(self) -> Iterable[str]:
        """Return the tensors that may differ, in the model's order."""

    def difference(self, name: str, before: Tensor, first: int, last: int) -> Tensor:
        """Return W' - W of some rows, float64 in the stored orientation.

        Args:
            name: of ``names``.
            before: W's rows, as they are stored.
            first: the first row.
            last: the one behind the last.
        """


class OtherWeights:
    """Another checkpoint of the same model.

    Args:
        base: the weights before.
        edited: the weights after.
    """

    def __init__(self, base: Weights, edited: Weights) -> None:
        self._edited = edited
        self._names = [
            name for name in base.places if not (base.is_shared(name) and edited.is_shared(name))
        ]

    def names(self) -> Iterable[str]:
        """Return all tensors, a tied head once."""
        return self._names

    def difference(self, name: str, before: Tensor, first: int, last: int) -> Tensor:
        """Return W' - W of some rows."""
        after = self._edited.rows(name, first, last)
        return after.to("cpu", torch.float64) - before.to("cpu", torch.float64)


class Products:
    """Changes by weight name: whole, or as two factors.

    Args:
        changes: by name, in the stored orientation: one matrix, or left (rows, n) and right
            (n, columns).
        order: all names of the model, in its order.
    """

    def __init__(self, changes: dict[str, tuple[Tensor, ...]], order: Iterable[str]) -> None:
        self._changes = changes
        self._names = [name for name in order if name in changes]

    def names(self) -> Iterable[str]:
        """Return the tensors that are changed."""
        return self._names

    def difference(self, name: str, before: Tensor, first: int, last: int) -> Tensor:  # noqa: ARG002
        """Return the change of some rows."""
        left, *right = self._changes[name]
        rows = left[first:last].double()
        return rows @ right[0].double() if right else rows


def read_lora(path: Path, lora: LoraConfig, described: ModelWeights, source: str) -> Products:
    """Return what an adapter does to a model's linear weights: scaling B A.

    Args:
        path: ``adapter_model.safetensors``.
        lora: ranks and scalings.
        described: the model's tensors.
        source: what to call the adapter.

    Raises:
        ModelError: a tensor is no LoRA factor, or not of a linear weight of this model, or its
            shape is not the weight's.
    """
    factors: dict[str, dict[str, Tensor]] = {}
    others = []
    for name, tensor in _tensors(path, source):
        found = _LORA.match(name)
        if found is None:
            others.append(name)
        else:
            factors.setdefault(found[1], {})[found[2]] = tensor
    if others or not factors:
        raise ModelError(
            f"{source} holds {_first_few(others) or 'no factor'}, which is no LoRA factor of a "
            "linear weight. Merge the adapter (merge_and_unload in peft), save the model and give "
            "that."
        )
    changes: dict[str, tuple[Tensor, ...]] = {}
    for module, pair in factors.items():
        known = described.canonical(f"{module}.weight")
        place = None if known is None else described.places[known]
        if place is None or not (place.is_linear or place.part == "head"):
            raise ModelError(
                f"{source} changes {module}, which is no linear weight of this model. Is the "
                "adapter of another model?"
            )
        down, up = pair.get("A"), pair.get("B")
        rows, columns = reversed(place.shape) if place.is_transposed else place.shape
        rank = lora.rank_of(module)
        if down is None or up is None or (up.shape, down.shape) != ((rows, rank), (rank, columns)):
            raise ModelError(
                f"{source} changes {module} by factors of shape {_shape(up)} and {_shape(down)}; "
                f"({rows}, {rank}) and ({rank}, {columns}) are needed. Is the adapter of another "
                "model?"
            )
        left, right = up.double() * lora.scaling_of(module), down.double()
        changes[place.name] = (right.T, left.T) if place.is_transposed else (left, right)
    return Products(changes, described.places)


def read_delta(path: Path, described: ModelWeights, source: str) -> Products:
    """Return changes of weights by name, as MEMIT and EasyEdit keep them.

    A tensor NAME is the change of the weight NAME; NAME.matU and NAME.matV are its factors, matU
    matV or matU matVT, vectors for an update of rank one. As there, a product of the weight's
    transposed shape is transposed.

    Raises:
        ModelError: a name is none of this model's, the shape is not the weight's, or it could be
            meant in two ways.
    """
    whole: dict[str, dict[str, Tensor]] = {}
    for name, tensor in _tensors(path, source):
        found = _FACTOR.match(name)
        asked, key = (name, "") if found is None else (found[1], found[2])
        known = described.canonical(asked) or described.canonical(f"{asked}.weight")
        if known is None:
            raise ModelError(
                f"{source} changes {asked}, which is no weight of this model. Is it of another one?"
            )
        whole.setdefault(known, {})[key] = tensor
    changes = {
        name: _oriented(found, described.places[name], source) for name, found in whole.items()
    }
    if not changes:
        raise ModelError(f"{source} holds no change. Give a file with one.")
    return Products(changes, described.places)


def _oriented(found: dict[str, Tensor], place: WeightPlace, source: str) -> tuple[Tensor, ...]:
    """Return a change in the stored orientation. Raises ModelError where that is not clear."""
    if set(found) == {""}:
        whole = found[""]
        given = _shape(whole)
        for each in (whole, whole.T) if whole.dim() == len(place.shape) else ():
            if tuple(each.shape) == place.shape:
                return (each,)
    elif set(found) == {"U", "V"}:
        given = f"{_shape(found['U'])} and {_shape(found['V'])}"
        ways = _ways(found["U"], found["V"], place)
        if len(ways) == 1:
            return ways[0]
        if ways:
            raise ModelError(
                f"{source} changes {place.name}, {' x '.join(map(str, place.shape))}, by factors "
                f"of shape {given}: their product could be meant either way round. Give the change "
                "itself, in the weight's orientation."
            )
    else:
        raise ModelError(
            f"{source} has {place.name} with {', '.join(sorted(found)) or 'nothing'} of matU, matV "
            "and the change itself; give both factors, or the change."
        )
    raise ModelError(
        f"{source} changes {place.name} of shape {list(place.shape)} by {given}, which does not "
        "fit. Is it of another model?"
    )


def _ways(u: Tensor, v: Tensor, place: WeightPlace) -> list[tuple[Tensor, Tensor]]:
    """Return the factors in each orientation in which their product has the weight's shape."""
    left, right = (each[:, None] if each.dim() == 1 else each for each in (u, v))
    if left.dim() != 2 or right.dim() != 2:  # noqa: PLR2004  matrices
        return []
    return [
        way
        for other in (right, right.T)
        if left.shape[1] == other.shape[0]
        for way in ((left, other), (other.T, left.T))
        if (way[0].shape[0], way[1].shape[1]) == place.shape
    ]


def _tensors(path: Path, source: str) -> "Iterable[tuple[str, Tensor]]":
    """Yield name and numbers of each tensor. Raises ModelError where one is of integers."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118  safetensors' file is no mapping
                tensor: Any = stored.get_tensor(name)
                if not tensor.is_floating_point():
                    raise ModelError(
                        f"{name} of {source} holds {tensor.dtype}, which is no change."
                    )
                yield name, tensor
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{source} is no whole safetensors file: {error}.") from error


def _shape(tensor: Tensor | None) -> str:
    return "none" if tensor is None else f"({', '.join(map(str, tensor.shape))})"


def _first_few(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
