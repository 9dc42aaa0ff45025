"""C of any linear map's input, and the change on text that follows from it."""

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from editcollapse.covariance.second_moment import measure_moments
from editcollapse.errors import MomentError
from editcollapse.judging.input_moments import input_moments, text_change
from editcollapse.judging.weights import ModelWeights, described_weights
from editcollapse.models.files import locate_model
from tests.support.cases import TEXTS, distance
from tests.support.tiny import unlike_families

NEAR = 1e-7
"""Some families rotate by float32 sines, which batches of another width round otherwise."""


def _linear(loaded, folder):
    places = ModelWeights(loaded.model, locate_model(str(folder))).places.values()
    return [place for place in places if place.is_linear]


@unlike_families
def test_down_projections_have_the_second_moment_of_keys(tiny_model, tiny_folder, variant):
    """In every family: as ``covariance`` measures it, from one pass; each map is in one C."""
    loaded = tiny_model(variant)
    rows = [loaded.encoder.encode(text) for text in TEXTS]
    places = _linear(loaded, tiny_folder(variant))
    found = {
        module: moment.moment
        for moment in input_moments(loaded, [place.module for place in places], rows, 64)
        for module in moment.modules
    }
    assert set(found) == {place.module for place in places}
    down = [place for place in places if place.part == "down projection"]
    layers = [place.layer for place in down]
    assert layers == list(range(loaded.widths.n_layers))
    expected = measure_moments(loaded, layers, TEXTS, n_tokens=10_000, max_length=999)
    for place, moment in zip(down, expected, strict=True):
        assert distance(found[place.module], moment.matrix) < NEAR


@pytest.mark.parametrize("variant", ["gpt2", "llama", "gptj"])
def test_text_change_is_that_of_the_outputs(tiny_model, tiny_folder, variant):
    """The closed form is the root mean square of what the map's output changes by."""
    loaded = tiny_model(variant)
    rows = [loaded.encoder.encode(text) for text in TEXTS]
    places = _linear(loaded, tiny_folder(variant))
    inputs = {place.module: [] for place in places}
    hooks = [
        loaded.model.get_submodule(name).register_forward_pre_hook(
            lambda _, given, name=name: inputs[name].append(
                given[0].reshape(-1, given[0].shape[-1])
            )
        )
        for name in inputs
    ]
    with torch.no_grad():
        for row in rows:
            loaded.model(torch.tensor([row]))
    for hook in hooks:
        hook.remove()
    generator = torch.Generator().manual_seed(0)
    modules = {place.module: place for place in places}
    for moment in input_moments(loaded, list(modules), rows, 64):
        for module in moment.modules:
            layer = loaded.model.get_submodule(module)
            weight = layer.weight.T if isinstance(layer, Conv1D) else layer.weight
            assert modules[module].is_transposed is isinstance(layer, Conv1D)
            difference = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            keys = torch.cat(inputs[module]).double()
            plain = (keys @ difference.T).norm() / (keys @ weight.double().T).norm()
            found = text_change(difference, weight.double(), moment.moment)
            assert found == pytest.approx(float(plain), rel=1e-6)


def test_no_text_has_no_moment(tiny_model, tiny_folder):
    """An empty corpus is an error, no number."""
    loaded = tiny_model("gpt2")
    module = _linear(loaded, tiny_folder("gpt2"))[0].module
    with pytest.raises(MomentError, match="no tokens"):
        list(input_moments(loaded, [module], [], 64))


@unlike_families
def test_names_and_parts_need_no_weight(tiny_model, tiny_folder, variant):
    """A configuration alone tells what each tensor is; as of the loaded model."""
    files = locate_model(str(tiny_folder(variant)))
    described = described_weights(files).places
    assert described == ModelWeights(tiny_model(variant).model, files).places
    assert {place.part for place in described.values()} >= {"down projection", "embedding"}
