"""The units that profile by position: a study's model, and an encoder beside it for contrast.

Encoders have no causal attention, and no position that all others must look at: Fall of ROME finds
no anomaly in T5's. An encoder is read here and never edited.

Source: C-ROME (arXiv 2406.11263), README of its code, experiment 5: keys of T5-3B's encoder do not
separate by position.
"""

from collections.abc import Sequence

from editcollapse.anatomy_orders import N_TEXTS, N_TOKENS, EncoderProfilesOrder, ProfilesOrder
from editcollapse.artifacts import ArtifactStore
from editcollapse.encoders import load_encoder
from editcollapse.errors import DatasetError
from editcollapse.orders import Manifest
from editcollapse.position_numbers import read_positions
from editcollapse.position_profiles import profile_rows
from editcollapse.position_states import Stack, decoder_stack
from editcollapse.precision import float32_products
from editcollapse.preparing import load
from editcollapse.runtime import ProvenanceClock, asked_device

_MIN_TOKENS = 2


@float32_products()
def profile_model(order: ProfilesOrder) -> Manifest:
    """Return the profile of a study's model as rows.

    Raises:
        DatasetError: fewer than two texts have two tokens.
    """
    clock = ProvenanceClock(order.key, "profiles")
    loaded = load(order.model)
    texts = ArtifactStore(order.results).json(order.texts)[:N_TEXTS]
    limit = min(N_TOKENS, loaded.encoder.max_length)
    rows = [loaded.encoder.sequence(text)[:limit] for text in texts]
    return _profiled(order, clock, decoder_stack(loaded), rows, order.model.model_id, loaded.source)


@float32_products()
def profile_encoder(order: EncoderProfilesOrder) -> Manifest:
    """Return the profile of an encoder as rows.

    Raises:
        ModelError: it cannot be loaded, or its files changed since it was asked for.
        DatasetError: fewer than two texts have two tokens.
    """
    clock = ProvenanceClock(order.key, "encoder-profiles")
    encoder = load_encoder(order.source, order.encoder_id, asked_device())
    texts = ArtifactStore(order.results).json(order.texts)[:N_TEXTS]
    rows = [encoder.encode(text, N_TOKENS) for text in texts]
    return _profiled(order, clock, encoder.stack, rows, order.encoder_id, encoder.source)


def _profiled(
    order: ProfilesOrder | EncoderProfilesOrder,
    clock: ProvenanceClock,
    stack: Stack,
    rows: Sequence[Sequence[int]],
    model_id: str,
    source: str,
) -> Manifest:
    """Return the profile of a stack on texts in tokens as a manifest."""
    usable = [row for row in rows if len(row) >= _MIN_TOKENS]
    if len(usable) < _MIN_TOKENS:
        raise DatasetError(
            f"profiles of {source} need two texts of at least two tokens, and the perplexity texts "
            f"have {len(usable)}. Give longer texts under `evaluation`."
        )
    numbers = read_positions(stack, usable)
    found = list(profile_rows(numbers, model_id, source, order.text_set_digest, stack.name))
    device = next(stack.module.parameters()).device
    summary = f"profile of {source}, {len(usable)} texts"
    store = ArtifactStore(order.results)
    return Manifest(
        unit_id=order.key,
        summary=summary,
        rows=(
            store.put_rows("position_profiles", found),
            store.put_rows("provenance", [clock.row(summary, len(usable), str(device))]),
        ),
    )
