"""The HTML page has a part for everything that a study knows, and none for what it does not."""

from reports.page import illustrated_sections, report_html
from reports.sections import worst_cards
from reports.text import percent
from tests.flows.test_report import Page
from tests.reports.whole_study import ATTACK

BEYOND = {"skill", "layers", "anatomy", "sink", "published", "free-answers", "downstream"}


def test_parts_are_there_where_rows_are(demo, whole):
    """Without forecasts, root-cause study, profiles or imports a page does not speak of them."""
    names = [part.section.name for part in illustrated_sections(demo.found, demo.shown)]
    more = [part.section.name for part in illustrated_sections(whole.found, whole.shown)]
    assert not BEYOND & set(names)
    assert set(more) == {*names, *BEYOND}
    assert more[-1] == "settings"


def test_worst_edit_has_its_text_before_and_after(whole):
    """Text that was generated stands with its edit; the others have none."""
    first, *others = worst_cards(whole.found)
    assert first.after.startswith("after <script>")
    assert first.before.startswith("before <script>")
    assert len(others) == 9
    assert not [card for card in others if card.after is not None]


def test_page_of_hostile_texts_is_inert(whole):
    """Attacks in texts, names of runs and statements are text, in parts and figures alike."""
    page = Page(report_html(whole.found, whole.shown))
    assert not page.tags & {"img", "iframe", "link", "form"}
    assert len(page.scripts) == 2
    assert not any("evil.example" in script for script in page.scripts)
    assert ATTACK.replace("\u202e", "\\u202e") in page.text
    assert "\u202e" not in page.text


def test_published_figures_stand_beside_ours(whole):
    """A model that others published figures of has their sources in the table."""
    page = Page(report_html(whole.found, whole.shown))
    lines = page.cells["published"][1:]
    assert len(lines) == whole.shown.published.frame.height > 0
    assert all(line[1] == "gpt2-xl" for line in lines)


def test_abilities_stand_beside_those_of_the_unedited_model(whole):
    """A line a model and task with how it was asked, medians, and the correlation where it is."""
    page = Page(report_html(whole.found, whole.shown))
    lines = page.cells["downstream"][1:]
    rows = whole.found.downstream.frame.to_dicts()
    assert len(lines) == len(rows) > 0
    for line, row in zip(lines, rows, strict=True):
        assert line[0] == row["model"]
        assert line[2] == "acc, 5 shots, 20 items at most"
        assert line[3:6] == [str(row["n_collapsed"]), str(row["n_others"]), "0.9"]
        assert (line[8] == "") == (row["spearman"] is None)


def test_free_answers_stand_beside_teacher_forcing(whole):
    """A line a model, method and context; columns that nothing was measured for are left out."""
    page = Page(report_html(whole.found, whole.shown))
    head, *lines = page.cells["free-answers"]
    rows = whole.found.answers.frame.to_dicts()
    assert len(lines) == len(rows) > 0
    assert "judge" not in head
    assert "judged" not in head
    for line, row in zip(lines, rows, strict=True):
        told = dict(zip(head, line, strict=True))
        assert (told["model"], told["context"]) == (row["model"], row["context"])
        assert told["contains"] == "100\N{NO-BREAK SPACE}%"
        assert told["exact"] == percent(row["exact_efficacy"])
        assert told["efficacy, teacher-forced"] == percent(row["efficacy"])
        assert (told["fluency before"], told["after"]) == ("6", "5.5")


def test_page_shows_its_numbers_without_scripts(demo):
    """The tables, and the bars of the incidence, are there before any script has run."""
    html = report_html(demo.found, demo.shown)
    before = html[: html.index('id="looks"')]
    assert '<figure class="instead">' in before
    assert before.count("<rect") == demo.found.incidence.frame.height
    assert before.count("<table>") >= 7
