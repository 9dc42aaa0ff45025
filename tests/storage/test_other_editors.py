"""Single edits by editors that divide by nothing: counted as all, left out where one is needed."""

import json

import pytest

from editcollapse.rows.collapse_rule import DEFAULT_RULE
from reports.page import illustrated_sections, report_html
from storage.ask import ask, findings, study_figures
from storage.readers import known_setups
from tests.storage.conftest import make_row as row_of
from tests.support.sequence_rows import SETTINGS


@pytest.fixture(scope="module")
def mixed(folder_at, tmp_path_factory):
    """Return a folder with a study of two ROME edits and two MEMIT edits; one of each collapses."""
    folder = folder_at(tmp_path_factory.mktemp("mixed"))
    folder.add_study(methods=("rome", "memit"), perplexities=(5.0, float("inf")), efficacy=0.5)
    again = [
        row_of(
            "edits",
            edit_id=f"memit-request-{index}",
            request_id=f"request-{index}",
            method="memit",
            settings_id="settings of memit",
        )
        for index in range(2)
    ]
    folder.write("edits", *again)
    folder.write("models", row_of("models", source="openai-community/gpt2-xl"))
    folder.write("evaluations", row_of("evaluations"))
    folder.write("studies", row_of("studies", name="small", settings=json.dumps(SETTINGS)))
    folder.write("value_settings", row_of("value_settings"))
    folder.write("value_settings", row_of("value_settings", settings_id="settings of memit"))
    folder.write("templates", row_of("templates"))
    folder.publish()
    return folder


def test_incidence_counts_them(mixed):
    """They collapse models like others, and stand behind the rank-one methods."""
    query = "select method, n_collapsed, n_edits from collapse_by_method"
    assert ask(mixed.results, query).rows() == [("rome", 1, 2), ("memit", 1, 2)]
    query = "select method, n_edits, efficacy from counterfact_scores where method <> 'none'"
    assert ask(mixed.results, query).rows() == [("rome", 2, 0.5), ("memit", 2, 0.5)]


def test_denominators_leave_them_out(mixed):
    """No count of edits without the quantity; norms of updates every edit has."""
    query = "select distinct method, quantity from denominators order by all"
    found = ask(mixed.results, query).rows()
    assert [quantity for method, quantity in found if method == "memit"] == [
        "relative_update_norm",
        "update_norm",
    ]
    assert len([quantity for method, quantity in found if method == "rome"]) == 6
    own = findings(mixed.results, "study-1", DEFAULT_RULE).denominators.frame
    assert set(own["method"]) == {"rome"}
    assert own["n_edits"].to_list() == [1, 1]


def test_outcomes_have_null_for_what_they_have_not(mixed):
    """Diagnostics of rank-one updates are NULL; what every edit has is there."""
    query = (
        "select count(*), count(denominator), count(rho), count(update_digest), count(update_norm) "
        "from edit_outcomes where method = 'memit'"
    )
    assert ask(mixed.results, query).rows() == [(2, 0, 0, 0, 2)]


def test_published_figures_stand_beside_edits_that_have_them(mixed):
    """A quantity that only rank-one methods have counts their edits alone."""
    query = (
        "select distinct method from published_and_ours "
        "where n_edits is not null and metric <> 'update_norm'"
    )
    assert ask(mixed.results, query).rows() == [("rome",)]


def test_their_settings_are_no_forecasts_setup(mixed):
    """A forecast is made of a rank-one method, in a set-up that such edits were made in."""
    assert [each.settings_id for each in known_setups(mixed.results, "model-1")] == ["settings-1"]


def test_models_stand_once(mixed):
    """Settings of another editor give its model no second line."""
    frame = findings(mixed.results, "study-1").models.frame
    assert frame.select("model", "settings_id").rows() == [("tiny", "settings-1")]


def test_page_leaves_their_denominators_out(mixed):
    """The figure of denominators says how many have none; cards say no empty denominator."""
    found, shown = findings(mixed.results, "study-1"), study_figures(mixed.results, "study-1")
    parts = {part.section.name: part for part in illustrated_sections(found, shown)}
    (figure,) = parts["denominators"].figures
    assert "2 of them have no denominator and no point here." in figure.caption
    assert sum(panel.rows.height for panel in figure.panels) == 2
    cards = parts["worst"].cards
    assert len(cards) == 2
    told = [[fact.name for fact in card.facts] for card in cards]
    assert sum("|denominator|" in names for names in told) == 1
    assert "MEMIT on tiny" in report_html(found, shown)


def test_page_without_a_rank_one_edit(folder):
    """A study of such editors alone has no figure of denominators, and says nothing wrong."""
    folder.add_study(methods=("memit",), perplexities=(float("inf"),))
    folder.write("studies", row_of("studies", name="small", settings=json.dumps(SETTINGS)))
    folder.publish()
    found, shown = findings(folder.results, "study-1"), study_figures(folder.results, "study-1")
    parts = {part.section.name: part for part in illustrated_sections(found, shown)}
    assert parts["denominators"].figures == ()
    assert parts["denominators"].section.sentences == (
        "No edit by a method with a denominator collapses its model.",
    )
    assert report_html(found, shown)
