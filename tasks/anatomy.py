"""The GPU tasks of the root-cause study: a layer's keys, and profiles by position."""

from editcollapse.anatomy_orders import AnatomyOrder, EncoderProfilesOrder, ProfilesOrder
from editcollapse.orders import Manifest
from tasks.units import unit_task


@unit_task(
    name="anatomy",
    run_name="anatomy {order.label}",
    description="Compare the keys of subjects whose edits collapse with those of others.",
)
def compare_keys(order: AnatomyOrder) -> Manifest:
    """Return findings, points and vectors of a layer as a manifest."""
    from editcollapse.anatomy import study_anatomy
    from editcollapse.once import computed_once

    return computed_once(order, lambda: study_anatomy(order))


@unit_task(
    name="position-profiles",
    run_name="profiles {order.label}",
    description="Residual norms, keys and attention by position of an unedited model.",
)
def position_profiles(order: ProfilesOrder) -> Manifest:
    """Return a model's profiles as a manifest."""
    from editcollapse.once import computed_once
    from editcollapse.profiling import profile_model

    return computed_once(order, lambda: profile_model(order))


@unit_task(
    name="encoder-profiles",
    run_name="profiles {order.label}",
    description="The same of an encoder, for contrast.",
)
def encoder_profiles(order: EncoderProfilesOrder) -> Manifest:
    """Return an encoder's profiles as a manifest."""
    from editcollapse.once import computed_once
    from editcollapse.profiling import profile_encoder

    return computed_once(order, lambda: profile_encoder(order))
