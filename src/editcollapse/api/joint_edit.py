"""One edit by an editor beyond rank one: several layers, several facts, or full rank."""

import dataclasses
from collections.abc import Iterator
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING

from editcollapse.api.edited_model import EditedModel
from editcollapse.catalog.editor_presets import EditorSettings
from editcollapse.data.requests import EditRequest
from editcollapse.rows.study import ProbeScores
from editcollapse.study.sweep import named_layers

if TYPE_CHECKING:
    from editcollapse.api.editor import Editor
    from editcollapse.forward.weight_changes import WeightChanges
    from editcollapse.stored.updates import StoredUpdate
    from editcollapse.study.known_updates import Setting
    from editcollapse.study.sequence_jobs import EditorSetup
    from editcollapse.units.editor_edits import ChangeSizes, EditorEdits


class JointEdit(EditedModel):
    """One edit by a joint editor or by fine-tuning: what it adds to the W of each layer.

    Made by ``Editor.edit`` of one fact and by ``Editor.edit_jointly`` of several. It has no
    denominator and no forecast: these are of rank-one methods, and so of an ``Edit``.
    """

    def __init__(
        self,
        editor: "Editor",
        requests: tuple[EditRequest, ...],
        setup: "EditorSetup",
        made: "EditorEdits",
        sizes: "ChangeSizes",
        mean_length: float | None,
    ) -> None:
        assert setup.settings is not None
        self.editor = editor
        self.requests = requests
        self.method = setup.name
        self.settings: EditorSettings = setup.settings
        """Published, by rule, or as given: their ``source`` says which."""
        self.layers = self.settings.layers
        self.changes: WeightChanges = made.changes
        """The update, a batch of one, float64 on the CPU: ``changes.layers[i].matrix(0)`` is what
        is added to W of ``layers[i]``, (D, K)."""
        (norm,), (relative,), (on_text,) = sizes.norm, sizes.relative_norm, sizes.text_change
        self.update_norm = float(norm)
        self.relative_update_norm = float(relative)
        self._text_change = float(on_text)
        self.n_steps = sum(each.n_steps for each in made.optimised)
        self.target_probability = fmean(each.target_probability for each in made.optimised)
        self._mean_length = mean_length

    def __repr__(self) -> str:
        return (
            f"JointEdit({self._label!r}, {self.method}, {named_layers(self.layers)}: text change "
            f"{self.text_change:.3g}, update norm {self.update_norm:.3g}, "
            f"{self.relative_update_norm:.3g} times that of W)"
        )

    @property
    def text_change(self) -> float:
        """sqrt(tr(dW C dWᵀ) / tr(W C Wᵀ)), C undamped: the largest of a layer; nan where one is."""
        return self._text_change

    @cached_property
    def scores(self) -> tuple[ProbeScores, ...]:
        """Of each request: efficacy, and generalization and locality where it has probes for them.

        The contexts are those of joint editors (``Editor.joint_templates``).
        """
        from editcollapse.units.single import probe_scores

        editor, lowest, updates = self.editor, self.layers[0], self._updates
        templates = editor.joint_templates
        return tuple(
            probe_scores(editor.model, lowest, templates, each, updates, editor.seed)
            for each in self.requests
        )

    @property
    def described(self) -> "tuple[Setting, ...]":
        """What the edit was made with, as people read it."""
        from editcollapse.study.known_updates import Setting

        own = (
            ("covariance", self.editor.covariance),
            ("context templates", len(self.editor.joint_templates)),
            *_fields(self.settings),
            ("mean length of a target value", self._mean_length),
            ("layers and settings as in", self.settings.source),
        )
        return tuple(
            Setting(name.replace("_", " "), str(value)) for name, value in own if value is not None
        )

    @property
    def stored(self) -> "StoredUpdate":
        """The update as exports and other tools of this package take it, float64 on the CPU."""
        from editcollapse.stored.updates import LayerUpdate, StoredUpdate

        layers = tuple(
            LayerUpdate(each.layer, each.left[0], None if each.right is None else each.right[0])
            for each in self.changes.layers
        )
        editor = self.editor
        label = f"{self._label}, {self.method}"
        return StoredUpdate(editor.model.model_id, editor.spec, label, layers)

    @property
    def _updates(self) -> "WeightChanges":
        import torch

        loaded = self.editor.model
        # Once a call, not once a forward: changes of full rank are as large as W.
        return self.changes.to(loaded.device, torch.promote_types(loaded.dtype, torch.float32))


def _fields(settings: EditorSettings) -> Iterator[tuple[str, object]]:
    """Yield an editor's settings by name, those of z* among them."""
    for name, value in dataclasses.asdict(settings).items():
        if isinstance(value, dict):
            yield from value.items()
        elif name == "layers":
            yield name, ", ".join(map(str, value))
        elif name != "source":
            yield name, value
