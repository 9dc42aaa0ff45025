"""A study whose inputs are not all here: what is valid, what is missing, what it would take.

Lets a study be written and checked on a laptop before it goes where the weights are.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from editcollapse.catalog.architectures import Widths
from editcollapse.catalog.presets import PRESETS, Preset, preset_for
from editcollapse.config.spec import ModelSpec, StudySpec
from editcollapse.data.texts import texts_file
from editcollapse.errors import ModelError
from editcollapse.models.files import locate_model


@dataclasses.dataclass(frozen=True, slots=True)
class MissingInput:
    """A file or model that a study names and that is not here."""

    what: str
    """dataset, texts, templates, corpus, statistics of a model, or a model."""
    where: str
    """The path or hub id."""
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class ExpectedModel:
    """A model as far as its published settings tell, without its files."""

    spec: ModelSpec
    preset: Preset | None
    """None where neither files nor a named preset tell its sizes."""

    @property
    def layer(self) -> int | None:
        """The layer to edit, where it is known."""
        if self.spec.layer is not None:
            return self.spec.layer
        return None if self.preset is None else self.preset.layer

    @property
    def moment_bytes(self) -> int | None:
        """Size of C in float64, where the sizes are known."""
        return None if self.preset is None else 8 * self.preset.widths[2] ** 2


def missing_inputs(study: StudySpec) -> Iterator[MissingInput]:
    """Yield the inputs that are not here.

    Args:
        study: with absolute paths (``study_file.read_study``).
    """
    files = [("dataset", study.dataset.path), ("texts", str(texts_file(study.evaluation)))]
    if study.templates.kind == "file":
        files.append(("templates", study.templates.path or ""))
    if study.covariance.kind == "corpus" and Path(study.covariance.source or "").is_absolute():
        files.append(("corpus", study.covariance.source or ""))
    if study.covariance.kind == "statistics":
        files.extend((f"statistics of {m.name}", m.statistics or "") for m in study.models)
    for what, where in files:
        if not Path(where).exists():
            yield MissingInput(what, where, "no such file")
    for spec in study.models:
        if not Path(spec.source).exists():
            try:
                locate_model(spec.source, spec.revision)
            except ModelError as error:
                yield MissingInput(f"model {spec.name}", spec.source, str(error))


def expected_models(study: StudySpec) -> Iterator[ExpectedModel]:
    """Yield what is expected of each model from published settings.

    Raises:
        StudyError: a preset does not exist.
        ModelError: a layer is out of the preset's range.
    """
    for spec in study.models:
        preset = None
        if spec.preset is not None:
            known = PRESETS.get(spec.preset)
            family, sizes = (known.family, known.widths) if known else ("", (0, 0, 0))
            preset = preset_for(spec.preset, family, Widths(*sizes, 0))
            if spec.layer is not None and spec.layer >= preset.widths[0]:
                raise ModelError(
                    f"layer {spec.layer} of model {spec.name!r}: it has layers 0 to "
                    f"{preset.widths[0] - 1}. Correct `layer` in the study file."
                )
        yield ExpectedModel(spec, preset)
