"""The parts of a report: sentences, a table with the SQL that it answers, a picture of intervals.

The HTML page and the Markdown artifact are two renderings of the same sections. Nothing here is
escaped: that is the renderings' business.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from editcollapse.catalog.editors import editor_title
from editcollapse.rows.collapse_rule import DAMAGE_RATIO, Measure, otherwise
from editcollapse.rows.study import LAST_TOKEN_DIFFERS, POSITIONS
from reports.answers import free_answers
from reports.comparisons import comparison, guarded
from reports.downstream import downstream
from reports.editing import editing
from reports.runs import Fact
from reports.sequences import sequences
from reports.text import (
    Interval,
    Section,
    Table,
    count,
    interval,
    listed,
    number,
    percent,
)
from storage.ask import StudyFindings


def report_sections(found: StudyFindings) -> tuple[Section, ...]:
    """Return a study's report, part by part."""
    return (
        *_edits(found),
        *sequences(found),
        *free_answers(found),
        *downstream(found),
        _models(found),
        _settings(found),
    )


def _edits(found: StudyFindings) -> Iterator[Section]:
    """Yield the parts on single edits; a study of sequences alone has none."""
    if not found.n_edits and not found.sequences.frame.is_empty():
        return
    yield _incidence(found)
    yield from editing(found)
    yield _positions(found)
    yield from comparison(found)
    yield from guarded(found)
    yield _denominators(found)
    yield _worst(found)


def incidence_table(found: StudyFindings) -> Table:
    """Return collapse incidence by model and method."""
    return Table(
        columns=("model", "method", *_SHARES),
        rows=tuple(
            (row["model"], editor_title(row["method"]), *_share_cells(row, found.rule.measure))
            for row in found.incidence.frame.iter_rows(named=True)
        ),
        numeric=frozenset(_SHARES),
    )


_SHARES = ("collapsed", "share", "95 % interval", "worst perplexity ratio")


def _share_cells(row: dict[str, Any], measure: Measure) -> tuple[str, ...]:
    counted = f"{count(int(row['n_collapsed']))} of {count(int(row['n_edits']))}"
    return (
        f"{counted}{otherwise(row, measure)}",
        percent(row["share"]),
        interval(row["wilson_low"], row["wilson_high"]),
        number(row["max_perplexity_ratio"]),
    )


def _incidence(found: StudyFindings) -> Section:
    return Section(
        name="incidence",
        title="How often edits collapse the model",
        sentences=(rule(found), *coverage(found), *incidence(found)),
        table=incidence_table(found),
        sql=found.incidence.sql,
        intervals=tuple(
            Interval(
                f"{row['model']}, {editor_title(row['method'])}",
                row["share"],
                row["wilson_low"],
                row["wilson_high"],
            )
            for row in found.incidence.frame.iter_rows(named=True)
        ),
    )


def _positions(found: StudyFindings) -> Section:
    return Section(
        name="positions",
        title="By position of the subject",
        sentences=tuple(last_tokens(found)),
        table=Table(
            columns=("model", "method", "subject", *_SHARES),
            rows=tuple(
                (
                    row["model"],
                    editor_title(row["method"]),
                    POSITIONS.get(row["subject_position"], row["subject_position"] or ""),
                    *_share_cells(row, found.rule.measure),
                )
                for row in found.positions.frame.iter_rows(named=True)
            ),
            numeric=frozenset(_SHARES),
        ),
        sql=found.positions.sql,
    )


def _denominators(found: StudyFindings) -> Section:
    figures = ("edits", "smallest", "median", "largest", "median relative update")
    return Section(
        name="denominators",
        title="Denominators",
        sentences=tuple(denominators(found)),
        table=Table(
            columns=("model", "method", "outcome", *figures),
            rows=tuple(
                (
                    row["model"],
                    editor_title(row["method"]),
                    row["outcome"],
                    count(row["n_edits"]),
                    *(number(row[name]) for name in ("minimum", "median", "maximum")),
                    number(row["median_relative_update_norm"]),
                )
                for row in found.denominators.frame.iter_rows(named=True)
            ),
            numeric=frozenset(figures),
        ),
        sql=found.denominators.sql,
    )


def _worst(found: StudyFindings) -> Section:
    figures = ("before", "perplexity", "ratio", "by exp(mean NLL)", "|denominator|")
    return Section(
        name="worst",
        title="The most damaging edits",
        sentences=tuple(worst(found)),
        table=Table(
            columns=("model", "method", "prompt", "target", *figures),
            rows=tuple(
                (
                    row["model"],
                    editor_title(row["method"]),
                    row["prompt"].replace("{}", row["subject"]),
                    row["target_new"],
                    number(row["perplexity_before"]),
                    number(row["perplexity"]),
                    number(row["perplexity_ratio"]),
                    number(row["nll_ratio"]),
                    number(row["abs_denominator"]),
                )
                for row in found.worst.frame.iter_rows(named=True)
            ),
            numeric=frozenset(figures),
        ),
        sql=found.worst.sql,
    )


