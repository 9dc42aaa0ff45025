"""A report as Markdown, for the run page. Every text of a study is escaped."""

from collections.abc import Iterator

from reports.escaping import fenced, markdown_text
from reports.sections import Section, Table, report_sections
from storage.findings import StudyFindings


def report_markdown(found: StudyFindings) -> str:
    """Return the whole report: note, sentences, tables and the SQL behind them."""
    return "\n\n".join(_blocks(found)) + "\n"


def table_cells(table: Table) -> list[dict[str, str]]:
    """Return a table for a table artifact: a row as cells by column, each cell as Markdown."""
    return [dict(zip(table.columns, map(markdown_text, row), strict=True)) for row in table.rows]


def _blocks(found: StudyFindings) -> Iterator[str]:
    yield f"# {markdown_text(found.name)}"
    if found.description:
        yield markdown_text(found.description)
    if found.note:
        yield f"> **Note:** {markdown_text(found.note)}"
    for section in report_sections(found):
        yield from _section(section)


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.title}"
    if section.sentences:
        yield "\n".join(f"- {markdown_text(sentence)}" for sentence in section.sentences)
    if section.table.rows:
        yield "\n".join(_table_lines(section.table))
    if section.sql:
        yield fenced(section.sql, "sql")


def _table_lines(table: Table) -> Iterator[str]:
    yield _line(map(markdown_text, table.columns))
    yield _line("---:" if name in table.numeric else "---" for name in table.columns)
    for row in table.rows:
        yield _line(map(markdown_text, row))


def _line(cells: "Iterator[str] | tuple[str, ...] | map[str]") -> str:
    return f"| {' | '.join(cells)} |"
