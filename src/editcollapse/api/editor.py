"""``Editor``: makes and forecasts edits of one model, by any method of the catalog."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

from editcollapse.api.edited_model import continued
from editcollapse.api.inputs import (
    Texts,
    asked_request,
    checked_templates,
    given_texts,
    model_spec,
)
from editcollapse.api.joint_edit import JointEdit
from editcollapse.api.other_editors import OtherEditors
from editcollapse.api.rank_one_edit import Edit
from editcollapse.api.second_moments import SecondMoments
from editcollapse.catalog.editor_presets import EditorSettings
from editcollapse.catalog.editors import EDITORS, OtherEditorName, editor_of
from editcollapse.catalog.methods import METHODS, Method, MethodName, method_of
from editcollapse.catalog.presets import ValueSettings, preset_for
from editcollapse.config.sequence import EditorSpec
from editcollapse.config.spec import ModelSpec, TemplateSpec
from editcollapse.data.corpora import CovarianceSource
from editcollapse.data.requests import EditRequest
from editcollapse.errors import StudyError
from editcollapse.forecast.defaults import default_thresholds
from editcollapse.forecast.verdicts import EditForecast, ForecastReport, Thresholds
from editcollapse.models.files import locate_model, name_of
from editcollapse.runtime.settings import settings
from editcollapse.study.editor_settings import EditedLayer
from editcollapse.study.jobs import ModelSetup

if TYPE_CHECKING:
    from editcollapse.covariance.second_moment import MomentSolver
    from editcollapse.forecast.bounds import LayerGeometry
    from editcollapse.models.loading import LoadedModel
    from editcollapse.rome.values import TargetValues
    from editcollapse.study.known_updates import Setting
    from editcollapse.units.single import EditSetup


class Editor:
    """Edits one model; its weights are as they were whenever a call has returned.

    Rank-one methods change one layer, ``layer``; other editors those of their settings.

    Args:
        model: a folder, a GGUF file, a Hugging Face hub id, or what ``load_model`` returned.
        covariance: where C, the second moment of the layer's keys, comes from: a corpus (a text
            file or a hub data set id), published statistics (``.npz`` or ``.safetensors``),
            ``samples`` (the model's own) or ``identity``.
        layer: zero-based block of rank-one methods; where left out, that of the model's published
            settings, or a guess by depth. Joint editors whose layers nobody has published for the
            model edit those that end there.
        tokens: of a corpus, so many at most; or written by the model.
        damping: added to C's diagonal, in units of its mean.
        templates: kind of the context templates that are drawn from the model, ``five_words`` or
            ``start_token``; or the templates, each with ``{}`` at its end. Of rank-one methods:
            other editors have their own (``joint_templates``).
        seed: of the templates, and of the test prefix of scores.
        value_settings: of the v* optimisation of rank-one methods; where left out, the model's
            published ones.
        editor_settings: of other editors, one an editor; what is left out is published for the
            model, or by rule (docs/editors.md).
        thresholds: of the verdicts; where left out, ``default_thresholds()``, of which
            ``.accepting(0.01)`` calls nothing safe whose P(collapse) is 0.01 or more.
        revision: of a hub model, as dtype, start_token, chat_template and device as in
            ``load_model``; a model that is loaded already keeps its own.
        dtype: type of the weights.
        start_token: whether prompts open with a start token.
        chat_template: whether prompts are put into the tokenizer's chat template.
        device: a torch device.

    Raises:
        EditCollapseError: the model, the layer or the covariance is not there, or an argument has
            no such value. Nothing heavy has been done then.
    """

    def __init__(
        self,
        model: "str | Path | LoadedModel",
        *,
        covariance: str | Path,
        layer: int | None = None,
        tokens: int = 100_000,
        damping: float = 0.0,
        templates: str | Sequence[str] = "five_words",
        seed: int = 0,
        value_settings: ValueSettings | None = None,
        editor_settings: Sequence[EditorSpec] = (),
        thresholds: Thresholds | None = None,
        revision: str | None = None,
        dtype: str = "float32",
        start_token: str = "tokenizer",
        chat_template: bool = False,
        device: str | None = None,
    ) -> None:
        self._loaded: LoadedModel | None = None
        if isinstance(model, (str, Path)):
            files = locate_model(str(model), revision)
            row, self._widths, self._source = files.architecture, files.widths, files.source
            self._spec = model_spec(
                name_of(self._source),
                model,
                revision,
                dtype,
                start_token,
                chat_template=chat_template,
            )
        else:
            self._loaded = model
            row, self._widths, self._source = model.architecture, model.widths, model.source
            digests = model.digests
            self._spec = model_spec(
                name_of(self._source),
                model.source,
                None,
                digests.dtype,
                digests.start_token_policy,
                chat_template=digests.chat_template is not None,
            )
        preset = preset_for(None, row.family, self._widths)
        self.layer: int
        """Zero-based block that edits change."""
        self.layer_source: str
        """Where the layer stands: a published file, ``unpublished``, or ``as given``."""
        self.layer, self.layer_source = preset.layer_of(layer, "as given")
        if not 0 <= self.layer < self._widths.n_layers:
            raise StudyError(
                f"`layer` {self.layer}: {self._source} has layers 0 to {self._widths.n_layers - 1}."
            )
        self._values = preset.values if value_settings is None else value_settings
        self._device = device
        self.seed = seed
        self._thresholds = thresholds or default_thresholds()
        self._asked_templates = checked_templates(templates)
        self.covariance = CovarianceSource.of(
            str(covariance), tokens, damping, self._widths.d_key, seed
        )
        """Where C comes from."""
        self._moments = SecondMoments(self.covariance, self.layer)
        edited = EditedLayer(self._source, row, self._widths, self.layer)
        self._others = OtherEditors(self, edited, self._moments, editor_settings)
        self._last: tuple[tuple[EditRequest, ...], TargetValues] | None = None
        self._perplexities: dict[tuple[str, ...], float] = {}

    def __repr__(self) -> str:
        return (
            f"Editor({self._source}, layer {self.layer} ({self.layer_source}), {self.covariance})"
        )

    @cached_property
    def model(self) -> "LoadedModel":
        """The model, loaded when it is first needed."""
        if self._loaded is not None:
            return self._loaded
        from editcollapse.models.loading import load_model as load

        return load(self._spec, settings().device if self._device is None else self._device)

    @cached_property
    def templates(self) -> tuple[str, ...]:
        """Context templates of rank-one methods, the bare ``{}`` first: prefixed keys are means."""
        if not isinstance(self._asked_templates, str):
            return self._asked_templates
        from editcollapse.rome.templates import generate_templates

        spec = TemplateSpec()
        return generate_templates(
            self.model, self._asked_templates, spec.lengths, self.seed
        ).templates

    @property
    def joint_templates(self) -> tuple[str, ...]:
        """Context templates of other editors, the bare ``{}`` first: five texts of ten tokens."""
        return self._others.templates

    @cached_property
    def solver(self) -> "MomentSolver":
        """C of the layer, factored; measured or read when it is first needed."""
        return self._moments.solver(self.model)

    def settings_of(self, method: str) -> EditorSettings:
        """Settings of an editor beyond rank one on the model; nothing is loaded for it.

        Args:
            method: a name of ``EDITORS``.

        Raises:
            StudyError: there is no such editor, or it cannot edit the model's layers.
        """
        found = self._others.setup(_beyond_rank_one(method)).settings
        assert found is not None
        return found

    def forecast(
        self,
        prompt: str | EditRequest,
        *,
        subject: str | None = None,
        target: str | None = None,
        method: str = "rome",
    ) -> EditForecast:
        """Forecast of one edit before it is made.

        Args:
            prompt: with ``{}`` for the subject; or a whole request.
            subject: the entity.
            target: the object to be written.
            method: a name of ``METHODS``.

        Raises:
            EditCollapseError: the model cannot take the edit, or C is not to be had.
        """
        request = asked_request(prompt, subject, target)
        if method in EDITORS:
            raise StudyError(
                f"`method` {method!r}: a forecast is of rank-one methods ({', '.join(METHODS)}). "
                "Make the edit: `text_change` is known without any evaluation."
            )
        method_of(method)
        return EditForecast.of(self.forecast_report(request), method)

    def forecast_report(self, request: EditRequest) -> ForecastReport:
        """Forecast of one edit by every method.

        Raises:
            EditCollapseError: the model cannot take the edit, or C is not to be had.
        """
        from editcollapse.units.single import forecast_one

        return forecast_one(
            self.model, self._source, self._setup(request), self._thresholds, self.geometry
        )

    @overload
    def edit(
        self,
        prompt: str | EditRequest,
        *,
        subject: str | None = None,
        target: str | None = None,
        method: MethodName = "rome",
    ) -> Edit: ...

    @overload
    def edit(
        self,
        prompt: str | EditRequest,
        *,
        subject: str | None = None,
        target: str | None = None,
        method: OtherEditorName,
    ) -> JointEdit: ...

    @overload
    def edit(
        self,
        prompt: str | EditRequest,
        *,
        subject: str | None = None,
        target: str | None = None,
        method: str,
    ) -> Edit | JointEdit: ...

    def edit(
        self,
        prompt: str | EditRequest,
        *,
        subject: str | None = None,
        target: str | None = None,
        method: str = "rome",
    ) -> Edit | JointEdit:
        """Make one edit of the unedited model. The same fact by another method takes over its v*.

        Args:
            prompt: with ``{}`` for the subject; or a whole request.
            subject: the entity.
            target: the object to be written.
            method: a name of ``METHODS`` or ``EDITORS``.

        Raises:
            EditCollapseError: the model cannot take the edit, or C is not to be had.
        """
        (made,) = self.edit_all([asked_request(prompt, subject, target)], methods=(method,))
        return made

    @overload
    def edit_all(
        self, requests: Sequence[EditRequest], *, methods: Sequence[MethodName] = ("rome",)
    ) -> list[Edit]: ...

    @overload
    def edit_all(
        self, requests: Sequence[EditRequest], *, methods: Sequence[str]
    ) -> list[Edit | JointEdit]: ...

    def edit_all(
        self, requests: Sequence[EditRequest], *, methods: Sequence[str] = ("rome",)
    ) -> list[Edit] | list[Edit | JointEdit]:
        """Make independent edits, every request by every method, each of the unedited model.

        v* of all requests is optimised together and serves all rank-one methods; z* likewise all
        editors of the same last layer and settings.

        Args:
            requests: the facts; NAS's mean length is over them.
            methods: names of ``METHODS`` or ``EDITORS``.

        Returns:
            Method by method, each in the requests' order.

        Raises:
            EditCollapseError: the model cannot take one of them, or C is not to be had.
        """
        rows = [editor_of(name) for name in methods]
        asked = tuple(requests)
        made: list[Edit | JointEdit] = []
        for row in rows if asked else ():
            if isinstance(row, Method):
                made += self._rank_one_edits(asked, row)
            else:
                made += self._others.edit_each(asked, row.name)
        return made

    def edit_jointly(self, requests: Sequence[EditRequest], *, method: str = "memit") -> JointEdit:
        """Write several facts at once, in one edit of the unedited model.

        A joint edit of several facts is worked out on written weights, layer by layer, as a step of
        a sequence is; the unedited ones are put back bit by bit before it returns.

        Args:
            requests: the facts; NAS's mean length is over them. One alone is edited as by ``edit``.
            method: a name of ``EDITORS``.

        Raises:
            EditCollapseError: the model cannot take one of them, or C is not to be had.
        """
        name, asked = _beyond_rank_one(method), tuple(requests)
        if not asked:
            raise StudyError("`requests` is empty: give the facts that are to be written.")
        if len(asked) == 1:
            (made,) = self._others.edit_each(asked, name)
            return made
        return self._others.edit_together(asked, name)

    def _rank_one_edits(self, requests: tuple[EditRequest, ...], method: Method) -> list[Edit]:
        """Return independent edits by a rank-one method."""
        from editcollapse.rome.updates import rank_one_updates

        solver, weight = self.solver, self.model.weight(self.layer)
        values = self._target_values(requests)
        updates, diagnostics = rank_one_updates(
            values, method, solver, weight, self._values.clamp_factor
        )
        return [
            Edit(self, request, method.name, updates, diagnostics, values, b)
            for b, request in enumerate(requests)
        ]

    def perplexity(self, texts: Texts) -> float:
        """Perplexity of the unedited model: arithmetic mean over texts.

        Raises:
            DatasetError: no text can be scored.
        """
        given = given_texts(texts)
        if given not in self._perplexities:
            from editcollapse.units.single import perplexity_of

            self._perplexities[given] = perplexity_of(self.model, self.layer, given, None).mean
        return self._perplexities[given]

    def generate(self, prompt: str, n_tokens: int = 20) -> str:
        """What the unedited model adds to a prompt, always the likeliest token.

        Args:
            prompt: the text to go on from.
            n_tokens: tokens at most.
        """
        return continued(self.model, self.layer, prompt, n_tokens, None)

    def probability(self, prompt: str, target: str) -> float:
        """Probability that the unedited model gives a target after a prompt.

        Raises:
            ModelError: the tokenizer or the model's length does not take the text.
        """
        from editcollapse.units.single import probability_of

        return probability_of(self.model, self.layer, prompt, target, None)

    @property
    def spec(self) -> ModelSpec:
        """How the model is loaded, as a study would name it."""
        return self._spec

    @property
    def described(self) -> "tuple[Setting, ...]":
        """What rank-one edits are made with, as people read it."""
        from editcollapse.study.known_updates import Setting

        own = (
            ("covariance", self.covariance),
            ("context templates", len(self.templates)),
            *dataclasses.asdict(self._values).items(),
            ("layer and settings as in", self.layer_source),
        )
        return tuple(Setting(name.replace("_", " "), str(value)) for name, value in own)

    @cached_property
    def _model_setup(self) -> ModelSetup:
        return ModelSetup(
            spec=self._spec,
            model_id=self.model.model_id,
            layer=self.layer,
            layer_source=self.layer_source,
            values=self._values,
        )

    @cached_property
    def geometry(self) -> "LayerGeometry":
        """C of the layer and the norms of its W, which rank-one edits are compared with."""
        from editcollapse.forecast.bounds import LayerGeometry
        from editcollapse.forward.hooked_layer import HookedLayer

        return LayerGeometry.of(HookedLayer(self.model, self.layer), self.solver)

    def _setup(self, request: EditRequest) -> "EditSetup":
        from editcollapse.units.single import edit_setup

        return edit_setup(self._model_setup, self.templates, self.covariance, self.solver, request)

    def _target_values(self, requests: tuple[EditRequest, ...]) -> "TargetValues":
        """Return v* of some requests; those of the last call are kept."""
        if self._last is None or self._last[0] != requests:
            from editcollapse.units.single import single_batch, target_values

            covariance_id = self.covariance.covariance_id
            batch = single_batch("", self._model_setup, self.templates, covariance_id, requests)
            self._last = requests, target_values(self.model, batch)
        return self._last[1]


def forecast_edit(
    model: "str | Path | LoadedModel",
    prompt: str | EditRequest,
    *,
    covariance: str | Path,
    subject: str | None = None,
    target: str | None = None,
    method: str = "rome",
    layer: int | None = None,
) -> EditForecast:
    """Forecast of one edit of a model, in one call; an ``Editor`` is faster for several.

    Args:
        model: as ``Editor`` takes it.
        prompt: with ``{}`` for the subject; or a whole request.
        covariance: where C comes from.
        subject: the entity.
        target: the object to be written.
        method: a name of ``METHODS``.
        layer: zero-based block; the model's published one where left out.

    Raises:
        EditCollapseError: the model cannot take the edit, or C is not to be had.
    """
    editor = Editor(model, covariance=covariance, layer=layer)
    return editor.forecast(prompt, subject=subject, target=target, method=method)


def _beyond_rank_one(method: str) -> str:
    """Return the name of an editor beyond rank one.

    Raises:
        StudyError: it is a rank-one method's, or nobody's.
    """
    if method in METHODS:
        raise StudyError(
            f"`method` {method!r} is of rank one and writes one fact, as `edit` and `edit_all` "
            f"do. Give one of {', '.join(EDITORS)}."
        )
    return editor_of(method).name
