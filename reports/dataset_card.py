"""The card of a study's rows as a dataset: README.md with a YAML head, as the hub reads it."""

from collections.abc import Iterator, Sequence

import yaml

from editcollapse import __version__
from reports.text import count, fenced, markdown_text
from storage.ask import StudyFindings
from storage.dataset import DatasetTable

_HERE = "FOLDER"
"""Stands for the dataset's place where it is on no hub."""
_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
)


def dataset_card(
    found: StudyFindings,
    headline: str,
    tables: Sequence[DatasetTable],
    repo: str | None = None,
    licence: str = "unknown",
) -> str:
    """Return the text of README.md of a dataset.

    Args:
        found: the study as it is published.
        headline: its sentence.
        tables: what the dataset holds; the first is shown first.
        repo: OWNER/NAME on the hub, where it goes there.
        licence: as the hub names licences.
    """
    head = {
        "pretty_name": f"Model collapse by edits: {found.name}",
        "license": licence,
        "tags": ["model-editing", "model-collapse", "editcollapse"],
        "size_categories": [_size(max((table.n_rows for table in tables), default=0))],
        "configs": [
            {
                "config_name": table.name,
                "data_files": [{"split": "train", "path": table.path}],
                **({"default": True} if place == 0 else {}),
            }
            for place, table in enumerate(tables)
        ],
    }
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    return "\n".join(["---", f"{text}---", "", *_body(found, headline, tables, repo), ""])


def _body(
    found: StudyFindings, headline: str, tables: Sequence[DatasetTable], repo: str | None
) -> Iterator[str]:
    yield f"# Model collapse by edits: {markdown_text(found.name)}"
    yield ""
    yield markdown_text(headline)
    for text in (found.description, found.note):
        if text:
            yield ""
            yield markdown_text(text)
    yield ""
    yield (
        f"Study `{found.study_id}`, measured with editcollapse {__version__}, NUMERICS "
        f"{found.numerics}. {markdown_text(found.rule.sentence().capitalize())}; "
        "the views count by the default rule. NULL means that something was not measured; NaN and "
        "infinity are measurements. Requests come from dataset "
        f"{markdown_text(found.dataset)}, whose licence counts for their texts."
    )
    yield ""
    place = _HERE if repo is None else f"hf://datasets/{repo}"
    yield "In DuckDB:"
    yield ""
    yield fenced(
        "select model, method, count(*) as edits, count(*) filter (where collapsed) as collapses\n"
        f"from '{place}/{tables[0].path}'\ngroup by all",
        "sql",
    )
    if repo is not None:
        yield ""
        yield "In Python, with `datasets`:"
        yield ""
        yield fenced(
            f'datasets.load_dataset("{repo}", "{tables[0].name}", split="train")', "python"
        )
    yield ""
    yield "| table | rows | what it holds |"
    yield "|---|---:|---|"
    for table in tables:
        yield f"| `{table.name}` | {count(table.n_rows)} | {_cell(table.comment)} |"
    for table in tables:
        yield ""
        yield f"## {table.name}"
        yield ""
        yield "| column | type | meaning |"
        yield "|---|---|---|"
        for column in table.columns:
            yield f"| `{column.name}` | {column.type} | {_cell(column.comment)} |"


def _cell(comment: str) -> str:
    """Return a comment of the schema, which is ours, as the cell of a table."""
    return comment.replace("|", "\\|")


def _size(n_rows: int) -> str:
    """Return the hub's word for a number of rows."""
    return next((word for limit, word in _SIZES if n_rows < limit), "1M<n<10M")
