"""The tutorial runs, prints what it shows, and draws its picture."""

import re

import nbformat
import pytest

from tests.unit.api.tutorial import NOTEBOOK, executed, is_chart, printed

_NUMBER = re.compile(r"\d[\d.]*")


def _words_and_numbers(texts: list[str]) -> tuple[list[str], list[float]]:
    """Return texts with their numbers taken out, and the numbers."""
    numbers = [float(found.rstrip(".")) for text in texts for found in _NUMBER.findall(text)]
    return [_NUMBER.sub("#", text) for text in texts], numbers


@pytest.mark.slow
def test_tutorial_gives_what_it_shows():
    """All cells run; outputs are those checked in (tests.unit.api.tutorial), the picture new."""
    shown = printed(nbformat.read(NOTEBOOK, as_version=4))
    assert len(shown) == 8
    done = executed()
    words, numbers = _words_and_numbers(printed(done))
    expected_words, expected_numbers = _words_and_numbers(shown)
    assert words == expected_words
    assert numbers == pytest.approx(expected_numbers, rel=0.01)  # three figures, other processors
    charts = [out for cell in done.cells for out in cell.get("outputs", ()) if is_chart(out)]
    assert len(charts) == 1