def _models(found: StudyFindings) -> Section:
    figures = (
        "layer (from 0)",
        "layers",
        "parameters",
        "unedited perplexity",
        "C tokens",
        "damping",
    )
    return Section(
        name="models",
        title="Models and second moments",
        sentences=(),
        table=Table(
            columns=("model", "source", "family", "dtype", "settings", "C from", *figures),
            rows=tuple(
                (
                    row["model"],
                    *(row[name] or "" for name in ("source", "family", "dtype")),
                    row["layer_source"] or "",
                    ": ".join(
                        part for part in (row["covariance"], row["covariance_source"]) if part
                    ),
                    str(row["layer"]),
                    count(row["n_layers"]),
                    count(row["n_parameters"]),
                    number(row["perplexity_before"]),
                    count(row["covariance_tokens"]),
                    number(row["damping"]),
                )
                for row in found.models.frame.iter_rows(named=True)
            ),
            numeric=frozenset(figures),
        ),
        sql=found.models.sql,
    )


def _settings(found: StudyFindings) -> Section:
    return Section(
        name="settings",
        title="Settings",
        sentences=(),
        table=Table(columns=("setting", "value"), rows=tuple(_setting_rows(found))),
        sql=found.settings.sql,
    )


def _setting_rows(found: StudyFindings) -> Iterator[tuple[str, str]]:
    yield "study", found.name
    if found.description:
        yield "description", found.description
    yield "study id", found.study_id
    yield "methods", ", ".join(map(editor_title, found.methods))
    edited = f", {count(found.n_requests)} requests edited" if found.n_edits else ""
    yield "dataset", f"{found.dataset} ({found.schema}){edited}"
    yield "perplexity texts", f"{found.text_set}, {count(found.n_texts)} texts"
    yield "context templates", found.templates
    yield "seed", str(found.seed)
    yield "version of the numbers", str(found.numerics)


def rule(found: StudyFindings) -> str:
    """Return the collapse rule that the report counts by."""
    said = found.rule.sentence()
    return f"{said[0].upper()}{said[1:]}."


def coverage(found: StudyFindings) -> Iterator[str]:
    """Yield the share of the study that is measured, and the requests that could not be used."""
    measured = f"{count(found.n_measured)} of {count(found.n_edits)} edits are measured so far"
    if not found.n_measured:
        measured = "no edit is measured yet"
    elif found.n_measured == found.n_edits:
        measured = f"all {count(found.n_edits)} edits are measured"
    n_models = found.models.frame["model"].n_unique()
    yield (
        f"{count(n_models)} {_plural('model', n_models)}, "
        f"{count(len(found.methods))} {_plural('method', len(found.methods))}, "
        f"{count(found.n_requests)} {_plural('request', found.n_requests)}: {measured}."
    )
    if found.n_rejected:
        yield (
            f"{count(found.n_rejected)} of {count(found.n_records)} records of the dataset could "
            "not be used; table rejections has the reasons."
        )


def incidence(found: StudyFindings) -> Iterator[str]:
    """Yield where edits collapse models, most often first; where none does; what stands apart."""
    rows = list(found.incidence.frame.iter_rows(named=True))
    for row in sorted(rows, key=lambda row: -row["share"]):
        if row["n_collapsed"]:
            yield (
                f"{editor_title(row['method'])} on {row['model']}: {count(row['n_collapsed'])} of "
                f"{count(row['n_edits'])} edits{otherwise(row, found.rule.measure)} collapse the "
                f"model ({_share(row)}); the worst {_worsens(row['max_perplexity_ratio'])}."
            )
    spared = [row for row in rows if not row["n_collapsed"]]
    for n_edits in sorted({row["n_edits"] for row in spared}):
        alike = [row for row in spared if row["n_edits"] == n_edits]
        yield (
            f"None of {count(n_edits)} edits collapses the model ({_share(alike[0])}): "
            f"{'; '.join(_methods_by_model(alike))}."
        )
    for model in dict.fromkeys(row["model"] for row in rows if row["n_collapsed"]):
        yield from _apart(model, [row for row in rows if row["model"] == model])


def _worsens(ratio: float) -> str:
    """Return the effect of an edit with such a ratio of perplexities."""
    finite = math.isfinite(ratio)
    return f"{'multiplies perplexity by' if finite else 'makes perplexity'} {number(ratio)}"


