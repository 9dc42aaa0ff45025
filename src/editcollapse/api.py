"""The library's front door: an ``Editor`` of one model, and each ``Edit`` with what it does.

    editor = Editor("openai-community/gpt2-xl", covariance="statistics.npz")
    edit = editor.edit("{} plays the sport of", subject="Pele", target="tennis", method="rome")
    edit.forecast.verdict, edit.denominator, edit.perplexity_ratio(texts), edit.generate("Pele is")

The numbers are those of a study's units. Arguments are checked when they are given; weights are
loaded, C is measured and v* is optimised when they are first needed, and kept. Messages name
arguments between backticks.
"""

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from editcollapse.catalog.methods import METHODS, method_of
from editcollapse.catalog.presets import ValueSettings, preset_for
from editcollapse.config.spec import ModelSpec, TemplateSpec
from editcollapse.data import datasets
from editcollapse.data.corpora import CovarianceSource
from editcollapse.data.datasets import edit_request
from editcollapse.data.requests import SLOT, EditRequest, RequestFile
from editcollapse.data.texts import read_texts
from editcollapse.errors import ModelError, StudyError
from editcollapse.forecast.defaults import default_thresholds
from editcollapse.forecast.verdicts import EditForecast, ForecastReport, Thresholds
from editcollapse.models.files import locate_model, name_of
from editcollapse.rows.collapse_rule import DEFAULT_RULE
from editcollapse.rows.study import ProbeScores
from editcollapse.runtime.settings import settings
from editcollapse.study.jobs import ModelSetup

if TYPE_CHECKING:
    from torch import Tensor, nn

    from editcollapse.covariance.second_moment import MomentSolver
    from editcollapse.forecast.bounds import LayerGeometry
    from editcollapse.models.loading import LoadedModel
    from editcollapse.rome.updates import RankOneUpdates, UpdateDiagnostics
    from editcollapse.rome.values import TargetValues
    from editcollapse.stored.export import Exported
    from editcollapse.stored.export_options import ExportKind
    from editcollapse.stored.updates import StoredUpdate
    from editcollapse.study.known_updates import Setting, UpdateFacts
    from editcollapse.units.single import EditSetup

__all__ = [
    "METHODS",
    "Edit",
    "EditForecast",
    "EditRequest",
    "Editor",
    "edit_request",
    "forecast_edit",
    "load_model",
    "read_requests",
]

Texts = Sequence[str] | str | Path
"""Texts, or the file that holds them: JSON, JSONL or plain text, one a line."""


def load_model(
    source: str | Path,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    start_token: str = "tokenizer",
    chat_template: bool = False,
    device: str | None = None,
) -> "LoadedModel":
    """Causal LM of a folder or of the Hugging Face hub, with its tokenizer; safetensors only.

    Args:
        source: a folder, a GGUF file or a hub id.
        revision: branch, tag or commit on the hub.
        dtype: float32, float64, bfloat16 or float16.
        start_token: whether prompts open with a start token (BOS): as the ``tokenizer`` does,
            ``never``, or ``always``.
        chat_template: put prompts into the tokenizer's chat template, as the user's message;
            targets are then the answer.
        device: a torch device; where left out, EDITCOLLAPSE_DEVICE, or the best that is there.

    Raises:
        ModelError: the model cannot be loaded.
        StudyError: an argument has no such value.
    """
    from editcollapse.models.loading import load_model as load

    spec = _model_spec("loaded", source, revision, dtype, start_token, chat_template=chat_template)
    return load(spec, settings().device if device is None else device)


def read_requests(path: str | Path) -> RequestFile:
    """Edit requests of a CounterFact, zsRE, KnowEdit or QAEdit file, as published or flat.

    Args:
        path: a JSON list or JSONL; each record that cannot be used is explained in ``rejections``.

    Raises:
        DatasetError: the file is missing, malformed, or without one usable record.
    """
    return datasets.read_requests(Path(path))


