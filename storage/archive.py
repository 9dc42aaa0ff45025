"""Back up a results folder to one tar file, and bring it back; files are checked by their names.

What a study has finished does not change: a file's name is the digest of its bytes. So a backup
needs no lock, no checksums of its own and no database: ``restore`` builds that from the row files,
which count in the order of the archive's index. Manifests and records are JSON of units; what they
name is checked when a study uses it.
"""

import dataclasses
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import IO

from editcollapse.errors import ResultsError
from editcollapse.fingerprints import DIGEST_BYTES, digest_file
from editcollapse.study.results_folder import results_at
from storage.ingest import ROWS_FOLDER, IngestReport, RowsFile, SkippedFile
from storage.publish import rebuild, row_files_in_order

INDEX = "index.json"
"""Last member: ``files``, the names of all others, row files in the order in which they count; and
``left_out``, those that were missing or damaged."""
RECORDS = Path("records")
"""Folder below the results folder where Prefect keeps what each task returned."""

_SUFFIX = ".tar"
_ARTIFACT = re.compile(
    rf"artifacts/(?:[\w-]+/)+(?P<digest>[0-9a-f]{{{2 * DIGEST_BYTES}}})"
    r"\.(?:safetensors|parquet|json)"
)
_UNIT = re.compile(r"(?:artifacts/manifests/[\w-]+\.json|records/[\w-]+)")
_MAX_UNIT_BYTES = 16 << 20
_MAX_INDEX_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True, slots=True)
class BackupReport:
    """Contents of a backup."""

    n_files: int
    n_bytes: int
    left_out: tuple[str, ...]
    """Files that are missing or damaged, relative to the results folder."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Index:
    """Index of a backup."""

    files: tuple[str, ...]
    left_out: tuple[str, ...]


def back_up(results: Path, target: Path, *, tensors: bool = False) -> BackupReport:
    """Write rows, texts, vectors, manifests and records of a results folder to one tar file.

    Args:
        results: the results folder; studies may run in it.
        target: the new file, with the suffix ``.tar``.
        tensors: whether to add updates, second moments and sums too, which are large and are
            computed again where they are missing.

    Raises:
        ResultsError: there is nothing to back up, or the file is there already or cannot be
            written.
    """
    rows = _row_files(results)
    if not rows:
        raise ResultsError(
            f"nothing to back up: there are no row files in {results}. Name the folder that a "
            "study wrote to: --results DIR."
        )
    if target.suffix != _SUFFIX:
        raise ResultsError(f"a backup is a {_SUFFIX} file, not {target.name!r}: name it so.")
    if target.exists() or target.is_symlink():
        raise ResultsError(f"{target} is there already. Give another name: a backup replaces none.")
    draft: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        draft = Path(name)
        with os.fdopen(handle, "wb") as stream:
            report = _write(stream, results, [*rows, *_others(results, tensors=tensors)])
            stream.flush()
            os.fsync(stream.fileno())
        draft.chmod(0o644)
        draft.replace(target)
    except OSError as error:
        raise ResultsError(
            f"cannot write {target}: {error.strerror or error}. Free space or choose another place."
        ) from error
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)
    return report


def restore(source: Path, results: Path) -> IngestReport:
    """Unpack a backup to a new results folder and build its database from the row files.

    Nothing in the archive is believed: names lead nowhere else, bytes are those of their names.

    Args:
        source: a file that ``back_up`` wrote.
        results: the folder to make; it must be empty if it is there.

    Raises:
        ResultsError: the folder has content, or the file is no whole backup. The folder is then
            as it was.
    """
    if results.exists() and (not results.is_dir() or any(results.iterdir())):
        raise ResultsError(
            f"{results} is there already and not empty. Restore to a new folder: --results DIR."
        )
    try:
        results.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=results.parent, prefix=f".{results.name}."))
    except OSError as error:
        raise ResultsError(
            f"cannot make a folder beside {results}: {error.strerror or error}. "
            "Give another with --results."
        ) from error
    try:
        index = _unpack(source, draft)
        paths = [Path(name) for name in index.files]
        rows = [
            RowsFile(path.parent.name, path, path.stem)
            for path in paths
            if path.parent.parent == ROWS_FOLDER
        ]
        report = rebuild(results_at(draft), rows)
        draft.chmod(0o755)
        draft.replace(results)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    lacking = (
        SkippedFile(results / name, "it was missing or damaged when the backup was made")
        for name in index.left_out
    )
    return dataclasses.replace(report, skipped=(*report.skipped, *lacking))


def _row_files(results: Path) -> list[str]:
    """Return all row files, published ones in their order, the others by time."""
    names = (file.path.as_posix() for file in row_files_in_order(results_at(results)))
    return [name for name in names if _ARTIFACT.fullmatch(name)]  # a database may come from anyone


def _others(results: Path, *, tensors: bool) -> list[str]:
    """Return the other files of ours: what jobs left, and tensors where they are asked for."""
    folders = [results / "artifacts", results / RECORDS]
    found = (path for folder in folders for path in sorted(folder.rglob("*")))
    names = [path.relative_to(results).as_posix() for path in found if path.is_file()]
    return [
        name
        for name in names
        if not name.startswith(f"{ROWS_FOLDER.as_posix()}/")
        and (_UNIT.fullmatch(name) or _ARTIFACT.fullmatch(name))
        and (tensors or not name.endswith(".safetensors"))
    ]


def _write(stream: IO[bytes], results: Path, names: list[str]) -> BackupReport:
    """Write the files that are whole, then the index."""
    held, left_out, n_bytes = [], [], 0
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            path = results / name
            if not _is_plain(path, results) or not _is_whole(path, name):
                left_out.append(name)
                continue
            # Read at once: Prefect writes its records in place.
            data = path.read_bytes() if _UNIT.fullmatch(name) else None
            size = path.stat().st_size if data is None else len(data)
            with path.open("rb") if data is None else io.BytesIO(data) as content:
                tar.addfile(_member(name, size), content)
            held.append(name)
            n_bytes += size
        index = json.dumps({"files": held, "left_out": left_out}).encode()
        tar.addfile(_member(INDEX, len(index)), io.BytesIO(index))
    return BackupReport(len(held), n_bytes, tuple(left_out))


def _member(name: str, size: int) -> tarfile.TarInfo:
    """Return a member with nothing of this machine or user in it."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def _is_plain(path: Path, results: Path) -> bool:
    """Return whether a file is there and neither it nor a folder above it is a link."""
    above = path.parent.relative_to(results).parts
    folders = [results.joinpath(*above[: n + 1]) for n in range(len(above))]
    return path.is_file() and not any(each.is_symlink() for each in (path, *folders))


