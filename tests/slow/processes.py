"""Processes seen from outside, by Linux's /proc."""

from __future__ import annotations

import contextlib
import urllib.parse
from pathlib import Path


def memory_mib(pid: int) -> float:
    """Return the main memory that a process holds, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def server_process(api: str) -> int:
    """Return the process that listens on an API's port."""
    port = urllib.parse.urlsplit(api).port
    inode = next(
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rpartition(":")[2], 16) == port
    )
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for handle in (entry / "fd").iterdir():
                if handle.readlink().name == f"socket:[{inode}]":
                    return int(entry.name)
    raise AssertionError(f"no process listens on port {port}")
