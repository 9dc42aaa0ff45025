"""Writes ``judging/change_curve.json`` from the measured edits: ``python -m scripts.change_curve``.

To be run after ``scripts.measured_edits``; a test compares the two.
"""

from pathlib import Path

import editcollapse
from editcollapse.judging.change_curve import ADAPTER, FILE, fit_change_curve


def main() -> None:
    """Fit and write."""
    path = Path(editcollapse.__file__).parent / "judging" / FILE
    path.write_bytes(ADAPTER.dump_json(fit_change_curve(), indent=1) + b"\n")


if __name__ == "__main__":
    main()
