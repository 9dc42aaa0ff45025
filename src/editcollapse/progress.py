"""Progress inside a unit of work, for whoever listens in the same process; silent elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from editcollapse.deadlines import check_time

Listener = Callable[[str, int, int], None]
"""Called with what is going on, how much is done, and all there is to do."""

OVERALL = "study"
"""The name under which a flow reports how far it is as a whole."""

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send the progress of units to a listener for as long as the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def reporter(what: str) -> Callable[[int, int], None]:
    """Return a callback that tells the listeners how far ``what`` is.

    It raises UnitTimeoutError where the unit at work has had its time.
    """

    def report(done: int, total: int) -> None:
        check_time()
        for listener in _listeners:
            listener(what, done, total)

    return report