class Editor:
    """Edits one layer of one model; no edit is ever written into the weights.

    Args:
        model: a folder, a GGUF file, a Hugging Face hub id, or what ``load_model`` returned.
        covariance: where C, the second moment of the layer's keys, comes from: a corpus (a text
            file or a hub data set id), published statistics (``.npz`` or ``.safetensors``),
            ``samples`` (the model's own) or ``identity``.
        layer: zero-based block; where left out, that of the model's published settings, or a guess
            by depth.
        tokens: of a corpus, so many at most; or written by the model.
        damping: added to C's diagonal, in units of its mean.
        templates: kind of the context templates that are drawn from the model, ``five_words`` or
            ``start_token``; or the templates, each with ``{}`` at its end.
        seed: of the templates, and of the test prefix of ``Edit.scores``.
        value_settings: of the v* optimisation; where left out, the model's published ones.
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
            self._spec = _model_spec(
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
            self._spec = _model_spec(
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
        self._asked_templates = _checked_templates(templates)
        self._covariance = CovarianceSource.of(
            str(covariance), tokens, damping, self._widths.d_key, seed
        )
        self._last: tuple[tuple[EditRequest, ...], TargetValues] | None = None
        self._perplexities: dict[tuple[str, ...], float] = {}

    def __repr__(self) -> str:
        return (
            f"Editor({self._source}, layer {self.layer} ({self.layer_source}), {self._covariance})"
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
        """Context templates that prefixed keys are averaged over, the bare ``{}`` first."""
        if not isinstance(self._asked_templates, str):
            return self._asked_templates
        from editcollapse.rome.templates import generate_templates

        spec = TemplateSpec()
        return generate_templates(
            self.model, self._asked_templates, spec.lengths, self.seed
        ).templates

    @cached_property
    def solver(self) -> "MomentSolver":
        """C of the layer, factored; measured or read when it is first needed."""
        from editcollapse.units.single import second_moment_solvers

        (solver,) = second_moment_solvers(self.model, (self.layer,), self._covariance)
        return solver

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
        request = _asked(prompt, subject, target)
        method_of(method)
        return EditForecast.of(self.forecast_report(request), method)

    def forecast_report(self, request: EditRequest) -> ForecastReport:
        """Forecast of one edit by every method.

        Raises:
            EditCollapseError: the model cannot take the edit, or C is not to be had.
        """
        from editcollapse.units.single import forecast_one

        return forecast_one(
            self.model, self._source, self._setup(request), self._thresholds, self._geometry
        )

    def edit(
        self,
        prompt: str | EditRequest,
        *,
        subject: str | None = None,
        target: str | None = None,
        method: str = "rome",
    ) -> "Edit":
        """Make one edit. The same fact by another method takes over its v*.

        Args:
            prompt: with ``{}`` for the subject; or a whole request.
            subject: the entity.
            target: the object to be written.
            method: a name of ``METHODS``.

        Raises:
            EditCollapseError: the model cannot take the edit, or C is not to be had.
        """
        (made,) = self.edit_all([_asked(prompt, subject, target)], methods=(method,))
        return made

    def edit_all(
        self, requests: Sequence[EditRequest], *, methods: Sequence[str] = ("rome",)
    ) -> "list[Edit]":
        """Make independent edits, every request by every method; v* of all is optimised together.

        Args:
            requests: the facts.
            methods: names of ``METHODS``.

        Returns:
            Method by method, each in the requests' order.

        Raises:
            EditCollapseError: the model cannot take one of them, or C is not to be had.
        """
        rules = [method_of(name) for name in methods]
        if not requests:
            return []
        from editcollapse.rome.updates import rank_one_updates

        solver, weight = self.solver, self.model.weight(self.layer)
        values = self._target_values(tuple(requests))
        made = []
        for rule in rules:
            updates, diagnostics = rank_one_updates(
                values, rule, solver, weight, self._values.clamp_factor
            )
            # As a study stores them: in the type that v* was optimised in.
            stored = updates.to(updates.left.device, values.delta.dtype)
            made += [
                Edit(self, request, rule.name, stored.rows(slice(b, b + 1)), diagnostics, values, b)
                for b, request in enumerate(requests)
            ]
        return made

    def perplexity(self, texts: Texts) -> float:
        """Perplexity of the unedited model: arithmetic mean over texts.

        Raises:
            DatasetError: no text can be scored.
        """
        given = _read(texts)
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
        return _continued(self, prompt, n_tokens, None)

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
        """What edits are made with, as people read it."""
        from editcollapse.study.known_updates import Setting

        own = (
            ("covariance", self._covariance),
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
    def _geometry(self) -> "LayerGeometry":
        from editcollapse.forecast.bounds import LayerGeometry
        from editcollapse.forward.hooked_layer import HookedLayer

        return LayerGeometry.of(HookedLayer(self.model, self.layer), self.solver)

    def _setup(self, request: EditRequest) -> "EditSetup":
        from editcollapse.units.single import edit_setup

        return edit_setup(self._model_setup, self.templates, self._covariance, self.solver, request)

    def _target_values(self, requests: tuple[EditRequest, ...]) -> "TargetValues":
        """Return v* of some requests; those of the last call are kept."""
        if self._last is None or self._last[0] != requests:
            from editcollapse.units.single import single_batch, target_values

            covariance_id = self._covariance.covariance_id
            batch = single_batch("", self._model_setup, self.templates, covariance_id, requests)
            self._last = requests, target_values(self.model, batch)
        return self._last[1]


class Edit:
    """One edit of one model: its update, and what the edited model does.

    Made by ``Editor.edit``. The edited model is computed beside the unedited one, whose weights
    stay as they are; any number of edits of one editor can be kept and asked in any order.
    """

    def __init__(
        self,
        editor: Editor,
        request: EditRequest,
        method: str,
        update: "RankOneUpdates",
        diagnostics: "UpdateDiagnostics",
        values: "TargetValues",
        row: int,
    ) -> None:
        self.editor = editor
        self.request = request
        self.method = method
        self.update = update
        """The update, a batch of one: ``update.matrix(0)`` is what is added to W, (D, K)."""
        self.denominator = float(diagnostics.denominator[row])
        """a · u, signed; the update is divided by it."""
        self.rho = float(diagnostics.rho[row])
        """(k0 · u) / (kbar · u): near 0 where ROME's update explodes."""
        self.update_norm = float(diagnostics.update_norm[row])
        """Frobenius norm of the update."""
        self.relative_update_norm = float(diagnostics.relative_update_norm[row])
        """The same over ‖W‖."""
        self.delta: Tensor = values.delta[row]
        """(D,): v* less the bare prompt's value, on the model's device."""
        self.n_steps = int(values.n_steps[row])
        """Adam steps taken for v*."""
        self.target_probability = float(values.loss.target_probability[row])
        """Of the target under v*, at the last pass of the optimisation."""

    def __repr__(self) -> str:
        return (
            f"Edit({self.request.filled_prompt!r} -> {self.request.target_new!r}, {self.method}, "
            f"layer {self.editor.layer}: denominator {self.denominator:.3g}, update norm "
            f"{self.update_norm:.3g}, {self.relative_update_norm:.3g} times that of W)"
        )

    @cached_property
    def forecast(self) -> EditForecast:
        """What was known before the edit was made: verdict, bound and thresholds."""
        return EditForecast.of(self.editor.forecast_report(self.request), self.method)

    def perplexity(self, texts: Texts) -> float:
        """Perplexity of the edited model: arithmetic mean over texts; inf and nan as measured.

        Raises:
            DatasetError: no text can be scored.
        """
        from editcollapse.units.single import perplexity_of

        return perplexity_of(self.editor.model, self.editor.layer, _read(texts), self.update).mean

    def perplexity_ratio(self, texts: Texts) -> float:
        """Perplexity of the edited model over the unedited one's; a collapse is far above 1.

        Raises:
            DatasetError: no text can be scored.
        """
        given = _read(texts)
        return self.perplexity(given) / self.editor.perplexity(given)

    def generate(self, prompt: str, n_tokens: int = 20) -> str:
        """What the edited model adds to a prompt, always the likeliest token.

        Args:
            prompt: the text to go on from.
            n_tokens: tokens at most.
        """
        return _continued(self.editor, prompt, n_tokens, self.update)

    def probability(self, prompt: str, target: str) -> float:
        """Probability that the edited model gives a target after a prompt.

        Raises:
            ModelError: the tokenizer or the model's length does not take the text.
        """
        from editcollapse.units.single import probability_of

        return probability_of(self.editor.model, self.editor.layer, prompt, target, self.update)

    @cached_property
    def scores(self) -> ProbeScores:
        """Efficacy, and generalization and locality where the request has probes for them."""
        from editcollapse.units.single import probe_scores

        editor = self.editor
        return probe_scores(
            editor.model, editor.layer, editor.templates, self.request, self.update, editor.seed
        )

    def applied(self, model: "nn.Module | None" = None) -> "AbstractContextManager[nn.Module]":
        """Put the edit into the forward pass of a torch model for as long as a block runs.

        ::

            with edit.applied(model):
                logits = model(ids).logits

        Args:
            model: the same model, loaded by transformers; the editor's own where left out. Its
                weights are not touched.

        Raises:
            ModelError: it is another model.
        """
        from editcollapse.units.single import added_to_forward

        return added_to_forward(self.editor.model, self.editor.layer, self.update, model)

    @property
    def stored(self) -> "StoredUpdate":
        """The update as exports and other tools of this package take it, float64 on the CPU."""
        from editcollapse.stored.updates import LayerUpdate, StoredUpdate

        left, right = self.update.left.cpu().double(), self.update.right.cpu().double()
        editor = self.editor
        label = f"{self.request.filled_prompt} -> {self.request.target_new}, {self.method}"
        change = LayerUpdate(editor.layer, left.T.contiguous(), right)
        return StoredUpdate(editor.model.model_id, editor.spec, label, (change,))

    def export(
        self,
        folder: str | Path,
        kind: "ExportKind" = "weights",
        *,
        model: str | Path | None = None,
        texts: Texts | None = None,
        dtype: str = "kept",
        rank: int | None = None,
        max_shard_size: str = "5GB",
        overwrite: bool = False,
    ) -> "Exported":
        """Write the edited model, or the edit alone, as a folder that other tools read.

        Args:
            folder: where to; empty, or not there.
            kind: ``weights``, a folder that transformers loads; ``adapter``, a LoRA adapter that
                peft loads; ``factors``, the bare update.
            model: where the unedited model lies; where left out, what the editor was given.
            texts: for the card, perplexity is measured on them.
            dtype: type of what is written; ``kept``: as in the unedited model's files.
            rank: of an adapter, at most.
            max_shard_size: of one file of weights, such as 500MB.
            overwrite: whether an earlier export in the folder may go.

        Raises:
            ResultsError: the folder holds files, or cannot be written.
            ModelError: the unedited model's files are not found, or are another model's.
            StudyError: an argument has no such value.
        """
        from editcollapse.stored.export import export_update
        from editcollapse.stored.export_options import Base, ExportOptions
        from editcollapse.stored.folder import check_free
        from editcollapse.stored.models import base_model

        options = ExportOptions(
            kind=kind, dtype=dtype, rank=rank, max_shard_size=max_shard_size, overwrite=overwrite
        )
        check_free(Path(folder).expanduser(), overwrite=overwrite)
        editor, update = self.editor, self.stored
        loaded = editor.model
        try:
            source = None if model is None else str(model)
            base = Base.of(base_model(editor.spec, loaded.model_id, source))
        except ModelError:
            if kind == "weights" or model is not None:
                raise
            base = Base(loaded.source, editor.spec.revision, loaded.architecture, None)
        return export_update(update, base, self._facts(texts), Path(folder), options)

    def _facts(self, texts: Texts | None) -> "UpdateFacts":
        """Return what the card of an export says."""
        from editcollapse.study.known_updates import Damage, UpdateFacts

        editor, request, forecast = self.editor, self.request, self.forecast
        named = isinstance(texts, (str, Path))
        measured = None if texts is None else self.perplexity(texts)
        before = None if texts is None else editor.perplexity(texts)
        return UpdateFacts(
            method=self.method,
            layers=(editor.layer,),
            subject=request.subject,
            prompt=request.prompt,
            target_new=request.target_new,
            target_true=request.target_true,
            settings=editor.described,
            damage=Damage(
                text_set=Path(str(texts)).name if named else None,
                perplexity_before=before,
                perplexity=measured,
                collapsed=DEFAULT_RULE.collapsed(measured, before),
                relative_update_norm=self.relative_update_norm,
            ),
            verdict=forecast.verdict,
            text_change_bound=forecast.change_bound,
        )


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


