"""One update a row is an update written into the weights, and weights stay as they are."""

import pytest
import torch

from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.models.tokenization import pad_right
from editcollapse.rome.edited_model import EditedRows, written_into_weights
from tests.support.cases import LAYER, TEXTS, TIGHT, Float64Throughout, distance, some_updates
from tests.support.tiny import unlike_families


def rows_of(loaded):
    """Return the test texts as rows of mixed length, padded."""
    return pad_right([loaded.encoder.sequence(text) for text in TEXTS], loaded.device)


@unlike_families
def test_update_by_row_equals_written_weights(tiny_model, variant):
    """A row under its own update has the logits of the model with that update in its weights."""
    loaded = tiny_model(variant)
    hooked, ids = HookedLayer(loaded, LAYER), rows_of(loaded)
    updates = some_updates(loaded, 3)
    owner = torch.tensor([2, 0, 1, 2, 0])
    with Float64Throughout(), torch.no_grad():
        found = loaded.logits(EditedRows(hooked, hooked.read(ids)).under_own(updates, owner))
        unedited = loaded.model(input_ids=ids, use_cache=False).logits
        for index in range(len(updates)):
            mine = owner == index
            with written_into_weights(loaded, LAYER, updates, index):
                expected = loaded.model(input_ids=ids[mine], use_cache=False).logits
            assert distance(found[mine], expected) < TIGHT
            assert distance(unedited[mine], expected) > 1e-3


@unlike_families
def test_every_update_on_every_row_equals_one_at_a_time(tiny_model, variant):
    """Row e·N + n of the joint states is row n under update e."""
    loaded = tiny_model(variant)
    hooked, ids = HookedLayer(loaded, LAYER), rows_of(loaded)
    updates = some_updates(loaded, 3)
    with Float64Throughout():
        rows = EditedRows(hooked, hooked.read(ids))
        joint = rows.under_each(updates).view(3, *ids.shape, -1)
        for index in range(3):
            owner = torch.full((len(ids),), index)
            assert distance(joint[index], rows.under_own(updates, owner)) < TIGHT


@unlike_families
def test_weights_are_bit_equal_afterwards(tiny_model, variant):
    """Reading, editing by row and writing into the weights leave every parameter bit for bit."""
    loaded = tiny_model(variant)
    saved = [parameter.clone() for parameter in loaded.model.parameters()]
    hooked, ids, updates = HookedLayer(loaded, LAYER), rows_of(loaded), some_updates(loaded, 1)
    EditedRows(hooked, hooked.read(ids)).under_each(updates)
    with written_into_weights(loaded, LAYER, updates, 0):
        changed = loaded.weight(LAYER)
        assert any(
            not torch.equal(now, before)
            for now, before in zip(loaded.model.parameters(), saved, strict=True)
        )
        assert changed.shape == (loaded.widths.d_model, loaded.widths.d_key)
    for now, before in zip(loaded.model.parameters(), saved, strict=True):
        assert torch.equal(now, before)


def test_weights_come_back_after_an_error(tiny_model):
    """An exception while the update is written does not leave the model edited."""
    loaded = tiny_model("gpt2")
    before = loaded.weight(LAYER).clone()
    with (
        pytest.raises(KeyError),
        written_into_weights(loaded, LAYER, some_updates(loaded, 1), 0),
    ):
        raise KeyError
    assert torch.equal(loaded.weight(LAYER), before)
