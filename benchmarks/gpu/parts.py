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

from benchmarks.gpu import attention, inner_loop
from benchmarks.gpu.attention_ways import VARIANTS
from benchmarks.gpu.case import TYPES, Sizes, build_case
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.figures import FigureFile
from benchmarks.gpu.inner_loop_ways import WAYS
from benchmarks.gpu.reporting import Reporter
from benchmarks.gpu.shape import measure_shape
from editcollapse.runtime.precision import float32_products

ROOT = Path(__file__).resolve().parents[2]
_COMPILE_S = 15.0
"""That FlexAttention may need for one shape."""
_TO_REPORT_S = 10.0
"""That pytest has to write its report once it is interrupted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """Arguments of a part's process."""

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


def _attention(setting: Setting) -> None:
    """Measure the ways of attention; FlexAttention, which compiles, where there is time for it."""
    shapes = ("tiny", "tiny-llama") if setting.rehearse else ("gpt2-xl-4", "llama2-7b-4")
    sizes = dataclasses.replace(setting.sizes, n_edits=4 if setting.rehearse else 64)
    *quick, slow = VARIANTS
    for variants in (quick, [slow]):
        for dtype in reversed(TYPES):  # bfloat16 first: there attention is the larger share
            for shape in shapes:
                report = Reporter(setting.file, shape, dtype)
                if variants == [slow] and not setting.clock.fits(_COMPILE_S):
                    report.leave_out(attention.figures_of(slow), "no time to compile it")
                    continue
                case = build_case(shape, dtype, setting.device, sizes)
                with float32_products():
                    attention.measure(case, variants, report)


def _inner_loop(setting: Setting) -> None:
    """Measure the ways of a pass: in float32 those that cannot fail, then all in bfloat16."""
    shape = "tiny" if setting.rehearse else "gpt2-xl"
    sizes = dataclasses.replace(setting.sizes, n_edits=4 if setting.rehearse else 64)
    case = build_case(shape, "float32", setting.device, sizes)
    with float32_products():
        inner_loop.measure(case, ("eager", "read late"), Reporter(setting.file, shape, "float32"))
        case = case.in_type("bfloat16")
        inner_loop.measure(case, WAYS, Reporter(setting.file, shape, "bfloat16"))


PARTS = (
    Part("tests", 120, "the tests marked gpu, tests/gpu", _tests),
    Part("gpt2-xl", 95, "GPT-2-XL, both sides, float32 and bfloat16", _shape("gpt2-xl", "tiny")),
    Part("gpt-j-6b", 70, "GPT-J-6B, likewise", _shape("gpt-j-6b", "tiny-gptj")),
    Part("llama2-7b", 70, "Llama-2-7B, likewise", _shape("llama2-7b", "tiny-llama")),
    Part("attention", 50, "the packed attention beside torch's own kernels", _attention),
    Part("inner-loop", 50, "a pass of v*: eager, as a CUDA graph, compiled", _inner_loop),
)
