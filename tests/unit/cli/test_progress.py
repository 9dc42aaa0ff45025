"""Progress on standard error: bars on a terminal, few lines in a log."""

import io
import time

from editcollapse.cli import console
from editcollapse.cli.console import EVERY_S, ProgressLines, Screen, progress_shown
from editcollapse.runtime.environment import OVERALL, Report, begun, reporter, tell

EDITS = "gpt2: v* of edit batch {} of 2"


class Log:
    """Lines that were written, and a clock that stands still unless it is moved."""

    def __init__(self):
        self.lines = []
        self.now = 100.0
        self.progress = ProgressLines(self.lines.append, lambda: self.now)

    def tell(self, *report):
        """Report to the lines; return what was written of it."""
        before = len(self.lines)
        self.progress.listen(Report(*report))
        return self.lines[before:]


def test_report_says_what_and_how_far():
    """The work, the unit that is counted, how many of how many; without a total the work alone."""
    assert str(Report("gpt2: v*", 12, 25, "step")) == "gpt2: v*, step 12 of 25"
    assert str(Report("gpt2: loading")) == "gpt2: loading"
    assert (Report("x", 1, 4, "step").share, Report("x").share) == (0.25, 0.0)


def test_log_has_a_line_when_the_work_changes_and_seldom_within_it():
    """Not one a step: the first of each piece of work, then at most one every ten seconds."""
    log = Log()
    assert log.tell("gpt2: loading") == ["gpt2: loading"]
    assert log.tell(EDITS.format(1), 1, 25, "step") == [
        "gpt2: v* of edit batch 1 of 2, step 1 of 25"
    ]
    for step in range(2, 12):
        log.now += (EVERY_S - 1) / 10
        assert log.tell(EDITS.format(1), step, 25, "step") == []
    log.now += 1
    assert log.tell(EDITS.format(1), 12, 25, "step") == [
        "gpt2: v* of edit batch 1 of 2, step 12 of 25"
    ]
    assert log.tell(EDITS.format(1), 13, 25, "step") == []
    assert log.tell(EDITS.format(2), 1, 25, "step") != []


def test_log_says_how_far_the_whole_is():
    """Before what goes on, at the start and at the end; cached jobs leave no line each."""
    log = Log()
    assert log.tell(OVERALL, 0, 40, "job") == ["study: 0 of 40 jobs"]
    for done in range(1, 30):
        assert log.tell(OVERALL, done, 40, "job") == []
    assert log.tell(EDITS.format(1), 1, 25, "step") == [
        "study: 29 of 40 jobs; gpt2: v* of edit batch 1 of 2, step 1 of 25"
    ]
    log.now += EVERY_S
    assert log.tell(OVERALL, 31, 40, "job") == ["study: 31 of 40 jobs"]
    assert log.tell(OVERALL, 32, 40, "job") == []
    assert log.tell(OVERALL, 40, 40, "job") == ["study: 40 of 40 jobs"]


def test_lines_go_to_standard_error(capsys):
    """Where it is no terminal; control characters are written out, and nothing is markup."""
    with progress_shown("starting"):
        begun("a\x1b[31m [red]b[/red]", "step")(1, 2)
    tell(Report("nobody listens any more"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [r"a\x1b[31m [red]b[/red]"]


def test_terminal_shows_bars(monkeypatch):
    """One of the whole, which stays, and one of the work that goes on, which goes."""
    file = io.StringIO()

    def screen(*, to_stderr):
        assert to_stderr
        return Screen(file=file, force_terminal=True, width=100, highlight=False)

    monkeypatch.setattr(console, "console", screen)
    with progress_shown("starting Prefect"):
        tell(Report(OVERALL, 3, 40, "job"))
        reporter(EDITS.format(1), "step")(12, 25)
        deadline = time.monotonic() + 20
        while "12/25" not in file.getvalue() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "gpt2: v* of edit batch 1 of 2, step" in file.getvalue()
        assert "12/25" in file.getvalue()
    shown = file.getvalue()
    assert "starting Prefect" in shown
    last = shown.rsplit("study", 1)[1]
    assert "3/40" in last
    assert "v*" not in last
