"""A tuning as jobs: which layer and v* settings edit a model well for which none are published.

Facts that the model knows are halved by subject. A balanced random design of layers and settings,
whose trial 0 is what a study would take, runs by successive halving: all trials on a few facts, the
better third on twice as many, and so on. Half of the trials are kept for the neighbours of what is
best then: one setting one level up or down. What is best at the end, and trial 0, are then measured
on the other half. A trial is ordinary batches of edits and evaluations, with the ids that they have
in any study: what was computed is not computed again.

Sources: successive halving, Jamieson and Talwalkar (arXiv 1502.07943); the harmonic mean of
efficacy, generalization and locality, ROME's score S (arXiv 2202.05262, sec. 3.4).
"""

import dataclasses
import json
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from editcollapse.catalog.presets import ValueSettings
from editcollapse.config.base import Count, Spec
from editcollapse.data.requests import EditRequest
from editcollapse.errors import DatasetError, StudyError
from editcollapse.fingerprints import digest, unit_key
from editcollapse.rows.tuning import TuningFactRow, TuningTrialRow
from editcollapse.study.jobs import EditJob, Job, Manifest, ModelSetup, template_set_id_of
from editcollapse.study.plan import ModelPlan, StudyPlan
from editcollapse.study.sweep import ModelSweep, chosen_layers, plan_sweep

TUNED = "tuning"
"""``layer_source`` of a layer that a tuning tries, and source of the settings that it tries."""
TUNING, HELD_OUT, UNKNOWN, LEFT_OVER = "tuning", "held-out", "not known", "not needed"
"""Parts of the facts: ``tuning_facts.part``."""
GREEDY, LIKELIER = "greedy", "likelier"
"""When a fact counts as known: the target's tokens are the most likely ones; or it is likelier than
the target to be written."""
METHOD = "c_rome"
"""The method that is tuned: the remedy that people are to use."""
COMPARED = ("rome", METHOD)
"""Methods by which the winner and trial 0 are measured on held-out facts."""

LEARNING_RATES = (0.1, 0.2, 0.5, 1.0)
STEPS = (15, 25, 40)
CLAMP_FACTORS = (2.0, 4.0, 8.0, 16.0)
WEIGHT_DECAYS = (0.0, 1e-3, 0.05, 0.5)

_N_LAYERS = 5
"""Layers that are tried beside the one that a study would take."""
_SHALLOWEST, _DEEPEST = 0.05, 0.6
"""Depths between which they lie: facts are read from the subject's last token below the middle."""
_FEWEST = 12
"""Known facts below which a tuning is refused, or the laxer rule of knowing taken."""
_FIRST_RUNG = 6
"""Facts of the first rung, at least, where there are as many."""
_KEPT = 3
"""One trial of so many goes on to the next rung."""


class TuningSpec(Spec):
    """How much a tuning tries, and on what."""

    trials: Count = 24
    """Layers with settings that are tried, with what a study would take as the first."""
    facts: int = Field(default=48, ge=_FEWEST)
    """Known facts that are used at most: half to tune, half held out."""
    layers: str | None = None
    """Layers to try, such as `2-12,15`; where left out, six of the first 60 % of the blocks."""
    budget_minutes: float | None = Field(default=None, gt=0)
    """Minutes after which no more trials are begun, about; no id depends on it."""


class FactsJob(Job):
    """Ask the unedited model for facts, and part those that it knows."""

    model: ModelSetup
    requests: tuple[EditRequest, ...]
    n_facts: int
    seed: int

    @property
    def key(self) -> str:
        """Cache key of the job."""
        asked = [request.request_id for request in self.requests]
        return unit_key("tuning facts", self.model.model_id, asked, self.n_facts, self.seed)

    @property
    def fact_set_id(self) -> str:
        """Digest of what decides which facts are used for what."""
        return digest(self.key)


class TuningReportJob(Job):
    """Publish a tuning and write its page."""

    tuning_id: str
    fact_set_id: str
    name: str
    """The study's and the model's."""
    recorded: str
    """Digest of the row files that it covers."""

    @classmethod
    def of(cls, tuning: "ModelTuning", recorded: str) -> "TuningReportJob":
        """Return the job of one model's tuning, given the digest of the run's row files."""
        return cls(
            results=tuning.study.results,
            tuning_id=tuning.tuning_id,
            fact_set_id=tuning.facts_job().fact_set_id,
            name=tuning.name,
            recorded=recorded,
        )

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key("tuning report", self.tuning_id, self.name, self.recorded)


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """One layer with one set of v* settings."""

    number: int
    """0 is what a study would take."""
    layer: int
    values: ValueSettings


