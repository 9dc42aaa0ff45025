"""The report of a large study: how long the command takes, and how large the page is."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from editcollapse.study.results_folder import results_at
from storage.ask import ask, find_study, study_figures
from storage.publish import publish
from tests.slow.test_million import filled, write, write_many

pytestmark = pytest.mark.slow
N_MODELS = 2
N_REQUESTS = 10_000
N_EDITS = 100_000
N_DRAWN = 4_000
N_RUNS = 3


def test_report_of_a_hundred_thousand_edits(tmp_path):
    """Its incidence counts all edits, its figures draw a sample; the time is printed."""
    results = tmp_path / "results"
    edits = write_many(results, N_MODELS, N_REQUESTS)
    assert len(edits) == N_EDITS
    known = ask(results, "select edit_id, model_id from edits").to_dict(as_series=False)
    bounds = np.random.default_rng(1).lognormal(size=N_EDITS)
    forecasts = filled("forecasts", N_EDITS, **known, text_change_bound=bounds)
    write(results, "forecasts", forecasts)
    publish(results_at(results))
    command = [sys.executable, "-m", "flows", "report", "--results", str(results)]
    for _ in range(N_RUNS):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        print(f"\nreport of {N_EDITS:,} edits: {time.perf_counter() - start:.1f} s", end="")
    page = results / "reports" / "many.html"
    print(f", {page.stat().st_size / 1e6:.1f} MB")
    shown = study_figures(results, find_study(results))
    assert shown.edits.frame.height == N_DRAWN
    assert shown.skill.frame["n_edits"].sum() == 2 * N_EDITS
    counted = ask(results, "select sum(n_edits) from collapse_incidence").item()
    assert counted == N_EDITS
    assert f"{N_DRAWN:,} of {N_EDITS:,} measured edits drawn" in page.read_text(encoding="utf-8")
