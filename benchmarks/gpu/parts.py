"""The parts of the whole, each with its seconds, and what runs in a part's own process."""

import dataclasses
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import torch

from benchmarks.gpu.case import Sizes
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.figures import FigureFile
from benchmarks.gpu.reporting import Reporter
from benchmarks.gpu.shape import measure_shape

ROOT = Path(__file__).resolve().parents[2]
_TO_REPORT_S = 10.0
"""That pytest has to write its report once it is interrupted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """What a part's process is given."""

    device: torch.device
    clock: Clock
    file: FigureFile
    rehearse: bool
    """Tiny shapes, to see on a CPU that every part stands."""

    @property
    def sizes(self) -> Sizes:
        """Of the data."""
        return Sizes(8, 4, 2048, 4) if self.rehearse else Sizes()


class PartFailedError(Exception):
    """A part ran and did not end well."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One part: a process of its own, so that no failure touches the others."""

    name: str
    seconds: float
    """That it may take, start included."""
    what: str
    """For people."""
    run: Callable[[Setting], None]


def _tests(setting: Setting) -> None:
    """Run the tests marked gpu; in a rehearsal, those of one model on the emulated accelerator."""
    chosen = ["-m", "not gpu", "-k", "gpt2 or cpu"] if setting.rehearse else ["-m", "gpu"]
    # Warnings are shown, not raised: the versions here are not those that the project pins.
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-o", "filterwarnings="]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "tests/gpu", "--tb=short", *chosen, *options]
        status = _ended([*command, f"--junitxml={path}"], setting.clock)
        if not path.is_file():
            raise PartFailedError(f"pytest ended with {status} and left no report")
        suite = next(ET.parse(path).getroot().iter("testsuite"))  # noqa: S314  our own file
    n_all, n_failed, n_errors, n_skipped = (
        int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")
    )
    report = Reporter(setting.file)
    report.say("tests, passed", "tests", n_all - n_failed - n_errors - n_skipped)
    report.say("tests, failed", "tests", n_failed + n_errors)
    report.say("tests, skipped", "tests", n_skipped)
    if status or (n_skipped and not setting.rehearse):
        raise PartFailedError(
            f"{n_failed + n_errors} tests failed, {n_skipped} were skipped; pytest ended with "
            f"{status}"
        )


def _ended(command: list[str], clock: Clock) -> int:
    """Return the status of a command, interrupted when its time is over."""
    process = subprocess.Popen(command, cwd=ROOT)  # noqa: S603  our own command
    try:
        return process.wait(timeout=clock.left)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # pytest then reports what it has done so far
    try:
        return process.wait(timeout=_TO_REPORT_S)
    finally:
        process.kill()


def _shape(name: str, small: str) -> Callable[[Setting], None]:
    """Return the run of a shape, or of a small one in a rehearsal."""

    def run(setting: Setting) -> None:
        shape = small if setting.rehearse else name
        measure_shape(shape, setting.device, setting.clock, setting.file, setting.sizes)

    return run


PARTS = (
    Part("tests", 110, "the tests marked gpu, tests/gpu", _tests),
    Part("gpt2-xl", 90, "GPT-2-XL, both sides, float32 and bfloat16", _shape("gpt2-xl", "tiny")),
    Part("gpt-j-6b", 80, "GPT-J-6B, likewise", _shape("gpt-j-6b", "tiny-gptj")),
    Part("llama2-7b", 80, "Llama-2-7B, likewise", _shape("llama2-7b", "tiny-llama")),
)