@dataclasses.dataclass(frozen=True, slots=True)
class Rung:
    """A round of successive halving."""

    number: int
    n_trials: int
    n_facts: int
    """Tuning facts of each trial, those of the rungs before included."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelTuning:
    """One model of a study that is tuned."""

    study: StudyPlan
    spec: TuningSpec
    model: ModelPlan
    """As the study has it."""
    sweep: ModelSweep
    """The model at each layer that is tried."""
    trials: tuple[Trial, ...]
    """Those that are drawn."""

    @property
    def n_neighbours(self) -> int:
        """Trials that are left for neighbours of the best."""
        return self.spec.trials - len(self.trials)

    def neighbours(self, best: Trial, tried: Sequence[Trial]) -> list[Trial]:
        """Return trials that differ from one in one setting by one level, and were not tried.

        Args:
            best: the one.
            tried: all that were; the numbers go on from there, and not beyond ``n_neighbours``.
        """
        known = {(trial.layer, trial.values) for trial in tried}
        found = [
            each for each in _one_level_off(best, self.sweep.layer_numbers) if each not in known
        ]
        room = len(self.trials) + self.n_neighbours - len(tried)
        return [
            Trial(number, layer, values)
            for number, (layer, values) in enumerate(found[: max(0, room)], start=len(tried))
        ]

    @property
    def name(self) -> str:
        """What the page is called: the study's name, with the model's where it has several."""
        models, own = self.study.models, self.model.setup.spec.name
        name = self.study.study.name
        return name if len(models) == 1 else f"{name}-{own}"

    @property
    def tuning_id(self) -> str:
        """Digest of the study and of what is tried."""
        asked = (self.spec.trials, self.spec.facts, self.sweep.layer_numbers)
        return digest("tuning", self.study.study_id, self.model.setup.model_id, asked)

    def facts_job(self) -> FactsJob:
        """Return the job that asks the unedited model for the study's facts."""
        return FactsJob(
            results=self.study.results,
            model=self.model.setup,
            requests=tuple(record.request for record in self.study.requests.records),
            n_facts=self.spec.facts,
            seed=self.study.study.seed,
        )

    def rungs(self, n_facts: int) -> tuple[Rung, ...]:
        """Return the rounds that so many tuning facts give."""
        n_rounds = 1 + max(0, int(math.log2(max(1, n_facts / _FIRST_RUNG))))
        found = []
        n_trials = len(self.trials)
        for number in range(n_rounds):
            found.append(Rung(number, n_trials, -(-n_facts // 2 ** (n_rounds - 1 - number))))
            n_trials = -(-n_trials // _KEPT)
        return tuple(found)

    def layer_plan(self, trial: Trial) -> ModelPlan:
        """Return the model at a trial's layer."""
        return self.sweep.layers[self.sweep.layer_numbers.index(trial.layer)]

    def edit_job(
        self,
        trial: Trial,
        requests: Sequence[EditRequest],
        methods: tuple[str, ...],
        templates: Manifest,
        moments: Sequence[Manifest],
        label: str,
    ) -> EditJob:
        """Return the job that edits some facts with a trial's layer and settings.

        Args:
            trial: which.
            requests: the facts.
            methods: by which.
            templates: the templates job's manifest.
            moments: the manifest of each layer's covariance job.
            label: the batch, for people.
        """
        layer = self.layer_plan(trial)
        moment = moments[self.sweep.layers.index(layer)]
        is_own = trial.number == 0
        update = {} if is_own else {"values": trial.values, "layer_source": TUNED}
        return EditJob(
            results=self.study.results,
            model=layer.setup.model_copy(update=update),
            methods=methods,
            templates=templates.values,
            template_set_id=template_set_id_of(layer.setup.model_id, templates.values),
            covariance_id=layer.moment.covariance_id,
            damping=layer.moment.covariance.damping,
            moment=moment.tensors,
            requests=tuple(requests),
            batch_index=0,
            batch_label=label,
        )


def plan_tuning(plan: StudyPlan, spec: TuningSpec) -> tuple[ModelTuning, ...]:
    """Return the tuning of each model of a study.

    Args:
        plan: models, facts, and how C and perplexity are measured; its methods do not matter.
        spec: what is tried.

    Raises:
        StudyError: a model has no such layer, or C of a layer is not known.
    """
    return tuple(_model_tuning(plan, spec, model) for model in plan.models)


def _model_tuning(plan: StudyPlan, spec: TuningSpec, model: ModelPlan) -> ModelTuning:
    n_layers, own = model.files.widths.n_layers, model.setup.layer
    if spec.layers is not None:
        layers = chosen_layers(spec.layers, n_layers, model.setup.spec.name)
    elif plan.study.covariance.kind == "statistics":  # which are of one layer
        layers = (own,)
    else:
        layers = layers_by_depth(n_layers)
    layers = tuple(sorted({own, *layers}))
    alone = dataclasses.replace(plan, models=(model,))
    (sweep,) = plan_sweep(alone, ",".join(map(str, layers))).models
    n_drawn = -(-spec.trials // 2)
    trials = tuple(design(model.setup, layers, n_drawn, plan.study.seed))
    return ModelTuning(plan, spec, model, sweep, trials)


def layers_by_depth(n_layers: int) -> tuple[int, ...]:
    """Return the layers that are tried of a model with so many blocks, in ascending order."""
    last = n_layers - 1
    first = min(max(1, round(_SHALLOWEST * last)), last)
    deepest = max(first, round(_DEEPEST * last))
    step = (deepest - first) / (_N_LAYERS - 1)
    return tuple(sorted({first + round(step * each) for each in range(_N_LAYERS)}))


def design(setup: ModelSetup, layers: Sequence[int], n_trials: int, seed: int) -> Iterator[Trial]:
    """Yield different trials: what a study would take, then a balanced random design.

    Of each setting, and of the layers, every level is drawn as often as any other.

    Args:
        setup: the model as a study has it.
        layers: those that are tried.
        n_trials: of them, at most.
        seed: draws the order of the levels.
    """
    yield Trial(0, setup.layer, setup.values)
    levels = (layers, LEARNING_RATES, STEPS, CLAMP_FACTORS, WEIGHT_DECAYS)
    columns = [
        _shuffled(each, n_trials - 1, random.Random(digest("design", seed, place)))
        for place, each in enumerate(levels)
    ]
    seen = {(setup.layer, setup.values)}
    number = 1
    for layer, rate, steps, clamp, decay in zip(*columns, strict=True):
        values = dataclasses.replace(
            setup.values,
            learning_rate=float(rate),
            steps=int(steps),
            clamp_factor=float(clamp),
            weight_decay=float(decay),
        )
        if (int(layer), values) in seen:
            continue
        seen.add((int(layer), values))
        yield Trial(number, int(layer), values)
        number += 1


def _one_level_off(trial: Trial, layers: Sequence[int]) -> Iterator[tuple[int, ValueSettings]]:
    """Yield layer and settings with one of them one level up or down."""
    for layer in _beside(trial.layer, layers):
        yield int(layer), trial.values
    levels: tuple[tuple[str, Sequence[float]], ...] = (
        ("learning_rate", LEARNING_RATES),
        ("clamp_factor", CLAMP_FACTORS),
        ("weight_decay", WEIGHT_DECAYS),
        ("steps", STEPS),
    )
    for name, own in levels:
        for level in _beside(getattr(trial.values, name), own):
            changed: dict[str, Any] = {name: level}
            yield trial.layer, dataclasses.replace(trial.values, **changed)


def _beside(level: float, levels: Sequence[float]) -> list[float]:
    """Return the next level above and the next below."""
    above = [each for each in levels if each > level]
    below = [each for each in levels if each < level]
    return [*sorted(above)[:1], *sorted(below)[-1:]]


def _shuffled(levels: Sequence[float], n: int, source: random.Random) -> list[float]:
    """Return n levels in random order, none more often than another, but for the rest."""
    found: list[float] = []
    while len(found) < n:
        found += source.sample(list(levels), len(levels))
    return found[:n]


@dataclasses.dataclass(frozen=True, slots=True)
class AskedFact:
    """A fact, and what the unedited model says to it."""

    request: EditRequest
    is_first_token: bool
    is_greedy: bool
    """Whether the tokens of ``target_true`` are the most likely ones."""
    target_true_nll: float
    """Mean over its tokens, nats."""
    target_new_nll: float

    def is_known(self, known_by: str) -> bool:
        """Return whether the model knows the fact, by a rule."""
        likelier = self.target_true_nll < self.target_new_nll
        return likelier and (self.is_greedy or known_by == LIKELIER)


def enough_known(facts: Sequence[AskedFact], n_facts: int) -> bool:
    """Return whether there are facts enough, half of them first-token ones, by the strict rule."""
    known = [fact.is_first_token for fact in facts if fact.is_known(GREEDY)]
    return min(sum(known), len(known) - sum(known)) >= -(-n_facts // 2)


def parted(
    facts: Sequence[AskedFact],
    fact_set_id: str,
    model_id: str,
    n_facts: int,
    seed: int,
) -> list[TuningFactRow]:
    """Return what each fact is used for.

    A subject's facts stay together. Half are first-token facts where the model knows so many; in
    each part they and the others alternate, so that a rung has both.

    Args:
        facts: all that were asked.
        fact_set_id: of the job.
        model_id: of the model.
        n_facts: to use at most.
        seed: draws which subjects are in which part.

    Raises:
        DatasetError: the model knows too few.
    """
    known_by = GREEDY if sum(fact.is_known(GREEDY) for fact in facts) >= _FEWEST else LIKELIER
    known = [fact for fact in facts if fact.is_known(known_by)]
    if len(known) < _FEWEST:
        raise DatasetError(
            f"of {len(facts)} facts the unedited model knows {len(known)}: there it gives the true "
            f"object a higher probability than the new one. A tuning needs {_FEWEST} or more. Give "
            "--facts a file of facts that this model knows."
        )
    by_kind = [[fact for fact in known if fact.is_first_token is kind] for kind in (True, False)]
    half = n_facts // 2
    n_first = min(len(by_kind[0]), max(half, n_facts - len(by_kind[1])))
    n_of = {True: n_first, False: min(len(by_kind[1]), n_facts - n_first)}
    subjects = sorted(
        {fact.request.subject for fact in known}, key=lambda each: digest("part", seed, each)
    )
    part_of: dict[str, str] = {}
    chosen: dict[tuple[str, bool], list[AskedFact]] = {
        (part, kind): [] for part in (TUNING, HELD_OUT) for kind in (True, False)
    }
    for subject in subjects:
        own = [fact for fact in known if fact.request.subject == subject]
        rarer = any(fact.is_first_token for fact in own)
        part = min((TUNING, HELD_OUT), key=lambda each: len(chosen[each, rarer]))
        part_of[subject] = part
        for fact in own:
            kind = fact.is_first_token
            room = -(-n_of[kind] // 2) if part == TUNING else n_of[kind] // 2
            if len(chosen[part, kind]) < room:
                chosen[part, kind].append(fact)
    places = {
        (part, fact.request.request_id): place
        for part in (TUNING, HELD_OUT)
        for place, fact in enumerate(_alternating(chosen[part, True], chosen[part, False]))
    }

    def row(fact: AskedFact) -> TuningFactRow:
        request_id, part = fact.request.request_id, part_of.get(fact.request.subject, UNKNOWN)
        place = places.get((part, request_id))
        if place is None:
            part = LEFT_OVER if fact.is_known(known_by) else UNKNOWN
        return TuningFactRow(
            fact_set_id=fact_set_id,
            model_id=model_id,
            request_id=request_id,
            part=part,
            place=place,
            known_by=known_by,
            is_first_token=fact.is_first_token,
            is_greedy=fact.is_greedy,
            target_true_nll=fact.target_true_nll,
            target_new_nll=fact.target_new_nll,
        )

    return [row(fact) for fact in facts]


def _alternating(first: Sequence[AskedFact], others: Sequence[AskedFact]) -> list[AskedFact]:
    """Return both kinds of facts spread evenly over each other."""
    spread = [
        ((place + 0.5) / len(kind), order, fact)
        for order, kind in enumerate((first, others))
        for place, fact in enumerate(kind)
    ]
    return [fact for _, _, fact in sorted(spread, key=lambda each: each[:2])]


def facts_of(rows: Sequence[TuningFactRow], part: str) -> list[str]:
    """Return the ids of the facts of one part, in the order of use."""
    own = [(row.place, row.request_id) for row in rows if row.part == part]
    return [request_id for _, request_id in sorted(own, key=lambda each: each[0] or 0)]


def best_first(rows: Sequence[TuningTrialRow]) -> list[TuningTrialRow]:
    """Return trials of one rung, the best first; equals by the least damage, then fewer steps."""
    return sorted(
        rows,
        key=lambda row: (
            -row.objective,
            row.worst_ratio if math.isfinite(row.worst_ratio) else math.inf,
            row.steps,
            row.trial,
        ),
    )


def promoted(ranked: Sequence[TuningTrialRow]) -> Sequence[TuningTrialRow]:
    """Return the trials of a rung that go on to the next, given all of them, the best first."""
    return ranked[: -(-len(ranked) // _KEPT)]


def best_trial(rows: Sequence[TuningTrialRow]) -> TuningTrialRow:
    """Return the best trial of the last rung of a tuning.

    Args:
        rows: of one tuning; held-out ones do not count.

    Raises:
        StudyError: there are none.
    """
    tried = [row for row in rows if row.part == TUNING]
    if not tried:
        raise StudyError("no trial has been measured yet. Run the same command again.")
    last = max(row.rung for row in tried)
    return best_first([row for row in tried if row.rung == last])[0]


def preset_block(row: TuningTrialRow) -> str:
    """Return a trial's layer and settings as lines of a study file."""
    return "\n".join(
        (
            "[[models]]",
            f"name = {json.dumps(row.model)}",
            f"layer = {row.layer}",
            "",
            "[models.value]",
            f"steps = {row.steps}",
            f"learning_rate = {row.learning_rate!r}",
            f"weight_decay = {row.weight_decay!r}",
            f"clamp_factor = {row.clamp_factor!r}",
        )
    )
