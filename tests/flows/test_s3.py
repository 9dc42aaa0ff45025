"""Results in a bucket: an S3 server of moto's, and machines that share nothing but the bucket."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from tests.support.flow_runs import REPOSITORY, assert_equal_tables, command, environment

pytestmark = pytest.mark.server
_WAIT_S = 300


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A bucket, and the environment of whoever uses it."""

    environment: dict[str, str]
    folder: Path
    """Where the machines' mirrors lie."""

    @property
    def fs(self):
        """Return fsspec's view of it."""
        import s3fs

        return s3fs.S3FileSystem(
            key=self.environment["AWS_ACCESS_KEY_ID"],
            secret=self.environment["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def start(self, machine, *arguments):
        """Start a command on a machine: one with a mirror of its own."""
        own = self.environment | {"EDITCOLLAPSE_CACHE": str(self.folder / machine)}
        return subprocess.Popen(
            command(*arguments),
            env=own,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, machine, *arguments):
        """Run a command to its end; return what it printed."""
        process = self.start(machine, *arguments)
        printed = process.communicate(timeout=_WAIT_S)[0]
        assert process.returncode == 0, printed
        return printed

    def mirror(self, machine):
        """Return the one mirror of a machine."""
        (found,) = (self.folder / machine / "mirrors").iterdir()
        return found

    def computed(self, name):
        """Return how often each unit was computed to its end, by the bucket's own files."""
        files = self.fs.find(f"bucket/{name}/artifacts/rows/provenance")
        return Counter(pl.read_parquet(self.fs.cat_file(file))["unit_id"].item() for file in files)


@pytest.fixture(scope="module")
def bucket(server, tmp_path_factory):
    """Return an empty bucket on an S3 server of its own."""
    folder = tmp_path_factory.mktemp("s3")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    found = Bucket(
        environment(
            folder,
            PREFECT_API_URL=server,
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
            AWS_ACCESS_KEY_ID="reader",
            AWS_SECRET_ACCESS_KEY="of-studies",
            AWS_DEFAULT_REGION="us-east-1",
        ),
        folder,
    )
    try:
        deadline = time.monotonic() + _WAIT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < deadline
            time.sleep(0.2)
        found.fs.mkdir("bucket")
        yield found
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def one(bucket, study):
    """Let machine a run the study into the bucket; return where."""
    bucket.run("a", "run", study, "--results", "s3://bucket/one")
    return "s3://bucket/one"


@pytest.mark.slow
def test_study_in_a_bucket(bucket, one, study, first_run):
    """Tables equal those of a folder; another machine computes nothing, and can ask."""
    assert_equal_tables(bucket.mirror("a"), first_run.results)
    computed = bucket.computed("one")
    printed = bucket.run("b", "run", study, "--results", one)
    assert "collapse incidence" in printed
    assert bucket.computed("one") == computed
    assert set(computed.values()) == {1}
    assert_equal_tables(bucket.mirror("b"), first_run.results)
    query = "select count(*) as n from edit_outcomes"
    answer = bucket.run("c", "sql", "--csv", query, "--results", one)
    assert answer.split() == ["n", "24"]


@pytest.mark.slow
def test_two_machines_at_once(bucket, study, first_run):
    """One manifest counts, whoever computed; the snapshot in the bucket has all rows."""
    at = ("--results", "s3://bucket/two")
    running = [bucket.start(machine, "run", study, *at) for machine in ("d", "e")]
    printed = [process.communicate(timeout=_WAIT_S)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], printed
    assert set(bucket.computed("two").values()) <= {1, 2}  # a lock is of one machine
    for machine in ("d", "e"):
        assert_equal_tables(bucket.mirror(machine), first_run.results)


@pytest.mark.slow
def test_damaged_object_is_computed_again(bucket, one, study, first_run):
    """A changed and a deleted object cost their units; the database can be made from the rest."""
    bucket.fs.copy("bucket/one", "bucket/three", recursive=True)
    at = ("--results", "s3://bucket/three")
    updates = bucket.fs.find("bucket/three/artifacts/updates")
    bucket.fs.pipe_file(updates[0], b"x" + bucket.fs.cat_file(updates[0])[1:])
    bucket.fs.rm_file(updates[1])
    bucket.run("f", "run", study, *at)
    assert sorted(bucket.computed("three").values())[-3:] == [1, 2, 2]
    bucket.fs.rm_file("bucket/three/results.duckdb")
    bucket.run("g", "rebuild", *at)
    assert_equal_tables(bucket.mirror("g"), first_run.results)
    bucket.run("h", "sql", "from collapse_incidence", *at)


@pytest.mark.slow
def test_bucket_that_is_not_there_is_explained(bucket, study):
    """No such bucket, or no results in it: a sentence, no traceback."""
    for arguments in (("sql", "from edits"), ("run", study)):
        process = bucket.start("i", *arguments, "--results", "s3://nowhere/x")
        printed = process.communicate(timeout=_WAIT_S)[0]
        assert process.returncode == 2, printed
        assert "Traceback" not in printed
        assert "s3://nowhere/x" in printed.splitlines()[-1]
