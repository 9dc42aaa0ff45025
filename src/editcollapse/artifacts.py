"""Files of results: content-addressed, written atomically, checked by digest.

Everything lies below one results folder, as ``artifacts/<kind>/<digest>.<suffix>``. A reference is
small, holds no absolute path, and is what tasks hand to each other. safetensors, Parquet and JSON
only; nothing is ever unpickled.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError

from editcollapse.errors import ArtifactError, ResultsError
from editcollapse.fingerprints import digest_bytes, digest_file
from editcollapse.tables import frame_of

if TYPE_CHECKING:
    from torch import Tensor

_FOLDER = "artifacts"
_WRITE_ERRORS = (OSError, SafetensorError, pl.exceptions.ComputeError)
"""What a full disk raises, by writer."""


class ArtifactRef(BaseModel):
    """Where a file lies below the results folder, and what its bytes must be."""

    model_config = ConfigDict(frozen=True)

    digest: str
    """blake2b of the file's bytes."""
    path: str
    """Relative to the results folder, with forward slashes."""
    n_bytes: int
    table: str | None = None
    """For rows: the table of the results database that they belong to."""


class ArtifactStore:
    """The artifacts below one results folder.

    Args:
        results: the folder; made when the first artifact is written.
    """

    def __init__(self, results: Path) -> None:
        self.results = results

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
        frame = frame_of(table, rows)
        ref = self._put(f"rows/{table}", "parquet", frame.write_parquet)
        return ref.model_copy(update={"table": table})

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
        path = self.results / ref.path
        try:
            return path.stat().st_size == ref.n_bytes and digest_file(path) == ref.digest
        except OSError:
            return False

    def _whole(self, ref: ArtifactRef) -> Path:
        path = self.results / ref.path
        if not self.is_whole(ref):
            found = "changed since it was written" if path.exists() else "missing"
            raise ArtifactError(
                f"{ref.path} below {self.results} is {found}. "
                "Run the study again: it is recomputed."
            )
        return path

    def _put(self, kind: str, suffix: str, write: Callable[[Path], Any]) -> ArtifactRef:
        folder = self.results / _FOLDER / kind
        temporary: Path | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=f".{suffix}")
            os.close(handle)
            temporary = Path(name)
            write(temporary)
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            digest = digest_file(temporary)
            n_bytes = temporary.stat().st_size
            target = folder / f"{digest}.{suffix}"
            temporary.chmod(0o644)
            temporary.replace(target)
        except _WRITE_ERRORS as error:
            reason = getattr(error, "strerror", None) or error
            raise ResultsError(
                f"cannot write below {self.results}: {reason}. Free space or "
                "choose another folder with --results; finished work is kept."
            ) from error
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
        path = target.relative_to(self.results).as_posix()
        return ArtifactRef(digest=digest, path=path, n_bytes=n_bytes)


def _json_bytes(value: Any) -> bytes:
    """Return plain data as canonical JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode()
