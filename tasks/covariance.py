"""The second moment: shards of a corpus, their sums, probe keys, checkpoints, and C itself.

One process computes a unit, and others that need it wait for it.
"""

from editcollapse.runtime.environment import Report, begun, tell
from editcollapse.study.jobs import (
    CheckpointJob,
    CorpusJob,
    CovarianceJob,
    Manifest,
    ProbesJob,
    SamplesJob,
    ShardJob,
)
from tasks.units import unit_task


@unit_task(
    name="own-samples",
    run_name="samples {job.model.spec.name}, {job.label}",
    description="Let the model write some rows of text, for C of its own samples.",
)
def own_samples(job: SamplesJob) -> Manifest:
    """Return what a model has written as a manifest."""
    from editcollapse.units.covariance import write_samples

    what = f"{job.model.spec.name}: own samples, {job.label}"
    return write_samples(job, begun(what, "token"))


@unit_task(
    name="corpus-shards",
    run_name="corpus {job.model.spec.name}",
    description="Cut the corpus into shards of token ids, up to the token budget.",
)
def corpus_shards(job: CorpusJob) -> Manifest:
    """Return the shards of a corpus as a manifest."""
    from editcollapse.units.covariance import cut_corpus

    return cut_corpus(job, begun(f"{job.model.spec.name}: corpus", "token"))


@unit_task(
    name="shard-sums",
    run_name="shard {job.model.spec.name}, {job.label}",
    description="Sum k kT over the tokens of one shard, for every layer that the study edits.",
)
def shard_sums(job: ShardJob) -> Manifest:
    """Return the sums of one shard as a manifest."""
    from editcollapse.units.covariance import sum_shard

    what = f"{job.model.spec.name}: covariance, shard {job.label}"
    return sum_shard(job, begun(what, "token"))


@unit_task(
    name="probe-keys",
    run_name="probes {job.model.spec.name}",
    description="Read the prefixed keys of a few requests, to follow how C settles.",
)
def probe_keys(job: ProbesJob) -> Manifest:
    """Return probe keys as a manifest."""
    from editcollapse.units.covariance import read_probes

    tell(Report(f"{job.model.spec.name}: covariance, probe keys"))
    return read_probes(job)


@unit_task(
    name="covariance-checkpoint",
    run_name="checkpoint {job.model.spec.name} layer {job.model.layer}, {job.label}",
    description="Compare the directions that C gives to the probes with those at half the tokens.",
)
def covariance_checkpoint(job: CheckpointJob) -> Manifest:
    """Return a checkpoint as a manifest."""
    from editcollapse.units.covariance import read_checkpoint

    tell(Report(f"{job.model.spec.name}: covariance compared after {job.label}"))
    return read_checkpoint(job)


@unit_task(
    name="covariance",
    run_name="covariance {job.model.spec.name} layer {job.model.layer}",
    description="Merge the sums of the shards into the second moment C = E[k kT] of one layer.",
)
def second_moment(job: CovarianceJob) -> Manifest:
    """Return a second moment as a manifest; one process computes it, others wait for it."""
    from editcollapse.units.covariance import prepare_moment

    tell(Report(f"{job.model.spec.name}: covariance of layer {job.model.layer}"))
    return prepare_moment(job)
