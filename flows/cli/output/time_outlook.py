"""How long what is left of a study would take: by what jobs of the same models took here before.

Of the same model, kind of job and machine, on the device that was used last; nothing is scaled from
one model, machine or device to another. What has never run here has no time.
"""

import dataclasses
from collections.abc import Mapping

from editcollapse.errors import ResultsError
from editcollapse.runtime.environment import machine
from editcollapse.study.plan import ModelPlan, StudyPlan
from editcollapse.study.results_folder import results_at
from flows.run.guard_steps import published_folder
from storage.readers import JobRate, job_rates

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_TWO = 2
"""From two of a unit on, a time is told in it."""


@dataclasses.dataclass(frozen=True, slots=True)
class KnownTimes:
    """What jobs of one model took."""

    rates: Mapping[str, JobRate]
    """By kind of provenance."""
    reason: str | None = None
    """Why nothing is known; None where the results could be asked."""

    def of_jobs(self, kind: str, n_jobs: int) -> float | None:
        """Return the seconds of some jobs, each as long as those before; None where unknown."""
        rate = self.rates.get(kind)
        if n_jobs == 0:
            return 0.0
        return None if rate is None else n_jobs * rate.seconds / rate.n_jobs

    def of_items(self, kind: str, n_items: float) -> float | None:
        """Return the seconds of some items, such as edits or tokens; None where unknown."""
        rate = self.rates.get(kind)
        if n_items == 0:
            return 0.0
        if rate is None or rate.n_items == 0:
            return None
        return n_items * rate.seconds / rate.n_items


def known_times(plan: StudyPlan, model: ModelPlan) -> KnownTimes:
    """Return what jobs of a model have taken on this machine, as last published."""
    try:
        published = published_folder(results_at(plan.results))
        if published is None:
            return KnownTimes({})
        rates = job_rates(
            published,
            model.setup.model_id,
            machine=machine(),
            n_methods=len(plan.study.methods),
            evaluation_id=plan.evaluation_id,
        )
    except ResultsError as error:  # a plan says what it knows
        return KnownTimes({}, str(error))
    return KnownTimes(rates)


@dataclasses.dataclass(frozen=True, slots=True)
class TimeOutlook:
    """How long what is left to run of one model would take, estimated."""

    seconds: float | None
    """Of the jobs whose kind has run before; None where none has."""
    unknown: tuple[str, ...]
    """Kinds of jobs that are left to run and have not run before."""
    n_jobs: int
    """Jobs that the estimate is made from."""
    device: str | None
    """Where they ran; None where there are none."""
    reason: str | None
    """Why the results could not be asked; None where they could."""


def time_outlook(times: KnownTimes, left: Mapping[str, float | None]) -> TimeOutlook:
    """Return how long what is left would take.

    Args:
        times: what is known of the model.
        left: seconds of each kind of job that is left to run; None where it is not known.
    """
    known = [seconds for seconds in left.values() if seconds is not None]
    devices = {rate.device for rate in times.rates.values()} - {"none"}
    return TimeOutlook(
        seconds=sum(known) if known or not left else None,
        unknown=tuple(kind for kind, seconds in left.items() if seconds is None),
        n_jobs=sum(rate.n_jobs for rate in times.rates.values()),
        device=min(devices, default=None),
        reason=times.reason,
    )


def time_sentence(outlook: TimeOutlook) -> str:
    """Return how long what is left would take, and how that is known, for people."""
    if outlook.reason is not None:
        return f"not known: {outlook.reason}"
    if outlook.seconds is None:
        return (
            "not known yet: no job of this model has run on this machine. A run with a small "
            "`limit` under [dataset] tells."
        )
    if not outlook.seconds and not outlook.unknown:
        return "nothing is left to run"
    basis = f"from {outlook.n_jobs} jobs of this model on {outlook.device or 'this machine'}"
    if outlook.unknown:
        kinds = ", ".join(outlook.unknown)
        return f"about {time_in_words(outlook.seconds)}, {basis}; and not known yet: {kinds}"
    return f"about {time_in_words(outlook.seconds)}, {basis}"


def time_in_words(seconds: float) -> str:
    """Return a time for people: ``40 s``, ``3 min``, ``5 h``, ``4 days``."""
    for size, unit in ((_DAY, "days"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= _TWO * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "1 s"
