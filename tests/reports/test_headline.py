"""One sentence says what a study found, whatever it found."""

import dataclasses

import polars as pl
import pytest

from editcollapse.rows.collapse_rule import CollapseRule
from reports.headline import headline
from reports.runs import duration, facts


def with_positions(found, frame):
    """Return findings with other counts by position."""
    return dataclasses.replace(found, positions=dataclasses.replace(found.positions, frame=frame))


def test_worst_place_of_the_worst_method_leads(demo):
    """Where it collapses most, how often in all, and the methods that do not."""
    assert headline(demo.found) == (
        "ROME collapsed 51 of 55 first-token edits of gpt2-induced (49 by exp(mean NLL)) and 77 of "
        "384 edits in all; C-ROME and p-ROME none of 384."
    )


def test_study_without_collapses_names_its_models(demo):
    """Of one model and method; of all methods; of more models than one names."""
    rows = demo.found.positions.frame
    calm = rows.filter(pl.col("model") == "gpt2-control")
    rome = calm.filter(pl.col("method") == "rome")
    assert (
        headline(with_positions(demo.found, rome))
        == "None of 128 ROME edits collapsed gpt2-control."
    )
    spared = pl.concat([calm.with_columns(model=pl.lit(f"m{index}")) for index in range(5)])
    assert headline(with_positions(demo.found, spared)) == (
        "None of 1,920 ROME, C-ROME and p-ROME edits collapsed any of the 5 models."
    )


def test_another_rule_is_said(demo):
    """A reader who knows the default rule is told of another."""
    said = headline(dataclasses.replace(demo.found, rule=CollapseRule(500, None)))
    assert said.endswith(
        " Collapsed: perplexity above 500 (and not so unedited), or no finite number."
    )


@pytest.mark.parametrize(
    ("n_edits", "words"), [(3, "No edit is measured yet."), (0, "No edit was made.")]
)
def test_nothing_measured(demo, n_edits, words):
    """Zero edits have a sentence too."""
    empty = with_positions(demo.found, demo.found.positions.frame.clear())
    assert headline(dataclasses.replace(empty, n_edits=n_edits)) == words


def test_part_of_a_study_says_so(demo):
    """A report in the middle of a study."""
    found = dataclasses.replace(demo.found, n_measured=1000)
    assert headline(found).endswith("So far 1,000 of 1,152 edits are measured.")


def test_guard_comes_first(demo):
    """What it refused, switched and prefixed, then what became of what was made."""
    decided = pl.DataFrame(
        {
            "model": ["gpt2-induced"],
            "method": ["rome"],
            "n_asked": [32],
            "n_made": [17],
            "n_switched": [0],
            "n_prefixed": [13],
            "n_refused": [2],
        }
    )
    calm = demo.found.positions.frame.filter(
        pl.col("model") == "gpt2-control", pl.col("method") == "rome"
    )
    found = dataclasses.replace(
        with_positions(demo.found, calm), guard=dataclasses.replace(demo.found.guard, frame=decided)
    )
    assert headline(found) == (
        "Of 32 ROME edits of gpt2-induced the guard made 17 as asked, put a text before the prompt "
        "of 13 and refused 2. None of 128 ROME edits collapsed gpt2-control."
    )


def test_facts_of_the_run(demo):
    """Date, work, machine, versions and commit; without provenance that it is not recorded."""
    (none,) = facts(demo.found)
    assert none.text.startswith("not recorded")
    runs = pl.DataFrame(
        {
            "first_started_at": ["2026-11-27T04:19:59.573+00:00"],
            "last_started_at": ["2026-11-27T04:21:09.001+00:00"],
            "n_units": [21],
            "work_s": [52.04],
            "machines": ["vm"],
            "devices": ["cpu"],
            "editcollapse": ["1"],
            "torch": ["2"],
            "transformers": ["3"],
            "python": ["4"],
            "commits": [f"{'a' * 40}-dirty"],
        }
    )
    found = dataclasses.replace(demo.found, runs=dataclasses.replace(demo.found.runs, frame=runs))
    assert {fact.name: fact.text for fact in facts(found)} == {
        "run": "2026-11-27 04:19 to 04:21 UTC",
        "work": "52 s in 21 jobs",
        "machine": "vm, cpu",
        "versions": "editcollapse 1, torch 2, transformers 3, python 4",
        "commit": f"{'a' * 10}-dirty",
    }


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.24, "3.24 s"), (61.0, "1 min 1 s"), (3725.0, "1 h 2 min")]
)
def test_durations_have_two_units(seconds, words):
    """Seconds, minutes, hours."""
    assert duration(seconds) == words
