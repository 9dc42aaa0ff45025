"""The GPU tasks of the root-cause study: a layer's keys, and profiles by position."""

from editcollapse.runtime.environment import Report, tell
from editcollapse.study.anatomy_jobs import AnatomyJob, EncoderProfilesJob, ProfilesJob
from editcollapse.study.jobs import Manifest
from tasks.units import unit_task


@unit_task(
    name="anatomy",
    run_name="anatomy {job.label}",
    description="Compare the keys of subjects whose edits collapse with those of others.",
)
def compare_keys(job: AnatomyJob) -> Manifest:
    """Return findings, points and vectors of a layer as a manifest."""
    from editcollapse.units.anatomy import study_anatomy

    tell(Report(f"{job.label}: keys compared"))
    return study_anatomy(job)


@unit_task(
    name="position-profiles",
    run_name="profiles {job.label}",
    description="Residual norms, keys and attention by position of an unedited model.",
)
def position_profiles(job: ProfilesJob) -> Manifest:
    """Return a model's profiles as a manifest."""
    from editcollapse.units.anatomy import profile_model

    tell(Report(f"{job.label}: profiles by position"))
    return profile_model(job)


@unit_task(
    name="encoder-profiles",
    run_name="profiles {job.label}",
    description="The same of an encoder, for contrast.",
)
def encoder_profiles(job: EncoderProfilesJob) -> Manifest:
    """Return an encoder's profiles as a manifest."""
    from editcollapse.units.anatomy import profile_encoder

    tell(Report(f"{job.label}: profiles by position"))
    return profile_encoder(job)
