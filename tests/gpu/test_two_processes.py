"""Two processes take turns on a device: their times on it do not overlap."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_WAIT_S = 120
_PROGRAM = """
import json, sys, time
import torch
from editcollapse.runtime.devices import best_device
from editcollapse.runtime.settings import settings
from editcollapse.runtime.locks import device_lock

device = best_device(settings().device)
torch.ones(8, device=device)  # the start-up of the device is no turn
print("ready", flush=True)
sys.stdin.readline()
spans = []
for _ in range(3):
    with device_lock():
        start = time.monotonic()
        rows = torch.ones((256, 256), device=device)
        for _ in range(20):
            rows = (rows @ rows) / 256
        assert float(rows[0, 0]) == 1.0
        time.sleep(0.05)
        spans.append((start, time.monotonic()))
    time.sleep(0.01)
print(json.dumps(spans), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", [pytest.param("auto", marks=pytest.mark.gpu), "cpu"])
def test_times_on_a_device_do_not_overlap(place, tmp_path):
    """Three turns each, at once; on a CPU, which needs no turns, they are asked for."""
    environment = os.environ | {
        "EDITCOLLAPSE_DEVICE": place,
        "EDITCOLLAPSE_DEVICE_LOCK": "always",
        "EDITCOLLAPSE_DEVICE_LOCK_FOLDER": str(tmp_path),
        "PYTHONPATH": str(_ROOT / "src"),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        spans = []
        for process in processes:
            printed, _ = process.communicate(timeout=_WAIT_S)
            assert process.returncode == 0
            spans += json.loads(printed)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    spans.sort()
    assert len(spans) == 6
    for (_, end), (start, _) in pairwise(spans):
        assert end <= start
    (lock,) = (tmp_path / "devices").iterdir()
    assert (lock.name == "cpu.lock") == (place == "cpu")
