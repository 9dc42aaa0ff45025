"""The wheel's command ``check``: in this process, and nothing is stored."""

import json

from editcollapse.cli.check import COLLAPSED
from editcollapse.cli.main import main
from tests.support.edited_models import edited_copy, times
from tests.support.flow_runs import REPOSITORY

BASE = REPOSITORY / "demo" / "models" / "gpt2-induced"


def test_same_folder_is_no_difference(capsys):
    """Exit status 0, and a sentence; the demo's texts are found beside the model."""
    assert main(["check", str(BASE), str(BASE)]) == 0
    assert "verdict:    nothing differs" in capsys.readouterr().out


def test_a_collapse_ends_with_3(tmp_path, capsys):
    """JSON holds the verdict; other bounds make another one of it."""
    ruined = edited_copy(BASE, tmp_path / "ruined", times(ln_f=-5))
    given = ["check", str(BASE), str(ruined), "--covariance", "none", "--json"]
    assert main(given) == COLLAPSED
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "collapsed"
    assert report["perplexity_ratio"] > 10
    assert main([*given, "--threshold", "inf", "--ratio", "inf"]) == 0
    assert main([*given, "--threshold", "inf", "--ratio", "inf", "--strict"]) == COLLAPSED


def test_an_option_out_of_range_is_a_mistake(capsys):
    """Status 2 and a sentence that names the option."""
    assert main(["check", str(BASE), str(BASE), "--ratio", "-1"]) == 2
    assert "--ratio -1" in capsys.readouterr().err
