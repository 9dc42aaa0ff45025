"""The whole on a GPU: needs torch and transformers alone, and goes on where something fails."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import parts, runner
from benchmarks.gpu.__main__ import MARKS, main
from benchmarks.gpu.case import Sizes, build_case
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.figures import (
    TARGETS,
    Figure,
    FigureFile,
    PartDone,
    Target,
    Whole,
    lines,
    missing,
    read_json,
    table,
    write_json,
)
from benchmarks.gpu.reporting import Reporter
from benchmarks.gpu.shape import measure_shape
from editcollapse.errors import ResultsError

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
_NOT_THERE = ("prefect", "duckdb", "polars", "pydantic", "pydantic_core", "platformdirs")
"""Packages of the project that the machine with the GPU does not have."""
_BLOCK = f"""
import sys

class Block:
    def find_spec(self, name, *_):
        if name.split(".")[0] in {_NOT_THERE}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Block())
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Return an environment in which Python, and each Python that it starts, lacks the packages."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(_BLOCK)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "src")])}


def run_bare(arguments, bare):
    """Return a finished process of Python."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=bare,
        capture_output=True,
        text=True,
        check=False,
    )


def test_packages_are_really_hidden(bare):
    """The test below means something: without it the modules cannot be found."""
    for name in _NOT_THERE:
        done = run_bare(["-c", f"import {name}"], bare)
        assert f"No module named '{name}'" in done.stderr


def test_nothing_but_torch_and_transformers_is_imported(bare):
    """Every module of the program, and every test for a GPU, is imported without the packages."""
    names = [f"benchmarks.gpu.{path.stem}" for path in (ROOT / "benchmarks/gpu").glob("*.py")]
    names = [name for name in names if not name.endswith("__")] + ["benchmarks.gpu.__main__"]
    words = ["--collect-only", "-q", "-m", "gpu", "tests/gpu"]
    program = (
        f"import pytest, sys; status = pytest.main({words}); import {', '.join(names)}; "
        "sys.exit(status)"
    )
    done = run_bare(["-c", program], bare)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accelerator-llama" in done.stdout


@pytest.mark.slow
def test_rehearsal_without_the_packages(bare, tmp_path):
    """All parts, from the command to the JSON file, in processes that lack the packages."""
    path = tmp_path / "gpu.json"
    words = ["-m", "benchmarks.gpu", "--rehearse", "--minutes", "8", "--json", str(path)]
    done = run_bare(words, bare)
    assert done.returncode == 0, done.stdout + done.stderr
    found = read_json(path)
    assert {part.part for part in found.parts} == {part.name for part in parts.PARTS}
    assert found.is_well
    by_what = {(each.what, each.column): each.value for each in found.figures}
    assert by_what["tests, passed", "device"] > 0
    assert by_what["tests, failed", "device"] == 0


@pytest.fixture(scope="module")
def shape_figures(tmp_path_factory):
    """Return what is measured of a tiny shape on the CPU."""
    file = FigureFile(tmp_path_factory.mktemp("figures") / "tiny.jsonl")
    measure_shape("tiny-llama", CPU, Clock(120), file, Sizes(4, 4, 1024, 3))
    return file.read()


@pytest.mark.slow  # make gpu's rehearsal runs it
def test_both_sides_are_measured_and_agree(shape_figures):
    """Rates, ratios and hours belong together; float32 results of the two sides are close."""
    for dtype in ("float32", "bfloat16"):
        value = {each.what: each.value for each in shape_figures if each.dtype == dtype}
        for name in ("one method", "four methods"):
            ratio = value[f"{name}, reference"] / value[f"{name}, ours"]
            assert value[f"{name}, ratio"] == pytest.approx(ratio)
        hours = value["four methods, ours"] * 21_919 / 3600
        assert value["21,919 records, four methods, ours"] == pytest.approx(hours)
        assert 0 < value["four methods, ours, of the floor"] < 1
        assert 0 < value["covariance, share of a plain product"] < 1
        assert value["v* in batches of 4"] > 0
        assert value["v* in batches of 16"] is None
        assert any(what.startswith("profile: aten::") for what in value)
        close = 1e-3 if dtype == "float32" else 0.2
        assert value["largest difference of updates"] < close
        assert value["largest difference of perplexities"] < close


@pytest.mark.slow
def test_what_is_missing_says_why(shape_figures):
    """Peaks need CUDA and batches need edits; each reason is printed once with its figures."""
    said = "\n".join(missing(shape_figures))
    assert "not measured (device memory is measured on CUDA): " in said
    assert said.count("the case has 4 edits") == 1


def test_weights_are_rounded_for_both_sides():
    """The case in another type holds the same parameters once, for ours and for the reference."""
    case = build_case("tiny", "float32", CPU, Sizes(2, 2, 64, 2))
    half = case.in_type("bfloat16")
    assert half.dtype == "bfloat16"
    assert half.loaded.dtype == torch.bfloat16
    assert half.published.projection.weight is half.loaded.down_projection(half.layer).weight
    assert half.weight_bytes * 2 == sum(
        each.numel() * 4 for each in half.published.model.parameters()
    )


def test_a_failing_piece_leaves_its_reason_and_the_rest_goes_on(tmp_path):
    """Figures that a failed piece owes are written as missing; later ones come as ever."""
    report = Reporter(FigureFile(tmp_path / "figures"), "tiny", "float32")

    def fails():
        raise RuntimeError("no kernel image is available\nand more")

    assert report.attempt([("speed", "edits/s")], fails, CPU) is None
    report.say("copy", "GB/s", 12.0)
    failed, said = report.file.read()
    assert (failed.value, failed.note) == (None, "RuntimeError: no kernel image is available")
    assert said.value == 12.0


def test_figures_before_a_failure_stay(tmp_path):
    """A piece that fails at its end owes the rest alone; another type's figures are others."""
    file = FigureFile(tmp_path / "figures")
    report = Reporter(file, "tiny", "float32")
    Reporter(file, "tiny", "bfloat16").say("peak", "GiB", 3.0)

    def fails():
        report.say("speed", "edits/s", 5.0)
        raise RuntimeError("out of memory")

    report.attempt([("speed", "edits/s"), ("peak", "GiB")], fails, CPU)
    assert [(each.what, each.value) for each in file.read()[1:]] == [("speed", 5.0), ("peak", None)]
    assert "| speed | edits/s | – | 5 |" in table(file.read())


