"""``python -m flows import``: others' runs next to ours, once each, with what is not known."""

import json

import pytest

from flows.__main__ import USER_ERROR, main
from storage.demo_rows import unpack
from storage.queries import ask

_CASE = {
    "case_id": 7,
    "num_edits": 1000,
    "requested_rewrite": {
        "prompt": "{} was born in",
        "target_new": {"str": "Jorvale"},
        "target_true": {"str": "Estara"},
        "subject": "Pugis",
    },
    "time": 3.5,
    "post": {"rewrite_prompts_probs": [{"target_new": 0.5, "target_true": 4.0}]},
}
_ENTRY = {
    "case_id": 0,
    "requested_rewrite": {"prompt": "Pugis was born in", "target_new": "Jorvale"},
    "post": {"rewrite_acc": [1.0]},
}


@pytest.fixture
def results(tmp_path):
    """Return a folder with the demo study's results."""
    unpack(tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def run_folder(tmp_path):
    """Return a run folder of kmeng01/memit: a good case file and a broken one."""
    folder = tmp_path / "run_000"
    folder.mkdir()
    (folder / "1000_edits-case_7.json").write_text(json.dumps(_CASE))
    (folder / "1000_edits-case_8.json").write_text("{")
    return folder


def _import(capsys, results, source, form, *more):
    words = ["import", str(source), "--format", form, "--results", str(results), *more]
    status = main(words)
    return status, *capsys.readouterr()


def test_run_stands_next_to_ours(results, run_folder, capsys):
    """The imported edit is in one list with ours of the same prompt, told apart by its origin."""
    status, out, _ = _import(
        capsys, results, run_folder, "memit", "--model", "gpt-j", "--method", "memit"
    )
    assert status == 0
    assert "imported run_000: 1 of 2 records" in out
    assert "rejected 1000_edits-case_8.json: Expecting property name" in out
    assert "not known of them: perplexity on a text set, denominator" in out
    frame = ask(
        results,
        "select origin, model, method, n_joint_edits, efficacy_score, perplexity from all_edits "
        "where prompt = 'Pugis was born in' and target_new = 'Jorvale' order by all",
    )
    assert frame.height == 10
    assert frame.filter(origin="memit").rows() == [("memit", "gpt-j", "memit", 1000, 1.0, None)]
    assert frame.filter(origin="here")["perplexity"].null_count() == 0
    (rejection,) = ask(results, "from imported_rejections").rows(named=True)
    assert (rejection["place"], rejection["record_index"]) == ("1000_edits-case_8.json", 1)


def test_importing_again_changes_nothing(results, run_folder, capsys):
    """The same run is known; its rows stand once, also after the store is rebuilt."""
    _import(capsys, results, run_folder, "memit")
    before = {
        table: ask(results, f"from {table} order by all")
        for table in ("imported_runs", "imported_edits", "imported_rejections", "ledger")
    }
    status, out, _ = _import(capsys, results, run_folder, "memit")
    assert status == 0
    assert "known already: run_000" in out
    for table, frame in before.items():
        assert ask(results, f"from {table} order by all").equals(frame)
    assert main(["rebuild", "--results", str(results)]) == 0
    assert ask(results, "from imported_edits").equals(before["imported_edits"])


def test_run_that_has_grown_counts_once(results, run_folder, capsys):
    """A run imported before it was finished and after is one run in all_edits, the larger one."""
    _import(capsys, results, run_folder, "memit")
    (run_folder / "1000_edits-case_8.json").write_text(json.dumps(_CASE | {"case_id": 8}))
    _import(capsys, results, run_folder, "memit")
    counts = ask(results, "select count(*) from all_edits where origin = 'memit'").item()
    assert counts == 2
    assert ask(results, "from imported_runs").height == 2


def test_results_of_easyedit_need_no_study(tmp_path, capsys):
    """A folder without results is made; texts of the file reach the terminal as text."""
    source = tmp_path / "results.json"
    hostile = {"requested_rewrite": {"prompt": "\x1b[31m", "target_new": 1}, "post": {}}
    source.write_text(json.dumps([_ENTRY, hostile]))
    status, out, _ = _import(
        capsys, tmp_path / "new", source, "easyedit", "--name", "r-rome \x1b[31m"
    )
    assert status == 0
    assert "\x1b[31m" not in out
    frame = ask(tmp_path / "new", "select origin, model, efficacy, locality from all_edits")
    assert frame.rows() == [("easyedit", None, 1.0, None)]


def test_wrong_format_is_explained(results, run_folder, capsys):
    """A run of one program read as the other's is a mistake, and nothing is recorded."""
    source = run_folder / "1000_edits-case_7.json"
    status, _, err = _import(capsys, results, source, "easyedit")
    assert status == USER_ERROR
    assert err.startswith("error: results of EasyEdit was asked from")
    assert ask(results, "from imported_runs").is_empty()
