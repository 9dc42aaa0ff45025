"""The most damaging edits one by one: what was to be written, and what the model writes now."""

import dataclasses

from reports.wording import number
from storage.findings import StudyFindings


@dataclasses.dataclass(frozen=True, slots=True)
class Fact:
    """A name and what it is, in words."""

    name: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """One edit."""

    prompt: str
    """The rewrite prompt with its subject."""
    target: str
    facts: tuple[Fact, ...]
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
                Fact("edit", f"{row['method']} on {row['model']}"),
                Fact(
                    "perplexity",
                    f"{number(row['perplexity_before'])} before, {number(row['perplexity'])} after",
                ),
                Fact("ratio", number(row["perplexity_ratio"])),
                Fact("|denominator|", number(row["abs_denominator"])),
            ),
            before=row["text_before"],
            after=row["text_after"],
        )
        for row in found.worst.frame.iter_rows(named=True)
    )
