"""Which settings an editor beyond rank one has on a model: published, by rule, or a user's own.

Loads no torch. ``catalog.editor_presets`` has the published ones and the rules; here they are
overridden field by field (``EditorSpec``) and checked against the model.
"""

import dataclasses
from collections.abc import Sequence

from editcollapse.catalog.architectures import Architecture, Widths
from editcollapse.catalog.editor_presets import (
    EditorSettings,
    GradientSettings,
    JointSettings,
    editor_settings,
)
from editcollapse.catalog.editors import EDITORS, GradientEditor, JointEditor
from editcollapse.catalog.methods import METHODS
from editcollapse.catalog.presets import ValueSettings
from editcollapse.config.sequence import EditorSpec
from editcollapse.errors import StudyError
from editcollapse.models.files import ModelFiles
from editcollapse.study.sequence_jobs import EditorSetup


@dataclasses.dataclass(frozen=True, slots=True)
class EditedLayer:
    """A model, as far as settings depend on it, and the layer that rank-one methods edit."""

    name: str
    """For messages."""
    architecture: Architecture
    widths: Widths
    layer: int
    """Zero-based block, at which an unpublished list of layers ends."""

    @classmethod
    def of(cls, files: ModelFiles, name: str, layer: int) -> "EditedLayer":
        """Return a layer of a model that was found."""
        return cls(name, files.architecture, files.widths, layer)


@dataclasses.dataclass(frozen=True, slots=True)
class GivenSettings:
    """Settings that a user gives in place of the published ones."""

    specs: Sequence[EditorSpec] = ()
    """Of one editor; later ones go before earlier ones."""
    argument: str = "editors"
    """What messages call them."""
    by: str = "the study file"
    """Who gives them, for ``source``."""


def editor_setup(name: str, model: EditedLayer, given: GivenSettings) -> EditorSetup:
    """Return an editor with its settings on a model; a rank-one method has none of its own.

    Args:
        name: of ``METHODS`` or ``EDITORS``.
        model: which one.
        given: in place of the published settings, or of ours.

    Raises:
        StudyError: there is no such editor, it has no such setting, or the model no such layer; or
            the model cannot take several layers.
    """
    if name in METHODS:
        return EditorSetup(name=name)
    settings = editor_settings(name, model.architecture.family, model.widths, model.layer)
    for spec in given.specs:
        settings = _overridden(settings, spec, given)
    if model.architecture.post_mlp_norm is not None and isinstance(settings, JointSettings):
        settings = _one_layer(settings, model, given)
    n_layers = model.widths.n_layers
    wrong = [layer for layer in settings.layers if layer >= n_layers]
    if wrong:
        raise StudyError(
            f"editor {name!r} of {model.name} has layer {wrong[0]}, and the model has "
            f"layers 0 to {n_layers - 1}. Correct `layers`."
        )
    if isinstance(settings, GradientSettings):
        if len(settings.layers) > 1:
            raise StudyError(
                f"editor {name!r} fine-tunes one layer, got `layers` {settings.layers}."
            )
        return EditorSetup(name=name, gradient=settings)
    return EditorSetup(name=name, joint=settings)


def _overridden(settings: EditorSettings, spec: EditorSpec, given: GivenSettings) -> EditorSettings:
    """Return an editor's settings with a user's in their place."""
    asked = spec.model_dump(exclude_none=True, exclude={"name", "model"})
    if not asked:
        return settings
    row = EDITORS[spec.name]
    unknown = sorted(set(asked) - _settable(row))
    if unknown:
        raise StudyError(
            f"`{given.argument}`: {row.title} has no {', '.join(unknown)}. Leave it out."
        )
    values = {field.name for field in dataclasses.fields(ValueSettings)}
    update = asked
    if isinstance(settings, JointSettings):
        inner = {name: value for name, value in asked.items() if name in values}
        update = {name: value for name, value in asked.items() if name not in values}
        update["values"] = dataclasses.replace(settings.values, **inner)
    return dataclasses.replace(settings, **update, source=f"{given.by} over {settings.source}")


def _settable(row: JointEditor | GradientEditor) -> set[str]:
    """Return the settings that an editor reads, as ``EditorSpec`` names them."""
    if isinstance(row, GradientEditor):
        own = {"layers", "epochs", "learning_rate", "batch_size"}
        return own | ({"norm_bound"} if row.bounded else set())
    own = {"layers", "steps", "learning_rate", "weight_decay", "kl_factor", "clamp_factor"}
    own |= {"second_moment_weight"} if row.second_moment else set()
    own |= {"identity_weight"} if row.identity else set()
    own |= {"nullspace_threshold", "ridge"} if row.projected else set()
    own |= {"mask_share"} if row.masked else set()
    return own | ({"predicted_passes"} if row.target == "until predicted" else set())


def _one_layer(settings: JointSettings, model: EditedLayer, given: GivenSettings) -> JointSettings:
    """Return settings for a family with a norm behind the MLP, which take one layer."""
    if len(settings.layers) == 1:
        return settings
    if any(spec.layers is not None for spec in given.specs):
        raise StudyError(
            f"joint editors of {model.name} take one layer, and {len(settings.layers)} were "
            "asked for: a norm stands between its MLP and the residual stream, so that what is "
            "missing there cannot be spread over layers. Give `layers` with one."
        )
    return dataclasses.replace(settings, layers=settings.layers[-1:])
