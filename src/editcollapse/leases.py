"""A lock in a store that has none: objects that only one writer can create, kept fresh by beats.

Who wants the lock creates the next generation ``<key>.<n>``; the store lets one writer create it.
A holder rewrites its object every few seconds. One that was killed beats no more: who has watched
its object stand still for long enough takes over with generation n + 1. Only the watcher's own
clock counts. An error of judgement costs a unit computed twice, with the same content.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

logger = logging.getLogger(__name__)

Waiting = Callable[[], None]
"""Called once when somebody else holds a lock."""

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
        with contextlib.suppress(Exception):  # it would count as abandoned, later
            fs.pipe_file(mine, _content(0, released=True))


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
        if number == 0 or stale or _is_released(content):
            if stale and number:
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
    folder = path.rpartition("/")[0]
    fs.invalidate_cache(folder)
    try:
        names = fs.ls(folder, detail=False)
    except FileNotFoundError:
        return 0, b""
    stem = path.rpartition("/")[2] + "."
    numbers = [
        int(name.rpartition("/")[2].removeprefix(stem))
        for name in names
        if name.rpartition("/")[2].startswith(stem) and name.rpartition(".")[2].isdecimal()
    ]
    if not numbers:
        return 0, b""
    try:
        return max(numbers), fs.cat_file(f"{path}.{max(numbers)}")
    except FileNotFoundError:
        return 0, b""


def _created(fs: Any, path: str) -> bool:
    """Create an object; return False where another was faster."""
    try:
        fs.pipe_file(path, _content(0, released=False), mode="create")
    except FileExistsError:
        return False
    return True


def _beat(fs: Any, path: str, done: threading.Event, beat_s: float) -> None:
    """Rewrite an object until the block is done; a store that hiccups is tried again."""
    beat = 0
    while not done.wait(beat_s):
        beat += 1
        try:
            fs.pipe_file(path, _content(beat, released=False))
        except Exception as error:  # noqa: BLE001  whatever the store's package raises
            logger.warning("could not renew the lock %s: %s", path, error)


def _content(beat: int, *, released: bool) -> bytes:
    owner = f"PID {os.getpid()} on {socket.gethostname()}"
    return json.dumps({"owner": owner, "beat": beat, "released": released}).encode()


def _is_released(content: bytes) -> bool:
    try:
        return bool(json.loads(content)["released"])
    except (ValueError, KeyError, TypeError):
        return False
