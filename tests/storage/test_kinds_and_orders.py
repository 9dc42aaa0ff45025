"""What people read comes first: studies before single edits, the baseline before its remedies."""

import json

import polars as pl
import pytest

from editcollapse.catalog.methods import METHODS
from editcollapse.rows.study import POSITIONS
from flows.cli.output.answers import print_frame
from storage.ask import ask, incidence

_COUNTED = ("collapse_incidence", "collapse_by_position", "denominators")
_EDIT = "One edit, asked for on the command line."


def _record(folder, make_row, study_id, kind, started_at="2026-11-01T10:00:00.000+00:00"):
    """Write that a study was run as something."""
    row = make_row(
        "provenance",
        unit_id=f"{kind} {study_id} {started_at}",
        kind=kind,
        study_id=study_id,
        started_at=started_at,
    )
    folder.write("provenance", row)


@pytest.fixture
def three(folder, make_row):
    """Return a folder with the same edit in a study, a single edit and a re-evaluation."""
    folder.add_study(methods=("rome",))
    for study_id, name, kind in (
        ("study-1", "small", "study"),
        ("b", "one", "single edit"),
        ("c", "small", "reevaluation"),
    ):
        folder.write("studies", make_row("studies", study_id=study_id, name=name))
        folder.write(
            "study_edits", make_row("study_edits", study_id=study_id, edit_id="rome-request-0")
        )
        _record(folder, make_row, study_id, kind)
    folder.publish()
    return folder


def _studies(folder, relation):
    return set(ask(folder.results, f"select distinct study_id from {relation}")["study_id"])  # noqa: S608  of ours


@pytest.mark.parametrize("relation", _COUNTED)
def test_single_edits_and_reevaluations_are_counted_when_asked(three, relation):
    """By default an answer is of studies; kinds names others, and null is all."""
    assert _studies(three, relation) == {"study-1"}
    assert _studies(three, f"{relation}(kinds := ['single edit'])") == {"b"}
    assert _studies(three, f"{relation}(kinds := ['study', 'reevaluation'])") == {"study-1", "c"}
    assert _studies(three, f"{relation}(kinds := null)") == {"study-1", "b", "c"}


def test_what_is_asked_by_id_is_found_whatever_it_is(three):
    """The command's and the report's own incidence is there for a single edit too."""
    assert incidence(three.results, "b")["study_kind"].to_list() == ["single edit"]
    assert set(incidence(three.results)["study_id"]) == {"study-1", "b", "c"}


def test_a_study_is_one_whatever_else_it_was_run_as(three, make_row):
    """A re-evaluation on the texts of a study has its id, and does not hide it."""
    _record(three, make_row, "study-1", "reevaluation", "2026-11-02T10:00:00.000+00:00")
    three.publish()
    assert _studies(three, "collapse_incidence") == {"study-1"}


def test_studies_of_earlier_versions_are_told_by_what_they_say(folder, make_row):
    """Without a record a study is one, but for the sentence that single edits always had."""
    folder.write("studies", make_row("studies", study_id="a"))
    folder.write("studies", make_row("studies", study_id="b", description=_EDIT))
    folder.publish()
    query = "select kind, first_run_at, last_run_at from studies order by study_id"
    assert ask(folder.results, query).rows() == [("study", None, None), ("single edit", None, None)]


def test_studies_say_when_they_were_run(folder, make_row):
    """The first and the last of what runs of a study computed; another study's does not count."""
    folder.write("studies", make_row("studies"))
    times = [f"2026-11-0{day}T10:00:00.000+00:00" for day in (3, 1, 2)]
    for kind, time in zip(("edits", "study", "evaluation"), times, strict=True):
        _record(folder, make_row, "study-1", kind, time)
    _record(folder, make_row, "other", "edits", "2027-01-01T00:00:00.000+00:00")
    folder.publish()
    query = "select first_run_at, last_run_at from studies"
    assert ask(folder.results, query).rows() == [(times[1], times[0])]
    later = "2026-12-01T10:00:00.000+00:00"
    _record(folder, make_row, "study-1", "continuations", later)
    folder.publish()  # on top of what is published
    assert ask(folder.results, query).rows() == [(times[1], later)]


