"""A study's plan: what would run, what is cached or missing, time and memory; touches no GPU."""

import dataclasses
from collections.abc import Iterable, Iterator

from editcollapse.catalog.methods import METHODS
from editcollapse.config.spec import ROWS_AT_ONCE, CovarianceSpec, StudySpec
from editcollapse.forecast.verdicts import Verdict, in_words, support_warning
from editcollapse.runtime.environment import free_host_bytes, host_bytes
from editcollapse.runtime.memory import (
    ModelSize,
    Work,
    default_tokens,
    forward_bytes,
    loaded_bytes,
    packed_bytes,
)
from editcollapse.runtime.settings import settings
from editcollapse.study.answer_jobs import ModelAnswers
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.generation_jobs import MostDamaging
from editcollapse.study.guarded import known_jobs
from editcollapse.study.jobs import EditJob, Manifest
from editcollapse.study.locks import cached_manifest
from editcollapse.study.missing_inputs import ExpectedModel, MissingInput, expected_models
from editcollapse.study.model_editors import ModelEditors
from editcollapse.study.plan import CovariancePlan, ModelPlan, StudyPlan
from editcollapse.study.sequence_jobs import EditorBatchJob
from editcollapse.study.sequences import n_edits_of
from flows.cli.output.subjects import ModelSubjects, subjects_known, subjects_of
from flows.cli.output.time_outlook import (
    KnownTimes,
    TimeOutlook,
    known_times,
    time_in_words,
    time_outlook,
    time_sentence,
)
from flows.run.steps import TEXTS

_GIB = 1 << 30
_WORK = {
    "values": "v*",
    "answers": "answers",
    "evaluation": "evaluation",
    "moment": "covariance",
}


@dataclasses.dataclass(frozen=True, slots=True)
class JobCount:
    """Units of one kind: how many there are and how many are cached."""

    kind: str
    n_units: int
    n_cached: int
    seconds: float | None = None
    """What is left of them takes, estimated; None where no such job has run here."""

    @property
    def n_left(self) -> int:
        """Units that are not cached."""
        return self.n_units - self.n_cached


@dataclasses.dataclass(frozen=True, slots=True)
class ForwardOutlook:
    """The forwards of one kind of work at their default size."""

    work: Work
    n_tokens: int
    """Padded tokens of one forward."""
    n_bytes: int
    """What it takes beside the weights."""


@dataclasses.dataclass(frozen=True, slots=True)
class DeviceOutlook:
    """A model's forwards on one type of device."""

    device: str
    forwards: tuple[ForwardOutlook, ...]
    packed_bytes: int
    """Packed copies of the weights, at most."""
    free: int | None
    """Free bytes here; None where it is not known without asking the device."""

    @property
    def largest(self) -> int:
        """Bytes of the largest forward: one kind of work runs at a time."""
        return max(forward.n_bytes for forward in self.forwards)


@dataclasses.dataclass(frozen=True, slots=True)
class GuardOutlook:
    """A model's guard: its policy, and the forecast from which it acts."""

    policy: str
    acts_at: Verdict
    acts_from: float
    """Change bound, ratio."""
    basis: str


@dataclasses.dataclass(frozen=True, slots=True)
class ModelOutlook:
    """Jobs and memory of one model of a study; bytes estimated from sizes alone."""

    name: str
    source: str
    family: str
    layer: int
    layer_source: str
    value_steps: int
    covariance: str
    guard: GuardOutlook | None
    units: tuple[JobCount, ...]
    time: TimeOutlook
    weight_bytes: int
    moment_bytes: int
    """C, its halves and their factors: in main memory, whatever the device."""
    devices: tuple[DeviceOutlook, ...]
    support: str | None
    """A sentence where C will have too few tokens for verdicts."""


@dataclasses.dataclass(frozen=True, slots=True)
class StudyOutlook:
    """Outlook of a study whose inputs are here."""

    study: str
    study_id: str
    methods: tuple[str, ...]
    n_requests: int
    n_edits: int
    """Single edits."""
    sequences: str | None
    """What sequences the study asks for, in words; None for none."""
    text_set: str
    n_texts: int
    """Perplexity texts."""
    rejected_records: tuple[str, ...]
    rejected_texts: tuple[str, ...]
    models: tuple[ModelOutlook, ...]
    subjects: tuple[ModelSubjects, ...]
    """Where they stand under each model's tokenizer."""
    missing: tuple[MissingInput, ...] = ()
    """None is."""


