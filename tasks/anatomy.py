"""The GPU tasks of the root-cause study: a layer's keys, and profiles by position."""

from editcollapse.study.anatomy_jobs import AnatomyOrder, EncoderProfilesOrder, ProfilesOrder
from editcollapse.study.jobs import Manifest
from tasks.units import unit_task


@unit_task(
    name="anatomy",
    run_name="anatomy {order.label}",
    description="Compare the keys of subjects whose edits collapse with those of others.",
)
def compare_keys(order: AnatomyOrder) -> Manifest:
    """Return findings, points and vectors of a layer as a manifest."""
    from editcollapse.units.anatomy import study_anatomy

    return study_anatomy(order)


@unit_task(
    name="position-profiles",
    run_name="profiles {order.label}",
    description="Residual norms, keys and attention by position of an unedited model.",
)
def position_profiles(order: ProfilesOrder) -> Manifest:
    """Return a model's profiles as a manifest."""
    from editcollapse.units.anatomy import profile_model

    return profile_model(order)


@unit_task(
    name="encoder-profiles",
    run_name="profiles {order.label}",
    description="The same of an encoder, for contrast.",
)
def encoder_profiles(order: EncoderProfilesOrder) -> Manifest:
    """Return an encoder's profiles as a manifest."""
    from editcollapse.units.anatomy import profile_encoder

    return profile_encoder(order)
