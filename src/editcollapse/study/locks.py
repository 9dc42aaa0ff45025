"""Turns on a device: of all processes of a user on a machine, one computes on it at a time.

Two models that fit on a GPU one after the other do not fit together, whichever flow runs they
belong to. The lock is the operating system's: it ends with its holder, however that ends. A CPU
needs no turns, unless EDITCOLLAPSE_TURNS=always says so.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from editcollapse.errors import ResultsError
from editcollapse.runtime.environment import time_limit
from editcollapse.runtime.settings import settings
from editcollapse.study.artifacts import ArtifactStore, put_text, unwritable
from editcollapse.study.jobs import Manifest, Order

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
    asked = settings().turns_folder
    if asked:
        return Path(asked) / "devices"
    import platformdirs

    return Path(platformdirs.user_runtime_dir("editcollapse")) / "devices"


def _shared_device() -> str | None:
    """Return the name of the device asked for; None where its users need no turns."""
    from editcollapse.runtime.devices import best_device, physical_name

    asked = settings()
    device = best_device(asked.device)
    return physical_name(device) if device.type != "cpu" or asked.turns == "always" else None


MANIFESTS = "artifacts/manifests"
"""Folder below the results folder where holders leave what they computed."""


def computed_once(order: Order, compute: Callable[[], Manifest]) -> Manifest:
    """Return a unit's manifest: what another process left if its files are whole, else computed.

    The process that computes has the device to itself.

    Args:
        order: the unit; its key names the lock.
        compute: computes the unit; called by one process at a time.

    Raises:
        ResultsError: the results folder cannot be written.
    """
    store = ArtifactStore(order.results)
    manifest = _whole(store, order)
    if manifest is not None:
        return manifest
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(store.place.alone(order.key, lambda: _say_waiting(order)))
        except OSError as error:
            raise unwritable(store.place.name, error) from error
        manifest = _whole(store, order)
        if manifest is None:
            with device_turn(), time_limit():
                manifest = compute()
            put_text(store.place, _path(order), manifest.model_dump_json())
    return manifest


def _say_waiting(order: Order) -> None:
    logger.info("%s: another process computes it; waiting", order.key)


def left_behind(order: Order) -> Manifest | None:
    """Return what a process left of a unit, if its files are whole; computes and waits for none."""
    return _whole(ArtifactStore(order.results), order)


def _path(order: Order) -> str:
    return f"{MANIFESTS}/{order.key}.json"


def _whole(store: ArtifactStore, order: Order) -> Manifest | None:
    """Return the manifest that was left, if it can be read and all its files are whole."""
    try:
        text = store.place.fetch(_path(order)).read_text(encoding="utf-8")
        manifest = Manifest.model_validate_json(text)
    except (OSError, ValueError):
        return None
    ours = manifest.unit_id == order.key
    return manifest if ours and all(store.is_whole(ref) for ref in manifest.refs) else None
