"""Take an update home: edited weights, a PEFT LoRA adapter, or the bare factors, with a card.

Each is a folder that is there as a whole or not at all. Nothing that is written is a pickle, and no
package is needed to write an adapter: its two files are JSON and safetensors.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from editcollapse import __version__
from editcollapse.fingerprints import canonical
from editcollapse.runtime.environment import Report, tell
from editcollapse.stored.card import CardFrame, card_text
from editcollapse.stored.export_adapter import write_adapter
from editcollapse.stored.export_factors import write_factors
from editcollapse.stored.export_options import Base, ExportOptions, LayerLoss, Written
from editcollapse.stored.export_weights import write_model
from editcollapse.stored.folder import RECORD, new_folder
from editcollapse.stored.licences import Licence, licence_of
from editcollapse.stored.low_rank import check_finite
from editcollapse.stored.updates import StoredUpdate
from editcollapse.study.known_updates import UpdateFacts


@dataclasses.dataclass(frozen=True, slots=True)
class Exported:
    """What an export has left."""

    kind: str
    folder: str
    label: str
    files: tuple[str, ...]
    n_bytes: int
    layers: tuple[LayerLoss, ...]
    notes: tuple[str, ...]
    """A sentence each, as the card has them."""


def export_update(
    update: StoredUpdate,
    base: Base,
    facts: UpdateFacts,
    folder: Path,
    options: ExportOptions | None = None,
) -> Exported:
    """Write an update as a folder that other tools read.

    Args:
        update: what is written.
        base: the unedited model.
        facts: for the card.
        folder: empty, or not there; or an earlier export that is overwritten.
        options: what is written, and how.

    Raises:
        ResultsError: the folder holds files or cannot be written; the update is no number, or is of
            full rank where an adapter is wanted.
        ModelError: the unedited model is not known where weights are wanted, is of other sizes, or
            holds no numbers that large in the type that is asked for.
    """
    asked = options or ExportOptions()
    for change in update.layers:
        check_finite(change)
    with new_folder(folder, overwrite=asked.overwrite) as draft:
        written = _WRITERS[asked.kind](draft, update, base, asked)
        tell(Report("export: writing the card"))
        frame = CardFrame(
            what=written.what,
            base=base.name,
            licence=_licence(base),
            library=written.library,
            relation=written.relation,
            usage=written.usage,
            notes=written.notes,
        )
        (draft / "README.md").write_text(card_text(facts, frame), encoding="utf-8")
        record = {
            "editcollapse": __version__,
            "kind": asked.kind,
            "label": update.label,
            "model": base.name,
            "revision": base.revision,
            "model_id": update.model_id,
            "layers": [_plain(each) for each in written.losses],
            "notes": list(written.notes),
            "update": _plain(facts),
        }
        text = json.dumps(record, indent=2, ensure_ascii=False)
        (draft / RECORD).write_text(f"{text}\n", encoding="utf-8")
        files = sorted(path for path in draft.rglob("*") if path.is_file())
        names = tuple(path.relative_to(draft).as_posix() for path in files)
        n_bytes = sum(path.stat().st_size for path in files)
    return Exported(
        asked.kind, str(folder), update.label, names, n_bytes, written.losses, written.notes
    )


def _plain(value: Any) -> Any:
    """Return a dataclass as JSON data."""
    return canonical(value)


def _licence(base: Base) -> Licence:
    return licence_of(None if base.found is None else base.found.files)


_WRITERS: dict[str, Callable[[Path, StoredUpdate, Base, ExportOptions], Written]] = {
    "weights": write_model,
    "adapter": write_adapter,
    "factors": write_factors,
}