@dataclasses.dataclass(frozen=True, slots=True)
class StudySurvey:
    """Outlook of a study some of whose inputs are missing."""

    study: str
    methods: tuple[str, ...]
    covariance: CovarianceSpec
    models: tuple[ExpectedModel, ...]
    missing: tuple[MissingInput, ...]
    subjects: tuple[ModelSubjects, ...]
    """Where they stand, as far as tokenizers and the dataset are here."""


def study_outlook(plan: StudyPlan) -> StudyOutlook:
    """What a planned study would run, and an estimate of its memory; nothing is written.

    Raises:
        ModelError: a tokenizer cannot be loaded, or does not fit the model's settings.
    """
    return StudyOutlook(
        study=plan.study.name,
        study_id=plan.study_id,
        methods=plan.study.methods,
        n_requests=len(plan.requests.records),
        n_edits=plan.n_edits,
        sequences=_sequences_in_words(plan),
        text_set=plan.texts.name,
        n_texts=len(plan.chosen_texts),
        rejected_records=tuple(
            f"record {each.record_index}: {each.reason}" for each in plan.requests.rejections
        ),
        rejected_texts=tuple(
            f"text {each.record_index}: {each.reason}" for each in plan.texts.rejections
        ),
        models=tuple(_model_outlook(plan, model) for model in plan.models),
        subjects=subjects_of(plan),
    )


def _sequences_in_words(plan: StudyPlan) -> str | None:
    """Return what sequences a study asks for."""
    spec = plan.study.sequence
    if spec is None:
        return None
    n_edits = n_edits_of(spec, len(plan.requests.records), spec.edits_per_step[0])
    steps = ", ".join(map(str, spec.edits_per_step))
    kinds = len(spec.edits_per_step) * len(spec.restraints)
    n_sequences = len(plan.models) * len(spec.editors) * kinds * spec.orders
    many = "" if len(spec.restraints) == 1 else f"{len(spec.restraints)} restraints x "
    return (
        f"{len(plan.models)} models x {len(spec.editors)} editors x {many}{spec.orders} orders = "
        f"{n_sequences} sequences of {n_edits} edits, {steps} a step"
        + (", each until it collapses" if spec.ends_at_collapse else "")
    )


def study_survey(study: StudySpec, missing: tuple[MissingInput, ...]) -> StudySurvey:
    """Outlook of a study some of whose inputs are missing.

    Raises:
        StudyError: a preset does not exist.
        ModelError: a layer is out of a preset's range, or a tokenizer cannot be loaded.
        DatasetError: the dataset is here and cannot be used.
    """
    return StudySurvey(
        study=study.name,
        methods=study.methods,
        covariance=study.covariance,
        models=tuple(expected_models(study)),
        missing=missing,
        subjects=subjects_known(study, missing),
    )


