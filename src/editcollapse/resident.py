"""The one model that a process keeps."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from editcollapse.devices import release
from editcollapse.errors import ModelError
from editcollapse.models import LoadedModel, load_model

if TYPE_CHECKING:
    from editcollapse.specs import ModelSpec

logger = logging.getLogger(__name__)

_resident: dict[tuple[str, str, str], LoadedModel] = {}
_resident_lock = threading.RLock()


def resident_model(
    spec: "ModelSpec",
    model_id: str,
    device: str,
    load: "Callable[[ModelSpec, str], LoadedModel]" = load_model,
) -> LoadedModel:
    """Return the model of this process, loading it when another or none is resident.

    Raises:
        ModelError: as ``load_model``; or the files are no longer those that the study was planned
            with.
    """
    with _resident_lock:
        key = (model_id, spec.source, device)  # a row names where its model came from
        if key not in _resident:
            forget_models()
            loaded = load(spec, device)
            if loaded.model_id != model_id:
                raise ModelError(
                    f"the files of {Path(spec.source).name} changed while the study ran. "
                    "Start it again: finished work for the old files is kept under their own id."
                )
            _resident[key] = loaded
            logger.info("loaded %s on %s", loaded.source, loaded.device)
        return _resident[key]


def forget_models() -> None:
    """Drop the resident model and free its memory."""
    with _resident_lock:
        places = {loaded.device for loaded in _resident.values()}
        _resident.clear()
        for place in places:
            release(place)
