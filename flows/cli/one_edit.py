"""One edit from the options: its request, its model, where its C comes from, and its forecasts."""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from editcollapse.catalog.editors import EDITORS
from editcollapse.catalog.methods import METHODS
from editcollapse.catalog.presets import preset_for
from editcollapse.cli.edit import texts_for
from editcollapse.config.spec import (
    CovarianceSpec,
    DatasetSpec,
    EvaluationSpec,
    GuardSpec,
    ModelSpec,
    StudySpec,
)
from editcollapse.config.study_file import with_absolute_paths
from editcollapse.data.corpora import CovarianceSource
from editcollapse.data.datasets import edit_request
from editcollapse.data.requests import EditRequest
from editcollapse.errors import MomentError, StudyError
from editcollapse.forecast.verdicts import ForecastReport
from editcollapse.models.files import ModelFiles, digest_model, locate_model, name_of
from editcollapse.runtime.settings import settings
from editcollapse.study.jobs import KnownSetup, ModelSetup
from editcollapse.study.results_folder import results_at
from editcollapse.study.sweep import SWEPT, chosen_layers, layers_in_words
from flows.cli.options import OneEdit
from flows.run.guard_steps import present_thresholds, published_folder
from storage.readers import known_setups

_INSTEAD = (
    "{what} a study with this model first (editcollapse {command} STUDY.toml), or say where C "
    "comes from: --covariance identity, or --covariance CORPUS.txt"
)
_FORECAST_FIRST = _INSTEAD.format(what="Forecast", command="forecast")
_SWEEP_FIRST = _INSTEAD.format(what="Sweep", command="sweep")


