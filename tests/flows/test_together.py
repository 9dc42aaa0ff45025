"""Flow runs at the same time: what they share is computed once, and no lock is an error."""

from __future__ import annotations

import subprocess

import pytest

from storage.ask import ask
from tests.support.flow_runs import (
    REPOSITORY,
    assert_equal_tables,
    command,
    environment,
    units_computed,
)
from tests.support.small_study import write_toml

pytestmark = [pytest.mark.server, pytest.mark.slow]
_WAIT_S = 300


def _together(studies, results, server, **more):
    """Run studies at the same time into one results folder; return what each printed."""
    running = [
        subprocess.Popen(
            command("run", study, "--results", results),
            env=environment(results.parent, PREFECT_API_URL=server, **more),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for study in studies
    ]
    printed = [process.communicate(timeout=_WAIT_S)[0] for process in running]
    for process, text in zip(running, printed, strict=True):
        assert process.returncode == 0, text
        assert "lock" not in text.lower(), text
        assert "Traceback" not in text, text
    return printed


def test_same_study_twice_at_once(study, server, tmp_path, first_run):
    """Two runs of one study compute each unit once between them; both print the same table."""
    printed = _together([study, study], tmp_path / "results", server)
    assert set(units_computed(tmp_path / "results").values()) == {1}
    assert_equal_tables(tmp_path / "results", first_run.results)
    tables = [text[text.index("collapse incidence") : text.index("Note:")] for text in printed]
    assert tables[0] == tables[1]


def test_overlapping_studies_at_once(study, server, tmp_path, first_run):
    """Six of eight requests and all eight: the batches of the six are computed once."""
    changes = {"models.source": "model", "dataset.limit": 6, "name": "six"}
    six = write_toml(study.parent / "six.toml", **changes)
    results = tmp_path / "results"
    _together([six, study], results, server)
    computed = units_computed(results)
    assert set(computed.values()) == {1}
    assert sum(key.startswith("edits-") for key in computed) == 4
    query = "select name, count(*) as n from study_edits join studies using (study_id) group by all"
    counts = dict(ask(results, query).iter_rows())
    assert counts == {"six": 18, "small": 24}


@pytest.mark.slow
def test_two_runs_share_a_device_one_at_a_time(study, server, tmp_path):
    """Units of two flow runs never overlap in time where they share a device."""
    changes = {"models.source": "model", "methods": ["rome"], "name": "other"}
    other = write_toml(study.parent / "other.toml", **changes)
    results = tmp_path / "results"
    turns = {"EDITCOLLAPSE_DEVICE_LOCK": "always", "EDITCOLLAPSE_DEVICE_LOCK_FOLDER": str(tmp_path)}
    _together([study, other], results, server, **turns)
    query = """
        select started_at::timestamp as start,
               start + to_microseconds((duration_s * 1e6)::bigint) as finish
        from provenance order by start
    """
    units = ask(results, query)
    assert len(units) > 2 * 8
    # The start is stored in whole milliseconds, cut.
    overlap = (units["finish"].shift(1) - units["start"]).dt.total_microseconds().max()
    assert overlap <= 1000, units
