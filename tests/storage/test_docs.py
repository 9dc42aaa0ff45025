"""Generated documents and the notebook say what the code and the demo study's rows say."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import nbformat
import polars as pl
import pytest
import vl_convert

from editcollapse.config.study_file import read_study
from editcollapse.errors import ResultsError
from editcollapse.rows.study import ROW_TYPES
from reports.edit_charts import denominator_figure
from reports.figures import DARK, LIGHT
from scripts import demo_rows, docs
from scripts.docs import COOKBOOK, cookbook, main, page_with, read_recipes, schema_page
from scripts.schema_picture import picture
from storage.ask import ask, describe, find_study, study_figures
from storage.schema import make_schema
from tests.storage.notebook import NOTEBOOK, executed, printed

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """Return a results folder of the checked-in rows; it is not to be changed."""
    results = tmp_path_factory.mktemp("demo") / "results"
    demo_rows.unpack(results)
    return results


@pytest.mark.slow
def test_page_is_current(demo):
    """The checked-in answers are those of the queries; else: python -m scripts.docs."""
    page = COOKBOOK.read_text(encoding="utf-8")
    assert page == page_with(page, "recipes", cookbook(demo))
    assert page.count("\n### ") == len(read_recipes()) >= 12


@pytest.mark.parametrize("recipe", read_recipes(), ids=lambda recipe: recipe.question)
def test_recipe_has_an_answer_in_a_fixed_job(demo, recipe):
    """Each question has rows, and says in which order, or the page would change by itself."""
    assert recipe.question.endswith(("?", "."))
    # Recipes on what is not among the checked-in rows have none.
    tables = {
        "equence": "sequences",
        "generation": "generated_answers",
        "checked": "checks",
        "ownstream": "downstream_scores",
    }
    of = [f"from {table}" for word, table in tables.items() if word in recipe.question]
    is_early = any(ask(demo, query).is_empty() for query in of)
    assert is_early or ask(demo, recipe.sql).height > 0
    assert "order by" in recipe.sql


def test_schema_page_names_every_table():
    """Each table has a heading of its own, and the page is as checked in."""
    page = schema_page()
    assert docs.SCHEMA.read_text(encoding="utf-8") == page
    for table in ROW_TYPES:
        assert f"\n### {table}\n" in page


def test_schema_page_opens_with_a_picture_of_the_schema():
    """Six tables, three views, and what each view reads; a name that is not there is an error."""
    with duckdb.connect(":memory:") as connection:
        make_schema(connection)
        relations = describe(connection)
    lines = picture(relations).splitlines()
    assert lines[:2] == ["```mermaid", "flowchart LR"]
    assert sum("[(" in line for line in lines) == 6
    assert [line.strip() for line in lines if "==>" in line] == [
        "tables ==> edit_outcomes[[edit_outcomes]]",
        "edit_outcomes ==> collapse_incidence[[collapse_incidence]]",
        "collapse_incidence ==> collapse_by_position[[collapse_by_position]]",
    ]
    assert schema_page().index("```mermaid") < schema_page().index("## Tables")
    joined = (pl.col("name") == "edits") & pl.col("column").eq_missing("model_id")
    without = relations.filter(~joined)
    with pytest.raises(ResultsError, match=r"has column edits\.model_id, which there is not"):
        picture(without)


@pytest.mark.slow
def test_check_tells_stale_pages(tmp_path, monkeypatch, capsys):
    """--check returns 1 and says what to do until a page is written; make check runs it on ours."""
    old = {
        "README": (
            "before\n<!-- real-table -->\n<!-- /real-table -->\n"
            "<!-- demo-table -->\nold\n<!-- /demo-table -->\nafter\n"
        ),
        "COOKBOOK": "before\n<!-- recipes -->\nold\n<!-- /recipes -->\nafter\n",
        "SCHEMA": "",
    }
    for name, text in old.items():
        page = tmp_path / name
        page.write_text(text, encoding="utf-8")
        monkeypatch.setattr(docs, name, page)
    monkeypatch.setattr(docs, "MADE_OF", tmp_path / "digest")
    monkeypatch.setattr(docs, "PICTURES", tmp_path)
    monkeypatch.setattr(docs, "results_page", lambda text, _results: text)  # it takes long
    assert main(["--check"]) == 1
    told = capsys.readouterr().err
    assert told.count("is stale. Write it again: python -m scripts.docs") == 4
    assert main([]) == 0
    assert main(["--check"]) == 0
    for name in ("README", "COOKBOOK"):
        page = (tmp_path / name).read_text(encoding="utf-8")
        assert page.startswith("before\n")
        assert page.endswith("after\n")
        assert "| ---" in page or "|---" in page
    for name in ("denominators", "denominators_demo"):
        for look in ("dark", "light"):
            picture = tmp_path / f"{name}_{look}.png"
            assert picture.read_bytes().startswith(b"\x89PNG")


def test_study_page_has_a_table_for_each_section():
    """What a row calls "see below" is below."""
    page = docs.studies_page()
    for name in re.findall(r"^\| `(\w+)` \| see below", page, re.MULTILINE):
        assert re.search(rf"^## \[{name}\]", page, re.MULTILINE), name


def test_drawing_is_whole(demo):
    """Each model has its panel and all its edits; both looks draw the same on another ground."""
    figure = denominator_figure(study_figures(demo, find_study(demo, "demo")))
    light, dark = (json.loads(docs.drawing(figure, theme)) for theme in (LIGHT, DARK))
    assert [panel["title"] for panel in light["hconcat"]] == [p.label for p in figure.panels]
    rows = [rows for name, rows in light["datasets"].items() if name.startswith("rows_")]
    n_measured = ask(demo, "select count(*) from measured_edits where study = 'demo'").item()
    assert sum(map(len, rows)) == n_measured
    assert light["datasets"] == dark["datasets"]
    assert light["config"]["background"] != dark["config"]["background"]
    assert vl_convert.vegalite_to_svg(light).count("<path") > n_measured


def test_demo_rows_are_those_of_the_demo_study(demo):
    """The rows are of studies/demo.toml as it stands: else make demo, then demo_rows --take."""
    from editcollapse.study.plan import plan_study

    plan = plan_study(read_study(_ROOT / "studies" / "demo.toml"), demo)
    ids = ask(demo, "select study_id from studies where name = 'demo'")["study_id"].to_list()
    assert ids == [plan.study_id]
    frame = ask(
        demo,
        "select count(*) as n, count(perplexity) as measured from edit_outcomes "
        "where study = 'demo'",
    )
    assert frame.rows() == [(1152, 1152)]


def test_demo_rows_name_no_machine(demo):
    """Where and when the rows came about stays with whoever computed them."""
    assert ask(demo, "from provenance").is_empty()
    texts = [
        text
        for path in demo_rows.ROWS.glob("*.parquet")
        for text in pl.read_parquet(path).select(pl.col(pl.String)).unpivot()["value"].drop_nulls()
    ]
    assert texts
    assert not [text for text in texts if re.search(r"(?:^|[\s\"])/|[A-Z]:\\", text)]


@pytest.mark.slow
def test_rows_taken_again_are_the_same(demo, tmp_path, monkeypatch, capsys):
    """Taking the rows of unpacked rows gives the same rows."""
    before = {path.name: pl.read_parquet(path) for path in demo_rows.ROWS.glob("*.parquet")}
    monkeypatch.setattr(demo_rows, "ROWS", tmp_path / "rows")
    assert demo_rows.main([str(demo), "--take"]) == 0
    after = {path.name: pl.read_parquet(path) for path in demo_rows.ROWS.glob("*.parquet")}
    assert sorted(before) == sorted(after)
    assert all(before[name].equals(after[name]) for name in before)


def test_rows_are_not_unpacked_over_results(demo, capsys):
    """A folder with results is left alone, in one sentence."""
    with pytest.raises(ResultsError, match="holds results already"):
        demo_rows.unpack(demo)
    assert demo_rows.main([str(demo)]) == 2
    assert capsys.readouterr().err.startswith("error: the demo study's rows were to be unpacked")


def test_python_of_the_page_runs(demo):
    """Each block of Python in docs/sql.md works where the results folder is called results."""
    blocks = re.findall(r"```python\n(.*?)```", COOKBOOK.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)],
        cwd=demo.parent,
        env=os.environ | {"POLARS_MAX_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_notebook_gives_what_it_shows(tmp_path):
    """The notebook runs, and its outputs are those checked in: tests.storage.notebook."""
    shown = printed(nbformat.read(NOTEBOOK, as_version=4))
    assert len(shown) == 5
    assert printed(executed(tmp_path)) == shown
