"""The trials of a tuning: rung by rung, then the best and trial 0 on facts that were held out."""

import dataclasses
import logging
import time
from collections.abc import Sequence

from editcollapse.rows.frames import rows_of
from editcollapse.rows.study import ValueSettingsRow
from editcollapse.rows.tuning import TuningFactRow, TuningTrialRow
from editcollapse.study.artifacts import ArtifactRef
from editcollapse.study.jobs import EditJob, Manifest, settings_id_of
from editcollapse.study.tuning import (
    COMPARED,
    HELD_OUT,
    METHOD,
    TUNED,
    TUNING,
    ModelTuning,
    Rung,
    Trial,
    best_first,
    facts_of,
    promoted,
)
from editcollapse.study.tuning_scores import TrialEdits, scores_of, unedited_perplexity
from flows.run.study_run import StudyRun
from tasks.editing import apply_edits
from tasks.evaluation import evaluate_edits

logger = logging.getLogger(__name__)

_JOBS = 2
"""Jobs of a batch: its edits and their evaluation."""
_MINUTE = 60.0
_WITHOUT_HELD_OUT = 0.8
"""Share of the time after which no more neighbours are tried: held-out facts take the rest."""


class Budget:
    """Time that a tuning may take, from now on; each rung may use its share of the work.

    Args:
        minutes: None for as long as it takes.
    """

    def __init__(self, minutes: float | None) -> None:
        self._start = time.monotonic()
        self._seconds = None if minutes is None else _MINUTE * minutes

    def is_spent(self, share: float) -> bool:
        """Return whether a share of the time is over."""
        if self._seconds is None:
            return False
        return time.monotonic() - self._start > share * self._seconds