@pytest.mark.slow
def test_without_time_pieces_are_left_out(tmp_path):
    """With no time at all, what cannot fit is named, not run."""
    file = FigureFile(tmp_path / "figures")
    measure_shape("tiny", CPU, Clock(0.0), file, Sizes(4, 2, 128, 2))
    why = {each.what: each.note for each in file.read() if each.value is None}
    of_reference = next(each for each in file.read() if each.what == "four methods, reference")
    assert of_reference.note == "one edit a method, 3 of them from runs of 2 passes of 2"
    assert of_reference.value > 0
    assert why["v* in batches of 4"].startswith("no time: it would take")
    assert why["profile: device busy"] == "no time"


def _part(name, run, seconds=60.0):
    return parts.Part(name, seconds, f"the part {name}", run)


@pytest.mark.slow
def test_a_part_that_dies_or_hangs_does_not_stop_the_others(tmp_path, monkeypatch, capfd):
    """One part is killed, one hangs in a process of its own, one is fine: figures are kept."""
    program = tmp_path / "part.py"
    program.write_text(
        "import os, signal, sys, time\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from benchmarks.gpu.figures import Figure, FigureFile\n"
        "name, path = sys.argv[1], Path(sys.argv[sys.argv.index('--figures') + 1])\n"
        "if name == 'dies':\n"
        "    print('CUDA error: an illegal memory access', file=sys.stderr, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "FigureFile(path).add(Figure(name, 'x', '', '', 1.0))\n"
        "if name == 'hangs':\n"
        "    import subprocess\n"
        "    subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    )
    monkeypatch.setattr(runner, "PART_PROGRAM", (str(program),))
    chosen = [_part(name, None, 20.0) for name in ("dies", "hangs", "fine")]
    path = tmp_path / "found.json"
    start = time.monotonic()
    found = runner.run_parts(chosen, CPU, 0.25, path, rehearse=True, command="test")
    assert time.monotonic() - start < 50
    assert [(part.part, part.outcome) for part in found.parts] == [
        ("dies", "failed"),
        ("hangs", "cut off"),
        ("fine", "done"),
    ]
    assert found.parts[0].reason == "CUDA error: an illegal memory access"
    assert [each.what for each in found.figures] == ["hangs", "fine"]
    assert not found.is_well
    assert read_json(path) == found
    assert "== fine: done in" in capfd.readouterr().out


WHOLE = Whole(
    "a device",
    "Python 3, torch 2",
    "python -m benchmarks.gpu",
    (
        Figure("four methods, ratio", "x", "gpt2-xl", "float32", 41.5, "64 edits"),
        Figure("four methods, ratio", "x", "gpt2-xl", "bfloat16", 12.0),
        Figure("four methods, ratio", "x", "gpt-j-6b", "float32", None, "OutOfMemoryError: full"),
        Figure("tests, passed", "tests", "", "", 30.0),
    ),
    (PartDone("tests", "done", 40.0), PartDone("gpt-j-6b", "failed", 3.0, "no such kernel")),
)


def test_one_table_with_a_column_for_each_model_and_type():
    """Missing figures are dashes; what has no model stands under the device."""
    assert table(WHOLE.figures) == [
        "| figure | unit | gpt2-xl float32 | gpt2-xl bfloat16 | gpt-j-6b float32 | device |",
        "| --- | --- | --- | --- | --- | --- |",
        "| four methods, ratio | x | 41.5 | 12 | – | – |",
        "| tests, passed | tests | – | – | – | 30 |",
    ]


def test_targets_are_judged_by_the_figures():
    """Reached, missed and not measured; a target of one model says nothing of others."""
    said = "\n".join(lines(WHOLE))
    assert (
        "four methods, ratio, wanted 40 or more: gpt2-xl float32 41.5 (reached); "
        "gpt2-xl bfloat16 12 (missed); gpt-j-6b float32 not measured" in said
    )
    assert Target("four methods, ratio", 0, 1, "llama2-7b").judged(WHOLE.figures) == []
    assert len(TARGETS) == 6


def test_document_is_written_from_an_earlier_run(tmp_path, capsys):
    """``--from`` prints and writes between the marks; the status is that of the run."""
    path, page = tmp_path / "gpu.json", tmp_path / "page.md"
    write_json(WHOLE, path)
    page.write_text(f"# Before\n\n{MARKS.start}\nold\n{MARKS.end}\n\nAfter\n")
    assert main(["--from", str(path), "--markdown", str(page)]) == 1
    text = page.read_text()
    assert "old" not in text
    assert "on a device; Python 3, torch 2." in text
    assert text.endswith("After\n")
    assert "gpt-j-6b: failed in 3 s (no such kernel)" in capsys.readouterr().out
    well = dataclasses.replace(WHOLE, parts=WHOLE.parts[:1])
    write_json(well, path)
    assert main(["--from", str(path)]) == 0


def test_runs_on_one_machine_are_one_table(tmp_path, capsys):
    """A part run again replaces its figures and its end; another machine's are refused."""
    first, again, other = (tmp_path / name for name in ("1.json", "2.json", "3.json"))
    write_json(WHOLE, first)
    figure = dataclasses.replace(WHOLE.figures[0], value=77.0)
    ends = tuple(dataclasses.replace(part, outcome="done", reason="") for part in WHOLE.parts)
    write_json(dataclasses.replace(WHOLE, figures=(figure,), parts=ends), again)
    assert main(["--from", str(first), str(again)]) == 0
    said = capsys.readouterr().out
    assert "| 77 |" in said
    assert said.count(f"| {figure.what} | {figure.unit} |") == 1
    write_json(dataclasses.replace(WHOLE, device="another"), other)
    assert main(["--from", str(first), str(other)]) == 2
    assert "several machines" in capsys.readouterr().err


@pytest.mark.parametrize("text", [None, "{}", "no json", '{"figures": 1, "parts": []}'])
def test_file_without_figures_is_explained(tmp_path, text, capsys):
    """A missing file and one with something else are one sentence."""
    path = tmp_path / "gpu.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ResultsError, match="--from"):
        read_json(path)
    assert main(["--from", str(path)]) == 2
    assert capsys.readouterr().err.startswith("error: --from")


def test_machine_without_an_accelerator_is_told_so(capsys):
    """One sentence, status 2, and what to do."""
    if torch.accelerator.is_available():
        pytest.skip("there is an accelerator here")
    assert main([]) == 2
    assert "no accelerator was found here" in capsys.readouterr().err
    assert main(["--device", "cuda:7"]) == 2


def test_cut_off_line_is_left_out(tmp_path):
    """A process that is killed while it writes loses that line alone."""
    file = FigureFile(tmp_path / "figures")
    assert file.read() == ()
    file.add(Figure("copy", "GB/s", "", "", 1.0))
    with file.path.open("a") as open_file:
        open_file.write(json.dumps({"what": "half"})[:7])
    assert [each.what for each in file.read()] == ["copy"]
