"""Files of results: content-addressed, written atomically, checked by digest.

Everything lies below one results folder, as ``artifacts/<kind>/<digest>.<suffix>``. A reference is
small, holds no absolute path, and is what tasks hand to each other. safetensors, Parquet and JSON
only; nothing is ever unpickled. The folder may be anywhere that ``results_folder`` reaches.
"""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import BaseModel, ConfigDict, field_validator
from safetensors import SafetensorError

from editcollapse.errors import ArtifactError, ResultsError
from editcollapse.fingerprints import digest_bytes, digest_file
from editcollapse.rows.frames import frame_of
from editcollapse.study.results_folder import ResultsFolder, results_at, safe_path

if TYPE_CHECKING:
    from torch import Tensor

_FOLDER = "artifacts"
_WRITE_ERRORS = (OSError, SafetensorError, pl.exceptions.ComputeError)
"""What a full disk raises, by writer."""


class ArtifactRef(BaseModel):
    """Path of a file below the results folder, with the digest and size of its bytes."""

    model_config = ConfigDict(frozen=True)

    digest: str
    """blake2b of the file's bytes."""
    path: str
    """Relative to the results folder, with forward slashes."""
    n_bytes: int
    table: str | None = None
    """For rows: the table of the results database that they belong to."""

    @field_validator("path")
    @classmethod
    def _stays_below(cls, path: str) -> str:
        try:
            return safe_path(path)
        except ArtifactError as error:
            raise ValueError(str(error)) from error


class ArtifactStore:
    """The artifacts below one results folder.

    Args:
        results: path or URL of the folder; made when the first artifact is written.

    Raises:
        ResultsError: no package for such a URL is installed.
    """

    def __init__(self, results: str | Path) -> None:
        self.results = results_at(results)

    @property
    def here(self) -> Path:
        """Folder of this machine in which the files lie that have been used."""
        return self.results.here

    def put_tensors(self, kind: str, tensors: "dict[str, Tensor]") -> ArtifactRef:
        """Write tensors as one safetensors file.

        Raises:
            ResultsError: the folder cannot be written.
        """
        from safetensors.torch import save_file

        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        return self._put(kind, "safetensors", lambda path: save_file(whole, path))

    def put_rows(self, table: str, rows: Iterable[Any]) -> ArtifactRef:
        """Write rows of one table of the results database as Parquet.

        Raises:
            ResultsError: the folder cannot be written.
        """
        ref = self.put_frame(f"rows/{table}", frame_of(table, rows))
        return ref.model_copy(update={"table": table})

    def put_frame(self, kind: str, frame: pl.DataFrame) -> ArtifactRef:
        """Write a frame that belongs to no table as Parquet.

        Raises:
            ResultsError: the folder cannot be written.
        """
        data = _parquet_bytes(frame)
        return self._put(kind, "parquet", lambda path: path.write_bytes(data))

    def rows_ref(self, table: str, rows: Iterable[Any]) -> ArtifactRef:
        """Return the reference that ``put_rows`` would, without writing anything."""
        data = _parquet_bytes(frame_of(table, rows))
        digest = digest_bytes(data)
        path = f"{_FOLDER}/rows/{table}/{digest}.parquet"
        return ArtifactRef(digest=digest, path=path, n_bytes=len(data), table=table)

    def put_json(self, kind: str, value: Any) -> ArtifactRef:
        """Write plain data as JSON.

        Raises:
            ResultsError: the folder cannot be written.
        """
        data = _json_bytes(value)
        return self._put(kind, "json", lambda path: path.write_bytes(data))

    def json_ref(self, kind: str, value: Any) -> ArtifactRef:
        """Return the reference that ``put_json`` would, without writing anything."""
        data = _json_bytes(value)
        digest = digest_bytes(data)
        return ArtifactRef(digest=digest, path=f"{_FOLDER}/{kind}/{digest}.json", n_bytes=len(data))

    def tensors(self, ref: ArtifactRef) -> "dict[str, Tensor]":
        """Return the tensors of a file.

        Raises:
            ArtifactError: the file is missing or its content has changed.
        """
        from safetensors.torch import load_file

        tensors: dict[str, Tensor] = load_file(self._whole(ref))
        return tensors

    def frame(self, ref: ArtifactRef) -> pl.DataFrame:
        """Return the rows of a Parquet file.

        Raises:
            ArtifactError: the file is missing or its content has changed.
        """
        return pl.read_parquet(self._whole(ref))

    def json(self, ref: ArtifactRef) -> Any:
        """Return the data of a JSON file.

        Raises:
            ArtifactError: the file is missing or its content has changed.
        """
        return json.loads(self._whole(ref).read_text(encoding="utf-8"))

    def is_whole(self, ref: ArtifactRef) -> bool:
        """Return whether the file is there and its bytes are those that were written."""
        return self._found(ref) is not None

    def _found(self, ref: ArtifactRef) -> Path | None:
        """Return the path of a whole file on this machine; None where it is missing or changed."""
        try:
            path = self.results.fetch(ref.path)
            if not _has_bytes(path, ref):
                # A mirror's copy may be damaged; a folder of this machine gives the same file.
                path = self.results.fetch(ref.path, again=True)
            if not _has_bytes(path, ref):
                return None
        except OSError:
            return None
        if ref.table is None:  # rows count in the order of their times
            with contextlib.suppress(OSError):
                os.utime(path)  # what is used is no garbage (storage.garbage)
        return path

    def _whole(self, ref: ArtifactRef) -> Path:
        path = self._found(ref)
        if path is None:
            there = (self.here / ref.path).exists()
            found = "changed since it was written" if there else "missing"
            raise ArtifactError(
                f"{ref.path} below {self.results.name} is {found}. "
                "Run the study again: it is recomputed."
            )
        return path

    def _put(self, kind: str, suffix: str, write: Callable[[Path], Any]) -> ArtifactRef:
        with _draft(self.results, f"{_FOLDER}/{kind}", suffix) as temporary:
            write(temporary)
            _sync(temporary)
            digest = digest_file(temporary)
            n_bytes = temporary.stat().st_size
            path = f"{_FOLDER}/{kind}/{digest}.{suffix}"
            self.results.put(temporary, path)
        return ArtifactRef(digest=digest, path=path, n_bytes=n_bytes)


