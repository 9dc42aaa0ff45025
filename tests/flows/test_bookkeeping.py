"""Rows are published in groups, about once a minute, and at an error too."""

import pytest

from editcollapse.errors import ResultsError
from editcollapse.study.artifacts import ArtifactRef
from flows.run import row_buffer
from flows.run.row_buffer import RowsToRecord


class Clock:
    """A clock that stands."""

    now = 100.0

    def monotonic(self):
        """Return the time."""
        return self.now


def ref(name):
    """Return a row file of that digest."""
    return ArtifactRef(path=f"{name}.parquet", digest=name, n_bytes=1, table="edits")


@pytest.fixture
def clock(monkeypatch):
    """Return the clock that bookkeeping reads; no database has anything."""
    clock = Clock()
    monkeypatch.setattr(row_buffer, "time", clock)
    monkeypatch.setattr(row_buffer, "is_recorded", lambda _: False)
    return clock


def published(jobs):
    """Return the digests of each job."""
    return [[one.digest for one in job.rows] for job in jobs]


def test_rows_wait_for_each_other(clock, tmp_path):
    """What comes within a minute is published together, and all is published when asked."""
    jobs = []
    rows = RowsToRecord(str(tmp_path), lambda _, job: jobs.append(job))
    for seconds, name in ((1, "a"), (40, "b"), (20, "c"), (5, "d")):
        clock.now += seconds
        rows.add([ref(name)])
    assert published(jobs) == [["a", "b", "c"]]
    clock.now += 30
    rows.publish()
    rows.publish()
    assert published(jobs)[1:] == [["d"]]
    clock.now += 61
    rows.add([ref("e")])
    assert published(jobs)[2:] == [["e"]]


def test_rows_that_cannot_be_published_wait_on(clock, tmp_path):
    """After an error of the database the next publication has them again."""
    jobs = []

    def refuse(_, job):
        jobs.append(job)
        if len(jobs) == 1:
            raise ResultsError("the disk is full")

    rows = RowsToRecord(str(tmp_path), refuse)
    rows.add([ref("a")])
    with pytest.raises(ResultsError):
        rows.publish()
    rows.add([ref("b")])
    rows.publish()
    assert published(jobs) == [["a"], ["a", "b"]]


def test_rows_that_the_database_has_start_no_task(clock, tmp_path, monkeypatch):
    """A cached study publishes nothing."""
    monkeypatch.setattr(row_buffer, "is_recorded", lambda _: True)
    rows = RowsToRecord(str(tmp_path), lambda *_: pytest.fail("entered"))
    rows.add([ref("a")])
    rows.publish()


def test_digest_is_of_the_rows_alone(clock, tmp_path):
    """In whatever order and groups rows come, the report that covers them is the same."""
    one, two, other = (RowsToRecord(str(tmp_path), lambda *_: None) for _ in range(3))
    one.add([ref("a"), ref("b")])
    two.add([ref("b")])
    two.publish()
    two.add([ref("a")])
    other.add([ref("a")])
    assert one.digest == two.digest != other.digest
