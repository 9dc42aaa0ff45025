"""A lock in a store that has none: objects that only one writer can create, kept fresh by beats.

Who wants the lock creates the next generation ``<key>.<n>``; the store lets one writer create it.
A holder rewrites its object every few seconds. One that was killed beats no more: who has watched
its object stand still for long enough takes over with generation n + 1. Only the watcher's own
clock counts. A holder that is done removes its object and those before it. An error of judgement,
or a writer that saw the objects just before they went, costs a unit computed twice, with the same
content: whoever gets the lock looks first whether the unit is there.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from editcollapse.places import Waiting

logger = logging.getLogger(__name__)

BEAT_S = 10.0
"""Seconds between two beats of a holder."""
ABANDONED_S = 60.0
"""Seconds without a beat after which a holder counts as gone."""
_POLL_S = 0.5


@contextlib.contextmanager
def lease(
    fs: Any,
    path: str,
    waiting: Waiting,
    *,
    beat_s: float = BEAT_S,
    abandoned_s: float = ABANDONED_S,
) -> Iterator[None]:
    """Hold a lock in a store for the block.

    Args:
        fs: an fsspec file system whose ``pipe_file`` knows ``mode="create"``.
        path: where the lock's objects lie; their names begin with it.
        waiting: called once if another holds the lock.
        beat_s: seconds between two beats.
        abandoned_s: seconds without one after which another holder counts as gone.

    Raises:
        OSError: the store cannot be read or written.
    """
    mine = _acquire(fs, path, waiting, abandoned_s)
    done = threading.Event()
    beats = threading.Thread(target=_beat, args=(fs, mine, done, beat_s), daemon=True)
    beats.start()
    try:
        yield
    finally:
        done.set()
        beats.join()
        _release(fs, path, mine)


def _release(fs: Any, path: str, mine: str) -> None:
    """Remove one's own generation and those before it; what cannot be will count as abandoned."""
    own = int(mine.rpartition(".")[2])
    try:
        for number in _generations(fs, path):
            if number <= own:
                fs.rm_file(f"{path}.{number}")
    except Exception as error:  # noqa: BLE001  whatever the store's package raises
        logger.warning("could not remove the lock %s: %s", path, error)


def _acquire(fs: Any, path: str, waiting: Waiting, abandoned_s: float) -> str:
    """Create the next generation as soon as the last one is free; return its path."""
    seen: tuple[int, bytes] | None = None
    since = time.monotonic()
    told = False
    while True:
        number, content = _last(fs, path)
        if (number, content) != seen:
            seen, since = (number, content), time.monotonic()
        stale = time.monotonic() - since > abandoned_s
        if number == 0 or stale:
            if number:
                logger.warning("%s: its holder has gone; taking over", path)
            mine = f"{path}.{number + 1}"
            if _created(fs, mine):
                return mine
            continue
        if not told:
            waiting()
            told = True
        time.sleep(_POLL_S)


def _last(fs: Any, path: str) -> tuple[int, bytes]:
    """Return number and content of the last generation; 0 where there is none."""
    numbers = _generations(fs, path)
    try:
        return (numbers[-1], fs.cat_file(f"{path}.{numbers[-1]}")) if numbers else (0, b"")
    except FileNotFoundError:
        return 0, b""


def _generations(fs: Any, path: str) -> list[int]:
    """Return the numbers of a lock's objects, in order."""
    folder, _, stem = path.rpartition("/")
    fs.invalidate_cache(folder)
    try:
        names = [name.rpartition("/")[2] for name in fs.ls(folder, detail=False)]
    except FileNotFoundError:
        return []
    ends = [name.removeprefix(f"{stem}.") for name in names if name.startswith(f"{stem}.")]
    return sorted(int(end) for end in ends if end.isdecimal())


def _created(fs: Any, path: str) -> bool:
    """Create an object; return False where another was faster."""
    try:
        fs.pipe_file(path, _content(0), mode="create")
    except FileExistsError:
        return False
    return True


def _beat(fs: Any, path: str, done: threading.Event, beat_s: float) -> None:
    """Rewrite an object until the block is done; a store that hiccups is tried again."""
    beat = 0
    while not done.wait(beat_s):
        beat += 1
        try:
            fs.pipe_file(path, _content(beat))
        except Exception as error:  # noqa: BLE001  whatever the store's package raises
            logger.warning("could not renew the lock %s: %s", path, error)


def _content(beat: int) -> bytes:
    owner = f"PID {os.getpid()} on {socket.gethostname()}"
    return json.dumps({"owner": owner, "beat": beat}).encode()
