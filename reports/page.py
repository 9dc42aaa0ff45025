"""A report as one HTML file that opens anywhere, and as Markdown for the run page.

The HTML needs no network: every text is escaped, figures are inlined. Vega and our script that
draws with it are in the page; its content security policy names each script by digest, so that no
other runs, whatever a study's texts are. Without scripts it has its tables and the bars of the
incidence all the same.
"""

import base64
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup

from editcollapse import __version__
from editcollapse.catalog.editors import editor_title
from editcollapse.fingerprints import digest
from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.runtime.environment import git_commit
from editcollapse.study.artifacts import put_text
from editcollapse.study.results_folder import ResultsFolder
from reports.answers import answers_figure
from reports.comparisons import published
from reports.downstream import downstream_figure
from reports.edit_charts import (
    denominator_figure,
    incidence_figure,
    perplexity_figure,
    position_figure,
    skill_figures,
)
from reports.editing import editing_figure
from reports.figures import DARK, LIGHT, ROLES, THEMES, Figure, figure_config, panel_json
from reports.headline import headline
from reports.index import list_report, report_path
from reports.key_charts import finding_figures, key_figures, layer_figures, profile_figures
from reports.runs import facts, short_commit
from reports.sections import Card, report_sections, worst_cards
from reports.sequence_charts import (
    drift_figure,
    sequence_perplexity_figure,
    success_figure,
    survival_figure,
)
from reports.sequences import SEQUENCE_PARTS
from reports.templates import template
from reports.text import (
    Section,
    Table,
    count,
    fenced,
    interval,
    json_block,
    markdown_text,
    number,
    percent,
)
from storage.ask import StudyFigures, StudyFindings, findings, study_figures

_OWN = Path(__file__).with_name("figures.js")
_NOTICE = (
    "/* Vega, Vega-Lite and Vega-Embed: Copyright (c) University of Washington Interactive Data "
    "Lab and contributors, BSD-3-Clause, https://vega.github.io */"
)


_EXPOSED = "window.vegaEmbed = vegaEmbed;"


@dataclasses.dataclass(frozen=True, slots=True)
class Scripts:
    """Scripts of a page with figures."""

    vega: Markup
    """Vega, Vega-Lite, Vega-Embed and all that they need."""
    own: Markup
    looks: Markup
    """Configurations of the figures by look, JSON."""
    policy: str
    """Sources of scripts in a content security policy."""


@functools.cache
def page_scripts() -> Scripts:
    """Return the scripts of a page with figures, the same in every page."""
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    vega = f"{_NOTICE}\n{vl_convert.javascript_bundle(_EXPOSED, version)}"
    own = _OWN.read_text(encoding="utf-8")
    for text in (vega, own):
        if "</script" in text.lower() or "<!--" in text:
            raise AssertionError("a script that ends its own element")
    looks = {theme.name: figure_config(theme) for theme in THEMES}
    return Scripts(
        vega=Markup(vega),  # noqa: S704 - no text of a study is in it
        own=Markup(own),  # noqa: S704 - likewise
        looks=json_block(json.dumps(looks)),
        policy=f"{_source(vega)} {_source(own)}",
    )


def _source(script: str) -> str:
    """Return how a policy names a script."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@dataclasses.dataclass(frozen=True, slots=True)
class IllustratedSection:
    """A part of the page."""

    section: Section
    figures: tuple[Figure, ...] = ()
    cards: tuple[Card, ...] = ()


def illustrated_sections(
    found: StudyFindings, shown: StudyFigures
) -> tuple[IllustratedSection, ...]:
    """Return a study's page, part by part; parts that a study has nothing to are left out."""
    return tuple(_parts(found, shown))


def figure_numbers(parts: tuple[IllustratedSection, ...]) -> dict[str, int]:
    """Return the number of each figure of a page by its name, from 1."""
    names = (figure.name for part in parts for figure in part.figures)
    return {name: place for place, name in enumerate(names, start=1)}


def _parts(found: StudyFindings, shown: StudyFigures) -> Iterator[IllustratedSection]:
    is_measured = not shown.edits.frame.is_empty()
    for section in report_sections(found):
        if section.name == "denominators":
            if is_measured:
                yield IllustratedSection(_perplexities(shown), (perplexity_figure(shown),))
            divided = section.table.rows and is_measured
            yield IllustratedSection(section, (denominator_figure(shown),) if divided else ())
        elif section.name == "models":
            yield from _answers(shown)
            yield IllustratedSection(section)
        elif section.name == "incidence" and is_measured:
            yield IllustratedSection(section, (incidence_figure(found),))
        elif section.name == "editing":
            yield IllustratedSection(section, (editing_figure(found),))
        elif section.name == "positions" and is_measured:
            yield IllustratedSection(section, (position_figure(found),))
        elif section.name in _AFTER:
            yield IllustratedSection(section, _afterwards(section.name, found, shown))
        elif section.name == "worst":
            yield IllustratedSection(section, cards=worst_cards(found))
        else:
            yield IllustratedSection(section)


