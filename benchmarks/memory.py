"""Peak memory of each side, each in a process of its own: ``python -m benchmarks.memory``.

A process's high-water mark only rises, so one process cannot tell the two sides apart.
"""

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.cases import Case, Sides, open_case
from benchmarks.choices import Asked
from benchmarks.results import Peak, Results
from benchmarks.works import ONE_METHOD, Size

_MIB = 1 << 20
_STATUS, _MARK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peaks(name: str, asked: Asked, size: Size, found: Results) -> None:
    """Add the peaks of both sides for one model; the workspace holds what it needs already."""
    sides: tuple[tuple[Sides, int], ...] = (("reference", 1), ("ours", size.n_ours))
    for side, n_edits in sides:
        command = [sys.executable, "-m", "benchmarks.memory", "--model", name, "--side", side]
        command += ["--edits", str(n_edits), "--asked", json.dumps(_plain(asked))]
        done = subprocess.run(  # noqa: S603  this program itself
            command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
        seen = json.loads(done.stdout.splitlines()[-1])
        found.peaks.append(Peak(name, side, n_edits, seen["opened"], seen["peak"]))


def _plain(asked: Asked) -> dict[str, object]:
    """Return what was asked for with paths as text."""
    plain = dataclasses.asdict(asked)
    paths = {name: str(path) for name, path in plain.items() if isinstance(path, Path)}
    return plain | paths


def main() -> None:
    """Do one side's work once and print the resident memory before it and the peak, MiB."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--side", required=True, choices=["reference", "ours"])
    parser.add_argument("--edits", required=True, type=int)
    parser.add_argument("--asked", required=True, type=json.loads)
    options = parser.parse_args()
    paths = {
        name: options.asked[name] and Path(options.asked[name])
        for name in ("workspace", "tokenizer")
    }
    asked = Asked(**(options.asked | paths))
    case = open_case(options.model, asked, options.side)
    for parameter in case.loaded.model.parameters():
        parameter.sum()  # weights are mapped from the file and come in as they are read
    opened = _resident_mib()
    _forget_mark()
    _work(case, options.side, options.edits)
    peak = _resident_mib(peak=True)
    sys.stdout.write(json.dumps({"opened": opened, "peak": peak}) + "\n")


def _work(case: Case, side: str, n_edits: int) -> None:
    """Edit and measure."""
    from benchmarks import ours, reference, reference_measures

    requests = case.inputs.requests[:n_edits]
    if side == "ours":
        updates = ours.edit(case, requests, ONE_METHOD)["rome"]
        ours.measure(case, updates, case.texts)
        return
    for request in requests:
        update = reference.edit(
            case.published, ours.rewrite(case, request), "rome", case.inverse, case.setup.values
        )
        with reference.edited(case.published, update):
            reference_measures.text_nll(case.published, case.texts.rows)


def _resident_mib(*, peak: bool = False) -> float:
    """Return the resident set, or its high-water mark."""
    if _STATUS.is_file():
        name = "VmHWM:" if peak else "VmRSS:"
        for line in _STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024 / _MIB
    # Without /proc (macOS) only the mark since the start is known, in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MIB


def _forget_mark() -> None:
    """Let the high-water mark start again, so that loading the model does not hide the work."""
    if _STATUS.is_file():
        _MARK.write_text("5", encoding="utf-8")


if __name__ == "__main__":
    main()
