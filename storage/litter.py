"""Find and remove what nothing in a results folder refers to any more.

What a row in the database, a manifest or a record refers to is never litter, nor is a file that is
younger than the age asked for or than the oldest study that runs. Symbolic links are not followed.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import filelock
from editcollapse.running_studies import oldest_running

from editcollapse.errors import ResultsError
from storage.database import STORE, WAIT_S, open_store
from storage.leftovers import drafts, free_locks
from storage.references import (
    ARTIFACTS,
    MANIFESTS,
    RECORDS,
    Source,
    ledger_paths,
    read_sources,
    stored_files,
    text_paths,
    vector_paths,
)
from storage.upkeep_lock import hold_upkeep

DAY_S = 86_400.0
_CLOCKS_S = 600.0
"""How far the clocks of a file server and a running study may differ, in seconds."""

KILLED = "half written when its run was killed"
UNNAMED = "no row, manifest or record names it"
BROKEN = "names files that are gone: the unit is computed again in any case"
GARBLED = "cannot be read: the unit is computed again in any case"
UNRECORDED = "of a unit that has no row in the database"
FREE = "nobody holds it"
"""Why a file is litter."""


@dataclasses.dataclass(frozen=True, slots=True)
class Litter:
    """A file that may go."""

    path: Path
    """Relative to the results folder."""
    reason: str
    n_bytes: int
    changed_at: float
    """Last change, in seconds since 1970."""

    @property
    def kind(self) -> str:
        """What it is: a kind of artifact, records, manifests, locks or database."""
        parts = self.path.parts
        if parts[0] == ARTIFACTS.name:
            return "/".join(parts[1:-1])
        return "database" if "duckdb" in self.path.name else parts[0]


@dataclasses.dataclass(frozen=True, slots=True)
class Findings:
    """What a look at a results folder found."""

    litter: tuple[Litter, ...]
    n_fresh: int
    """Files that would be litter if they were older."""
    unrecorded: tuple[Litter, ...]
    """Files of whole units without a row in the database; kept unless they are asked for."""


@contextlib.contextmanager
def litter_of(
    results: Path,
    *,
    older_than_s: float = DAY_S,
    unrecorded: bool = False,
    wait_s: float = WAIT_S,
) -> Iterator[Findings]:
    """Give what may go from a results folder; the store is held for the block.

    Args:
        results: the results folder.
        older_than_s: leave files that changed later than so many seconds ago.
        unrecorded: whether units without a row in the database may go, which killed studies would
            compute again.
        wait_s: how long to wait for another process that writes, in seconds.

    Raises:
        StoreBusyError: another process holds the store for longer, or a backup is being written.
        ResultsError: there is no database to say what is needed; or a study runs, whose units
            ``unrecorded`` would take.
    """
    if not (results / STORE).is_file():
        raise ResultsError(
            f"there is no database in {results} to say which files are needed. Name the folder "
            f"that a study wrote to, or make its database again: python -m flows rebuild "
            f"--results {results}"
        )
    with hold_upkeep(results), open_store(results, wait_s=wait_s) as connection:
        running = oldest_running(results)
        if unrecorded and running is not None:
            raise ResultsError(
                f"a study runs in {results}; it may need units whose rows are not in the database "
                "yet. Wait for its end, or leave out --unrecorded."
            )
        started = time.time() if running is None else running - _CLOCKS_S
        before = min(time.time() - older_than_s, started)
        yield _find(results, connection, before, unrecorded=unrecorded)


def remove_litter(results: Path, litter: tuple[Litter, ...]) -> tuple[Litter, ...]:
    """Remove files, as ``litter_of`` found them, and return those that were removed.

    Records and manifests go before the files that they name: a removal that is killed leaves no
    unit that lacks files. What has been written anew meanwhile stays.

    Raises:
        ResultsError: a file cannot be removed.
    """
    sources = {RECORDS, MANIFESTS}
    removed = []
    for found in sorted(litter, key=lambda each: each.path.parent not in sources):
        try:
            if _remove(results / found.path, found):
                removed.append(found)
        except OSError as error:
            raise ResultsError(
                f"cannot remove {found.path} from {results}: {error.strerror or error}. "
                f"{len(removed)} of {len(litter)} files are removed; mend the cause and run it "
                "again."
            ) from error
    return tuple(removed)


def _find(
    results: Path, connection: duckdb.DuckDBPyConnection, before: float, *, unrecorded: bool
) -> Findings:
    """Return what may go of what changed last before a time."""
    in_rows = ledger_paths(connection)
    sources = tuple(read_sources(results))
    whole = [source for source in sources if source.is_whole]
    kept = [source for source in whole if _is_recorded(source, in_rows)]
    named = in_rows | text_paths(connection, results) | vector_paths(connection) | _names(kept)
    # Without a row: shards and their sums once C is made, and all of a study that was killed.
    pending = _names(whole) - named

    found = [(path, KILLED) for path in drafts(results)]
    found += [(path, FREE) for path in free_locks(results)]
    found += [(source.path, _fault(source)) for source in sources if not source.is_whole]
    extra = [(source.path, UNRECORDED) for source in whole if source not in kept]
    for path in stored_files(results / ARTIFACTS):
        relative = path.relative_to(results)
        name = relative.as_posix()
        if name in pending:
            extra.append((relative, UNRECORDED))
        elif name not in named:
            found.append((relative, UNNAMED))
    seen = list(_seen(results, found))
    own = tuple(_seen(results, extra))
    old = tuple(each for each in seen if each.changed_at < before)
    old_own = tuple(each for each in own if each.changed_at < before)
    return Findings(
        litter=(*old, *old_own) if unrecorded else old,
        n_fresh=len(seen) - len(old) + (len(own) - len(old_own) if unrecorded else 0),
        unrecorded=() if unrecorded else own,
    )


def _is_recorded(source: Source, in_rows: frozenset[str]) -> bool:
    """Return whether a unit has rows in the database; one that leaves no files needs none."""
    return not source.names or bool(source.names & in_rows)


def _names(sources: list[Source]) -> frozenset[str]:
    return frozenset(name for source in sources for name in source.names)


def _fault(source: Source) -> str:
    return BROKEN if source.is_readable else GARBLED


def _seen(results: Path, found: list[tuple[Path, str]]) -> Iterator[Litter]:
    """Yield files with size and time; one that went meanwhile is passed over."""
    for path, reason in found:
        with contextlib.suppress(FileNotFoundError):
            state = (results / path).lstat()
            yield Litter(path, reason, state.st_size, state.st_mtime)


def _remove(path: Path, found: Litter) -> bool:
    """Remove one file unless it changed or is in use; return whether it is gone by this."""
    if found.reason == FREE:
        try:
            # Removed while it is held: whoever waits for it sees that and makes a new one.
            with filelock.FileLock(path).acquire(timeout=0):
                path.unlink(missing_ok=True)
        except filelock.Timeout:
            return False
        return True
    try:
        if path.lstat().st_mtime != found.changed_at:
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True
