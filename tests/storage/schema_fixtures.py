"""Stores of every schema that was released, as backups.

Run ``python -m tests.storage.schema_fixtures`` before the first migration after a release is
merged; a file that is there is never made
anew, because it stands for what users have on disk.
"""

import gzip
import sys
import tempfile
from pathlib import Path

from editcollapse.rows.study import ROW_TYPES
from storage.backup import back_up
from storage.migrate import read_migrations
from storage.writer import ingest
from tests.storage.conftest import Folder, make_row

SCHEMAS = Path(__file__).parent / "schemas"


def fixture_of(number: int) -> Path:
    """Return where the store of a schema lies."""
    return SCHEMAS / f"{number:04d}.tar.gz"


def main() -> int:
    """Write a store of this version's schema with rows in every table."""
    target = fixture_of(read_migrations()[-1].number)
    if target.exists():
        sys.stderr.write(f"{target.name} is there already; it is never made anew\n")
        return 1
    with tempfile.TemporaryDirectory() as place:
        folder = Folder(Path(place) / "results")
        folder.add_study(perplexities=(5.0, float("inf"), float("nan")))
        last = [make_row("models", source=name) for name in ("a", "b", "c")]
        files = [folder.write(table, make_row(table)) for table in ROW_TYPES]
        ingest(folder.results, [*files, *(folder.write("models", row) for row in last)])
        back_up(folder.results, Path(place) / "store.tar")
        data = (Path(place) / "store.tar").read_bytes()
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
