"""Run parts one after the other, each in a process of its own, and keep what they found."""

import contextlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from benchmarks.gpu.figures import Figure, FigureFile, PartDone, Whole, write_json
from benchmarks.gpu.parts import ROOT, Part
from benchmarks.machine import device_name

PART_PROGRAM = ("-m", "benchmarks.gpu.one_part")
"""What Python runs for a part."""
_TO_END_S = 12.0
"""A part is asked to end so long before its process is ended."""
_LAST_LINES = 12


def run_parts(
    parts: Sequence[Part],
    device: torch.device,
    minutes: float,
    path: Path,
    *,
    rehearse: bool,
    command: str,
) -> Whole:
    """Run all parts; their results are written to a file after each of them.

    Args:
        parts: in this order.
        device: of all.
        minutes: that they may take together; each has its share.
        path: of the JSON file.
        rehearse: tiny shapes.
        command: as it was given, for the reader of the figures.
    """
    scale = minutes * 60 / sum(part.seconds for part in parts)
    figures: list[Figure] = []
    done: list[PartDone] = []
    versions = (
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}"
    )

    def whole() -> Whole:
        return Whole(device_name(device), versions, command, tuple(figures), tuple(done))

    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            print(f"== {part.name}: {part.what}", flush=True)
            file = FigureFile(Path(folder) / f"{part.name}.jsonl")
            done.append(_run(part, scale * part.seconds, device, file, rehearse=rehearse))
            figures += file.read()
            print(f"== {part.name}: {done[-1].outcome} in {done[-1].seconds:.0f} s", flush=True)
            write_json(whole(), path)
    return whole()


def _run(
    part: Part, seconds: float, device: torch.device, file: FigureFile, *, rehearse: bool
) -> PartDone:
    """Run a part in a process of its own; return how it ended."""
    start = time.time()
    until = start + seconds - _TO_END_S
    options = ["--rehearse"] if rehearse else []
    process = subprocess.Popen(  # noqa: S603  our own command
        [
            *(sys.executable, *PART_PROGRAM, part.name),
            *("--until", str(until), "--figures", str(file.path), "--device", str(device)),
            *options,
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _end_all(process)
        _, errors = process.communicate()
        outcome, reason = "cut off", f"after {seconds:.0f} s"
    else:
        outcome = "failed" if process.returncode else "done"
        printed = errors.strip().splitlines()
        reason = printed[-1] if process.returncode and printed else ""
    finally:
        _end_all(process)
    if outcome != "done":
        print("\n".join(errors.strip().splitlines()[-_LAST_LINES:]), flush=True)
    return PartDone(part.name, outcome, time.time() - start, reason)


def _end_all(process: "subprocess.Popen[str]") -> None:
    """End a part's process and all that it has started: nothing may hold the device after it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
