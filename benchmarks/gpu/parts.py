"""The parts of the whole, each with its seconds, and what runs in a part's own process."""

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import torch

from benchmarks.gpu.case import Sizes
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.figures import FigureFile
from benchmarks.gpu.reporting import Reporter
from benchmarks.gpu.shape import measure_shape

ROOT = Path(__file__).resolve().parents[2]


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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tests.xml"
        # Warnings are shown, not raised: this machine's versions are not those that we pin.
        options = ["-q", "-p", "no:cacheprovider", "-o", "filterwarnings=", "--tb=short"]
        command = [sys.executable, "-m", "pytest", "tests/gpu", *chosen, *options]
        ended = subprocess.run(  # noqa: S603  our own command
            [*command, f"--junitxml={path}"], cwd=ROOT, check=False, timeout=setting.clock.left
        )
        suite = next(ElementTree.parse(path).getroot().iter("testsuite"))  # noqa: S314  ours
    counts = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    n_failed = counts["failures"] + counts["errors"]
    report = Reporter(setting.file)
    report.say("tests, passed", "tests", counts["tests"] - n_failed - counts["skipped"])
    report.say("tests, failed", "tests", n_failed)
    report.say("tests, skipped", "tests", counts["skipped"])
    if ended.returncode or n_failed:
        raise PartFailedError(f"{n_failed} tests failed, pytest ended with {ended.returncode}")


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
