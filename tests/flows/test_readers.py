"""Readers never wait for a study and a study never waits for them."""

import shutil
import subprocess
import sys

import pytest

from storage.ask import ask
from tests.support.small_study import METHODS, N_EDITS, write_toml

_READER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "readers")
for line in sys.stdin:
    print(*connection.execute("select count(*) from measurements").fetchone(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "who", ["readers", pytest.param("a careless writer", marks=pytest.mark.slow)]
)
def test_open_snapshot_does_not_block_a_study(study, run_study, results, tmp_path, who):
    """Who has results.duckdb open reads on while a study publishes; who comes later sees more."""
    more = shutil.copytree(study.parent, tmp_path / "inputs") / "study.toml"
    write_toml(more, methods=[*METHODS, "p_rome"])
    reader = subprocess.Popen(
        [sys.executable, "-c", _READER, str(results / "results.duckdb"), who],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with reader:
        assert _count(reader) == N_EDITS
        run_study(more, results)
        assert _count(reader) == N_EDITS
        reader.stdin.close()
    assert reader.returncode == 0
    (after,) = ask(results, "select count(*) from measurements").row(0)
    assert after == N_EDITS // len(METHODS) * (len(METHODS) + 1)


def _count(reader: subprocess.Popen) -> int:
    """Let the reader count, and return its answer."""
    reader.stdin.write("\n")
    reader.stdin.flush()
    return int(reader.stdout.readline())
