"""A study's forecasts on the terminal: counts by verdict, the worst edits, and what to use."""

from collections import Counter
from collections.abc import Sequence
from math import isnan

from rich.console import Console
from rich.text import Text

from editcollapse.catalog.methods import method_of
from editcollapse.cli.console import console, plain, print_line, print_text
from editcollapse.cli.tables import Column, fitted, print_table
from editcollapse.forecast.verdicts import (
    ForecastReport,
    MethodVerdict,
    ModelThresholds,
    RequestForecast,
    Verdict,
    in_words,
    unsupported,
)
from editcollapse.rows.study import LAST_TOKEN_DIFFERS
from editcollapse.visible import visible

_VERDICTS: tuple[Verdict, ...] = ("will collapse", "at risk", "not known", "safe")
_SHORT: dict[Verdict, Text] = {
    "will collapse": Text("likely", style="bold red"),
    "at risk": Text("at risk", style="yellow"),
    "not known": Text("not known", style="yellow"),
    "safe": Text("safe", style="green"),
}
_NUMBERS = {"change bound", "P(collapse)", "|a . u|", "rho"}
_CUT = {"subject", "prompt", "target", "edit"}
_LAYOUTS = (
    ("model", "subject", "prompt", "target", "change bound", "P(collapse)", "|a . u|", "rho"),
    ("model", "edit", "change bound", "P(collapse)", "rho"),
    ("model", "edit", "change bound", "rho"),
    ("model", "edit", "change bound"),
)
"""Columns before those of the methods, for wide terminals and narrower ones."""


def show_study(report: ForecastReport, methods: Sequence[str], n_shown: int | None) -> None:
    """Print how many edits of each model and method have which verdict, and the worst of them.

    Args:
        report: of a study.
        methods: the study's own; an edit is listed for its verdict by one of them.
        n_shown: so many edits are listed; None: all that are not safe.
    """
    screen = console()
    _show_counts(report, screen)
    doubtful = [one for one in report.requests if _worst(one, methods).verdict != "safe"]
    doubtful.sort(key=lambda one: -_bound(_worst(one, methods)))
    if doubtful:
        listed = doubtful[:n_shown]
        n_of = f"{len(listed)} of {len(doubtful)}" if len(listed) < len(doubtful) else len(listed)
        print_line(f"\nedits that are not safe, the worst first ({n_of}):")
        _show_worst(listed, methods, screen)
        if len(listed) < len(doubtful):
            print_text("the others: --all, or --top N")
        print_line("")
        print_text(
            "of the worst method: on text the layer's output changes by so many times its own size "
            "at most, whatever v* will be; near 0 ROME's denominator vanishes (k0 . u / kbar . u; "
            "p_rome's u is its own, from k0)",
            "bound, rho:  ",
        )
        print_text("likely to collapse the model", "likely:      ")
        for sentence in _advice(doubtful, methods):
            print_text(sentence, "instead:     ")
    else:
        print_line("every edit by the study's methods is safe")
    n_differ = sum(bool(one.position.last_token_differs) for one in report.requests)
    if n_differ:
        print_text(f"of {n_differ} edits: {LAST_TOKEN_DIFFERS}", "last token:  ")
    for basis in basis_lines(report.basis):
        print_text(basis, "thresholds:  ")
    for sentence in report.unusable:
        print_text(sentence)


def basis_lines(found: Sequence[ModelThresholds]) -> list[str]:
    """Return what verdicts rest on, once for all models that share it."""
    models: dict[str, list[str]] = {}
    for each in found:
        limits = each.thresholds
        text = (
            f"at risk from {limits.at_risk_at:.3g} on, likely to collapse from "
            f"{limits.collapse_at:.3g}; {each.basis}"
        )
        models.setdefault(text, []).append(visible(each.model))
    return [f"{', '.join(names)}: {text}" for text, names in models.items()]