def put_text(results_folder: ResultsFolder, path: str, text: str) -> None:
    """Write a text to a path of a results folder, whole or not at all.

    Raises:
        ResultsError: the results folder cannot be written.
    """
    with _text(results_folder, path, text) as temporary:
        results_folder.put(temporary, path)


def create_text(results_folder: ResultsFolder, path: str, text: str) -> bool:
    """Write a text as ``put_text``; return False where another machine was faster.

    Raises:
        ResultsError: the results folder cannot be written.
    """
    with _text(results_folder, path, text) as temporary:
        return results_folder.create(temporary, path)


@contextlib.contextmanager
def _text(results_folder: ResultsFolder, path: str, text: str) -> Iterator[Path]:
    """Give a new file with a text, in the folder of a path; removed unless it is moved."""
    folder, _, name = path.rpartition("/")
    with _draft(results_folder, folder, name.rpartition(".")[2]) as temporary:
        temporary.write_text(text, encoding="utf-8")
        _sync(temporary)
        yield temporary


@contextlib.contextmanager
def _draft(results_folder: ResultsFolder, folder: str, suffix: str) -> Iterator[Path]:
    """Give a new file in a folder of the results, and remove it unless the block has moved it.

    Raises:
        ResultsError: the results folder cannot be written, there or in the block.
    """
    temporary: Path | None = None
    try:
        (results_folder.here / folder).mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=results_folder.here / folder, prefix=".", suffix=f".{suffix}"
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
    except _WRITE_ERRORS as error:
        raise unwritable(results_folder.name, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def unwritable(results: str, error: Exception) -> ResultsError:
    """Return the error of results that cannot be written."""
    reason = getattr(error, "strerror", None) or error
    return ResultsError(
        f"cannot write below {results}: {reason}. Free space or choose another folder with "
        "--results; finished work is kept."
    )


def _has_bytes(path: Path, ref: ArtifactRef) -> bool:
    return path.stat().st_size == ref.n_bytes and digest_file(path) == ref.digest


def _parquet_bytes(frame: pl.DataFrame) -> bytes:
    """Return a frame as Parquet; in memory, as Polars tells of a full disk in its own words."""
    written = io.BytesIO()
    frame.write_parquet(written)
    return written.getvalue()


def _json_bytes(value: Any) -> bytes:
    """Return plain data as canonical JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode()
