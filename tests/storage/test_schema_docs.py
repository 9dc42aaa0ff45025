"""docs/schema.md says what the database says."""

from editcollapse.rows.study import ROW_TYPES
from storage import schema_docs
from storage.schema_docs import PAGE, main, schema_page


def test_page_is_current():
    """The checked-in page is what the comments give; else: python -m storage.schema_docs."""
    assert PAGE.read_text(encoding="utf-8") == schema_page()


def test_page_names_every_table():
    """Each table has a heading of its own."""
    page = schema_page()
    for table in ROW_TYPES:
        assert f"\n### {table}\n" in page


def test_check_tells_a_stale_page(tmp_path, monkeypatch, capsys):
    """--check returns 1 and says what to do until the page is written."""
    monkeypatch.setattr(schema_docs, "PAGE", tmp_path / "schema.md")
    assert main(["--check"]) == 1
    assert "is stale. Write it again: python -m storage.schema_docs" in capsys.readouterr().err
    assert main([]) == 0
    assert main(["--check"]) == 0
