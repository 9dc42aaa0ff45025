"""What the device module says of an accelerator that is really there."""

import pytest
import torch

from editcollapse.models.loading import load_model
from editcollapse.runtime.devices import best_device, free_bytes, physical_name, tokens_per_forward
from tests.gpu.conftest import Wanted
from tests.support.tiny import write_model


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_models_load_onto_the_accelerator(tmp_path, dtype):
    """``auto`` takes it; weights have the type asked for; free memory decides a forward's size."""
    here = best_device("auto")
    if here.type == "cpu":
        pytest.skip("no accelerator here")
    folder = write_model("llama", tmp_path / "llama")
    loaded = load_model(Wanted("llama", str(folder), dtype), "auto")
    assert loaded.device.type == here.type
    assert loaded.dtype == getattr(torch, dtype)
    assert free_bytes(loaded.device) > 0
    assert tokens_per_forward(loaded.device, loaded.size(1), "values") > 1
    assert physical_name(here) == physical_name(loaded.device)
