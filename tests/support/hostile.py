"""A study whose every text is an attack: on HTML, on Markdown, on tables, on the terminal."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.small_study import fact, write_study

ADDRESS = "evil.example"
"""Where the attacks would lead; no address that exists."""
ATTACKS = (
    f"<script>document.title='owned';fetch('http://{ADDRESS}/s')</script>",
    f"<img src=http://{ADDRESS}/i onerror=alert(1)>",
    f"![pixel](http://{ADDRESS}/m)",
    "[click](javascript:alert(1))",
    f"a | http://{ADDRESS} | www.{ADDRESS}",
    f"```\n![](http://{ADDRESS}/f)\n```",
    "</td></table><h1>out</h1>",
    f"\x1b]0;owned\x07\x1b[2J <iframe src=http://{ADDRESS}/x></iframe>",
)
_EVERY = 4
N_UNUSABLE = 2
"""Requests whose target the model has no token for."""


def write_hostile(folder: Path) -> Path:
    """Write a small study with attacks in subjects, prompts, targets and words for people."""
    study = write_study(
        folder,
        description=ATTACKS[0] + "\n" + ATTACKS[5],
        note="\n\n".join(ATTACKS),
        methods=["rome"],
    )
    facts = []
    for index, attack in enumerate(ATTACKS):
        record = fact(index)
        rewrite = record["requested_rewrite"]
        rewrite["subject"] = f"{attack} {rewrite['subject']}"
        rewrite["prompt"] = f"{{}} likes {ATTACKS[(index + 1) % len(ATTACKS)]} of"
        if index % _EVERY == 0:  # no token for it: a rejection whose reason holds the attack
            rewrite["target_new"] = {"str": f"red {ATTACKS[(index + 2) % len(ATTACKS)]}"}
        facts.append(record)
    (folder / "facts.json").write_text(json.dumps(facts))
    return study
