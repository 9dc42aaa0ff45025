"""Turns on a device: of all processes of a user on a machine, one computes on it at a time.

Two models that fit on a GPU one after the other do not fit together, whichever flow runs they
belong to. The lock is the operating system's: it ends with its holder, however that ends. A CPU
needs no turns, unless EDITCOLLAPSE_TURNS=always says so.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from editcollapse.errors import ResultsError, StudyError

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def device_turn(device: str | None = None) -> Iterator[None]:
    """Have a device to oneself for the block, waiting for whoever computes on it.

    Args:
        device: its name on this machine; where left out, that of the device that
            EDITCOLLAPSE_DEVICE asks for.

    Raises:
        StudyError: EDITCOLLAPSE_TURNS is neither ``auto`` nor ``always``, or there is no such
            device.
        ResultsError: the folder of the locks cannot be written.
    """
    name = device or _shared_device()
    if name is None:
        yield
        return
    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = filelock.FileLock(folder / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            logger.info("%s: another process computes on it; waiting", name)
            lock.acquire()
    except OSError as error:
        raise ResultsError(
            f"cannot write to {folder}, where processes take turns on a device: {error.strerror}. "
            "Name another folder in EDITCOLLAPSE_TURNS_FOLDER."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _folder() -> Path:
    """Return the folder of the locks: one for all processes of this user, or the one asked for."""
    asked = os.environ.get("EDITCOLLAPSE_TURNS_FOLDER")
    if asked:
        return Path(asked) / "devices"
    import platformdirs

    return Path(platformdirs.user_runtime_dir("editcollapse")) / "devices"


def _shared_device() -> str | None:
    """Return the name of the device asked for; None where its users need no turns."""
    asked = os.environ.get("EDITCOLLAPSE_TURNS", "auto")
    if asked not in {"auto", "always"}:
        raise StudyError(f"EDITCOLLAPSE_TURNS is {asked!r}; it must be auto or always.")
    from editcollapse.devices import best_device, physical_name
    from editcollapse.runtime import asked_device

    device = best_device(asked_device())
    return physical_name(device) if device.type != "cpu" or asked == "always" else None