@pytest.mark.parametrize("settings", ["{}", "no JSON", "[]", '{"models": 3}', '{"models": [{}]}'])
def test_settings_without_models_leave_their_order_to_their_names(folder, make_row, settings):
    """Whatever stands in a study's settings, it is published."""
    folder.add_study()
    folder.write("studies", make_row("studies", name="small", settings=settings))
    folder.publish()
    assert ask(folder.results, "select place from study_models")["place"].to_list() == [None]
    assert ask(folder.results, "from collapse_incidence").height == 2


@pytest.fixture
def ordered(folder, make_row):
    """Return a folder with a study of two models whose order is not the alphabet's."""
    names = ("zeta", "alpha")
    models = [{"name": name} for name in names]
    row = make_row("studies", name="demo", settings=json.dumps({"models": models}))
    folder.write("studies", row)
    methods = ("c_rome", "v_relative", "rome")
    for model in names:
        folder.write("study_models", make_row("study_models", model_id=model, name=model))
        folder.write(
            "base_perplexities", make_row("base_perplexities", model_id=model, perplexity=5.0)
        )
        for place in POSITIONS:
            folder.write(
                "positions",
                make_row("positions", model_id=model, request_id=place, subject_position=place),
            )
        for method in methods:
            for place in POSITIONS:
                asked = {"edit_id": f"{model} {method} {place}"}
                folder.write(
                    "edits",
                    make_row("edits", model_id=model, method=method, request_id=place, **asked),
                )
                folder.write("study_edits", make_row("study_edits", **asked))
                damage = 7569.355 if (method, place) == ("rome", "first_token") else 5.0
                folder.write("measurements", make_row("measurements", perplexity=damage, **asked))
    folder.publish()
    return folder


def test_incidence_comes_in_the_order_that_people_read(ordered):
    """Models as the study names them, the baseline first, positions from first to inside."""
    frame = ask(ordered.results, "from collapse_incidence")
    assert frame.columns[:7] == [
        "study", "model", "method", "subject_position", "n_collapsed", "n_edits", "share"
    ]  # fmt: skip
    assert frame.columns[-1] == "study_id"
    assert frame.select("model", "method", "subject_position").rows() == [
        (model, method, place)
        for model in ("zeta", "alpha")
        for method in ("rome", "c_rome", "v_relative")
        for place in POSITIONS
    ]
    assert incidence(ordered.results).equals(frame)


def test_positions_are_columns_of_one_line_a_model_and_method(ordered):
    """Counts as people write them, and the worst ratio as a number."""
    frame = ask(ordered.results, "from collapse_by_position").drop("study_id")
    assert frame.rows()[:2] == [
        ("demo", "zeta", "rome", "1 of 1 (0 by nll)", "0 of 1", "0 of 1", 1513.87),
        ("demo", "zeta", "c_rome", "0 of 1", "0 of 1", "0 of 1", 1.0),
    ]
    assert frame["model"].to_list() == ["zeta"] * 3 + ["alpha"] * 3
    strict = ask(ordered.results, "from collapse_by_position(threshold := null, ratio := 2000)")
    assert set(strict["first_token"]) == {"0 of 1"}


def test_position_without_edits_is_null(folder):
    """Nothing was measured there, which is not the same as no collapse."""
    folder.add_study(methods=("rome",), perplexities=(5.0, None))
    frame = ask(folder.results, "select first_token, several, inside from collapse_by_position")
    assert frame.rows() == [(None, None, "0 of 1")]


def test_positions_fit_a_terminal(ordered, monkeypatch, capsys):
    """README's own query takes 80 columns at most, of a study like the demo."""
    monkeypatch.setenv("COLUMNS", "200")
    query = """
        select study, 'gpt2-induced' || model[:1] as model, method,
            '51 of 55 (49 by nll)' as first_token,
            several, inside, worst
        from collapse_by_position where method <> 'v_relative'
    """
    print_frame(ask(ordered.results, query))
    lines = capsys.readouterr().out.splitlines()
    assert 40 < max(map(len, lines)) <= 80


def test_orders_are_those_of_the_code(folder):
    """The macros name each method and position once, in the order of the catalog."""
    for macro, names in (("method_order", METHODS), ("position_order", POSITIONS)):
        given = pl.DataFrame({"name": list(names)})
        listed = ", ".join(f"('{name}')" for name in sorted(names))
        query = f"select name from (values {listed}) as t (name) order by {macro}(name)"  # noqa: S608  ours
        assert ask(folder.results, query).equals(given)
        assert ask(folder.results, f"select {macro}('none')").item() is None
