"""Why the Hugging Face hub did not give what it was asked for, and what to do about it.

A hub that cannot be reached is another thing than a name that it does not have.
"""

import errno
from collections.abc import Iterator
from typing import Literal

Repository = Literal["model", "dataset"]

_TRANSPORTS = frozenset({"httpx", "httpx2", "httpcore", "requests", "urllib3"})
"""Packages by which the hub's clients reach it: what these raise is of the network."""
_OUR_OWN = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS})
"""Errors of this machine's disk."""
_SERVER_FAULT = 500
_REFUSED = (401, 403)


def hub_refusal(error: Exception, kind: Repository, name: str, revision: str | None = None) -> str:
    """Say what came of asking the hub, and what to do: two clauses without a full stop.

    Args:
        error: what ``huggingface_hub`` or ``datasets`` raised.
        kind: what was asked for.
        name: its hub id.
        revision: the revision that was asked for.
    """
    chain = tuple(_chain(error))
    return (
        _said_by_hub(chain, kind, name, revision)
        or _met_on_the_way(chain)
        or f"the hub gave {type(error).__name__}: {_first_line(error)}. Check the name"
    )


def _said_by_hub(
    chain: tuple[BaseException, ...], kind: Repository, name: str, revision: str | None
) -> str:
    """Return what the hub answered; empty where it is not the hub that refused."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}"
    absent = [each for each in chain if type(each).__name__ == "DatasetNotFoundError"]
    if _any(chain, GatedRepoError) or any("gated" in str(each) for each in absent):
        return f"the hub's {kind} {name} is gated. Accept its terms at {page} and set HF_TOKEN"
    if _any(chain, RevisionNotFoundError):
        return f"the hub's {kind} {name} has no revision {revision}. Correct it; {page} lists them"
    if _any(chain, RepositoryNotFoundError) or absent:
        return (
            f"the hub has no {kind} {name}, or none that may be seen without a token. Correct the "
            "name; for a private one set HF_TOKEN"
        )
    answered = [each.response.status_code for each in chain if isinstance(each, HfHubHTTPError)]
    if answered and answered[0] >= _SERVER_FAULT:
        return f"the hub is down (status {answered[0]}). Try again later"
    if answered and answered[0] in _REFUSED:
        return f"the hub refuses it (status {answered[0]}). Check HF_TOKEN"
    return ""


def _met_on_the_way(chain: tuple[BaseException, ...]) -> str:
    """Return what failed between the hub and this machine's disk; empty where nothing did."""
    full = [each for each in chain if isinstance(each, OSError) and each.errno in _OUR_OWN]
    if full:
        return f"what the hub gave could not be written ({full[0]}). Make room, or set HF_HOME"
    if any(_is_of_network(each) for each in chain):
        said = _first_line(chain[-1])
        return f"the Hugging Face hub cannot be reached ({said}). Check the network"
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came of, the first cause last."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _any(chain: tuple[BaseException, ...], kind: type[Exception]) -> bool:
    return any(isinstance(each, kind) for each in chain)


def _is_of_network(error: BaseException) -> bool:
    """Return whether a connection failed, or the hub is switched off and its cache lacks this."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    is_transport = type(error).__module__.partition(".")[0] in _TRANSPORTS
    return is_transport or isinstance(
        error, ConnectionError | TimeoutError | LocalEntryNotFoundError
    )


def _first_line(error: BaseException) -> str:
    """Return the first line of an error, or its type where it has no text."""
    return next((line.rstrip(".") for line in str(error).strip().splitlines()), "") or (
        type(error).__name__
    )
