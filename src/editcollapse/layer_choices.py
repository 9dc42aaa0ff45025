"""Which layers a sweep looks at: ``all``, or places and ranges such as ``0-11,20``."""

import re

from editcollapse.errors import StudyError

ALL = "all"
_PART = re.compile(r"(\d{1,6})(?:\s*-\s*(\d{1,6}))?", re.ASCII)


def check_layers(text: str) -> None:
    """Raise StudyError where a text names no layers.

    Args:
        text: ``all``, or layers and ranges with commas between them.
    """
    _ranges(text)


def chosen_layers(text: str, n_layers: int, model: str) -> tuple[int, ...]:
    """Return the layers that a text names, each once, in ascending order.

    Args:
        text: ``all``, or layers and ranges with commas between them.
        n_layers: blocks of the model.
        model: its name, for messages.

    Raises:
        StudyError: the text names no layers, or one that the model does not have.
    """
    if text.strip() == ALL:
        return tuple(range(n_layers))
    ranges = _ranges(text)
    highest = max(last for _, last in ranges)
    if highest >= n_layers:
        raise StudyError(
            f"--layers {text}: layer {highest} of {model}, which has layers 0 to {n_layers - 1}. "
            "Leave it out, or give --layers all."
        )
    return tuple(sorted({layer for first, last in ranges for layer in range(first, last + 1)}))


def layers_in_words(layers: tuple[int, ...]) -> str:
    """Return some ascending layers as short text: ``0-3, 7``."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _ranges(text: str) -> list[tuple[int, int]]:
    """Return first and last layer of each part; of ``all``, none."""
    if text.strip() == ALL:
        return []
    found = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise StudyError(
                f"--layers {text!r}: {part.strip()!r} is neither a layer nor a range of layers. "
                "Write all, or for example 0-11,20."
            )
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if last < first:
            raise StudyError(
                f"--layers {text!r}: the range {part.strip()} runs backwards. Write {last}-{first}."
            )
        found.append((first, last))
    return found
