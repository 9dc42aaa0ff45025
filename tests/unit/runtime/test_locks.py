"""Turns on a device, time limits, and which failures are tried again."""

import errno
import os
import subprocess
import sys
import threading

import pytest

from editcollapse.errors import (
    DatasetError,
    DeviceMemoryError,
    EditCollapseError,
    ResultsError,
    StudyError,
)
from editcollapse.runtime.environment import time_limit
from editcollapse.runtime.locks import device_lock
from editcollapse.runtime.retry import is_transient, is_transient_failure

_HOLDER = """
from editcollapse.runtime.locks import device_lock
import sys, time
with device_lock(sys.argv[1]):
    print("holding", flush=True)
    time.sleep(600)
"""
_HANGS = """
import time
from editcollapse.runtime.environment import time_limit
with time_limit():
    pass
time.sleep(0.5)
print("went on", flush=True)
with time_limit():
    time.sleep(600)
"""
_WAIT_S = 30.0


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Let processes of this test take turns among themselves."""
    monkeypatch.setenv("EDITCOLLAPSE_DEVICE_LOCK_FOLDER", str(tmp_path))
    return tmp_path


def _hold(device):
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, device], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "holding\n"
    return holder


def _take(device, taken):
    with device_lock(device):
        taken.append(device)


def test_one_process_at_a_time_computes_on_a_device():
    """Another process waits for its turn, on another device it does not; a kill ends a turn."""
    holder, taken = _hold("cuda-a"), []
    waiter = threading.Thread(target=_take, args=("cuda-a", taken), daemon=True)
    waiter.start()
    _take("cuda-b", taken)
    waiter.join(0.5)
    assert taken == ["cuda-b"]
    holder.kill()
    holder.wait()
    holder.stdout.close()
    waiter.join(_WAIT_S)
    assert taken == ["cuda-b", "cuda-a"]


def test_cpu_needs_no_turns_unless_asked(folder, monkeypatch):
    """On a CPU nothing is locked; EDITCOLLAPSE_DEVICE_LOCK=always makes its users wait as well."""
    monkeypatch.setenv("EDITCOLLAPSE_DEVICE", "cpu")
    with device_lock():
        assert list(folder.iterdir()) == []
    monkeypatch.setenv("EDITCOLLAPSE_DEVICE_LOCK", "always")
    with device_lock():
        assert [path.name for path in (folder / "devices").iterdir()] == ["cpu.lock"]


def test_impossible_device_lock_is_explained(folder, monkeypatch):
    """A wrong word and a folder that cannot be written are reported."""
    (folder / "devices").write_text("in the way")
    with (
        pytest.raises(ResultsError, match="EDITCOLLAPSE_DEVICE_LOCK_FOLDER"),
        device_lock("cuda-a"),
    ):
        pass
    monkeypatch.setenv("EDITCOLLAPSE_DEVICE_LOCK", "sometimes")
    with pytest.raises(StudyError, match="must be auto or always"), device_lock():
        pass


def test_unit_that_hangs_ends_its_process():
    """At its limit, and not after the block, the process ends and says where it stood."""
    done = subprocess.run(
        [sys.executable, "-c", _HANGS],
        env=os.environ | {"EDITCOLLAPSE_UNIT_TIMEOUT_S": "0.2"},
        capture_output=True,
        text=True,
        timeout=_WAIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == "went on\n"
    assert "Timeout" in done.stderr
    assert "most recent call first" in done.stderr


@pytest.mark.parametrize("text", ["0", "-1", "soon", "inf", "nan"])
def test_limit_that_is_no_time_is_explained(monkeypatch, text):
    """A limit has to be a positive number of seconds."""
    monkeypatch.setenv("EDITCOLLAPSE_UNIT_TIMEOUT_S", text)
    with pytest.raises(StudyError, match="positive number of seconds"), time_limit():
        pass


def _caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        DeviceMemoryError("full"),
        RuntimeError("CUDA out of memory. Tried to allocate"),
        MemoryError(),
        ConnectionResetError(),
        TimeoutError(),
        OSError(errno.EIO, "input/output error"),
        OSError(errno.ESTALE, "stale file handle"),
        _caused(ResultsError("cannot read"), OSError(errno.EIO, "input/output error")),
        _caused(EditCollapseError("no model"), ConnectionRefusedError()),
    ],
    ids=repr,
)
def test_transient_errors_are_tried_again(error):
    """A full device, the network and hiccups of a disk."""
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        DatasetError("no such file"),
        StudyError("unknown method"),
        ResultsError("cannot write"),
        OSError(errno.ENOSPC, "no space left on device"),
        _caused(ResultsError("cannot write"), OSError(errno.ENOSPC, "no space left on device")),
        PermissionError(),
        FileNotFoundError(),
        ValueError("shape"),
        RuntimeError("CUDA error: device-side assert triggered"),
        KeyError("x"),
    ],
    ids=repr,
)
def test_what_fails_again_is_not_tried_again(error):
    """Mistakes of users and ours, and what needs a hand: a full disk, a missing right."""
    assert not is_transient(error)


def test_prefect_asks_with_a_state():
    """The condition reads the error off a failed state; a state without one is not tried again."""

    class State:
        data = None

    assert not is_transient_failure(None, None, State())
    State.data = TimeoutError()
    assert is_transient_failure(None, None, State())
