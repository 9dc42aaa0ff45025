"""The harness measures what it says, checks that both sides agree, and reports all of it."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from benchmarks import machine, report, scaling, works
from benchmarks.__main__ import main
from benchmarks.results import Agreement, Results, Spread
from benchmarks.schedule import Order, run

_ONE_PROCESS = ("edits", "methods", "perplexity", "covariance", "denominators", "sweep", "scaling")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return what a run on a tiny model found; its files stay in the workspace."""
    order = Order(
        workspace=tmp_path_factory.mktemp("workspace"),
        models=("tiny",),
        only=_ONE_PROCESS,
        repeats=2,
        edits=4,
        steps=3,
        profile=True,
    )
    return run(order, "python -m benchmarks")


@pytest.mark.slow  # make bench BENCH=--quick does it
def test_every_work_was_done_by_both_sides(found):
    """Two repeats each, in the order asked for, with a positive rate."""
    assert [each.unit for each in found.comparisons] == [
        "edits/s",
        "edits x methods/s",
        "models/s",
        "tokens/s",
        "tokens/s",
        *["subjects/s"] * 3,
        "requests/s",
        "tokens x layers/s",
        "requests x layers/s",
    ]
    for each in found.comparisons:
        for side in (each.reference, each.ours):
            assert side.n_repeats == 2
            assert 0 < side.lowest <= side.median <= side.highest
    assert {(each.varied, each.size) for each in found.scaled} == {
        ("edits in a batch", 1),
        ("edits in a batch", 4),
        ("texts", 10),
        ("texts", 50),
        ("texts", 200),
    }
    assert sum(each.share for each in found.operators) <= 1


@pytest.mark.slow  # make bench BENCH=--quick does it
def test_both_sides_agree(found):
    """Updates, perplexities and C of a float32 model."""
    assert report.disagreements(found) == []
    assert len(found.agreements) == 9
    assert all(each.largest > 0 for each in found.agreements)
    assert next(each.n_compared for each in found.agreements if "four" in each.quantity) == 8


def test_disagreement_is_told():
    """Also where a result is no number at all."""
    far = [Agreement("tiny", "covariance", largest, 1) for largest in (2e-3, float("nan"))]
    nothing = Results(machine.describe(torch.device("cpu")), "python -m benchmarks")
    apart = report.disagreements(dataclasses.replace(nothing, agreements=far))
    assert apart[0] == "tiny: covariance differ by 2.0e-03, 1e-03 is allowed"
    assert len(apart) == 2


def test_distance_knows_infinities_and_nothings():
    inf, nan = torch.tensor(float("inf")), torch.tensor(float("nan"))
    assert works.distance(inf, inf) == 0
    assert not works.distance(torch.tensor(1.0), inf) <= 1e-3
    assert not works.distance(nan, torch.tensor(1.0)) <= 1e-3
    assert not works.worst([0.0, float("nan"), 0.0]) <= 1e-3


def test_linear_flops_are_those_of_gpt2(tmp_path):
    """Two blocks of 12 D² less the second MLP projection of the upper one, twice."""
    from benchmarks.cases import open_case
    from benchmarks.choices import Asked

    asked = Asked(tmp_path, None, 1, 10, 10, 100, None)
    case = open_case("tiny", asked, "reference")
    assert case.layer == 1
    assert works.linear_flops(case) == 2 * (2 * 12 - 4) * 64**2


def test_pretrained_model_is_measured_on_the_facts(tmp_path):
    """A path is a model: of a folder or a GGUF file, on prompts that it can read."""
    from benchmarks import cases
    from benchmarks.choices import Asked
    from benchmarks.models import SHAPES, write_model

    folder = write_model(SHAPES["tiny"], tmp_path / "of" / "mine")
    case = cases.open_case(str(folder), Asked(tmp_path, None, 200, 60, 60, 100, None), "reference")
    subjects = {request.subject for request in case.inputs.requests}
    assert {"Paris", "Apple"} <= subjects
    assert len(case.inputs.requests) == 200
    assert len(case.inputs.texts) == 60
    assert (tmp_path / "prepared" / "mine" / "moment.safetensors").is_file()


@pytest.mark.slow  # of all works' tables
def test_markdown_goes_between_markers_and_json_holds_everything(found, tmp_path):
    """The rest of the document stays; a document without markers is refused."""
    path = tmp_path / "page.md"
    path.write_text(f"# Before\n\n{report.MARKS.start}\nold\n{report.MARKS.end}\n\nAfter\n")
    report.write_markdown(found, path)
    text = path.read_text()
    assert text.startswith(f"# Before\n\n{report.MARKS.start}\n")
    assert text.endswith(f"{report.MARKS.end}\n\nAfter\n")
    assert "old" not in text
    assert "| covariance | tiny | tokens/s |" in text
    report.write_markdown(found, path)
    assert path.read_text() == text
    report.write_json(found, tmp_path / "all.json")
    plain = json.loads((tmp_path / "all.json").read_text())
    assert plain["machine"]["torch"] == torch.__version__
    assert set(plain) == {field.name for field in dataclasses.fields(Results)}


def test_mistakes_are_told_before_anything_runs(tmp_path, capsys):
    """An unknown model and a document without markers: one sentence, status 2."""
    page = tmp_path / "page.md"
    page.write_text("# Mine\n")
    assert main(["--models", "demo", "--markdown", str(page)]) == 2
    assert "has no <!-- benchmarks -->" in capsys.readouterr().err
    assert main(["--models", "demo", "tyni", "--workspace", str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: --models tyni: known are demo, ")
    assert len(printed.splitlines()) == 1
    with pytest.raises(SystemExit):
        main(["--edits", "0"])


def test_spread_is_median_lowest_highest():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)


def test_defaults_reach_the_works(tmp_path):
    """The overhead runs on the demo model alone unless it is named."""
    whole, named = Order(tmp_path), Order(tmp_path, only=("overhead",))
    assert (whole.overhead_edits("demo"), whole.overhead_edits("gpt2-small")) == (512, 0)
    assert named.overhead_edits("gpt2-small") == 64
    assert Order(tmp_path, only=("edits",)).overhead_edits("demo") == 0
    assert whole.size("demo") == works.Size(5, 4, 64, 50_000)
    assert Order(tmp_path, quick=True).chosen_models == ("demo",)
    assert whole.asked("demo").n_more_texts == max(scaling.TEXTS)
