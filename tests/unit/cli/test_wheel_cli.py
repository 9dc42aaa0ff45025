"""The wheel's command: what it prints, what it calls a mistake, and when it hands over."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import typer

from editcollapse import EDITORS, METHODS, __version__
from editcollapse.catalog.editors import EditorName
from editcollapse.cli import options
from editcollapse.cli.check_model import add_check_model
from editcollapse.cli.main import checkout_command, in_flags, main
from editcollapse.config.spec import ModelSpec

REPOSITORY = Path(__file__).parents[3]
MODEL = REPOSITORY / "demo" / "models" / "gpt2-induced"
ONE = [
    *("--model", str(MODEL), "--prompt", "{} was born in", "--subject", "Pugis"),
    *("--target", "Jorvale", "--covariance", str(REPOSITORY / "demo" / "corpus.txt")),
    *("--tokens", "4000"),
]


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch):
    monkeypatch.setenv("EDITCOLLAPSE_DEVICE", "cpu")


@pytest.mark.parametrize("command", [[], ["check-model"], ["fetch-model"], ["forecast"], ["edit"]])
def test_help_has_an_example_for_each_command(command, capsys):
    """Help ends well, and shows how a command is called."""
    assert main([*command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "Usage: editcollapse" in said
    assert not command or f"editcollapse {command[0]} " in said.split("Examples:")[1]


def test_version(capsys):
    """The version is the package's."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"editcollapse {__version__}\n"


