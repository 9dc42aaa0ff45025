"""A study's findings in sentences, each computed from its rows."""

import math
from collections.abc import Iterator
from typing import Any

from reports.wording import count, interval, listed, number, percent
from storage.findings import StudyFindings


def coverage(found: StudyFindings) -> Iterator[str]:
    """Yield how much of the study is measured, and what could not be used."""
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
                f"{row['method']} on {row['model']}: {count(row['n_collapsed'])} of "
                f"{count(row['n_edits'])} edits collapse the model ({_share(row)}); the worst "
                f"{_worsens(row['max_perplexity_ratio'])}."
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
    """Return what an edit with such a ratio of perplexities does."""
    finite = math.isfinite(ratio)
    return f"{'multiplies perplexity by' if finite else 'makes perplexity'} {number(ratio)}"


def _share(row: dict[str, Any]) -> str:
    reach = interval(row["wilson_low"], row["wilson_high"])
    return f"{percent(row['share'])}, 95\N{NO-BREAK SPACE}% interval {reach}"


def _methods_by_model(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield each model of some rows with its methods."""
    for model in dict.fromkeys(row["model"] for row in rows):
        yield f"{listed([row['method'] for row in rows if row['model'] == model])} on {model}"


def _apart(model: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield which methods of one model have intervals below that of the method worst."""
    if len(rows) == 1:
        return
    worst = max(rows, key=lambda row: row["share"])
    below = [row["method"] for row in rows if row["wilson_high"] < worst["wilson_low"]]
    if below:
        yield (
            f"On {model} the interval of {worst['method']} lies wholly above "
            f"{'that' if len(below) == 1 else 'those'} of {listed(below)}."
        )
    else:
        yield f"On {model} no method's interval lies wholly above another's."


def denominators(found: StudyFindings) -> Iterator[str]:
    """Yield how the denominators of collapsing edits compare with those of the others."""
    rows = list(found.denominators.frame.iter_rows(named=True))
    medians = {(row["model"], row["method"], row["outcome"]): row["median"] for row in rows}
    if not any(row["outcome"] == "collapsed" for row in rows):
        yield "No edit collapses its model."
    for row in rows:
        if row["outcome"] != "collapsed":
            continue
        other = medians.get((row["model"], row["method"], "normal"))
        sentence = (
            f"{row['method']} on {row['model']}: the median |denominator| of the "
            f"{count(row['n_edits'])} edits that collapse is {number(row['median'])}"
        )
        if other is None:
            yield f"{sentence}; there are no others."
        else:
            factor = other / row["median"] if row["median"] else math.inf
            yield f"{sentence}, of the others {number(other)}: {number(factor)} times as large."


def worst(found: StudyFindings) -> Iterator[str]:
    """Yield what the most damaging edit was."""
    if found.worst.frame.is_empty():
        yield "No edit has been measured."
        return
    row = found.worst.frame.row(0, named=True)
    yield (
        f"The most damaging edit is {row['method']} on {row['model']}: it takes perplexity from "
        f"{number(row['perplexity_before'])} to {number(row['perplexity'])}."
    )


def _plural(noun: str, n: int) -> str:
    return noun if n == 1 else f"{noun}s"
