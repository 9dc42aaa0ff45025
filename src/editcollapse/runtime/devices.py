"""The one module that knows devices: which are there, what they hold, when they are full."""

import gc

import torch

from editcollapse.errors import DeviceMemoryError, StudyError
from editcollapse.runtime.environment import free_host_bytes
from editcollapse.runtime.memory import ModelSize, Work, default_tokens
from editcollapse.runtime.settings import settings

_FULL = (
    "out of memory",
    "can't allocate memory",
    "not enough memory: you tried to allocate",
    "Invalid buffer size",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
)
"""What RuntimeErrors of a full device say: CUDA and MPS; the CPU on Linux and on Windows; MPS;
CUDA's libraries; any C++ code."""
_WITHOUT_FLOAT64 = frozenset({"mps"})


def best_device(asked: str = "auto") -> torch.device:
    """Return the device asked for; ``auto`` is an accelerator where there is one, else the CPU.

    Raises:
        StudyError: torch knows no such device, or this machine has none.
    """
    here = torch.accelerator.current_accelerator(check_available=True)
    if asked == "auto":
        return here if here is not None else torch.device("cpu")
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise StudyError(_no_device(asked, here)) from error
    if device.type == "cpu":
        return device
    count = torch.accelerator.device_count()
    if here is None or device.type != here.type or (device.index or 0) >= count:
        raise StudyError(_no_device(asked, here))
    return device


def physical_name(device: torch.device) -> str:
    """Return a device's name on this machine, whatever number this process knows it by."""
    if device.type == "cuda":
        return f"cuda-{torch.cuda.get_device_properties(device).uuid}"
    return str(device).replace(":", "-")


def _no_device(asked: str, here: torch.device | None) -> str:
    count = torch.accelerator.device_count()
    found = "none but the CPU" if here is None else f"{count} of type {here.type}, and the CPU"
    return (
        f"EDITCOLLAPSE_DEVICE asks for {asked!r}; found {found}. Name one of them, for example "
        "cpu, or leave the variable out."
    )


def check_dtype(device: torch.device, dtype: torch.dtype, source: str) -> None:
    """Raise StudyError where a device has no numbers of a model's type."""
    if dtype == torch.float64 and not has_float64(device):
        raise StudyError(
            f'dtype = "float64" for {source}: device {device} has no float64. '
            'Use "float32", or set EDITCOLLAPSE_DEVICE=cpu.'
        )


def has_float64(device: torch.device) -> bool:
    """Return whether a device has numbers of that type."""
    return device.type not in _WITHOUT_FLOAT64


def free_bytes(device: torch.device) -> int | None:
    """Return the memory of a device that new tensors may take, in bytes; None where unknown."""
    if device.type == "cpu":
        return free_host_bytes()
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    backend = getattr(torch, device.type)
    if not hasattr(backend, "mem_get_info"):
        return None
    free, _ = backend.mem_get_info(device)
    # What torch keeps for itself but does not use is free to new tensors.
    return int(free + backend.memory_reserved(device) - backend.memory_allocated(device))


def tokens_per_forward(device: torch.device, size: ModelSize, work: Work) -> int:
    """Return the padded tokens that one forward may hold now, with the model loaded.

    EDITCOLLAPSE_TOKENS_PER_FORWARD overrides the estimate. Numbers do not depend on it beyond
    rounding.

    Raises:
        StudyError: the variable holds no positive whole number.
    """
    asked = settings().tokens_per_forward
    return asked or default_tokens(size, work, device.type, free_bytes(device))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device, or main memory, is full."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL)


def release(device: torch.device) -> None:
    """Give back what nothing refers to any more, torch's own cache included."""
    gc.collect()
    if device.type != "cpu":
        getattr(torch, device.type).empty_cache()


def device_memory_error(what: str, asked: str, device: torch.device) -> DeviceMemoryError:
    """Return the error of a piece of work that cannot be split and does not fit.

    Args:
        what: the work, for example ``v* of one edit``.
        asked: its size in words.
        device: where it ran.
    """
    free = free_bytes(device)
    found = "" if free is None else f", {free / (1 << 30):.2f} GiB are free"
    return DeviceMemoryError(
        f"{what} ({asked}) does not fit in the memory of {device}{found}. Give shorter texts, "
        'dtype = "bfloat16", a smaller EDITCOLLAPSE_TOKENS_PER_FORWARD, or another '
        "EDITCOLLAPSE_DEVICE."
    )
