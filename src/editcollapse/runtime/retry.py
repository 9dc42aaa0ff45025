"""Transient errors worth a retry: out of memory, network, disk I/O.

A mistake of the user's or of ours fails again the same way, so it is not tried again.
"""

import errno
from collections.abc import Iterator
from typing import Any

from editcollapse.errors import EditCollapseError

RETRIES = 3
DELAYS_S = (10.0, 30.0, 90.0)
"""Seconds before each retry. Others have to finish first, on the device or in the network."""
JITTER = 0.5
"""Share by which a delay is lengthened at random, so that two workers do not collide again."""

_TRANSIENT_ERRNOS = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
_TRANSIENT_CLASSES = frozenset(
    {"TransportError", "EndpointConnectionError", "ClientConnectionError"}
)
"""Errors of HTTP libraries that are no OSError; by name, since none of them need be installed."""


def is_transient_failure(_task: Any, _task_run: Any, state: Any) -> bool:
    """Return whether a failed task is worth a retry: Prefect's ``retry_condition_fn``.

    Args:
        state: the failed state; its data is the error.
    """
    error = getattr(state.data, "result", state.data)
    return isinstance(error, BaseException) and is_transient(error)


def is_transient(error: BaseException) -> bool:
    """Return whether an error or any of its causes is transient."""
    return any(_is_transient(found) for found in _chain(error))


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, EditCollapseError):
        return error.is_transient
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS:
        return True
    if any(base.__name__ in _TRANSIENT_CLASSES for base in type(error).__mro__):
        return True
    from editcollapse.runtime.devices import is_out_of_memory

    return is_out_of_memory(error)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it, each once."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__
