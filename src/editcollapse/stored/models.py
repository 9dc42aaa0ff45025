"""The unedited model of an update: found by its source, known by its content."""

import dataclasses
from pathlib import Path

from editcollapse.config.spec import ModelSpec
from editcollapse.errors import ModelError
from editcollapse.models.files import ModelFiles, digest_model, locate_model


@dataclasses.dataclass(frozen=True, slots=True)
class BaseModel:
    """The unedited model of an update, on this machine."""

    spec: ModelSpec
    """How it is loaded, with the source that it was found at."""
    files: ModelFiles
    model_id: str


def base_model(spec: ModelSpec, model_id: str, source: str | None = None) -> BaseModel:
    """Return the model that an update is of; no weight is loaded, but all are read.

    Args:
        spec: of the update. Results know a local model by its bare name.
        model_id: of the update.
        source: where the model lies: folder, GGUF file or hub id; the specification's own where
            left out.

    Raises:
        ModelError: there is no model, or it is another one.
    """
    asked = spec.source if source is None else source
    if source is None and "/" not in asked and not Path(asked).exists():
        # Likelier a folder's name than a hub id, and nobody asks the hub for the name of a folder.
        raise ModelError(
            f"the edited model is called {asked}, and results know no path of a machine. Say where "
            "it lies with `model`."
        )
    files = locate_model(asked, spec.revision if source in {None, spec.source} else None)
    found = digest_model(files, spec)
    if found.model_id != model_id:
        raise ModelError(
            f"{asked} is not the model that was edited: that one has id {model_id[:12]}, and this "
            f"one, loaded as {spec.dtype} with start token {spec.start_token!r}, "
            f"{found.model_id[:12]}. Give the model that the study names {spec.name}."
        )
    return BaseModel(spec.model_copy(update={"source": asked}), files, model_id)
