"""One process computes a unit, others wait and take what it left.

The lock is the results folder's (``places``). In a folder of this machine it is the operating
system's file lock, which ends with its holder, however that ends: nothing is left to clean up
after ``kill -9``. The file system must have real locks (local, NFSv4, GPFS).
"""

import contextlib
import logging
from collections.abc import Callable

from editcollapse.artifacts import ArtifactStore, put_text, unwritable
from editcollapse.deadlines import time_limit
from editcollapse.orders import Manifest, Order
from editcollapse.turns import device_turn

logger = logging.getLogger(__name__)

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
            with device_turn(), time_limit(order.key):
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
