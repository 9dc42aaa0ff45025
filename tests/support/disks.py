"""Real file systems that are full or read-only, mounted for a test (tests/QUARANTINES.md)."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _mount(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["mount", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"mounting needs root and a kernel that allows it: {done.stderr.strip()}")


@contextmanager
def disk(path: Path, size: str = "64m") -> Iterator[Path]:
    """Mount an empty file system of a size in memory, as tmpfs writes it, for the block."""
    path.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", path)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def resize(path: Path, size: str = "64m") -> None:
    """Give a mounted file system another size."""
    _mount("-o", f"remount,size={size}", path)


@contextmanager
def read_only(path: Path) -> Iterator[Path]:
    """Let nobody, root included, write to a folder for the block."""
    _mount("--bind", path, path)
    try:
        _mount("-o", "remount,bind,ro", path)
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
