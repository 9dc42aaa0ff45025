"""The command ``sweep``: at which layers edits would collapse a model."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from editcollapse.cli.console import console, plain, print_json, print_line, print_text
from editcollapse.cli.mistakes import STOPPED
from editcollapse.cli.tables import Column, print_table
from editcollapse.errors import ResultsError
from editcollapse.rows.study import POSITIONS
from flows.cli.asked_study import (
    AskedStudy,
    DatasetOptions,
    opened,
    study_or_edit,
    with_dataset,
)
from flows.cli.command_run import run_flow
from flows.cli.options import (
    JsonOption,
    OneEdit,
    examples,
    said_with_flags,
    with_one_edit,
)
from flows.cli.output.answers import COLLAPSED
from flows.cli.output.next_step import LAYERS, print_next
from flows.cli.output.verdicts import basis_lines, verdict_cell

if TYPE_CHECKING:
    from editcollapse.forecast.verdicts import (
        ForecastReport,
        LayerVerdicts,
        SafeLayers,
        SweepReport,
    )
    from editcollapse.study.sweep import SweepPlan

_PERCENT = 100

commands = typer.Typer()


@commands.command(
    rich_help_panel="Forecasts",
    epilog=examples(
        "sweep studies/demo.toml",
        "sweep studies/fall_of_rome.toml --layers 0-11,20 --json",
        "sweep --model demo/models/gpt2-induced \\",
        '    --prompt "{} was born in" --subject Pugis --target Jorvale \\',
        "    --covariance demo/corpus.txt --tokens 20000",
    ),
)
@with_one_edit(is_required=False, has_layer=False)
@with_dataset
def sweep(
    asked: OneEdit,
    many: DatasetOptions,
    layers: Annotated[
        str, typer.Option(metavar="LAYERS", help="layers and ranges, such as 0-11,20")
    ] = "all",
    as_json: JsonOption = False,
) -> int:
    """Say at which layers edits would collapse a model, from one pass over all layers."""
    from editcollapse.study.sweep import check_layers

    check_layers(layers)
    study = study_or_edit(many, asked, "sweep")
    if study is not None:
        return _of_study(study, layers, asked.results, as_json=as_json)
    os.environ.setdefault("TQDM_DISABLE", "1")
    from flows.cli.one_edit import sweep_of

    with said_with_flags():
        report = sweep_of(asked, layers)
    if as_json:
        print_json(report)
    else:
        _show_one(report)
    return 0


def _of_study(asked: AskedStudy, layers: str, results: str, *, as_json: bool) -> int:
    """Run the flow; show what the database holds afterwards."""
    from editcollapse.study.plan import plan_study
    from editcollapse.study.sweep import plan_sweep

    study, folder = opened(asked, results)
    # A mistake in the study is found before a server starts.
    plan = plan_sweep(plan_study(study, folder.name), layers)
    what = f"sweep of {study.name}"
    if run_flow(_flow, what, folder, study, layers, folder.name, is_quiet=as_json) is None:
        return STOPPED
    report = _sweep_report(plan)
    if as_json:
        print_json(report)
    else:
        _show_sweep(report, study.methods)
        print_next(f'sql "{LAYERS}"', results)
    return 0


def _flow() -> Any:
    from flows.sweep_flow import layer_sweep

    return layer_sweep


def _sweep_report(sweep: "SweepPlan") -> "SweepReport":
    """The published sweep of a study, in the order of its models.

    Raises:
        ResultsError: it is not there.
    """
    from editcollapse.forecast.verdicts import (
        LayerVerdicts,
        ModelThresholds,
        SweepReport,
        Unswept,
        safe_layers,
    )
    from editcollapse.study.locks import cached_manifest
    from editcollapse.study.results_folder import results_at
    from storage.publish import folder_to_read
    from storage.readers import sweep_rows, thresholds

    results = sweep.study.results
    folder = folder_to_read(results_at(results))
    basis: list[ModelThresholds] = []
    found: list[LayerVerdicts] = []
    unswept: list[Unswept] = []
    notes: list[str] = []
    for model in sweep.models:
        name = model.layers[0].setup.spec.name
        rule = sweep.study.study.collapse.rule
        limits = thresholds(folder, model.layers[0].setup.model_id, rule)
        basis.append(ModelThresholds(name, limits, limits.basis))
        templates = cached_manifest(model.layers[0].templates)
        if templates is None:
            raise ResultsError(
                f"the templates of {name} are not whole in {results}. Run the same command again."
            )
        ours = sweep_rows(folder, model, templates.values)
        first = (model.layer_numbers[0], ours[0].method) if ours else None
        n_swept = sum(row.n_requests for row in ours if (row.layer, row.method) == first)
        n_left = len(sweep.study.requests.records) - n_swept
        found += ours
        if n_left:
            unswept.append(Unswept(name, n_left))
        last = model.layers[0].files.widths.n_layers - 1
        if last in model.layer_numbers:
            notes.append(
                f"{name}: layer {last} is the last. What is written there reaches no later token, "
                "so v* is found only where the prompt ends with the subject; elsewhere nothing is "
                "edited, whatever the bound."
            )
    return SweepReport(
        basis=tuple(basis),
        layers=tuple(found),
        safe_layers=safe_layers(found),
        unswept=tuple(unswept),
        notes=tuple(notes),
    )


def _show_sweep(report: "SweepReport", methods: Sequence[str]) -> None:
    """Print for each model, layer and method which share of the requests has which verdict.

    Args:
        report: of a study.
        methods: the study's own; others are in the database.
    """
    for model in dict.fromkeys(row.model for row in report.layers):
        ours = [row for row in report.layers if row.model == model and row.method in methods]
        _show_table(model, ours, methods)
        safe = {each.method: each for each in report.safe_layers if each.model == model}
        for method in methods:
            if method in safe:
                print_text(_sentence(safe[method]))
    for left in report.unswept:
        print_text(
            f"{left.model} cannot take {left.n_requests} of the requests: table rejections says why"
        )
    for sentence in (*report.notes, *basis_lines(report.basis)):
        print_text(sentence)


def _show_one(report: "ForecastReport") -> None:
    """Print the sweep of one edit: its verdict at each layer by each method."""
    first = report.requests[0]
    names = [each.forecast.method for each in first.methods]
    columns = [Column("layer", is_number=True), *map(Column, names)]
    rows = [
        [Text(str(one.layer)), *(verdict_cell(each) for each in one.methods)]
        for one in report.requests
    ]
    position = first.position.subject_position
    print_text(f"{first.prompt.replace('{}', first.subject)} -> {first.target_new}")
    print_line(f"subject: {POSITIONS.get(position, position)}")
    print_text(f"sweep of {first.model}: change bound and verdict; likely: likely to collapse")
    print_table(columns, rows, console())
    for basis in basis_lines(report.basis):
        print_text(basis)


def _show_table(model: str, rows: "Sequence[LayerVerdicts]", methods: Sequence[str]) -> None:
    """Print a model's table: a row a layer and method, two columns a position."""
    positions = sorted({row.subject_position for row in rows}, key=list(POSITIONS).index)
    by_cell = {(row.layer, row.method, row.subject_position): row for row in rows}
    columns = [Column("layer", is_number=True), Column("method")]
    for position in positions:
        n_requests = max(row.n_requests for row in rows if row.subject_position == position)
        columns.append(Column(f"{POSITIONS[position]} ({n_requests})", is_number=True))
        columns.append(Column("|a . u|", is_number=True))
    is_unknown = any(row.n_not_known for row in rows)
    lines = []
    for layer in sorted({row.layer for row in rows}):
        for method in methods:
            cells = [Text(str(layer)), plain(method)]
            for position in positions:
                row = by_cell.get((layer, method, position))
                cells += [Text(""), Text("")] if row is None else _cells(row, is_unknown=is_unknown)
            lines.append(cells)
    unknown = "/not known" if is_unknown else ""
    print_text(f"\n{model}: % safe/at risk/likely to collapse{unknown}, and median |a . u|")
    print_table(columns, lines, console(), parted=True)


def _cells(row: "LayerVerdicts", *, is_unknown: bool) -> list[Text]:
    """Return the verdicts of a row in per cent, red where edits are likely to collapse."""
    style = COLLAPSED if row.n_will_collapse else ""
    shares = Text(_shares(row, is_unknown=is_unknown), style=style)
    return [shares, Text(f"{row.median_denominator:.3g}")]


def _shares(row: "LayerVerdicts", *, is_unknown: bool) -> str:
    """The verdicts of a row in per cent, the last of them where a model has any."""
    counts = [row.n_safe, row.n_at_risk, row.n_will_collapse]
    counts += [row.n_not_known] if is_unknown else []
    return "/".join(f"{_PERCENT * count / row.n_requests:.0f}" for count in counts)


def _sentence(each: "SafeLayers") -> str:
    """At which layers all is safe; where none is, which comes nearest."""
    from editcollapse.study.sweep import layers_in_words

    if each.layers:
        plural = "" if len(each.layers) == 1 else "s"
        return f"{each.method}: all safe at layer{plural} {layers_in_words(each.layers)}"
    return (
        f"{each.method}: all safe at no layer; the largest bound is smallest at layer "
        f"{each.safest_layer}, {each.largest_bound:.3g}"
    )
