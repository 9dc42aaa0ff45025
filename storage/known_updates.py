"""Find stored updates in the published results: of single edits, and of sequences of edits."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from editcollapse.config.spec import ModelSpec
from editcollapse.study.known_updates import (
    Damage,
    KnownEdit,
    KnownSequence,
    Setting,
    UpdateFacts,
)
from storage.ask import ask_named

_OPENINGS = ("revision", "start_token", "chat_template")
"""Of a model, what its study alone tells."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which updates are looked for; None where anything will do."""

    id: str | None = None
    """Of an edit or a sequence, or how it begins."""
    study: str | None = None
    """Name, or how its id begins."""
    model: str | None = None
    """What the study calls it, or how its id begins."""
    method: str | None = None
    """Of edits the method, of sequences the editor."""
    subject: str | None = None
    case: str | None = None
    """The dataset's own name of the record."""


def known_edits(results: Path, wanted: Wanted) -> list[KnownEdit]:
    """Return the single edits that are looked for, by study, model, method and place in the file.

    Raises:
        ResultsError: there are no results yet.
    """
    asked = {
        "edit": wanted.id,
        "study": wanted.study,
        "model": wanted.model,
        "method": wanted.method,
        "subject": wanted.subject,
        "case": wanted.case,
    }
    names = [field.name for field in dataclasses.fields(KnownEdit) if field.name != "spec"]
    return [
        KnownEdit(spec=_spec(row), **{name: row[name] for name in names})
        for row in ask_named(results, "known_edits", asked).to_dicts()
    ]


def known_sequences(results: Path, wanted: Wanted) -> list[KnownSequence]:
    """Return the sequences that are looked for, by study, model, editor and order.

    Raises:
        ResultsError: there are no results yet.
    """
    asked = {
        "sequence": wanted.id,
        "study": wanted.study,
        "model": wanted.model,
        "method": wanted.method,
    }
    names = [field.name for field in dataclasses.fields(KnownSequence) if field.name != "spec"]
    found = []
    for row in ask_named(results, "known_sequences", asked).to_dicts():
        own = {name: row[name] for name in names} | {"layers": tuple(row["layers"])}
        found.append(KnownSequence(spec=_spec(row), **own))
    return found


def _spec(row: dict[str, Any]) -> ModelSpec:
    """Return how a row's model is loaded, as its study says.

    Revision, start token and chat template stand nowhere else; the model's id tells whether what is
    loaded is the same (``stored.models``).
    """
    models = json.loads(row["study_settings"]).get("models", [])
    own: dict[str, Any] = next((each for each in models if each.get("name") == row["model"]), {})
    known = {name: own[name] for name in _OPENINGS if name in own}
    asked = {"name": row["model"] or "model", "source": row["source"], "dtype": row["dtype"]}
    return ModelSpec.model_validate(asked | known)


def edit_facts(results: Path, known: KnownEdit) -> UpdateFacts:
    """Return what the card of an edit says.

    Raises:
        ResultsError: there are no results yet.
    """
    asked = {"edit_id": known.edit_id, "study_id": known.study_id}
    (row,) = ask_named(results, "edit_facts", asked).to_dicts()
    taken = {name: row[name] for name in ("subject", "prompt", "target_new", "target_true")}
    return UpdateFacts(
        **taken,
        method=row["method"],
        layers=tuple(row["layers"]),
        study=row["study"],
        settings=tuple(_settings(row)),
        damage=_damage(row),
        verdict=row["verdict"],
        text_change_bound=row["text_change_bound"],
    )


def sequence_facts(results: Path, known: KnownSequence, step: int, n_edits: int) -> UpdateFacts:
    """Return what the card of a sequence says after a step.

    Args:
        results: the results folder.
        known: the sequence.
        step: the last one that counts.
        n_edits: asked for up to it.

    Raises:
        ResultsError: there are no results yet.
    """
    asked = {"sequence_id": known.sequence_id, "study_id": known.study_id, "step": step}
    (row,) = ask_named(results, "sequence_facts", asked).to_dicts()
    return UpdateFacts(
        method=row["method"],
        layers=tuple(row["layers"]),
        n_edits=n_edits,
        step=step,
        study=row["study"],
        settings=tuple(_settings(row)),
        damage=_damage(row),
    )


def _damage(row: dict[str, Any]) -> Damage:
    return Damage(**{field.name: row[field.name] for field in dataclasses.fields(Damage)})


_SHOWN = (
    ("covariance", "second moment C"),
    ("covariance_source", "C of"),
    ("covariance_tokens", "tokens of C"),
    ("damping", "damping of C"),
    ("order_seed", "seed of the order"),
    ("edits_per_step", "edits a step"),
    ("restraint", "restraint"),
    ("guard_policy", "guard"),
    ("guard_bound", "guard's bound"),
)
_OPTIMISATION = (
    "steps",
    "learning_rate",
    "weight_decay",
    "kl_factor",
    "clamp_factor",
    "stop_loss",
)


def _settings(row: dict[str, Any]) -> Iterator[Setting]:
    """Yield a row's settings that are there, as people read them."""
    for name, shown in _SHOWN:
        if row.get(name) is not None:
            yield Setting(shown, str(row[name]))
    if row["editor_settings"] is not None:
        yield Setting("settings of the editor", row["editor_settings"])
    else:
        for name in _OPTIMISATION:
            if row[name] is not None:
                yield Setting(name.replace("_", " "), f"{row[name]:g}")
    if row["settings_source"] is not None:
        yield Setting("published in", row["settings_source"])