_AFTER = {*SEQUENCE_PARTS, "free-answers", "downstream"}
"""Parts on sequences of edits, and on what edited models do."""


def _afterwards(part: str, found: StudyFindings, shown: StudyFigures) -> tuple[Figure, ...]:
    """Return the figures of such a part."""
    if part == "sequences":
        return survival_figure(shown), sequence_perplexity_figure(shown)
    if part == "downstream":
        return () if shown.downstream.frame.is_empty() else (downstream_figure(shown),)
    if part == "free-answers":
        return (answers_figure(found),)
    return (success_figure(found) if part == "lasting" else drift_figure(shown),)


def _answers(shown: StudyFigures) -> Iterator[IllustratedSection]:
    """Yield the parts beyond edits and their measurements."""
    if shown.skill.frame.height:
        yield IllustratedSection(_skill(shown), skill_figures(shown))
    if shown.layers.frame.height:
        yield IllustratedSection(_layers(shown), layer_figures(shown))
    if shown.keys.frame.height or shown.anatomy.frame.height:
        yield IllustratedSection(_anatomy(shown), (*key_figures(shown), *finding_figures(shown)))
    if shown.profiles.frame.height:
        yield IllustratedSection(_profiles(shown), profile_figures(shown))
    yield from map(IllustratedSection, published(shown))


def _perplexities(shown: StudyFigures) -> Section:
    figures = ("edits", "before", "median after", "largest finite", "infinite", "undefined")
    return Section(
        name="perplexity",
        title="Perplexity before and after",
        sentences=(),
        table=Table(
            columns=("model", "method", *figures),
            rows=tuple(
                (
                    row["model"],
                    editor_title(row["method"]),
                    count(row["n_edits"]),
                    *(number(row[name]) for name in ("perplexity_before", "median")),
                    number(row["largest_finite"]),
                    count(row["n_infinite"]),
                    count(row["n_undefined"]),
                )
                for row in _rows(shown.perplexities.frame)
            ),
            numeric=frozenset(figures),
        ),
        sql=shown.perplexities.sql,
    )


def _skill(shown: StudyFigures) -> Section:
    figures = (
        "edits",
        "collapsed",
        "AUC",
        "at risk from",
        "flagged that collapsed",
        "collapsed that were flagged",
        "Brier score",
        "rank correlation of bound and damage",
        "of exact change and damage",
    )
    return Section(
        name="skill",
        title="What the forecast predicted",
        sentences=(
            (
                "The forecast knows keys and C alone, no edit: flagged are edits that it calls at "
                "risk or worse by their model's thresholds. The Brier score is that of "
                "P(collapse); 0 is perfect. On edits that a calibration was taken from, the "
                "figures are in-sample. Rank correlations are Spearman's, of the perplexity ratio "
                "with the bound on how much the layer's output changes on text, and with that "
                "change itself, which is known as soon as v* is."
            ),
        ),
        table=Table(
            columns=("model", "method", *figures),
            rows=tuple(
                (
                    row["model"],
                    editor_title(row["method"]),
                    count(row["n_edits"]),
                    count(row["n_collapsed"]),
                    number(row["auc"]),
                    number(row["at_risk_at"]),
                    _share(row, "precision"),
                    _share(row, "recall"),
                    "" if row["brier"] is None else number(row["brier"]),
                    number(row["bound_spearman"]),
                    number(row["change_spearman"]),
                )
                for row in _rows(shown.skill.frame)
            ),
            numeric=frozenset(figures),
        ),
        sql=shown.skill.sql,
    )


def _share(row: dict[str, Any], name: str) -> str:
    """Return a share with its interval; empty where there is nothing to have a share in."""
    if row[name] is None:
        return ""
    return f"{percent(row[name])} ({interval(row[f'{name}_low'], row[f'{name}_high'])})"


def _layers(shown: StudyFigures) -> Section:
    figures = ("layer (from 0)", "forecasts", "safe", "at risk", "likely to collapse", "not known")
    return Section(
        name="layers",
        title="Forecast by layer",
        sentences=(),
        table=Table(
            columns=("model", "method", *figures),
            rows=tuple(
                (
                    row["model"],
                    editor_title(row["method"]),
                    str(row["layer"]),
                    *(count(row[f"n_{name}"]) for name in ("forecasts", "safe")),
                    *(
                        count(row[f"n_{name}"])
                        for name in ("at_risk", "will_collapse", "not_known")
                    ),
                )
                for row in _rows(shown.layers.frame)
            ),
            numeric=frozenset(figures),
        ),
        sql=shown.layers.sql,
    )


