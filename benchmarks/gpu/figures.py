"""Measured figures as plain data: one table, one JSON file."""

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from editcollapse.errors import ResultsError


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One number, or the reason why there is none."""

    what: str
    """For people: ``four methods, ours``."""
    unit: str
    model: str
    """Shape of the model; empty where the figure is of no model."""
    dtype: str
    """Type of the weights; likewise."""
    value: float | None
    """None where it could not be measured."""
    note: str = ""
    """Sizes, or why there is no value."""

    @property
    def column(self) -> str:
        """Heading of its column in the table."""
        return f"{self.model} {self.dtype}".strip() or "device"


@dataclasses.dataclass(frozen=True, slots=True)
class PartDone:
    """End of one part: outcome, seconds, reason."""

    part: str
    outcome: str
    """``done``, ``failed`` or ``cut off``."""
    seconds: float
    reason: str = ""
    """Of a part that did not end well: its last line."""


@dataclasses.dataclass(frozen=True, slots=True)
class Whole:
    """All that one call found."""

    device: str
    versions: str
    """Of Python, torch and transformers."""
    command: str
    figures: tuple[Figure, ...]
    parts: tuple[PartDone, ...]

    @property
    def is_well(self) -> bool:
        """Whether every part was done."""
        return all(part.outcome == "done" for part in self.parts)


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Target of a figure."""

    what: str
    lowest: float
    highest: float
    model: str = ""
    """The one model that it is wanted of; empty for all."""

    def judged(self, found: Iterable[Figure]) -> list[str]:
        """Return a line with every figure that it is of: reached, missed or not measured."""
        cells = []
        for each in found:
            if each.what != self.what or self.model not in {"", each.model}:
                continue
            if each.value is None:
                cells.append(f"{each.column} not measured")
            else:
                is_reached = self.lowest <= each.value <= self.highest
                word = "reached" if is_reached else "missed"
                cells.append(f"{each.column} {_cell(each.value)} ({word})")
        return [f"{self.what}, wanted {self._words()}: {'; '.join(cells)}"] if cells else []

    def _words(self) -> str:
        if self.highest == math.inf:
            return f"{self.lowest:g} or more"
        if self.lowest == -math.inf:
            return f"{self.highest:g} or less"
        return f"{self.lowest:g} to {self.highest:g}"


TARGETS = (
    Target("four methods, ratio", 40, math.inf),
    Target("covariance, share of a plain product", 0.6, math.inf),
    Target("21,919 records, four methods, ours", -math.inf, 1.0, "gpt2-xl"),
    *(
        Target(f"peak memory, {work}, measured over estimated", 0.8, 1.2)
        for work in ("v*", "perplexity", "covariance")
    ),
)
"""What is wanted on one GPU, beside the published procedure on the same GPU in the same run."""


def table(found: Sequence[Figure]) -> list[str]:
    """Return figures as one markdown table: a row a figure, a column a model and type.

    Figures without a value show ``–``; their reasons stand in the JSON.
    """
    columns = list(dict.fromkeys(each.column for each in found))
    rows = list(dict.fromkeys((each.what, each.unit) for each in found))
    values = {(each.what, each.unit, each.column): each.value for each in found}
    lines = [
        f"| figure | unit | {' | '.join(columns)} |",
        f"| --- | --- | {' | '.join('---' for _ in columns)} |",
    ]
    for what, unit in rows:
        cells = [_cell(values.get((what, unit, column))) for column in columns]
        lines.append(f"| {what} | {unit} | {' | '.join(cells)} |")
    return lines


def missing(found: Iterable[Figure]) -> list[str]:
    """Return a line for each reason why figures are missing, with the figures that it is of."""
    reasons: dict[str, list[str]] = {}
    for each in found:
        if each.value is None:
            reasons.setdefault(each.note, []).append(f"{each.column}: {each.what}")
    return [f"not measured ({note}): {'; '.join(names)}" for note, names in reasons.items()]


def lines(found: Whole) -> list[str]:
    """Return everything as text: the table, the targets, what is missing, how each part ended."""
    head = f"Measured with `{found.command}` on {found.device}; {found.versions}."
    ends = [
        f"{part.part}: {part.outcome} in {part.seconds:.0f} s"
        + (f" ({part.reason})" if part.reason else "")
        for part in found.parts
    ]
    judged = [line for target in TARGETS for line in target.judged(found.figures)]
    groups = (table(found.figures), judged, missing(found.figures), ends)
    return [head, *(line for group in groups if group for line in ("", *group))]


def write_json(found: Whole, path: Path) -> None:
    """Write everything as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(found), indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> Whole:
    """Read the file of ``write_json``.

    Raises:
        ResultsError: there is no such file, or it holds something else.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return Whole(
            **plain
            | {
                "figures": tuple(Figure(**each) for each in plain["figures"]),
                "parts": tuple(PartDone(**each) for each in plain["parts"]),
            }
        )
    except OSError as error:
        raise ResultsError(f"--from {path}: {error.strerror}. Name a file of --json.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(
            f"--from {path} holds no figures of this program. Name a file of --json."
        ) from error


def merged(found: Sequence[Whole]) -> Whole:
    """Return runs on one device as one: of what several measured, the last figure.

    Raises:
        ResultsError: they are of several devices or versions, whose figures cannot be compared.
    """
    if len({(each.device, each.versions) for each in found}) > 1:
        machines = "; ".join(f"{each.device}, {each.versions}" for each in found)
        raise ResultsError(
            f"--from: files of several machines ({machines}) make no one table. Name files of one."
        )
    figures = {(f.what, f.model, f.dtype): f for each in found for f in each.figures}
    parts = {part.part: part for each in found for part in each.parts}
    return dataclasses.replace(
        found[0],
        command="` and `".join(each.command for each in found),
        figures=tuple(figures.values()),
        parts=tuple(parts.values()),
    )


class FigureFile:
    """Figures line by line in a file, so that a process that is killed leaves what it found.

    Args:
        path: of the file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, figure: Figure) -> None:
        """Write a figure at the end of the file."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(figure)) + "\n")

    def read(self) -> tuple[Figure, ...]:
        """Return all figures; a line that was cut off is left out."""
        if not self.path.is_file():
            return ()
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        return tuple(Figure(**json.loads(line)) for line in whole.splitlines())


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004
