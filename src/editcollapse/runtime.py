"""Facts of this process and machine: settings from the environment, and provenance of a unit.

Nothing here enters a key or an id.
"""

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from editcollapse import NUMERICS, __version__
from editcollapse.errors import StudyError
from editcollapse.outcomes import ProvenanceRow

_CPU_TOKENS = 4096
_ACCELERATOR_TOKENS = 32768


def asked_device() -> str:
    """Return the device that EDITCOLLAPSE_DEVICE names; ``auto`` where it names none."""
    return os.environ.get("EDITCOLLAPSE_DEVICE", "auto")


def tokens_per_forward(device_type: str) -> int:
    """Return the padded tokens that one forward may hold.

    EDITCOLLAPSE_TOKENS_PER_FORWARD overrides the default of the device. Numbers do not depend on
    it beyond rounding.

    Raises:
        StudyError: the variable holds no positive whole number.
    """
    text = os.environ.get("EDITCOLLAPSE_TOKENS_PER_FORWARD")
    if text is None:
        return _CPU_TOKENS if device_type == "cpu" else _ACCELERATOR_TOKENS
    if not text.isdigit() or int(text) == 0:
        raise StudyError(
            f"EDITCOLLAPSE_TOKENS_PER_FORWARD is {text!r}; it must be a positive whole number."
        )
    return int(text)


class ProvenanceClock:
    """Time and circumstances of one unit of work.

    Args:
        unit_id: the unit's key.
        kind: covariance, edits, evaluation, ...
        seed: what was drawn with, 0 where nothing was.
    """

    def __init__(self, unit_id: str, kind: str, seed: int = 0) -> None:
        self._unit_id = unit_id
        self._kind = kind
        self._seed = seed
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._start = time.perf_counter()

    def row(self, summary: str, n_items: int, device: str) -> ProvenanceRow:
        """Return the row of a unit that has just finished."""
        return ProvenanceRow(
            unit_id=self._unit_id,
            kind=self._kind,
            summary=summary,
            n_items=n_items,
            started_at=self._started_at,
            duration_s=time.perf_counter() - self._start,
            machine=f"{platform.node()} {platform.machine()} {os.cpu_count()} cores",
            device=device,
            numerics=NUMERICS,
            editcollapse_version=__version__,
            torch_version=_installed("torch"),
            transformers_version=_installed("transformers"),
            python_version=platform.python_version(),
            git_commit=git_commit(),
            seed=self._seed,
        )


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@lru_cache(maxsize=1)
def git_commit() -> str | None:
    """Return the commit of the checkout that this package runs from, marked when it has changes."""
    here = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],  # noqa: S607
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