@dataclasses.dataclass(frozen=True, slots=True)
class SingleEdit:
    """A study of one request, and what is known of the model that it edits."""

    study: StudySpec
    known: KnownSetup | None
    """Layer, settings, templates and C of studies in the results folder; None where the study's
    own count."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Setting:
    """A request and the model that it edits, before any weight is loaded."""

    request: EditRequest
    files: ModelFiles
    spec: ModelSpec
    model_id: str

    @classmethod
    def of(cls, asked: OneEdit, name: str = "edited") -> "_Setting":
        """Look for what the options name.

        Raises:
            StudyError: the request is none.
            ModelError: the model is missing or unusable.
        """
        request = edit_request(asked.prompt, subject=asked.subject, target=asked.target)
        files = locate_model(asked.model, asked.revision)
        spec = ModelSpec(
            name=name or name_of(files.source),
            source=asked.model,
            revision=asked.revision,
            dtype=asked.dtype,
            start_token=asked.start_token,
            chat_template=asked.chat_template,
        )
        return cls(request, files, spec, digest_model(files, spec).model_id)

    def preset_model_setup(self, layer: int | None) -> ModelSetup:
        """The preset's v* settings with a layer, which is the preset's where left out.

        Raises:
            StudyError: the model has no such layer.
        """
        widths = self.files.widths
        preset = preset_for(None, self.files.architecture.family, widths)
        chosen, source = preset.layer_of(layer, "command line")
        if not 0 <= chosen < widths.n_layers:
            raise StudyError(
                f"--layer {chosen}: {self.files.source} has layers 0 to {widths.n_layers - 1}."
            )
        return ModelSetup(
            spec=self.spec,
            model_id=self.model_id,
            layer=chosen,
            layer_source=source,
            values=preset.values,
        )

    def known_model_setup(self, known: KnownSetup) -> ModelSetup:
        """Layer and v* settings of a set-up in the results folder."""
        return ModelSetup(
            spec=self.spec,
            model_id=self.model_id,
            layer=known.layer,
            layer_source=known.layer_source,
            values=known.values,
        )

    def covariance(self, asked: OneEdit) -> CovarianceSource:
        """Where C comes from; nothing is measured yet.

        Raises:
            StudyError: a number is out of range.
            MomentError: there is no such file of statistics, or C would be singular.
            DatasetError: there is no such corpus.
        """
        width = self.files.widths.d_key
        return CovarianceSource.of(asked.covariance, asked.tokens, asked.damping, width)


def forecast_of(asked: OneEdit, safe_below: float | None = None) -> ForecastReport:
    """The forecast of one edit, computed in this process; nothing is stored.

    Args:
        asked: the edit.
        safe_below: P(collapse) that no safe edit reaches; None: as the thresholds have it.

    Raises:
        EditCollapseError: the model or C is missing, or the model cannot take the edit.
    """
    setting = _Setting.of(asked)
    folder = results_at(asked.results)
    limits = present_thresholds(folder, setting.model_id)
    if safe_below is not None:
        limits = limits.accepting(safe_below)
    known = covariance = None
    if asked.is_from_results:
        known = _known_setup(setting, asked)
        job = setting.known_model_setup(known)
    else:
        covariance = setting.covariance(asked)
        job = setting.preset_model_setup(asked.layer)
    from editcollapse.models.loading import load_model
    from editcollapse.units.single import forecast_one, known_edit, new_edits

    loaded = load_model(setting.spec, settings().device)
    if known is not None:
        setup = known_edit(folder.name, job, known, setting.request)
    else:
        assert covariance is not None
        (setup,) = new_edits(loaded, (job,), covariance, setting.request)
    return forecast_one(loaded, setting.files.source, setup, limits)


def sweep_of(asked: OneEdit, layers: str) -> ForecastReport:
    """The forecasts of one edit at several layers, one entry a layer; nothing is stored.

    Args:
        asked: the edit.
        layers: which, as ``--layers`` says it.

    Raises:
        EditCollapseError: the model or C of a layer is missing, or the model cannot take the edit.
    """
    setting = _Setting.of(asked)
    chosen = chosen_layers(layers, setting.files.widths.n_layers, setting.files.source)
    folder = results_at(asked.results)
    limits = present_thresholds(folder, setting.model_id)
    known: Sequence[KnownSetup] = ()
    covariance = None
    if asked.is_from_results:
        known = _at_layers(_all_known(setting, asked, _SWEEP_FIRST), chosen, asked)
        jobs = [setting.known_model_setup(each) for each in known]
    else:
        covariance = setting.covariance(asked)
        jobs = [setting.preset_model_setup(layer) for layer in chosen]
    from editcollapse.models.loading import load_model
    from editcollapse.units.single import known_edit, new_edits, sweep_one

    loaded = load_model(setting.spec, settings().device)
    if covariance is not None:
        setups = new_edits(loaded, jobs, covariance, setting.request)
    else:
        pairs = zip(jobs, known, strict=True)
        setups = (known_edit(folder.name, job, each, setting.request) for job, each in pairs)
    return sweep_one(loaded, setting.files.source, chosen, setups, limits)


@contextlib.contextmanager
def study_of(
    asked: OneEdit, method: str, texts: str | None, guard: GuardSpec | None
) -> Iterator[SingleEdit]:
    """Give a study of one edit; its request lies in a file of its own meanwhile.

    Args:
        asked: the edit.
        method: who makes it.
        texts: file of the perplexity texts; None for those of ``texts_for``.
        guard: what to do where the forecast warns; None to make the edit in any case.

    Raises:
        EditCollapseError: the model, C or texts are missing, or an option is wrong.
    """
    _check_editor(asked, method, guard)
    setting = _Setting.of(asked, name="")
    known = _known_setup(setting, asked) if asked.is_from_results else None
    layer = known.layer if known else setting.preset_model_setup(asked.layer).layer
    covariance, statistics = CovarianceSpec(kind="identity"), None
    if known is None:
        found = setting.covariance(asked)
        covariance = found.spec
        statistics = None if found.statistics is None else str(found.statistics)
    model = setting.spec.model_copy(update={"layer": layer, "statistics": statistics})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one_edit.json"
        path.write_text(_record(setting.request), encoding="utf-8")
        parts = ("edit", setting.request.request_id[:8], method, guard and guard.policy)
        study = StudySpec.model_validate(
            {
                "name": "-".join(part for part in parts if part),
                "description": "One edit, asked for on the command line.",
                "methods": (method,),
                "models": (model,),
                "dataset": DatasetSpec(path=str(path)),
                "covariance": covariance,
                "evaluation": EvaluationSpec(texts=texts or str(texts_for(asked.model))),
                "guard": guard,
            }
        )
        yield SingleEdit(with_absolute_paths(study, Path.cwd()), known)


def _check_editor(asked: OneEdit, method: str, guard: GuardSpec | None) -> None:
    """Check what editors beyond rank one cannot have.

    Raises:
        StudyError: a guard, which forecasts; or C of a study, which is known of one layer.
    """
    if method not in EDITORS:
        return
    if guard is not None:
        raise StudyError(
            f"--guard forecasts rank-one methods ({', '.join(METHODS)}), and {method} is none. "
            "Leave --guard out."
        )
    if asked.is_from_results:
        raise StudyError(
            f"--method {method} needs C of all layers that it edits, and of studies in "
            f"{asked.results} only that of rank-one methods' layer is looked up. Say where C comes "
            "from, such as --covariance CORPUS.txt or --covariance samples."
        )


def _known_setup(setting: _Setting, asked: OneEdit) -> KnownSetup:
    """The set-up of a study in the results folder.

    Raises:
        MomentError: there is none for this model, or none of this layer, or several.
    """
    known = _all_known(setting, asked, _FORECAST_FIRST)
    if asked.layer is None:  # layers that were only swept are there for who asks for them
        chosen = [each for each in known if each.layer_source != SWEPT]
        known = chosen or known
    layers = sorted({each.layer for each in known})
    if asked.layer is not None:
        known = [each for each in known if each.layer == asked.layer]
    if not known:
        raise MomentError(
            f"no second moment C of layer {asked.layer} of {asked.model} in {asked.results}: "
            f"studies there edit layer {', '.join(map(str, layers))}. {_FORECAST_FIRST}."
        )
    if asked.layer is None and len(layers) > 1:
        raise MomentError(
            f"which layer? Studies in {asked.results} edit layers {', '.join(map(str, layers))} "
            f"of {asked.model}. Give --layer N."
        )
    return known[0]


def _all_known(setting: _Setting, asked: OneEdit, instead: str) -> list[KnownSetup]:
    """The set-ups of all studies in the results folder that edit or sweep a model.

    Raises:
        MomentError: there is none; ``instead`` says what to do.
    """
    published = published_folder(results_at(asked.results))
    known = [] if published is None else known_setups(published, setting.model_id)
    if not known:
        raise MomentError(
            f"no second moment C for {asked.model} in {asked.results}: no study there edits "
            f"this model with dtype {asked.dtype}, start token {asked.start_token!r} and "
            f"{'a' if asked.chat_template else 'no'} chat template. "
            f"{instead}."
        )
    return known


def _at_layers(
    known: Sequence[KnownSetup], layers: Sequence[int], asked: OneEdit
) -> list[KnownSetup]:
    """A set-up of each layer, all with the same templates.

    Raises:
        MomentError: no study in the results folder has swept all of the layers.
    """
    best: dict[int, KnownSetup] = {}
    for templates in dict.fromkeys(each.template_set_id for each in known):
        ours = [each for each in known if each.template_set_id == templates]
        found = {each.layer: each for each in reversed(ours) if each.layer in layers}
        if len(found) > len(best):
            best = found
    missing = [layer for layer in layers if layer not in best]
    if missing:
        raise MomentError(
            f"no second moment C of layers {layers_in_words(tuple(missing))} of {asked.model} in "
            f"{asked.results}. {_SWEEP_FIRST}, or other --layers."
        )
    return [best[layer] for layer in layers]


def _record(request: EditRequest) -> str:
    """The request as the text of a file of one flat record."""
    fields = {
        "subject": request.subject,
        "template": request.prompt,
        "target_new": request.target_new,
    }
    return json.dumps([fields], ensure_ascii=False)
