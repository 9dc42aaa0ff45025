"""The documents keep their word: commands exist and run, SQL blocks have answers."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts.demo_rows import unpack
from storage.ask import ask
from tests.support.flow_runs import REPOSITORY, Run

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/editors.md",
    "docs/method.md",
    "docs/operations.md",
    "docs/results.md",
    "docs/sequences.md",
    "docs/sql.md",
)
_NEEDS_RESULTS = {"sql", "tables", "report", "gc", "rebuild"}
_STORES = {"edit", "sweep"}
"""Commands that store what they did."""
_RUN_BY_CI = {"run", "pretrain", "tune", "fetch-model"}
"""Commands that take minutes, or an index: .ci/run runs ``make demo``, tests/flows a tuning."""
_LONG = {"editcollapse sweep studies/demo.toml"}
"""Of the whole demo study: tests/flows sweeps a small one."""
_RUN_BY_SOAK = {"deploy", "covariance", "reevaluate", "forecast", "calibrate", "anatomy"}
"""Commands that need a server, or a study that has run: tests/slow runs them, but the
forecast of one edit is run here."""

_WRITTEN = "mine.toml"
"""The study file that the README's ``init`` writes."""
_RUN_ELSEWHERE = {
    *("benchmarks", "benchmarks.gpu", "benchmarks.support"),
    *("scripts.demo_rows", "scripts.docs", "scripts.measured_edits"),
}
"""Modules that tests/benchmarks and tests/storage/test_docs.py run, or nobody but by hand."""


def _blocks(name: str, language: str) -> list[str]:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def _commands() -> list[str]:
    lines = [
        line.split("  #")[0].strip()
        for name in DOCUMENTS
        for block in _blocks(name, "sh")
        for line in block.splitlines()
    ]
    return sorted({line for line in lines if line})


def _elsewhere(words: list[str], folder: Path) -> list[str]:
    """Return a command with the file that init writes in another folder."""
    return [str(folder / word) if word == _WRITTEN else word for word in words]


def _has_inputs(options: dict[str, Any]) -> bool:
    """Return whether what a command of a study names is there."""
    if "facts" in options:
        return Path(options["model"]).is_dir() and Path(options["facts"]).is_file()
    if options["study"] is not None:
        return bool(options["study"].is_file())
    return Path(options["model"]).is_dir() and Path(options["dataset"]).is_file()


def test_documents_have_commands_and_sql() -> None:
    """The tests below look at something."""
    assert len(_commands()) > 8
    assert len(_blocks("README.md", "sql")) >= 3


@pytest.mark.parametrize("command", _commands())
def test_command_works(
    command: str,
    first_run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each documented command is one that there is, and ends well where it takes seconds."""
    from typer.main import get_command

    from flows.__main__ import main
    from flows.cli.main import app

    monkeypatch.chdir(REPOSITORY)
    words = [word for word in shlex.split(command) if "=" not in word or " " in word]
    if words[0] == "make":
        targets = re.findall(
            r"^([a-z]+):", Path("Makefile").read_text(encoding="utf-8"), re.MULTILINE
        )
        assert words[1] in targets
        return
    if words[:2] == ["python", "-m"] and words[2] in _RUN_ELSEWHERE:
        return
    if words[0] != "editcollapse":
        assert words[0] in {"prefect", "bash", "source", "export"}, f"nobody tests {command!r}"
        return
    if _WRITTEN in words:  # by the README's init, and not into the checkout
        words = _elsewhere(words, tmp_path)
        if words[1] != "init":
            (line,) = (line for line in _commands() if line.startswith("editcollapse init "))
            assert main(_elsewhere(shlex.split(line), tmp_path)[1:]) == 0
    name, *rest = words[1:]
    options = get_command(app).commands[name].make_context(name, rest).params
    if name in _RUN_BY_SOAK and not options.get("prompt"):
        assert "study" not in options or _has_inputs(options)
        return
    if name in _RUN_BY_CI or command in _LONG:
        assert name in {"pretrain", "fetch-model"} or _has_inputs(options)
        return
    results = first_run.results
    if name in {"rebuild", "report"}:
        results = shutil.copytree(results, tmp_path / "results")
    if name in _STORES:  # not in the checkout's own results
        results = tmp_path / "results"
    stores = name in _NEEDS_RESULTS | _STORES
    extra = ["--results", str(results)] if stores else []
    assert main([*words[1:], *extra]) == 0
    assert capsys.readouterr().out


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a results folder of the checked-in rows, as the README makes one."""
    results = tmp_path_factory.mktemp("demo") / "results"
    unpack(results)
    return results


@pytest.mark.parametrize("query", _blocks("README.md", "sql"))
def test_sql_has_an_answer(query: str, demo: Path) -> None:
    """Each SQL block of the README has rows on the demo study."""
    assert ask(demo, query).height > 0


@pytest.mark.parametrize("query", _blocks("docs/sequences.md", "sql"))
def test_sql_on_sequences_can_be_asked(query: str, demo: Path) -> None:
    """Each SQL block of docs/sequences.md is a question to any results, also without sequences."""
    has_sequences = not ask(demo, "from sequences").is_empty()
    assert ask(demo, query).is_empty() is not has_sequences


def test_library_example_works(monkeypatch, capsys) -> None:
    """The README's Python collapses the demo model."""
    (block,) = _blocks("README.md", "python")
    monkeypatch.chdir(REPOSITORY)
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102  our own text
    assert capsys.readouterr().out.startswith("will collapse ")


def test_library_examples_of_editors_work(monkeypatch, capsys) -> None:
    """The Python of docs/editors.md, in the page's order."""
    monkeypatch.chdir(REPOSITORY)
    names: dict[str, Any] = {}
    for block in _blocks("docs/editors.md", "python"):
        exec(compile(block, "docs/editors.md", "exec"), names)  # noqa: S102  our own text
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("(0, 1) ")
    assert last == "as given over unpublished"


def test_ci_runs_the_readme() -> None:
    """CI calls the two commands that the README starts with."""
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert "\nmake demo" in script
    assert "\nmake test" in script
