"""A layer sweep as jobs: every model of a study at many layers.

A sweep is a forecast of the study's edits at each layer, and its rows have the ids that those
edits would have there. C of all layers comes from one pass over the corpus, and a batch's keys of
all layers from one forward (``units.sweep``). Layers are written ``all``, or as indices and ranges
such as ``0-11,20``.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence

from editcollapse.errors import StudyError
from editcollapse.fingerprints import unit_key
from editcollapse.study.jobs import EditJob, ForecastJob, Job, Manifest
from editcollapse.study.plan import N_PROBES, CovariancePlan, ModelPlan, StudyPlan

ALL = "all"
_PART = re.compile(r"(\d{1,6})(?:\s*-\s*(\d{1,6}))?", re.ASCII)


def check_layers(text: str) -> None:
    """Raise StudyError where a text names no layers.

    Args:
        text: ``all``, or layers and ranges with commas between them.
    """
    _ranges(text)


def chosen_layers(text: str, n_layers: int, model: str) -> tuple[int, ...]:
    """Return the layers that a text names, each once, in ascending order.

    Args:
        text: ``all``, or layers and ranges with commas between them.
        n_layers: blocks of the model.
        model: its name, for messages.

    Raises:
        StudyError: the text names no layers, or one that the model does not have.
    """
    if text.strip() == ALL:
        return tuple(range(n_layers))
    ranges = _ranges(text)
    highest = max(last for _, last in ranges)
    if highest >= n_layers:
        raise StudyError(
            f"--layers {text}: layer {highest} of {model}, which has layers 0 to {n_layers - 1}. "
            "Leave it out, or give --layers all."
        )
    return tuple(sorted({layer for first, last in ranges for layer in range(first, last + 1)}))


def layers_in_words(layers: tuple[int, ...]) -> str:
    """Return some ascending layers as short text: ``0-3, 7``."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def named_layers(layers: Sequence[int]) -> str:
    """Return some ascending layers with their noun: ``layer 5``, ``layers 4-8``."""
    return f"layer{'s' * (len(layers) > 1)} {layers_in_words(tuple(layers))}"


def _ranges(text: str) -> list[tuple[int, int]]:
    """Return first and last layer of each part; of ``all``, none."""
    if text.strip() == ALL:
        return []
    found = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise StudyError(
                f"--layers {text!r}: {part.strip()!r} is neither a layer nor a range of layers. "
                "Write all, or for example 0-11,20."
            )
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if last < first:
            raise StudyError(
                f"--layers {text!r}: the range {part.strip()} runs backwards. Write {last}-{first}."
            )
        found.append((first, last))
    return found


SWEPT = "layer sweep"
"""``layer_source`` of a layer that neither the study nor a preset names."""


class SweepJob(Job):
    """Read the keys of a batch at some layers in one forward; bound every method's updates."""

    layers: tuple[EditJob, ...]
    """The batch at each layer, in ascending order, with all methods there are."""

    @classmethod
    def of(cls, layers: Sequence[EditJob]) -> "SweepJob":
        """Return the sweep of one batch, given what the edits at each layer would be."""
        whole = tuple(ForecastJob.of(edits).edits for edits in layers)
        return cls(results=whole[0].results, layers=whole)

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key("sweep", [edits.key for edits in self.layers], "held out")

    @property
    def label(self) -> str:
        """For people: model, layers and batch number in the study."""
        first = self.layers[0]
        which = layers_in_words(tuple(edits.model.layer for edits in self.layers))
        return f"{first.model.spec.name} layers {which}, batch {first.batch_label}"


@dataclasses.dataclass(frozen=True, slots=True)
class ModelSweep:
    """One model of a study and the layers that are swept."""

    study: StudyPlan
    layers: tuple[ModelPlan, ...]
    """The model at each layer, in ascending order; its templates are the same everywhere."""

    @property
    def layer_numbers(self) -> tuple[int, ...]:
        """The layers."""
        return tuple(each.setup.layer for each in self.layers)

    def covariance_plans(self) -> tuple[CovariancePlan, ...]:
        """Return each layer's covariance plan; all share one pass over the corpus."""
        records = self.study.requests.records[:N_PROBES]
        requests = tuple(record.request for record in records)
        return tuple(
            CovariancePlan(each.moment, self.layer_numbers, requests, self.study.study.seed)
            for each in self.layers
        )

    def jobs(self, templates: Manifest, moments: Sequence[Manifest]) -> Iterator[SweepJob]:
        """Yield one job a batch, in the dataset's order.

        Args:
            templates: the templates job's manifest.
            moments: the manifest of each layer's covariance job.
        """
        by_layer = [
            self.study.edit_jobs(layer, templates, moment)
            for layer, moment in zip(self.layers, moments, strict=True)
        ]
        for batch in zip(*by_layer, strict=True):
            yield SweepJob.of(batch)


@dataclasses.dataclass(frozen=True, slots=True)
class SweepPlan:
    """A study whose models are swept."""

    study: StudyPlan
    """With one entry a model: the first that the study file has."""
    models: tuple[ModelSweep, ...]
    """In the same order."""

    def of(self, model: ModelPlan) -> ModelSweep:
        """Return the sweep of one of the study's models."""
        return self.models[self.study.models.index(model)]


def plan_sweep(plan: StudyPlan, layers: str) -> SweepPlan:
    """Return the sweep of a study's models over some layers.

    A layer that the study edits keeps the entry's settings, so the forecast there is that of the
    study's edits; other layers take those of the model's first entry.

    Args:
        plan: the study.
        layers: ``all``, or as ``chosen_layers``.

    Raises:
        StudyError: a model has no such layer, or C of a layer is not known: published statistics
            are of one.
    """
    entries: dict[str, list[ModelPlan]] = {}
    for each in plan.models:
        entries.setdefault(each.setup.model_id, []).append(each)
    first = tuple(those[0] for those in entries.values())
    study = dataclasses.replace(plan, models=first)
    return SweepPlan(study, tuple(_model_sweep(study, own, layers) for own in entries.values()))


def _model_sweep(study: StudyPlan, entries: Sequence[ModelPlan], layers: str) -> ModelSweep:
    """Return the sweep of one model, given all its entries in the study file."""
    model = entries[0]
    name = model.setup.spec.name
    named = {each.setup.layer: each for each in entries}
    layer_numbers = chosen_layers(layers, model.files.widths.n_layers, name)
    unknown = [layer for layer in layer_numbers if layer not in named]
    if unknown and study.study.covariance.kind == "statistics":
        raise StudyError(
            f"a sweep needs C of layers {layers_in_words(tuple(unknown))} of {name}, and "
            '`covariance.kind` is "statistics", which are of one layer. Take "corpus", which is '
            f"read once for all, or --layers {','.join(map(str, sorted(named)))}."
        )
    return ModelSweep(
        study, tuple(named.get(layer) or _moved(model, layer) for layer in layer_numbers)
    )


def _moved(model: ModelPlan, layer: int) -> ModelPlan:
    """Return the plan of a model at another layer."""
    job = model.setup.model_copy(update={"layer": layer, "layer_source": SWEPT})
    return dataclasses.replace(
        model,
        setup=job,
        templates=model.templates.model_copy(update={"model": job}),
        moment=model.moment.model_copy(update={"model": job}),
    )
