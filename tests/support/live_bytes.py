"""Bytes of the tensors that are alive while some work runs, on any device; plain torch.

``LiveBytes`` sees every operation, forwards and backwards, and counts the storages that they make
until nothing refers to them any more. On a CPU that is what an accelerator's allocator would count
for the same operations, but for its rounding and for what kernels take inside. ``NoArithmetic``
leaves out what takes time and no memory, so that models of real widths can be measured on a CPU.
"""

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten: Any = torch.ops.aten


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages that were made since it was entered and are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._sizes: dict[int, int] = {}
        """By storage."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, or the operations that it is made of, and count what it returns."""
        kwargs = kwargs or {}
        with self:
            # Inference mode hands composed operations over whole: their parts are what is made.
            found = func.decompose(*args, **kwargs)
        if found is not NotImplemented:
            return found
        given = {_key(each) for each in tree_leaves((args, kwargs)) if _is_stored(each)}
        found = func(*args, **kwargs)
        for each in tree_leaves(found):
            if _is_stored(each) and _key(each) not in given:
                self._count(each.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


class NoArithmetic(TorchDispatchMode):
    """Matrix products are zeros that nobody works out, weights zeros that nobody draws.

    Zeros of a large tensor take no main memory before something is written to them.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation unless it is a product or draws numbers."""
        kwargs = kwargs or {}
        if func in _IN_PLACE:
            return args[0]
        size = _SIZES.get(func)
        if size is not None:
            return args[0].new_zeros(size(*args))
        if func is _aten.empty.memory_format:
            func = _aten.zeros.default
            kwargs = {name: each for name, each in kwargs.items() if name != "memory_format"}
        return func(*args, **kwargs)


_IN_PLACE = {
    _aten.normal_.default,
    _aten.uniform_.default,
    _aten.addmm_.default,
    _aten.baddbmm_.default,
}
_SIZES = {
    _aten.mm.default: lambda a, b: (len(a), b.shape[1]),
    _aten.addmm.default: lambda _, a, b: (len(a), b.shape[1]),
    _aten.bmm.default: lambda a, b: (*a.shape[:2], b.shape[2]),
    _aten.baddbmm.default: lambda _, a, b: (*a.shape[:2], b.shape[2]),
}


@contextlib.contextmanager
def live_bytes(*, arithmetic: bool = True) -> Iterator[LiveBytes]:
    """Count what is made inside; ``peak`` is the most that was alive at once, in bytes.

    Args:
        arithmetic: whether matrix products are worked out.
    """
    with contextlib.nullcontext() if arithmetic else NoArithmetic(), LiveBytes() as counter:
        yield counter


def _is_stored(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type != "meta"


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
