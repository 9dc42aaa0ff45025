"""An accelerator that is not there: real numbers on the CPU, under the rules of another device.

The tests of this folder are written for a GPU, which is at hand only sometimes. Here the same tests
run without one. A tensor of the emulated device says ``cuda:0``, holds its numbers on the CPU, and
goes through autograd like any other; an operation that mixes it with a tensor of the CPU fails, as
on CUDA. Memory is counted by storage, and a full device raises ``torch.OutOfMemoryError``.

What it does not show: speed, CUDA's own kernels and their rounding, streams.
"""

from __future__ import annotations

import contextlib
import dataclasses
import types
import weakref
from collections.abc import Iterator
from typing import Any, Self

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("cuda", 0)
_CPU = torch.device("cpu")
_SEEN_BY_C = torch.device("meta")
"""What torch's C++ code takes the device for; Python sees ``Emulated.device``."""
_MAY_MIX = {"copy_", "_to_copy", "to", "index", "index_put_", "index_put", "_index_put_impl_"}
"""Operations that take tensors of both: copies, and indices that may be on the CPU."""
_UNLIMITED = 1 << 50


class _Share:
    """A tensor's share in its storage: it ends with the tensor."""


@dataclasses.dataclass(slots=True)
class EmulatedMemory:
    """Bytes of the device, counted by storage."""

    capacity: int
    used: int = 0
    peak: int = 0
    _holders: dict[int, int] = dataclasses.field(default_factory=dict)

    def hold(self, tensor: Emulated) -> None:
        """Count a tensor's storage until nothing on the device refers to it."""
        storage = tensor.numbers.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if self._holders.get(place, 0) == 0:
            if self.used + size > self.capacity:
                raise torch.OutOfMemoryError(
                    f"CUDA out of memory. Tried to allocate {size} bytes (emulated)."
                )
            self.used += size
            self.peak = max(self.peak, self.used)
        self._holders[place] = self._holders.get(place, 0) + 1
        # On an object of its own: torch swaps no tensors that have weak references.
        tensor.share = _Share()
        weakref.finalize(tensor.share, self._release, place, size)

    def _release(self, place: int, size: int) -> None:
        self._holders[place] -= 1
        if self._holders[place] == 0:
            self.used -= size


_memory = EmulatedMemory(_UNLIMITED)


class Emulated(torch.Tensor):
    """A tensor of the emulated device."""

    numbers: torch.Tensor
    share: _Share

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> Self:
        """Return a tensor of the device with these numbers, which it shares."""
        shape = torch.empty_strided(
            numbers.shape, numbers.stride(), dtype=numbers.dtype, device="meta"
        )
        made = torch.Tensor._make_subclass(
            cls, shape, False, dispatch_device=True, device_for_backend_keys=DEVICE
        )
        made.numbers = numbers
        _memory.hold(made)
        return made

    @property
    def device(self) -> torch.device:
        """The device that it says it is on."""
        return DEVICE

    @property
    def is_cuda(self) -> bool:
        """Whether it is on a CUDA device: it says so."""
        return True

    def tolist(self) -> Any:
        """Return the numbers, as ``Tensor.tolist`` does."""
        return self.numbers.tolist()

    def __repr__(self) -> str:
        return f"Emulated({self.numbers})"

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(function, args, kwargs or {})


def _is_device(value: object) -> bool:
    """Return whether a device is the emulated one, by either of its two names."""
    return isinstance(value, torch.device) and value.type in {DEVICE.type, _SEEN_BY_C.type}