def _asked(prompt: str | EditRequest, subject: str | None, target: str | None) -> EditRequest:
    """Return the request that is meant."""
    if isinstance(prompt, EditRequest):
        if subject is not None or target is not None:
            raise StudyError(
                "a whole request was given, and `subject` or `target` with it; leave them out."
            )
        return prompt
    if subject is None or target is None:
        missing = "`subject`" if subject is None else "`target`"
        raise StudyError(f"{missing} is missing: an edit has a prompt, a subject and a target.")
    return edit_request(prompt, subject=subject, target=target)


def _continued(editor: Editor, prompt: str, n_tokens: int, update: "RankOneUpdates | None") -> str:
    from editcollapse.runtime.precision import float32_products
    from editcollapse.units.generate import Continuer

    if n_tokens < 1:
        raise StudyError(f"`n_tokens` {n_tokens}: give at least 1.")
    with float32_products():
        return Continuer(editor.model, editor.layer, n_tokens).text(prompt, update)


def _read(texts: Texts) -> tuple[str, ...]:
    """Return texts, read from a file where a path is given."""
    return read_texts(Path(texts)).texts if isinstance(texts, (str, Path)) else tuple(texts)


def _checked_templates(templates: str | Sequence[str]) -> str | tuple[str, ...]:
    """Return a kind of templates, or templates with the bare one first."""
    if isinstance(templates, str):
        if templates not in {"five_words", "start_token"}:
            raise StudyError(
                f"`templates` {templates!r}: give five_words, start_token, or a list of templates."
            )
        return templates
    for template in templates:
        if template.count(SLOT) != 1 or not template.endswith(SLOT):
            raise StudyError(f"`templates`: {template!r} needs exactly one {SLOT}, at its end.")
    return (SLOT, *dict.fromkeys(template for template in templates if template != SLOT))


def _model_spec(
    name: str,
    source: str | Path,
    revision: str | None,
    dtype: str,
    start_token: str,
    *,
    chat_template: bool,
) -> ModelSpec:
    """Return a model as a study would name it. Raises StudyError where a value is not known."""
    try:
        return ModelSpec.model_validate(
            {
                "name": name,
                "source": str(source),
                "revision": revision,
                "dtype": str(dtype).removeprefix("torch."),
                "start_token": start_token,
                "chat_template": chat_template,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        what = f"`{first['loc'][0]}` {first['input']!r}: " if first["loc"] else ""
        raise StudyError(f"{what}{first['msg'].removeprefix('Value error, ')}.") from error
