"""The HTML report: what it says is what SQL says; it is made again when it is missing."""

import base64
import hashlib
import json
from html import escape
from html.parser import HTMLParser
from importlib.metadata import version

import pytest

from editcollapse import __version__
from editcollapse.catalog.methods import method_title
from editcollapse.rows.collapse_rule import DEFAULT_RULE, CollapseRule
from editcollapse.study.results_folder import results_at
from flows.__main__ import USER_ERROR, main
from flows.observe.run_page import report_link
from reports.headline import headline
from reports.index import INDEX, has_index
from reports.page import has_report
from storage.ask import ask, findings
from tests.support.flow_runs import artifact
from tests.support.small_study import N_EDITS, N_REQUESTS, NOTE

SHOWN = ("findings", "incidence", "report")
"""Artifacts on the page of a study's run, beside its progress."""


class Page(HTMLParser):
    """A report taken apart: tags, addresses, sections' cells, SQL blocks, scripts, policy."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.cells, self.sql, self.text = set(), [], {}, {}, ""
        self.figure_sql, self.scripts, self.panels, self.policy = [], [], [], ""
        self._section = self._into = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        """Note a tag and where it leads."""
        self.tags.add(tag)
        found = dict(attrs)
        self.addresses += [found[name] for name in ("href", "src", "srcset") if name in found]
        assert not [name for name in found if name.startswith("on")]
        if tag == "section":
            self._section = found["id"]
            self.cells[self._section], self.sql[self._section] = [], ""
        if tag == "tr":
            self.cells[self._section].append([])
        if tag in {"td", "th"}:
            self.cells[self._section][-1].append("")
        if tag == "meta" and "http-equiv" in found:
            self.policy = found["content"]
        if tag in {"td", "th", "pre", "script"}:
            self._into = f"{tag} {found.get('class') or found.get('type', '')}".strip()
            if tag in {"td", "th"}:
                self._into = tag

    def handle_endtag(self, tag):
        """Leave a cell or a block."""
        if self._into and tag == self._into.split()[0]:
            self._into = None

    def handle_data(self, data):
        """Collect text."""
        if self._into == "script":
            self.scripts.append(data)
            return
        if self._into == "script application/json":
            self.panels.append(json.loads(data))
            return
        self.text += data
        if self._into == "pre figure-sql":
            self.figure_sql.append(data)
        elif self._into == "pre":
            self.sql[self._section] += data
        elif self._into:
            self.cells[self._section][-1][-1] += data


def digest_of(script):
    """Return the digest of a script as a content security policy has it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def page_of(results, name="small"):
    """Return a study's report, taken apart."""
    return Page((results / "reports" / f"{name}.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(first_run):
    """Return the report of the small study."""
    return page_of(first_run.results)


def test_page_needs_nothing_from_elsewhere(page):
    """No style sheet, no picture, scripts only of its own: links lead into the page itself."""
    assert not page.tags & {"link", "img", "iframe", "object", "form"}
    assert page.addresses
    assert all(address.startswith("#") for address in page.addresses)


def test_policy_names_every_script_and_nothing_else(page):
    """The page runs its two scripts, which the policy knows by digest, and no text as code."""
    assert len(page.scripts) == 2
    allowed = [f"'sha256-{digest_of(script)}'" for script in page.scripts]
    assert f"script-src {' '.join(allowed)};" in page.policy
    assert page.policy.startswith("default-src 'none';")
    assert "unsafe-eval" not in page.policy
    assert page.policy.count("unsafe-inline") == page.policy.count("style-src 'unsafe-inline'") == 1


def test_figures_have_their_sql(page, first_run):
    """SQL under a figure runs as it stands and has rows; panels have rows to draw."""
    assert len(page.figure_sql) >= 2
    for sql in page.figure_sql:
        assert ask(first_run.results, sql).height > 0
    panels = [panel for panel in page.panels if "columns" in panel]
    assert len(panels) >= 4
    assert all(panel["columns"]["method"] for panel in panels)


def test_every_table_is_what_its_sql_answers(page, first_run):
    """Each block of SQL runs as it stands, and gives the rows of the table above it."""
    sections = {"incidence", "editing", "positions", "denominators", "models"}
    assert set(page.sql) >= {*sections, "worst"}
    for section in sections:
        frame = ask(first_run.results, page.sql[section])
        assert len(page.cells[section]) - 1 == frame.height > 0
        for cells, row in zip(page.cells[section][1:], frame.iter_rows(named=True), strict=True):
            assert cells[0] == row["model"]


def test_harmless_edits_are_not_shown_as_damaging(page, first_run):
    """No edit of the small study does damage: the part says so, and lists none."""
    assert ask(first_run.results, page.sql["worst"]).is_empty()
    assert "No edit raised perplexity more than 2-fold." in page.text
    assert page.cells["worst"] == []


def test_numbers_are_those_of_the_database(page, first_run):
    """Counts, shares and intervals are the view's, rounded."""
    frame = ask(first_run.results, page.sql["incidence"])
    for cells, row in zip(page.cells["incidence"][1:], frame.iter_rows(named=True), strict=True):
        assert cells[1] == method_title(row["method"])
        assert cells[2] == f"{row['n_collapsed']} of {row['n_edits']}"
        share = float(cells[3].removesuffix("\N{NO-BREAK SPACE}%"))
        assert share == pytest.approx(100 * row["share"], abs=0.05)
        low, high = cells[4].removesuffix("\N{NO-BREAK SPACE}%").split(" to ")
        assert float(low) == pytest.approx(100 * row["wilson_low"], abs=0.05)
        assert float(high) == pytest.approx(100 * row["wilson_high"], abs=0.05)


def test_note_and_settings_are_on_the_page(page, first_run):
    """The study's caveat stands with its numbers; what was run can be read off."""
    assert NOTE in page.text
    assert f"{N_REQUESTS} requests: all {N_EDITS} edits are measured." in page.text
    settings = dict(page.cells["settings"][1:])
    assert settings["study id"] == first_run.study_id
    assert settings["methods"] == "ROME, C-ROME, r-ROME"


def test_page_opens_with_headline_and_facts(page):
    """What was found, then when, where and with what it was computed."""
    assert f"None of {N_EDITS} ROME, C-ROME and r-ROME edits collapsed tiny." in page.text
    for name in ("run", "work", "machine", "versions", "commit"):
        assert name in page.text
    assert f"editcollapse {__version__}, torch {version('torch')}" in page.text


@pytest.mark.slow
def test_lost_or_cut_report_is_written_again(study, run_study, results):
    """Without a whole report only the report's task runs; it is the same page again."""
    file = results / "reports/small.html"
    whole = file.read_bytes()
    for damage in (None, whole[:-20], whole.replace(b'name="study-id" content="', b"")):
        file.unlink() if damage is None else file.write_bytes(damage)
        again = run_study(study, results)
        assert again.computed() == again.computed("report ") == 1
        assert file.read_bytes() == whole
    assert not list(file.parent.glob(".*"))


def test_report_of_another_study_of_the_name_is_none(first_run):
    """A page counts for its own study, not for one that merely has its name."""
    results_folder = results_at(first_run.results)
    assert has_report(results_folder, "small", first_run.study_id, DEFAULT_RULE)
    assert not has_report(results_folder, "small", "another", DEFAULT_RULE)
    assert not has_report(results_folder, "small", first_run.study_id, CollapseRule(ratio=5))


def test_command_writes_it(results, first_run, capsys):
    """``python -m flows report`` needs no server and takes a name, an id or nothing."""
    file = results / "reports/small.html"
    for asked in ([], ["small"], [first_run.study_id]):
        file.unlink()
        assert main(["report", *asked, "--results", str(results)]) == 0
        assert str(file) in capsys.readouterr().out
        assert file.is_file()
    assert main(["report", "smal", "--results", str(results)]) == USER_ERROR
    assert "no study 'smal' in" in (err := capsys.readouterr().err)
    assert "Known: small." in err


def test_index_lists_the_report_with_its_sentence(first_run):
    """The page that is served for the folder has a link, a date and what the study found."""
    found = findings(first_run.results, first_run.study_id)
    text = (first_run.results / INDEX).read_text(encoding="utf-8")
    assert '<a href="small.html">small</a> <time' in text
    assert f"<p>{escape(headline(found))}</p>" in text


@pytest.mark.slow
def test_lost_index_is_written_again(study, run_study, results):
    """A run that finds all else in place writes it, by the report's task."""
    (results / INDEX).unlink()
    again = run_study(study, results)
    assert again.computed() == again.computed("report ") == 1
    assert has_index(results_at(results))


def test_run_page_has_table_text_and_link(first_run, page, monkeypatch):
    """The table artifact has the report's cells; the link leads to the file as it is reached."""
    artifacts = {key: artifact(first_run.flow_run_id, f"{key}-small") for key in SHOWN}
    table = json.loads(artifacts["incidence"].data)
    assert [list(table[0]), *(list(row.values()) for row in table)] == page.cells["incidence"]
    for sql in (page.sql[name] for name in page.sql if name != "perplexity"):
        assert f"```sql\n{sql}\n```" in artifacts["findings"].data
    assert NOTE in artifacts["findings"].data
    file = first_run.results / "reports/small.html"
    assert artifacts["report"].data.endswith(f"]({file.as_uri()})")
    monkeypatch.setenv("EDITCOLLAPSE_REPORTS_URL", "http://127.0.0.1:8001/")
    link = report_link(str(first_run.results), "a b(c)")
    assert link == "http://127.0.0.1:8001/a%20b%28c%29.html"


def test_cached_run_shows_its_findings_too(study, run_study, results):
    """A run whose tasks were all cached has a page with the same findings."""
    again = run_study(study, results)
    assert again.computed() == 0
    assert all(artifact(again.flow_run_id, f"{key}-small") for key in SHOWN)