def _share(row: dict[str, Any]) -> str:
    reach = interval(row["wilson_low"], row["wilson_high"])
    return f"{percent(row['share'])}, 95\N{NO-BREAK SPACE}% interval {reach}"


def _methods_by_model(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield each model of some rows with its methods."""
    for model in dict.fromkeys(row["model"] for row in rows):
        named = [editor_title(row["method"]) for row in rows if row["model"] == model]
        yield f"{listed(named)} on {model}"


def _apart(model: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield which methods of one model have intervals below that of the method worst."""
    if len(rows) == 1:
        return
    worst = max(rows, key=lambda row: row["share"])
    below = [
        editor_title(row["method"]) for row in rows if row["wilson_high"] < worst["wilson_low"]
    ]
    if below:
        yield (
            f"On {model} the interval of {editor_title(worst['method'])} lies wholly above "
            f"{'that' if len(below) == 1 else 'those'} of {listed(below)}."
        )
    else:
        yield f"On {model} no method's interval lies wholly above another's."


def last_tokens(found: StudyFindings) -> Iterator[str]:
    """Yield, of each model, how many subjects end with another token in a context."""
    for row in found.last_tokens.frame.iter_rows(named=True):
        yield (
            f"{row['model']}, {count(row['n_differ'])} of {count(row['n_requests'])} requests: "
            f"{LAST_TOKEN_DIFFERS}."
        )


def denominators(found: StudyFindings) -> Iterator[str]:
    """Yield a comparison of the denominators of collapsing edits with those of the others."""
    rows = list(found.denominators.frame.iter_rows(named=True))
    medians = {(row["model"], row["method"], row["outcome"]): row["median"] for row in rows}
    if not any(row["outcome"] == "collapsed" for row in rows):
        some_do = bool((found.incidence.frame["n_collapsed"] > 0).any())
        by = " by a method with a denominator" if some_do else ""
        yield f"No edit{by} collapses its model."
    for row in rows:
        if row["outcome"] != "collapsed":
            continue
        other = medians.get((row["model"], row["method"], "normal"))
        sentence = (
            f"{editor_title(row['method'])} on {row['model']}: the median |denominator| of the "
            f"{count(row['n_edits'])} edits that collapse is {number(row['median'])}"
        )
        if other is None:
            yield f"{sentence}; there are no others."
        else:
            factor = other / row["median"] if row["median"] else math.inf
            yield f"{sentence}, of the others {number(other)}: {number(factor)} times as large."


def worst(found: StudyFindings) -> Iterator[str]:
    """Yield the most damaging edit; that there is none where no edit did damage."""
    if not found.n_measured:
        yield "No edit has been measured."
        return
    if found.worst.frame.is_empty():
        yield f"No edit raised perplexity more than {number(DAMAGE_RATIO)}-fold."
        return
    row = found.worst.frame.row(0, named=True)
    yield (
        f"The most damaging edit is {editor_title(row['method'])} on {row['model']}: it takes "
        f"perplexity from {number(row['perplexity_before'])} to {number(row['perplexity'])}. "
        f"Listed are edits that raise it more than {number(DAMAGE_RATIO)}-fold, ten at most. It is "
        "the mean over texts, which can hang on one of them; the ratio by exp(mean NLL) cannot."
    )


def _plural(noun: str, n: int) -> str:
    return noun if n == 1 else f"{noun}s"


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """One edit."""

    prompt: str
    """The rewrite prompt with its subject."""
    target: str
    facts: tuple[Fact, ...]
    collapsed: bool
    """Whether it collapses its model."""
    before: str | None
    """What the unedited model adds to the prompt; None where no text was generated."""
    after: str | None
    """What the edited model adds."""


def worst_cards(found: StudyFindings) -> tuple[Card, ...]:
    """Return the most damaging edits, the worst first."""
    return tuple(
        Card(
            prompt=row["prompt"].replace("{}", row["subject"]),
            target=row["target_new"],
            facts=(
                Fact("edit", f"{editor_title(row['method'])} on {row['model']}"),
                Fact(
                    "perplexity",
                    f"{number(row['perplexity_before'])} before, {number(row['perplexity'])} after",
                ),
                Fact("ratio", number(row["perplexity_ratio"])),
                Fact("ratio by exp(mean NLL)", number(row["nll_ratio"])),
                *(
                    [Fact("|denominator|", number(row["abs_denominator"]))]
                    if row["abs_denominator"] is not None
                    else []
                ),
            ),
            collapsed=row["is_collapsed"],
            before=row["text_before"],
            after=row["text_after"],
        )
        for row in found.worst.frame.iter_rows(named=True)
    )