def _run(function: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation on the numbers; its result is where the arguments, or a device, say."""
    if function is torch.ops.prim.device.default:
        return _SEEN_BY_C
    flat = pytree.arg_tree_leaves(*args, **kwargs)
    ours = [each for each in flat if isinstance(each, Emulated)]
    _check_devices(function, args, flat)
    asked = [each for each in flat if isinstance(each, torch.device)]
    to_device = _is_device(asked[-1]) if asked else bool(ours)

    def on_cpu(each: Any) -> Any:
        if isinstance(each, Emulated):
            return each.numbers
        return _CPU if _is_device(each) else each

    if function is torch.ops.aten.mm.dtype:
        function = _half_product  # the CPU has none
    # Not inference_mode: its tensors have no version counter, which views of ours want.
    with torch.inference_mode(mode=False), torch.no_grad():
        found = function(*pytree.tree_map(on_cpu, args), **pytree.tree_map(on_cpu, kwargs))
        if function is torch.ops.aten.copy_.default:
            return args[0]
        # What an operation in place returns is the tensor that it was given.
        known = {id(each.numbers): each for each in ours} if to_device else {}

        def back(each: Any) -> Any:
            if not to_device or not isinstance(each, torch.Tensor) or isinstance(each, Emulated):
                return each
            return known[id(each)] if id(each) in known else Emulated(each)

        return pytree.tree_map(back, found)


def _half_product(left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a product of half types with float32 sums."""
    return left.to(dtype) @ right.to(dtype)


def _check_devices(function: Any, args: Any, flat: list[Any]) -> None:
    """Raise RuntimeError where an operation mixes the device's tensors with the CPU's."""
    tensors = [each for each in flat if isinstance(each, torch.Tensor)]
    foreign = [each for each in tensors if not isinstance(each, Emulated) and each.dim()]
    if not foreign or len(foreign) == len(tensors):
        return
    name = _name(function)
    if name == "index" and args[0] is foreign[0]:
        raise RuntimeError("indices should be either on cpu or on the same device (cpu)")
    if name not in _MAY_MIX:
        shapes = [tuple(each.shape) for each in foreign]
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{DEVICE} and cpu: {function} with {shapes} on the cpu"
        )


def _name(function: Any) -> str:
    name: str = function.overloadpacket.__name__
    return name


class _Operations(TorchDispatchMode):
    """Sees operations that make tensors of the device out of nothing, or of the CPU's."""

    def __torch_dispatch__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        flat = pytree.arg_tree_leaves(*args, **kwargs)
        if any(isinstance(each, Emulated) or _is_device(each) for each in flat):
            return _run(function, args, kwargs)
        return function(*args, **kwargs)


class _Functions(TorchFunctionMode):
    """Sees the two functions that do not reach ``_Operations`` as such."""

    def __torch_function__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        asked = kwargs.get("device")
        if function is torch.tensor and asked is not None and _is_device(torch.device(asked)):
            return Emulated(function(*args, **(kwargs | {"device": _CPU})))
        if function is torch.Tensor.to and len(args) > 1 and isinstance(args[1], Emulated):
            return args[0].to(DEVICE, args[1].dtype)
        return function(*args, **kwargs)


def _replaced(capacity: int) -> dict[tuple[Any, str], Any]:
    """Return what torch says of its accelerator while the emulated one is there."""
    cuda, accelerator = torch.cuda, torch.accelerator
    return {
        (cuda, "_lazy_init"): lambda: None,
        (cuda, "is_available"): lambda: True,
        (cuda, "synchronize"): lambda _=None: None,
        (cuda, "empty_cache"): lambda: None,
        (cuda, "mem_get_info"): lambda _=None: (capacity - _memory.used, capacity),
        (cuda, "memory_reserved"): lambda _=None: _memory.used,
        (cuda, "memory_allocated"): lambda _=None: _memory.used,
        (cuda, "max_memory_allocated"): lambda _=None: _memory.peak,
        (cuda, "reset_peak_memory_stats"): lambda _=None: setattr(_memory, "peak", _memory.used),
        (cuda, "get_device_name"): lambda _=None: "emulated",
        (cuda, "get_device_properties"): lambda _=None: types.SimpleNamespace(uuid="emulated"),
        (cuda, "is_current_stream_capturing"): lambda: False,
        (accelerator, "current_stream"): lambda _=None: types.SimpleNamespace(
            is_capturing=lambda: False
        ),
        (accelerator, "current_accelerator"): lambda check_available=False: DEVICE,  # noqa: ARG005
        (accelerator, "device_count"): lambda: 1,
    }


@contextlib.contextmanager
def emulated_accelerator(capacity: int = _UNLIMITED) -> Iterator[torch.device]:
    """Have the accelerator for the block; yields its device.

    Load models on the CPU before it: in the block meta tensors are the device's.

    Args:
        capacity: bytes that fit on it.
    """
    global _memory  # noqa: PLW0603  tensors of the device are counted wherever they are made
    before, _memory = _memory, EmulatedMemory(capacity)
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patch, _Functions(), _Operations():
        for (holder, name), value in _replaced(capacity).items():
            patch.setattr(holder, name, value)
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            yield DEVICE
        finally:
            torch.__future__.set_swap_module_params_on_conversion(swaps)
            _memory = before
