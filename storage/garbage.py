"""Free space in a results folder: tensors of a kind by age, and what killed runs left half written.

Tensors are cached work: what is missing is computed again by the run that needs it. Row files,
texts, vectors and manifests are results and never go. Whoever reads an artifact sets its time of
change, so that what a running study uses is young; nothing younger than a day goes.
"""

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterator
from pathlib import Path

from editcollapse.errors import ResultsError, nearest_first
from editcollapse.fingerprints import DIGEST_BYTES
from storage.database import DRAFT

DAY_S = 86_400.0
DRAFTS = "drafts"
"""Kind of the files that a killed run left half written."""
KINDS = (
    "corpora",
    "directions",
    "moments",
    "probes",
    "sequence_states",
    "sums",
    "targets",
    "updates",
    DRAFTS,
)
"""What may go: kinds of tensors below ``artifacts``, and drafts."""

_DRAFT = re.compile(r"\.\w+\.(?:safetensors|parquet|json)")
_STORED = re.compile(rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}\.safetensors")


@dataclasses.dataclass(frozen=True, slots=True)
class Garbage:
    """A file that may go."""

    path: Path
    """Relative to the results folder."""
    kind: str
    """One of ``KINDS``."""
    n_bytes: int
    changed_at: float
    """Last change or use, in seconds since 1970."""


def find_garbage(
    results: Path, kinds: tuple[str, ...] = KINDS, *, older_than_s: float = DAY_S
) -> tuple[Garbage, ...]:
    """Return the files of these kinds that nobody has written or used for some time.

    Symbolic links are not followed; files with names that are not ours stay.

    Args:
        results: the results folder; studies may run in it.
        kinds: some of ``KINDS``.
        older_than_s: seconds since the last change or use; a day at least.

    Raises:
        ResultsError: there is no such folder or kind, or the age is less than a day.
    """
    if not results.is_dir():
        raise ResultsError(
            f"there is no folder {results}. Name one that a study wrote to: --results DIR."
        )
    for kind in kinds:
        if kind not in KINDS:
            raise ResultsError(f"no kind {kind!r} may go. Known: {nearest_first(kind, KINDS)}.")
    if not older_than_s >= DAY_S:
        raise ResultsError(
            f"files of the last {older_than_s / DAY_S:g} days may belong to a run: name an age of "
            "a day or more, such as --older-than 7d."
        )
    before = time.time() - older_than_s
    return tuple(each for each in _found(results, kinds) if each.changed_at < before)


def remove_garbage(results: Path, garbage: tuple[Garbage, ...]) -> tuple[Garbage, ...]:
    """Remove files, as ``find_garbage`` found them, and return those that were removed.

    What has been written or used meanwhile stays.

    Raises:
        ResultsError: a file cannot be removed.
    """
    removed: list[Garbage] = []
    for each in garbage:
        path = results / each.path
        try:
            if path.lstat().st_mtime != each.changed_at:
                continue
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ResultsError(
                f"cannot remove {each.path} from {results}: {error.strerror or error}. "
                f"{len(removed)} of {len(garbage)} files are removed; mend the cause and run it "
                "again."
            ) from error
        removed.append(each)
    return tuple(removed)


def _found(results: Path, kinds: tuple[str, ...]) -> Iterator[Garbage]:
    """Yield every file of these kinds, whatever its age."""
    artifacts = results / "artifacts"
    for path in _plain_files(artifacts):
        relative = path.relative_to(results)
        kind = relative.parts[1] if _STORED.fullmatch(path.name) else DRAFTS
        if kind == DRAFTS and not _DRAFT.fullmatch(path.name):
            continue
        if kind in kinds:
            yield from _seen(results, relative, kind)
    if DRAFTS in kinds:
        for draft in (DRAFT, DRAFT.with_name(f"{DRAFT.name}.wal")):
            if (results / draft).is_file() and not (results / draft).is_symlink():
                yield from _seen(results, draft, DRAFTS)


def _seen(results: Path, relative: Path, kind: str) -> Iterator[Garbage]:
    """Yield a file with size and time; one that went meanwhile is passed over."""
    with contextlib.suppress(FileNotFoundError):
        state = (results / relative).lstat()
        yield Garbage(relative, kind, state.st_size, state.st_mtime)


def _plain_files(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder that are no symbolic links, nor behind one, sorted."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from _plain_files(path)
        elif path.is_file():
            yield path