def _model_outlook(plan: StudyPlan, model: ModelPlan) -> ModelOutlook:
    """The cached jobs of a model, and an estimate of its memory."""
    templates, moment = cached_manifest(model.templates), cached_manifest(model.moment)
    counts = _BatchCounts(n_batches=plan.n_batches if plan.study.rank_one_methods else 0)
    editors = ModelEditors(plan, model)
    moments = [cached_manifest(each.moment) is not None for each in editors.covariance_plans()]
    unedited = cached_manifest(plan.unedited_job(model))
    worst = None
    if unedited is not None:
        n_worst = plan.study.evaluation.continuations
        worst = MostDamaging(ArtifactStore(plan.results), n_worst, unedited)
    if templates is not None and moment is not None and plan.study.rank_one_methods:
        counts = _batch_counts(plan, known_jobs(plan, model, templates, moment), worst)
    forecasts: tuple[JobCount, ...] = ()
    if model.guard is not None:
        forecasts = (JobCount("forecasts", plan.n_batches, counts.n_forecast),)
    times = known_times(plan, model)
    counted = (
        JobCount("context templates", 1, int(templates is not None)),
        *_shard_counts(editors.covariance_plans()[0], is_merged=all(moments)),
        JobCount("covariance", len(moments), sum(moments)),
        JobCount("unedited model", 1, int(unedited is not None)),
        *forecasts,
        JobCount("edit batches", counts.n_batches, counts.n_edited),
        JobCount("evaluation batches", counts.n_batches, counts.n_evaluated),
        *_continuation_counts(plan, model, worst, is_measured=counts.is_measured),
        *_editor_counts(editors),
        *_answer_counts(plan, model, templates, moment),
    )
    units = tuple(
        dataclasses.replace(count, seconds=_seconds(plan, times, count)) for count in counted
    )
    size = ModelSize(
        family=model.files.architecture.family,
        widths=model.files.widths,
        layer=model.setup.layer,
        dtype=model.setup.spec.dtype,
    )
    config = model.files.config
    stored = str(config.get("dtype") or config.get("torch_dtype") or "")
    weights = loaded_bytes(model.files.weight_bytes, stored, size.dtype)
    with_moment = plan.study.covariance.kind != "identity"
    works: tuple[Work, ...] = ("values", "answers", "evaluation")
    if plan.study.covariance.is_measured:
        works += ("moment",)
    here = free_host_bytes()
    packed = packed_bytes(weights, size.dtype, "cpu", host_bytes())
    on_cpu = None if here is None else max(0, here - weights - packed)  # with the model loaded
    guard = model.guard
    return ModelOutlook(
        name=model.setup.spec.name,
        source=model.setup.spec.source,
        family=model.files.architecture.family,
        layer=model.setup.layer,
        layer_source=model.setup.layer_source,
        value_steps=model.setup.values.steps,
        covariance=model.moment.covariance.in_words(model.setup.spec.statistics),
        guard=None
        if guard is None
        else GuardOutlook(guard.policy, guard.acts_at, guard.acts_from, guard.thresholds.basis),
        units=units,
        time=time_outlook(times, {each.kind: each.seconds for each in units if each.n_left}),
        weight_bytes=weights,
        moment_bytes=size.moment_bytes * int(with_moment),
        devices=(
            DeviceOutlook("cpu", _forwards(size, works, "cpu", on_cpu), packed, here),
            DeviceOutlook("accelerator", _forwards(size, works, "accelerator", None), 0, None),
        ),
        support=support_warning(plan.study.covariance.n_tokens, size.widths.d_key)
        if plan.study.covariance.kind == "corpus"
        else None,
    )


def _seconds(plan: StudyPlan, times: KnownTimes, count: JobCount) -> float | None:
    """Return what is left of some units takes, estimated; None where no such job has run here."""
    spec = plan.study.covariance
    n_requests = len(plan.requests.records) / plan.n_batches
    n_edits = n_requests * len(plan.study.rank_one_methods)
    kind, n_items = {
        "context templates": ("templates", None),
        "own samples": ("samples", min(ROWS_AT_ONCE, spec.n_rows) * spec.row_tokens),
        "covariance shards": ("shard", min(spec.shard_tokens, spec.n_tokens)),
        "covariance": ("covariance", None),
        "unedited model": ("unedited", None),
        "forecasts": ("forecast", n_requests * len(METHODS)),
        "edit batches": ("edits", n_edits),
        "evaluation batches": ("evaluation", n_edits),
        "texts of the worst": ("continuations", plan.study.evaluation.continuations),
        "editor batches": ("editor batch", n_requests),
        "sequence chunks": ("sequence", None),
        "free answers": ("answers", None),
        "judged answers": ("judged", None),
    }[count.kind]
    if n_items is None:
        return times.of_jobs(kind, count.n_left)
    return times.of_items(kind, count.n_left * n_items)


@dataclasses.dataclass(frozen=True, slots=True)
class _BatchCounts:
    """Batches of edits, and how many of their jobs are cached."""

    n_batches: int
    """Behind a guard, a batch counts as one until it has a forecast."""
    n_forecast: int = 0
    n_edited: int = 0
    n_evaluated: int = 0

    @property
    def is_measured(self) -> bool:
        """Whether all that is to be edited is measured."""
        return self.n_evaluated == self.n_batches


