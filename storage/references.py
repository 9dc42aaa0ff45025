"""What refers to what in a results folder: the ledger to row files, records to a unit's files.

A unit leaves a manifest (``artifacts/manifests``) and Prefect's record (``records``). Both are read
as text: whatever they call ``artifacts/...`` counts as referred to, so that a field which this
version does not know is no reason to remove a file.
"""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import duckdb

from editcollapse.fingerprints import DIGEST_BYTES, digest
from editcollapse.study import locks
from storage.rows import ROWS_FOLDER

ARTIFACTS = Path("artifacts")
MANIFESTS = Path(locks.MANIFESTS)
RECORDS = Path("records")
"""Folder below the results folder where Prefect keeps what each task returned."""
TEXTS = ARTIFACTS / "texts"
VECTORS = ARTIFACTS / "vectors"
"""Folder of the root-cause studies' vectors, which rows of table anatomies name."""

_NAMED = re.compile(r"artifacts/(?:[\w-]+/)+[\w-]+\.\w+")
_STORED = re.compile(rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}\.(?:safetensors|parquet|json)")


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """A manifest or a record, with the files that it names."""

    path: Path
    """Relative to the results folder."""
    names: frozenset[str]
    """Paths relative to the results folder, with forward slashes."""
    is_readable: bool
    """Whether it is JSON; what is not is computed again in any case."""
    lacks: str | None
    """A file that it names and that is not there."""

    @property
    def is_whole(self) -> bool:
        """Whether a run would take the unit from here."""
        return self.is_readable and self.lacks is None


def read_sources(results: Path) -> Iterator[Source]:
    """Yield every manifest and record of a results folder; links are passed over."""
    for folder, pattern in ((MANIFESTS, "*.json"), (RECORDS, "*")):
        for path in sorted((results / folder).glob(pattern)):
            if path.name.startswith(".") or path.is_symlink() or not path.is_file():
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            names = frozenset(_NAMED.findall(text))
            lacks = next((name for name in sorted(names) if not (results / name).is_file()), None)
            yield Source(path.relative_to(results), names, _is_json(text), lacks)


def ledger_paths(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Return the paths of all row files that a database was filled from."""
    entries = connection.execute("select table_name, digest from ledger").fetchall()
    return frozenset(
        (ROWS_FOLDER / table / f"{name}.parquet").as_posix() for table, name in entries
    )


def text_paths(connection: duckdb.DuckDBPyConnection, results: Path) -> frozenset[str]:
    """Return the paths of the perplexity texts that the database's evaluations are of."""
    evaluations = connection.execute("select evaluation_id, seed from evaluations").fetchall()
    known = {evaluation_id for evaluation_id, _ in evaluations}
    seeds = {seed for _, seed in evaluations}
    found = set()
    for path in stored_files(results / TEXTS):
        try:
            texts = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if any(digest("evaluation", texts, seed) in known for seed in seeds):
            found.add(path.relative_to(results).as_posix())
    return frozenset(found)


def vector_paths(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Return the paths of the vectors that a database's root-cause studies are of."""
    rows = connection.execute("select vectors_path from anatomies").fetchall()
    return frozenset(path for (path,) in rows if _is_vectors(path))


def _is_vectors(path: str) -> bool:
    """Return whether a row names a file where vectors lie; whoever wrote the row may lie."""
    folder, _, name = path.rpartition("/")
    return folder == VECTORS.as_posix() and _STORED.fullmatch(name) is not None


def stored_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that bear a digest as name; links lead nowhere."""
    for path in plain_files(folder):
        if _STORED.fullmatch(path.name):
            yield path


def plain_files(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder that are no symbolic links, nor behind one, sorted."""
    if not folder.is_dir() or folder.is_symlink():
        return
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            continue
        if path.is_dir():
            yield from plain_files(path)
        elif path.is_file():
            yield path


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
