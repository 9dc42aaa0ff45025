"""The units of a second moment one after the other, as the flow has them, without the flow."""

from editcollapse.study.jobs import Manifest
from editcollapse.study.plan import CovariancePlan, ModelPlan, StudyPlan
from editcollapse.units.covariance import (
    cut_corpus,
    prepare_moment,
    read_probes,
    sum_shard,
    write_samples,
)


def measured_moment(plan: StudyPlan, model: ModelPlan, templates: Manifest) -> Manifest:
    """Return C of one model of a plan as a manifest."""
    moments = CovariancePlan.of(plan, model)
    if not model.moment.covariance.is_measured:
        return prepare_moment(model.moment)
    written = [write_samples(job) for job in moments.sample_jobs()]
    corpus = cut_corpus(moments.corpus_job(written))
    sums = [sum_shard(job) for job in moments.shard_jobs(corpus)]
    probes = read_probes(moments.probes_job(templates))
    return prepare_moment(moments.merge_job(sums, probes))