def _batch_counts(
    plan: StudyPlan,
    known: Iterable[tuple[EditJob, tuple[EditJob, ...] | None]],
    worst: MostDamaging | None,
) -> _BatchCounts:
    """The counts of a model's batches.

    Args:
        plan: the study.
        known: the batches with the jobs of their edits, as ``known_jobs``.
        worst: is given what is measured; None while the unedited model is not.
    """
    n_batches = n_forecast = n_edited = n_evaluated = 0
    for _, jobs in known:
        n_forecast += jobs is not None
        n_batches += 1 if jobs is None else len(jobs)
        for job in jobs or ():
            edits = cached_manifest(job)
            if edits is not None:
                n_edited += 1
                measured = cached_manifest(plan.evaluate_job(job, edits))
                if measured is not None:
                    n_evaluated += 1
                    if worst is not None:
                        worst.add(job, edits, measured)
    return _BatchCounts(n_batches, n_forecast, n_edited, n_evaluated)


def _shard_counts(moments: CovariancePlan, *, is_merged: bool) -> tuple[JobCount, ...]:
    """The counts of samples and of the corpus's shards: exact once cut, else at most so many.

    Where C is there its shards are not looked at: none has to run.
    """
    if not moments.moment.covariance.is_measured:
        return ()
    corpus = cached_manifest(moments.corpus_job())
    n_shards = moments.n_shards_at_most if corpus is None else len(corpus.parts)
    n_cached = n_shards if is_merged else 0
    if corpus is not None and not is_merged:
        jobs = moments.shard_jobs(corpus)
        n_cached = sum(cached_manifest(job) is not None for job in jobs)
    shards = JobCount("covariance shards", n_shards, n_cached)
    samples = moments.sample_jobs()
    if not samples:
        return (shards,)
    is_cut = is_merged or corpus is not None
    n_written = len(samples) if is_cut else sum(cached_manifest(job) is not None for job in samples)
    return (JobCount("own samples", len(samples), n_written), shards)


def _continuation_counts(
    plan: StudyPlan, model: ModelPlan, worst: MostDamaging | None, *, is_measured: bool
) -> tuple[JobCount, ...]:
    """The count of the texts of the worst edits: which they are is known when all are measured."""
    n_units = TEXTS.listed(plan, model)
    n_cached = 0
    if worst is not None and is_measured:
        job = worst.job(plan.results, model.setup)
        if job is None:  # no edit has done damage
            return ()
        n_cached = int(cached_manifest(job) is not None)
    return (JobCount("texts of the worst", n_units, n_cached),) if n_units else ()


def _editor_counts(editors: ModelEditors) -> Iterator[JobCount]:
    """Yield the counts of editors beyond rank one and of sequences, where there are any."""
    known = editors.known_inputs()
    if editors.n_single_jobs:
        asked = editors.plan.study.single_editors
        jobs = [
            job for each in known if each.editor.name in asked for job in editors.batch_jobs(each)
        ]
        n_cached = sum(cached_manifest(job) is not None for job in jobs)
        yield JobCount("editor batches", editors.n_single_jobs, n_cached)
    if editors.n_chunks:
        sequences = [one for each in known for one in editors.sequences(each)]
        n_cached = sum(1 for one in sequences for _ in one.cached_chunks())
        yield JobCount("sequence chunks", editors.n_chunks, n_cached)


def _answer_counts(
    plan: StudyPlan, model: ModelPlan, templates: Manifest | None, moment: Manifest | None
) -> Iterator[JobCount]:
    """Yield the counts of free answers and of their judge's jobs, where they are asked for."""
    answers = ModelAnswers(plan, model)
    if not answers.n_jobs:
        return
    editors = ModelEditors(plan, model)
    batches: list[EditJob | EditorBatchJob] = [
        job
        for inputs in editors.known_inputs()
        if inputs.editor.name in plan.study.single_editors
        for job in editors.batch_jobs(inputs)
    ]
    if templates is not None and moment is not None and plan.study.rank_one_methods:
        known = known_jobs(plan, model, templates, moment)
        batches += [job for _, jobs in known for job in jobs or ()]
    n_answered = n_judged = 0
    for batch in batches:
        edits = cached_manifest(batch)
        job = None if edits is None else answers.job(batch, edits)
        done = None if job is None else cached_manifest(job)
        if job is None or done is None:
            continue
        n_answered += 1
        judged = answers.judge_job(job, done)
        n_judged += judged is not None and cached_manifest(judged) is not None
    n_each = answers.n_jobs
    if plan.study.evaluation.judge is not None:
        n_each //= 2
        yield JobCount("judged answers", max(n_each, n_judged), n_judged)
    yield JobCount("free answers", max(n_each, n_answered), n_answered)


