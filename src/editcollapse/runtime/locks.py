"""Locks of the operating system on files, and on devices, that processes of a machine share.

They end with their holder, however that ends: nothing is left to clean up after ``kill -9``. The
file system must have real locks (local, NFSv4, GPFS).
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from editcollapse.errors import ResultsError
from editcollapse.runtime.settings import settings

logger = logging.getLogger(__name__)

Waiting = Callable[[], None]
"""Called once when somebody else holds a lock."""


@contextlib.contextmanager
def file_lock(path: Path, waiting: Waiting, *, mode: int = 0o777) -> Iterator[None]:
    """Hold a lock of the operating system: it ends with its holder, however that ends.

    Args:
        path: the lock's file; its folder is made.
        waiting: called first where another process holds it.
        mode: permissions of a folder that is made.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=mode)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def device_lock(device: str | None = None) -> Iterator[None]:
    """Per-device lock: only one of a user's processes computes on a device at a time.

    Two models that fit on a GPU one after the other do not fit together, whichever flow runs they
    belong to. A CPU is not locked, unless EDITCOLLAPSE_DEVICE_LOCK=always says so.

    Args:
        device: its name on this machine; where left out, that of the device that
            EDITCOLLAPSE_DEVICE asks for.

    Raises:
        StudyError: EDITCOLLAPSE_DEVICE_LOCK is neither ``auto`` nor ``always``, or there is no such
            device.
        ResultsError: the folder of the locks cannot be written.
    """
    name = device or _shared_device()
    if name is None:
        yield
        return
    folder = _folder()

    def say_waiting() -> None:
        logger.info("%s: another process computes on it; waiting", name)

    with contextlib.ExitStack() as held:
        try:
            held.enter_context(file_lock(folder / f"{name}.lock", say_waiting, mode=0o700))
        except OSError as error:
            raise ResultsError(
                f"cannot write to {folder}, where processes lock a device: {error.strerror}. "
                "Name another folder in EDITCOLLAPSE_DEVICE_LOCK_FOLDER."
            ) from error
        yield


def _folder() -> Path:
    """Return the folder of the locks: one for all processes of this user, or the one asked for."""
    asked = settings().device_lock_folder
    if asked:
        return Path(asked) / "devices"
    import platformdirs

    return Path(platformdirs.user_runtime_dir("editcollapse")) / "devices"


def _shared_device() -> str | None:
    """Return the name of the device asked for; None where it needs no lock."""
    from editcollapse.runtime.devices import best_device, physical_name

    asked = settings()
    device = best_device(asked.device)
    return physical_name(device) if device.type != "cpu" or asked.device_lock == "always" else None