def _is_whole(path: Path, name: str) -> bool:
    """Return whether a file has the bytes that its name says; a manifest's, whether it is JSON."""
    found = _ARTIFACT.fullmatch(name)
    if found:
        return digest_file(path) == found["digest"]
    if path.stat().st_size > _MAX_UNIT_BYTES:
        return False
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return True


def _unpack(source: Path, folder: Path) -> _Index:
    """Unpack a backup, check every file, and return what its index says."""
    if not source.is_file():
        raise ResultsError(f"no backup {source}. Give a file that editcollapse backup wrote.")
    try:
        with tarfile.open(source, mode="r:") as tar:
            found, index = _unpacked(source, tar, folder)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise _unusable(source, str(error)) from error
    except OSError as error:
        raise ResultsError(
            f"cannot unpack {source} below {folder}: {error.strerror or error}. Free space or "
            "give another folder."
        ) from error
    if index is None:
        raise _unusable(source, f"it has no {INDEX}: its copy was cut short")
    if len(index.files) != len(found) or set(index.files) != found:
        raise _unusable(source, f"its {INDEX} names other files than it holds")
    return index


def _unpacked(source: Path, tar: tarfile.TarFile, folder: Path) -> tuple[set[str], _Index | None]:
    """Unpack the members of a backup; return their names, and what its index lists."""
    found: set[str] = set()
    for member in tar:
        content = _content(source, tar, member, folder)
        if member.name == INDEX:
            if tar.next() is not None:
                raise _unusable(source, f"something follows its {INDEX}")
            return found, _listed(source, content.read(_MAX_INDEX_BYTES))
        if member.name in found:
            raise _unusable(source, f"it holds {member.name} twice")
        found.add(member.name)
        path = folder / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as out:
            shutil.copyfileobj(content, out)
        if not _is_whole(path, member.name):
            raise _unusable(source, f"{member.name} has not the bytes of its name")
    return found, None


def _content(
    source: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path
) -> IO[bytes]:
    """Return a member's bytes. Raises ResultsError if it may not be unpacked."""
    if not hasattr(tarfile, "data_filter"):
        raise ResultsError(
            "this Python cannot unpack archives safely (tarfile.data_filter is missing). Restore "
            "with Python 3.11.4 or later."
        )
    try:
        tarfile.data_filter(member, str(folder))
    except tarfile.FilterError as error:
        raise _unusable(source, str(error)) from error
    is_ours = any(kind.fullmatch(member.name) for kind in (_ARTIFACT, _UNIT))
    if not member.isreg() or member.issparse() or not (is_ours or member.name == INDEX):
        raise _unusable(source, f"{member.name!r} is no plain file of a results folder")
    content = tar.extractfile(member)
    if content is None:
        raise _unusable(source, f"{member.name!r} cannot be read")
    return content


def _listed(source: Path, text: bytes) -> _Index:
    """Return the files that an index lists."""
    try:
        found = json.loads(text)
        lists = found["files"], found["left_out"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _unusable(source, f"its {INDEX} is none") from error
    for names in lists:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _unusable(source, f"its {INDEX} lists no names")
    return _Index(tuple(lists[0]), tuple(lists[1]))


def _unusable(source: Path, what: str) -> ResultsError:
    return ResultsError(
        f"{source} is no whole backup: {what}. Nothing was restored; take another copy of it."
    )