def _anatomy(shown: StudyFigures) -> Section:
    figures = ("layer (from 0)", "value", "95 % interval", "group", "beside")
    return Section(
        name="anatomy",
        title="Why: the geometry of the keys",
        sentences=(),
        table=Table(
            columns=("model", "observation", *figures, "in words"),
            rows=tuple(
                (
                    row["model"],
                    row["observation"],
                    str(row["layer"]),
                    number(row["value"]),
                    f"{number(row['low'])} to {number(row['high'])}",
                    count(row["n_group"]),
                    count(row["n_others"]),
                    row["statement"],
                )
                for row in _rows(shown.anatomy.frame)
            ),
            numeric=frozenset(figures),
        ),
        sql=shown.anatomy.sql,
    )


def _profiles(shown: StudyFigures) -> Section:
    figures = ("block (from 0)", "texts", "residual norm", "key norm", "key cosine", "attention")
    first = shown.profiles.frame.filter(position=0)
    return Section(
        name="sink",
        title="The first position",
        sentences=(
            "The table has position 0 of each block; SQL under the first figure has the others.",
        ),
        table=Table(
            columns=("model", "stack", *figures),
            rows=tuple(
                (
                    row["model"],
                    row["stack"],
                    str(row["layer"]),
                    count(row["n_texts"]),
                    *(number(row[name]) for name in ("residual_norm", "key_norm", "key_cosine")),
                    number(row["attention"]),
                )
                for row in _rows(first)
            ),
            numeric=frozenset(figures),
        ),
        sql="",
    )


def _rows(frame: Any) -> Iterator[dict[str, Any]]:
    yield from frame.iter_rows(named=True)


def report_markdown(found: StudyFindings) -> str:
    """Return the whole report: note, sentences, tables and the SQL behind them."""
    return "\n\n".join(_blocks(found)) + "\n"


def table_cells(table: Table) -> list[dict[str, str]]:
    """Return a table for a table artifact: a row as cells by column, each cell as Markdown."""
    return [dict(zip(table.columns, map(markdown_text, row), strict=True)) for row in table.rows]


def _blocks(found: StudyFindings) -> Iterator[str]:
    yield f"# {markdown_text(found.name)}"
    yield f"**{markdown_text(headline(found))}**"
    yield "\n".join(f"- {fact.name}: {markdown_text(fact.text)}" for fact in facts(found))
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


_KEPT = frozenset({"incidence", "editing", "sequences"})
"""Parts that are open on a small screen too."""
_TEMPLATE = "page.html.j2"
_END = "</html>"


def write_report(folder: ResultsFolder, study_id: str, rule: CollapseRule | None = None) -> str:
    """Write a study's report from what is published, whole or not at all, and list it.

    Args:
        folder: the results, with a published snapshot on this machine.
        study_id: an id of table ``studies``.
        rule: when an edit counts as a collapse; None: as the study states it.

    Returns:
        The report's path below the results folder.

    Raises:
        ResultsError: the study has no results yet, or the place cannot be written.
    """
    found = findings(folder.here, study_id, rule)
    path = report_path(found.name)
    put_text(folder, path, report_html(found, study_figures(folder.here, study_id, found.rule)))
    list_report(folder, path, found.name, headline(found))
    return path


def report_html(found: StudyFindings, shown: StudyFigures) -> str:
    """Return a study's report as a page.

    Args:
        found: what it says.
        shown: what its figures are drawn from.
    """
    page = template(
        _TEMPLATE,
        count=count,
        panel_json=lambda panel: json_block(panel_json(panel)),
        percent=percent,
        rule_digest=digest,
    )
    parts = illustrated_sections(found, shown)
    return page.render(
        study=found,
        headline=headline(found),
        facts=facts(found),
        numbers=figure_numbers(parts),
        parts=parts,
        scripts=page_scripts(),
        kept=_KEPT,
        roles=ROLES,
        light=LIGHT,
        dark=DARK,
        version=__version__,
        commit=short_commit(git_commit() or ""),
    )


def has_report(folder: ResultsFolder, study_name: str, study_id: str, rule: CollapseRule) -> bool:
    """Return whether there is a whole report of this very study that counts by this very rule.

    Args:
        folder: the results folder.
        study_name: which names the file.
        study_id: another study may have the same name.
        rule: the collapse rule that the report has to count by.
    """
    try:
        text = folder.fetch(report_path(study_name)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    lines = (_meta("study-id", study_id), _meta("collapse-rule", digest(rule)))
    return all(line in text for line in lines) and text.rstrip().endswith(_END)


def _meta(name: str, content: str) -> str:
    """Return a line of the page's head."""
    return f'<meta name="{name}" content="{content}">'