def _forwards(
    size: ModelSize, works: tuple[Work, ...], device: str, free: int | None
) -> tuple[ForwardOutlook, ...]:
    """The forwards of each kind of work at the size that they would have."""
    asked = settings().tokens_per_forward
    sizes = [asked or default_tokens(size, work, device, free) for work in works]
    return tuple(
        ForwardOutlook(work, n_tokens, forward_bytes(size, work, n_tokens))
        for work, n_tokens in zip(works, sizes, strict=True)
    )


def outlook_lines(outlook: StudyOutlook) -> Iterator[str]:
    """Yield the lines of a plan whose inputs are all here."""
    yield (
        f"study {outlook.study} ({outlook.study_id}): {len(outlook.models)} models x "
        f"{len(outlook.methods)} methods x {outlook.n_requests} requests = "
        f"{outlook.n_edits} edits"
    )
    if outlook.sequences is not None:
        yield f"and {outlook.sequences}"
    yield f"perplexity on {outlook.n_texts} texts of {outlook.text_set}"
    for rejected in (*outlook.rejected_records, *outlook.rejected_texts):
        yield f"rejected: {rejected}"
    for model in outlook.models:
        yield ""
        yield (
            f"{model.name}: {model.family}, layer {model.layer} ({model.layer_source}), v* "
            f"{model.value_steps} steps, covariance {model.covariance}"
        )
        if model.support is not None:
            yield f"  {model.support}"
        guard = model.guard
        if guard is not None:
            yield (
                f"  guard: {guard.policy} from a change bound of {guard.acts_from:.4g} on "
                f"({in_words(guard.acts_at)}); {guard.basis}; its edit batches are known once they "
                "have a forecast"
            )
        for job in model.units:
            takes = f", about {time_in_words(job.seconds)}" if job.n_left and job.seconds else ""
            yield f"  {job.kind:<20} {job.n_cached} cached, {job.n_left} to run{takes}"
        yield f"  {'time, estimated':<20} {time_sentence(model.time)}"
        yield from _memory_lines(model)


def _memory_lines(outlook: ModelOutlook) -> Iterator[str]:
    """Yield a model's memory: what stays, and the forwards on each type of device."""
    yield (
        f"  memory, estimated    weights {_gib(outlook.weight_bytes)}, "
        f"covariance {_gib(outlook.moment_bytes)} (main memory)"
    )
    for device in outlook.devices:
        forwards = ", ".join(
            f"{_WORK[forward.work]} {_gib(forward.n_bytes)} ({forward.n_tokens} tokens)"
            for forward in device.forwards
        )
        needed = _gib(outlook.weight_bytes + device.packed_bytes + device.largest)
        weights = "weights packed twice" if device.packed_bytes else "weights"
        here = "less is free: fewer tokens" if device.free is None else f"{_gib(device.free)} free"
        yield f"    {device.device:<18} {forwards}; with {weights} {needed}; {here}"


def survey_lines(survey: StudySurvey) -> Iterator[str]:
    """Yield the lines of a plan some of whose inputs are not here."""
    yield (
        f"study {survey.study}: the file is valid; {len(survey.models)} models x "
        f"{len(survey.methods)} methods ({', '.join(survey.methods)})"
    )
    for model in survey.models:
        layer = "by depth" if model.layer is None else str(model.layer)
        source = "unpublished" if model.preset is None else model.preset.source
        line = f"  {model.spec.name}: {model.spec.source}, layer {layer} ({source})"
        line += f", covariance {survey.covariance.in_words(model.spec.statistics)}"
        if model.moment_bytes is not None and survey.covariance.kind != "identity":
            line += f" ({_gib(model.moment_bytes)})"
        yield line
    yield f"not here yet, {len(survey.missing)} of its inputs:"
    for found in survey.missing:
        yield f"  {found.what}: {found.where}: {found.reason}"
    yield "Put them there, or run the study where they are; then `plan` counts edits and memory."


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / _GIB:.2f} GiB"
