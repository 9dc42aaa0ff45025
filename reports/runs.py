"""When, where and with what a study was computed: the facts at the head of its report."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from reports.text import count
from storage.ask import StudyFindings

_MINUTE, _HOUR = 60, 3600
_COMMIT = re.compile(r"^([0-9a-f]{10})[0-9a-f]+")


@dataclasses.dataclass(frozen=True, slots=True)
class Fact:
    """A name and what it is, in words."""

    name: str
    text: str


def facts(found: StudyFindings) -> tuple[Fact, ...]:
    """Return date, duration, machine, versions and commit, as the jobs that computed it say."""
    if found.runs.frame.is_empty():
        return (Fact("run", "not recorded: its rows came without those of table provenance"),)
    return tuple(_facts(found.runs.frame.row(0, named=True)))


def _facts(row: dict[str, Any]) -> Iterator[Fact]:
    yield Fact("run", _when(row["first_started_at"], row["last_started_at"]))
    if row["n_units"]:
        yield Fact("work", f"{duration(row['work_s'])} in {count(row['n_units'])} jobs")
    where = [row["machines"], row["devices"]]
    yield Fact("machine", ", ".join(each for each in where if each))
    named = ("editcollapse", "torch", "transformers", "python")
    yield Fact("versions", ", ".join(f"{name} {row[name]}" for name in named))
    commits = (row["commits"] or "none: not run from a checkout").split(", ")
    yield Fact("commit", ", ".join(map(short_commit, commits)))


def short_commit(commit: str) -> str:
    """Return the first digits of a commit, and whether its checkout had changes."""
    return _COMMIT.sub(r"\1", commit)


def _when(first: str, last: str) -> str:
    """Return from when to when jobs of a study began, to the minute."""
    start, end = (moment[:16].replace("T", " ") for moment in (first, last))
    if start == end:
        return f"{start} UTC"
    day, clock = end.split(" ")
    return f"{start} to {clock if start.startswith(day) else end} UTC"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{seconds:.3g} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR:,} h {whole % _HOUR // _MINUTE} min"