def _show_counts(report: ForecastReport, screen: Console) -> None:
    """Print the verdicts counted by model and method."""
    is_known = all(each.verdict != "not known" for one in report.requests for each in one.methods)
    verdicts = [name for name in _VERDICTS if name != "not known" or not is_known]
    names = ["model", "method", *map(in_words, verdicts), "largest change bound"]
    columns = [Column(name, is_number=name not in {"model", "method"}) for name in names]
    rows = []
    for model in dict.fromkeys(request.model for request in report.requests):
        found = [each for one in report.requests if one.model == model for each in one.methods]
        for method in dict.fromkeys(each.forecast.method for each in found):
            ours = [each for each in found if each.forecast.method == method]
            n_of = Counter(each.verdict for each in ours)
            largest = max(map(_bound, ours))
            counts = [
                Text(str(n_of[name]), style=_SHORT[name].style if n_of[name] else "")
                for name in verdicts
            ]
            rows.append([plain(model), plain(method), *counts, Text(f"{largest:.3g}")])
    print_table(columns, rows, screen, parted=True)


def _show_worst(listed: Sequence[RequestForecast], methods: Sequence[str], screen: Console) -> None:
    """Print a row an edit, with the verdicts of the study's methods and of those to use instead."""
    others = [each.instead for one in listed for each in one.methods if each.instead is not None]
    shown = list(dict.fromkeys([*methods, *others]))
    tables = [
        (
            _columns(layout, shown),
            [[*_cells(one, methods, layout), *_verdicts(one, shown)] for one in listed],
        )
        for layout in _LAYOUTS
    ]
    fitting = (each for each in tables if fitted(*each, screen.width) is not None)
    print_table(*next(fitting, tables[0]), screen)


def _columns(layout: Sequence[str], methods: Sequence[str]) -> list[Column]:
    own = [Column(name, name in _NUMBERS, "is cut" if name in _CUT else "no") for name in layout]
    return [*own, *map(Column, methods)]


def _cells(one: RequestForecast, methods: Sequence[str], layout: Sequence[str]) -> list[Text]:
    """Return an edit's cells; its numbers are those of the study's worst method."""
    worst = _worst(one, methods)
    row, chance = worst.forecast, worst.probability
    before, slot, after = one.prompt.partition("{}")
    edit = plain(before) + Text(visible(one.subject) if slot else "", style="bold") + plain(after)
    cells = {
        "model": plain(one.model),
        "subject": plain(one.subject),
        "prompt": plain(one.prompt),
        "target": plain(one.target_new),
        "edit": edit,
        "change bound": Text(f"{row.text_change_bound:.3g}"),
        "P(collapse)": Text("" if chance is None else str(chance)),
        "|a . u|": Text(f"{abs(row.denominator):.3g}"),
        "rho": Text(f"{row.rho:.2g}"),
    }
    return [cells[name] for name in layout]


def verdict_cell(each: MethodVerdict) -> Text:
    """Return a verdict as a cell: the change bound, and a short word in its colour."""
    return Text(f"{each.forecast.text_change_bound:.3g} ") + _SHORT[each.verdict]


def _verdicts(one: RequestForecast, methods: Sequence[str]) -> list[Text]:
    found = {each.forecast.method: _SHORT[each.verdict] for each in one.methods}
    return [found.get(method, Text("")) for method in methods]


def _worst(one: RequestForecast, methods: Sequence[str]) -> MethodVerdict:
    """Return the verdict on an edit by that of the study's methods that may change most."""
    return max((each for each in one.methods if each.forecast.method in methods), key=_bound)


def _bound(each: MethodVerdict) -> float:
    """Return how much an edit may change; what cannot be compared (nan) is worst, as verdicts."""
    bound = each.forecast.text_change_bound
    return float("inf") if isnan(bound) else bound


def _advice(doubtful: Sequence[RequestForecast], methods: Sequence[str]) -> list[str]:
    """Return what to use for the edits that are not safe, with the number that each is safe for."""
    unknown = [one for one in doubtful if _worst(one, methods).verdict == "not known"]
    doubtful = [one for one in doubtful if one not in unknown]
    n_of = Counter(_worst(one, methods).instead for one in doubtful)
    n_without = n_of.pop(None, 0)
    found = []
    for method, n_safe in n_of.most_common():
        text = f"use {method}: safe for {n_safe} of {len(doubtful)}"
        if method_of(str(method)).solve_with == "prefixed":
            text += "; of a first-token subject its edit shows behind a text before the prompt"
        found.append(text)
    if n_without:
        found.append(
            f"no method is safe for {n_without} of {len(doubtful)}: put a text before the prompt, "
            "and forecast again"
        )
    for model in dict.fromkeys(one.model for one in unknown):
        row = next(_worst(one, methods).forecast for one in unknown if one.model == model)
        found.append(f"{visible(model)}: not known: {unsupported(row)}")
    return found
