"""What the device module says of devices that are here, and of some that are not."""

import pytest
import torch

from editcollapse.errors import DeviceMemoryError, StudyError
from editcollapse.runtime import environment
from editcollapse.runtime.devices import (
    best_device,
    check_dtype,
    free_bytes,
    is_out_of_memory,
    release,
    tokens_per_forward,
)
from editcollapse.runtime.environment import free_host_bytes, host_bytes
from editcollapse.runtime.memory import default_tokens

CPU = torch.device("cpu")


def test_device_asked_for_is_taken():
    """A named device is taken as it is; ``auto`` finds one."""
    assert best_device("cpu") == CPU
    assert isinstance(best_device("auto"), torch.device)


@pytest.mark.parametrize("asked", ["gpu", "", "cuda:99", "meta", "xpu:7"])
def test_device_that_is_not_here(asked):
    """A device that torch does not know, or that this machine lacks, is a user's mistake."""
    with pytest.raises(StudyError, match=rf"asks for '{asked}'; found .*Name one of them"):
        best_device(asked)


def test_float64_where_there_is_none():
    """A device without float64 refuses a float64 model in words; others take it."""
    with pytest.raises(StudyError, match='dtype = "float64" for m: device mps has no float64'):
        check_dtype(torch.device("mps"), torch.float64, "m")
    check_dtype(torch.device("mps"), torch.float32, "m")
    check_dtype(CPU, torch.float64, "m")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        DeviceMemoryError("one edit does not fit"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 18.1 GB)"),
        RuntimeError("Invalid buffer size: 14.00 GiB"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_errors_of_a_full_device(error):
    """Each device says in its own words that it is full."""
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: device-side assert triggered"), ValueError("out of memory")]
)
def test_other_errors(error):
    """Other errors are not taken for a lack of memory."""
    assert not is_out_of_memory(error)


def test_the_allocator_of_this_machine():
    """What torch raises here, asked for more than any machine has, is recognised."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert is_out_of_memory(caught.value)
    release(CPU)


def test_free_memory_of_this_machine():
    """There is some, and holding tensors takes it."""
    before = free_bytes(CPU)
    assert before is not None
    assert before > 1 << 20
    assert before == pytest.approx(free_host_bytes(), rel=0.2)


def test_limit_of_a_container(tmp_path, monkeypatch):
    """In a container the control group's limit counts, less what is in use; ``max`` is none.

    What there is altogether does not depend on what is in use.
    """
    machine = tmp_path / "meminfo"
    machine.write_text("MemTotal: 9000 kB\nMemAvailable:    4096 kB\n", encoding="ascii")
    monkeypatch.setattr(environment, "_MEMINFO", machine)
    monkeypatch.setattr(environment, "_CGROUP", tmp_path)
    free, whole = 4096 << 10, 9000 << 10
    assert (free_host_bytes(), host_bytes()) == (free, whole)
    (tmp_path / "memory.current").write_text("1000\n", encoding="ascii")
    limits = {"max": (free, whole), 3000: (2000, 3000), 500: (0, 500), 1 << 40: (free, whole)}
    for limit, expected in limits.items():
        (tmp_path / "memory.max").write_text(f"{limit}\n", encoding="ascii")
        assert (free_host_bytes(), host_bytes()) == expected


def test_system_without_meminfo(tmp_path, monkeypatch):
    """Where there is no such file the pages of the system are counted."""
    monkeypatch.setattr(environment, "_MEMINFO", tmp_path / "none")
    assert free_host_bytes() > 1 << 20
    assert host_bytes() >= free_host_bytes()


def test_tokens_per_forward(tiny_model, monkeypatch):
    """The environment overrides the estimate; nonsense is refused."""
    size = tiny_model("gpt2").size(1)
    monkeypatch.delenv("EDITCOLLAPSE_TOKENS_PER_FORWARD", raising=False)
    estimate = default_tokens(size, "values", "cpu", free_bytes(CPU))
    assert tokens_per_forward(CPU, size, "values") == estimate
    monkeypatch.setenv("EDITCOLLAPSE_TOKENS_PER_FORWARD", "12")
    assert tokens_per_forward(CPU, size, "values") == 12
    for text in ("0", "-1", "many", "", "²"):
        monkeypatch.setenv("EDITCOLLAPSE_TOKENS_PER_FORWARD", text)
        with pytest.raises(StudyError, match="must be a positive whole number"):
            tokens_per_forward(CPU, size, "values")