def n_trial_jobs(tuning: ModelTuning, n_facts: int) -> int:
    """Return the jobs of a model's trials, if it knows so many facts."""
    rungs = tuning.rungs(-(-n_facts // 2))
    return _JOBS * (sum(rung.n_trials for rung in rungs) + 2) + _neighbour_jobs(tuning)


def _neighbour_jobs(tuning: ModelTuning) -> int:
    """Return the jobs of the neighbours at most: on the first rung's facts, then on the rest."""
    return 2 * _JOBS * tuning.n_neighbours


class Halving:
    """The trials of one model.

    Args:
        run: has listed ``n_trial_jobs``.
        tuning: the model, and what is tried.
        templates: what its templates unit returned.
        moments: what the covariance unit of each layer returned.
        unedited: what its unedited unit returned.
        facts: what its facts unit returned.
        budget: what time there is.
    """

    def __init__(
        self,
        run: StudyRun,
        tuning: ModelTuning,
        templates: Manifest,
        moments: Sequence[Manifest],
        unedited: Manifest,
        facts: Manifest,
        budget: Budget,
    ) -> None:
        self._run, self._tuning = run, tuning
        self._templates, self._moments = templates, moments
        self._perplexity = unedited_perplexity(run.store, unedited)
        self._budget = budget
        (ref,) = (ref for ref in facts.rows if ref.table == "tuning_facts")
        self._facts: list[TuningFactRow] = list(rows_of("tuning_facts", run.store.frame(ref)))
        self._first = frozenset(row.request_id for row in self._facts if row.is_first_token)
        self._requests = {each.request_id: each for each in tuning.facts_job().requests}
        self._batches: dict[int, list[TrialEdits]] = {}
        self._last: dict[int, TuningTrialRow] = {}

    def run(self) -> None:
        """Make all trials and hand their rows to the database."""
        tuning = self._tuning
        to_tune, held_out = facts_of(self._facts, TUNING), facts_of(self._facts, HELD_OUT)
        rungs = tuning.rungs(len(to_tune))
        n_listed = n_trial_jobs(tuning, tuning.spec.facts)
        n_planned = n_trial_jobs(tuning, 2 * len(to_tune))
        self._run.listed.correct(n_listed, n_planned)
        work = _work(rungs, tuning.n_neighbours, len(held_out))
        trials = tuning.trials
        best = trials[0]
        for rung, share in zip(rungs, work, strict=True):
            rows = self._rung(rung, trials[: rung.n_trials], to_tune, share)
            by_number = {each.number: each for each in trials}
            ranked = best_first(rows)
            best = by_number[ranked[0].trial]
            trials = tuple(by_number[row.trial] for row in promoted(ranked))
        best = self._among_neighbours(best, rungs, to_tune)
        compared = [best] if best.number == 0 else [tuning.trials[0], best]
        self._run.listed.correct(_JOBS * 2, _JOBS * len(compared))
        for trial in compared:
            self._batches[trial.number] = [
                self._edited(trial, held_out, COMPARED, "of held-out facts")
            ]
            self._enter(HELD_OUT, len(rungs), trial, COMPARED)

    def _rung(
        self, rung: Rung, trials: Sequence[Trial], facts: Sequence[str], share: float
    ) -> list[TuningTrialRow]:
        """Make the trials of one rung, on those of its facts that they have not been made on."""
        n_before = (
            0 if rung.number == 0 else self._tuning.rungs(len(facts))[rung.number - 1].n_facts
        )
        rows: list[TuningTrialRow] = []
        for place, trial in enumerate(trials):
            if place and self._budget.is_spent(share):
                logger.info(
                    "rung %s: the budget lets %s of %s trials be made",
                    rung.number,
                    place,
                    len(trials),
                )
                break
            rows.append(self._on(trial, facts, n_before, rung))
        self._run.listed.correct(_JOBS * rung.n_trials, _JOBS * len(rows))
        return rows

    def _among_neighbours(self, best: Trial, rungs: Sequence[Rung], facts: Sequence[str]) -> Trial:
        """Return the best trial after its neighbours have been tried, round by round.

        All of a round are tried on the first rung's facts, the better third on the rest of them.
        """
        tuning, first, last = self._tuning, rungs[0], rungs[-1]
        tried, n_made = list(tuning.trials), 0
        rows = {best.number: self._last[best.number]}
        while beside := tuning.neighbours(best, tried):
            if self._budget.is_spent(_WITHOUT_HELD_OUT):
                break
            tried += beside
            by_number = {each.number: each for each in (best, *beside)}
            found = [self._on(trial, facts, 0, first) for trial in beside]
            n_made += len(beside)
            better = promoted(best_first(found))
            if last.number > first.number:
                better = [
                    self._on(by_number[row.trial], facts, first.n_facts, last) for row in better
                ]
                n_made += len(better)
            rows |= {row.trial: row for row in better}
            winner = best_first([rows[best.number], *better])[0].trial
            if winner == best.number:
                break
            best = by_number[winner]
        self._run.listed.correct(_neighbour_jobs(tuning), _JOBS * n_made)
        return best

    def _on(self, trial: Trial, facts: Sequence[str], n_before: int, rung: Rung) -> TuningTrialRow:
        """Make a trial on those of a rung's facts that it lacks; return its score on all."""
        label = f"of trial {trial.number}, facts {n_before + 1} to {rung.n_facts}"
        done = self._edited(trial, facts[n_before : rung.n_facts], (METHOD,), label)
        self._batches.setdefault(trial.number, []).append(done)
        (row,) = self._enter(TUNING, rung.number, trial, (METHOD,))
        self._last[trial.number] = row
        return row

    def _edited(
        self, trial: Trial, facts: Sequence[str], methods: tuple[str, ...], label: str
    ) -> TrialEdits:
        """Edit and measure some facts; hand the rows to the database."""
        run = self._run
        requests = [self._requests[each] for each in facts]
        job = self._tuning.edit_job(trial, requests, methods, self._templates, self._moments, label)
        edits = run.compute(apply_edits, job)
        done = run.compute(evaluate_edits, run.plan.evaluate_job(job, edits))
        run.rows.add([*edits.rows, *done.rows, *self._settings(job)])
        return TrialEdits.of(run.store, edits, done)

    def _settings(self, job: EditJob) -> list[ArtifactRef]:
        """Return the row of a trial's settings, unless they are those that a study would take."""
        setup = job.model
        if setup.settings_id == self._tuning.model.setup.settings_id:
            return []
        values = dataclasses.asdict(setup.values)
        row = ValueSettingsRow(settings_id=setup.settings_id, source=TUNED, **values)
        return [self._run.store.put_rows("value_settings", [row])]

    def _enter(
        self, part: str, rung: int, trial: Trial, methods: tuple[str, ...]
    ) -> list[TuningTrialRow]:
        """Score a trial on all its facts so far; hand the rows to the database."""
        tuning, run = self._tuning, self._run
        layer = tuning.layer_plan(trial)
        rows = []
        for method in methods:
            scores = scores_of(
                self._batches[trial.number], method, self._first, self._perplexity, run.rule
            )
            rows.append(
                TuningTrialRow(
                    tuning_id=tuning.tuning_id,
                    study=tuning.study.study.name,
                    model=tuning.model.setup.spec.name,
                    model_id=tuning.model.setup.model_id,
                    fact_set_id=tuning.facts_job().fact_set_id,
                    evaluation_id=tuning.study.evaluation_id,
                    covariance_id=layer.moment.covariance_id,
                    part=part,
                    rung=rung,
                    trial=trial.number,
                    method=method,
                    layer=trial.layer,
                    settings_id=settings_id_of(trial.values),
                    **dataclasses.asdict(trial.values),
                    **dataclasses.asdict(scores),
                )
            )
            logger.info(
                "trial %s, layer %s, on %s %s facts by %s: objective %.3f",
                trial.number,
                trial.layer,
                scores.n_facts,
                part,
                method,
                scores.objective,
            )
        run.rows.add([run.store.put_rows("tuning_trials", rows)])
        return rows


def _work(rungs: Sequence[Rung], n_neighbours: int, n_held_out: int) -> list[float]:
    """Return the share of all edits that are made when each rung ends."""
    n_before = 0
    edits: list[int] = []
    for rung in rungs:
        edits.append(rung.n_trials * (rung.n_facts - n_before))
        n_before = rung.n_facts
    total = sum(edits) + n_neighbours * rungs[0].n_facts + 2 * n_held_out
    return [sum(edits[: place + 1]) / total for place in range(len(edits))]
