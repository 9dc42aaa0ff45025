"""Editors beyond rank one for one ``Editor``: their settings, C of their layers, z*, and edits."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from editcollapse.api.joint_edit import JointEdit
from editcollapse.catalog.editors import TEMPLATE_KIND, TEMPLATE_LENGTHS
from editcollapse.catalog.methods import METHODS
from editcollapse.config.sequence import EditorSpec
from editcollapse.data.requests import EditRequest
from editcollapse.errors import StudyError
from editcollapse.study.editor_settings import EditedLayer, GivenSettings, editor_setup
from editcollapse.study.sequence_jobs import EditorSetup, TargetSettings

if TYPE_CHECKING:
    from editcollapse.api.editor import Editor
    from editcollapse.api.second_moments import SecondMoments
    from editcollapse.forward.rewrites import Rewrite
    from editcollapse.units.editor_edits import EditorEdits
    from editcollapse.units.editors import EditorOnModel, Targets

_ARGUMENT = "editor_settings"


class OtherEditors:
    """Makes the edits beyond rank one of an editor.

    Args:
        editor: whose they are.
        edited: its model and layer.
        moments: C of the model's layers.
        specs: settings in place of the published ones, one an editor.

    Raises:
        StudyError: a setting is of no such editor, or one that it does not have.
    """

    def __init__(
        self,
        editor: "Editor",
        edited: EditedLayer,
        moments: "SecondMoments",
        specs: Sequence[EditorSpec],
    ) -> None:
        self._editor, self._edited, self._moments = editor, edited, moments
        self._specs = tuple(specs)
        names = [each.name for each in specs]
        for spec in specs:
            if spec.name in METHODS:
                raise StudyError(
                    f"`{_ARGUMENT}`: {spec.name!r} is a rank-one method, which takes "
                    "`value_settings` and `layer`."
                )
            if spec.model is not None:
                raise StudyError(f"`{_ARGUMENT}`: `model` is of a study. Leave it out.")
            if names.count(spec.name) > 1:
                raise StudyError(f"`{_ARGUMENT}` has {spec.name!r} twice. Leave one of both out.")
            self.setup(spec.name)
        self._last: tuple[EditorSetup, EditorOnModel] | None = None
        self._last_targets: tuple[tuple[EditRequest, ...], TargetSettings, Targets] | None = None

    def setup(self, name: str) -> EditorSetup:
        """Return an editor with its settings on the model.

        Raises:
            StudyError: it cannot edit the model's layers.
        """
        own = tuple(each for each in self._specs if each.name == name)
        return editor_setup(name, self._edited, GivenSettings(own, _ARGUMENT, "as given"))

    @cached_property
    def templates(self) -> tuple[str, ...]:
        """Context templates of these editors, the bare ``{}`` first."""
        from editcollapse.rome.templates import generate_templates

        editor = self._editor
        return generate_templates(
            editor.model, TEMPLATE_KIND, TEMPLATE_LENGTHS, editor.seed
        ).templates

    def edit_each(self, requests: tuple[EditRequest, ...], name: str) -> list[JointEdit]:
        """Make independent edits, one a request, as a study's single edits.

        Raises:
            EditCollapseError: the model cannot take one of them, or C is not to be had.
        """
        from editcollapse.runtime.environment import reporter
        from editcollapse.units.editor_edits import EditorEdits, edit_each, group_size

        work = _Work(self._editor, self, requests, name)
        loaded, size = work.loaded, group_size(work.loaded, work.setup)
        report = reporter(f"{loaded.name}: fine-tuning", "epoch")
        made = []
        for first in range(0, len(requests), size):
            some = slice(first, first + size)
            found = edit_each(
                loaded,
                work.rewrites[some],
                work.setup,
                work.on_model,
                None if work.targets is None else work.targets.rows(some),
                work.mean_length,
                report,
            )
            for b, request in enumerate(requests[some]):
                own = slice(b, b + 1)
                one = EditorEdits(found.changes.rows(own), found.optimised[own])
                made.append(work.made((request,), one))
        return made

    def edit_together(self, requests: tuple[EditRequest, ...], name: str) -> JointEdit:
        """Make one edit of all requests, as the first step of a sequence.

        Raises:
            EditCollapseError: the model cannot take one of them, or C is not to be had.
        """
        from editcollapse.runtime.environment import reporter
        from editcollapse.units.editor_edits import edit_together

        work = _Work(self._editor, self, requests, name)
        found = edit_together(
            work.loaded,
            work.rewrites,
            work.setup,
            work.on_model,
            work.targets,
            work.mean_length,
            reporter(f"{work.loaded.name}: fine-tuning", "epoch"),
        )
        return work.made(requests, found)

    def on_model(self, setup: EditorSetup) -> "EditorOnModel":
        """Return what an editor works with, the last one kept: its equations are large."""
        from editcollapse.units.editors import EditorOnModel

        assert setup.settings is not None
        if self._last is None or self._last[0] != setup:
            scales = self._moments.scales(self._editor.model, setup.settings.layers)
            damping = self._moments.source.spec.damping
            self._last = setup, EditorOnModel.of(setup, scales, damping)
        return self._last[1]

    def targets(
        self, requests: tuple[EditRequest, ...], rewrites: "Sequence[Rewrite]", setup: EditorSetup
    ) -> "Targets | None":
        """Return z* of some requests, those of the last call kept; None for fine-tuning."""
        if setup.joint is None:
            return None
        last, asked = self._last_targets, setup.targets
        if last is not None and last[:2] == (requests, asked):
            return last[2]
        from editcollapse.runtime.environment import reporter
        from editcollapse.runtime.precision import float32_products
        from editcollapse.units.editors import find_targets

        loaded = self._editor.model
        with float32_products():
            report = reporter(f"{loaded.name}: target value z*", "step")
            found = find_targets(loaded, rewrites, asked, report)
        self._last_targets = requests, asked, found
        return found


class _Work:
    """What one call works with: the requests in tokens, C, z*, and NAS's mean length.

    Args:
        editor: whose call it is.
        editors: those beyond rank one.
        requests: the facts.
        name: of the editor.
    """

    def __init__(
        self,
        editor: "Editor",
        editors: OtherEditors,
        requests: tuple[EditRequest, ...],
        name: str,
    ) -> None:
        from editcollapse.runtime.precision import float32_products
        from editcollapse.units.editors import mean_length_over
        from editcollapse.units.single import usable_rewrites

        self.setup = editors.setup(name)
        self.editor = editor
        self.loaded = editor.model
        self.rewrites = usable_rewrites(self.loaded, editors.templates, requests)
        self.on_model = editors.on_model(self.setup)
        self.targets = editors.targets(requests, self.rewrites, self.setup)
        self.mean_length: float | None = None
        if self.setup.needs_mean_length:
            assert self.setup.joint is not None
            assert self.targets is not None
            with float32_products():
                self.mean_length = mean_length_over(
                    self.loaded, self.setup.joint, self.rewrites, self.targets.delta
                )

    def made(self, requests: tuple[EditRequest, ...], found: "EditorEdits") -> JointEdit:
        """Return an edit that was made, of some of the requests."""
        from editcollapse.units.editor_edits import sizes_of

        sizes = sizes_of(found.changes, self.on_model.scales)
        return JointEdit(self.editor, requests, self.setup, found, sizes, self.mean_length)