def test_help_loads_nothing_heavy():
    """Help and completion start without torch or Polars: nobody must wait for them."""
    program = (
        "import sys\nfrom editcollapse.cli.main import main\nmain(['edit', '--help'])\n"
        "found = {'torch', 'polars', 'transformers', 'prefect'} & set(sys.modules)\n"
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_choices_are_those_of_the_library():
    """The choices that are written out, so that help is quick, are the library's."""
    assert set(get_args(EditorName)) == {*METHODS, *EDITORS}
    fields = ModelSpec.model_fields
    assert set(get_args(options.DtypeChoice)) == set(get_args(fields["dtype"].annotation))
    starts = get_args(fields["start_token"].annotation)
    assert set(get_args(options.StartTokenChoice)) == set(starts)


def test_check_model(capsys):
    """A good model passes, in words and in JSON."""
    assert main(["check-model", str(MODEL), "--layer", "1"]) == 0
    assert "all 8 checks passed" in capsys.readouterr().out
    assert main(["check-model", str(MODEL), "--layer", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["facts"]["family"] == "gpt2"
    assert all(check["passed"] for check in found["checks"])


def test_check_model_fails_with_status_1(monkeypatch, capsys):
    """A model that fails a check is told by the exit status."""
    monkeypatch.setattr("editcollapse.rome.check._TOLERANCE", dict.fromkeys(_dtypes(), 0.0))
    assert main(["check-model", str(MODEL), "--layer", "1"]) == 1
    assert "checks failed" in capsys.readouterr().out


def _dtypes():
    from editcollapse.rome.check import _TOLERANCE

    return _TOLERANCE


def test_another_app_takes_check_model(capsys):
    """The command can be part of another application."""
    app = typer.Typer()
    app.callback()(lambda: None)
    add_check_model(app)
    status = typer.main.get_command(app).main(
        args=["check-model", str(MODEL), "--layer", "0"], standalone_mode=False
    )
    assert not status
    assert "all 8 checks passed" in capsys.readouterr().out


def test_forecast(capsys):
    """The verdict on each method, as a table and in JSON."""
    assert main(["forecast", *ONE]) == 0
    said = capsys.readouterr().out
    assert "subject: first token; tokens 0 to 0" in said
    assert "rome: likely to collapse." in said
    assert "put a text before the prompt" in " ".join(said.split())
    assert main(["forecast", *ONE, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    verdicts = {
        each["forecast"]["method"]: each["verdict"] for each in report["requests"][0]["methods"]
    }
    assert verdicts["rome"] == "will collapse"
    assert set(verdicts) == set(METHODS)


def test_edit_gives_the_librarys_numbers(capsys):
    """The command's figures are those of an Editor; its lines show them."""
    import editcollapse as ec

    assert main(["edit", *ONE, "--json", "--new-tokens", "4"]) == 0
    report = json.loads(capsys.readouterr().out)
    editor = ec.Editor(MODEL, covariance=REPOSITORY / "demo" / "corpus.txt", tokens=4000)
    edit = editor.edit("{} was born in", subject="Pugis", target="Jorvale")
    texts = REPOSITORY / "demo" / "texts.jsonl"
    assert report["denominator"] == edit.denominator
    assert report["perplexity_ratio"] == edit.perplexity_ratio(texts)
    assert report["verdict"] == edit.forecast.verdict
    assert report["efficacy"] == edit.scores.efficacy
    assert report["text_after"] == edit.generate("Pugis was born in", 4)
    assert main(["edit", *ONE, "--method", "c_rome"]) == 0
    said = capsys.readouterr().out
    assert "Pugis was born in -> Jorvale, of gpt2-induced, layer 1, by c_rome" in said
    assert "forecast:   at risk" in said
    assert "perplexity: " in said


def test_edit_takes_any_editor(capsys):
    """Of an editor beyond rank one: the library's figures, its layers, and no denominator."""
    import editcollapse as ec

    assert main(["edit", *ONE, "--method", "memit", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    editor = ec.Editor(MODEL, covariance=REPOSITORY / "demo" / "corpus.txt", tokens=4000)
    edit = editor.edit("{} was born in", subject="Pugis", target="Jorvale", method="memit")
    assert (report["layers"], report["layer"]) == ([0, 1], 1)
    assert report["text_change"] == edit.text_change
    assert report["perplexity"] == edit.perplexity(REPOSITORY / "demo" / "texts.jsonl")
    assert report["efficacy_prefix_mean"] == edit.scores[0].efficacy_prefix_mean
    for name in ("denominator", "rho", "text_change_bound", "at_risk_at", "collapse_at"):
        assert report[name] is None
    assert main(["edit", *ONE, "--method", "ft_m", "--new-tokens", "2"]) == 0
    said = capsys.readouterr().out
    assert "Pugis was born in -> Jorvale, of gpt2-induced, layer 2, by ft_m" in said
    assert "forecast:   not known: the forecast knows rank-one methods only" in said
    assert "denominator" not in said
    assert "; text change 0." in said
    assert "after:      Pugis was born in Jorvale" in said


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--covariance", "nowhere.txt"], "--covariance nowhere.txt"),
        (["--layer", "9"], "--layer 9: gpt2-induced has layers 0 to 3"),
        (["--tokens", "0"], "--tokens 0, --damping 0"),
        (["--tokens", "9"], "Give 256 or more, or a --damping such as 0.001"),
        (["--subject", " "], "--subject is blank"),
        (["--prompt", "was born in"], "does not occur in --prompt"),
        (["--texts", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--model", "no/such/folder/here"], "no model folder"),
        (["--method", "mend"], "'mend' is not one of 'rome', "),
        (["--dtype", "int8"], "'int8' is not one of"),
        (["--layr", "1"], "--layr"),
    ],
)
def test_mistakes_are_one_sentence_in_flags(more, words, monkeypatch, capsys):
    """A mistake is one line on standard error with the flag's name, before a model is loaded."""
    monkeypatch.setattr("editcollapse.models.loading.load_model", None)
    assert main(["edit", *ONE, *more]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert words in said.err


def test_texts_are_the_packages_where_none_lie_beside_the_model(tmp_path, capsys):
    """A model in a folder of its own is measured on ours, for which this one is too small."""
    model = tmp_path / "model"
    model.symlink_to(MODEL)
    copy = tmp_path / "own"
    copy.mkdir()
    for path in MODEL.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert main(["edit", *ONE, "--model", str(copy)]) == 2
    assert "no text of the set can be scored by own: text 'A river" in capsys.readouterr().err


def test_words_of_arguments_become_flags():
    """Arguments between backticks are flags; other quotes stay."""
    assert in_flags("`start_token` 'a_b': not `A`.") == "--start-token 'a_b': not `A`."


def test_control_characters_are_written_out(capsys):
    """What a user or a file names is not obeyed by the terminal."""
    assert main(["check-model", "a\x1b[2Jb"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_checkout_hands_over(tmp_path, monkeypatch):
    """The project's own command is found in its checkout alone; a foreign flows package is not."""
    folder = tmp_path / "flows" / "cli"
    folder.mkdir(parents=True)
    assert checkout_command(tmp_path) is None
    for path in (folder.parent / "__init__.py", folder / "__init__.py"):
        path.touch()
    (folder / "main.py").write_text("def run():\n    return 'the project'\n", encoding="utf-8")
    for name in ("flows", "flows.cli", "flows.cli.main"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = checkout_command(tmp_path)
    assert found is not None
    assert found() == "the project"
    elsewhere = tmp_path / "site-packages" / "a" / "b"
    (elsewhere / "flows" / "cli").mkdir(parents=True)
    (elsewhere / "flows" / "cli" / "main.py").touch()
    assert checkout_command(elsewhere) is None
    for name in ("flows", "flows.cli", "flows.cli.main"):
        monkeypatch.delitem(sys.modules, name, raising=False)
