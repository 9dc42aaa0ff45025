"""Where the tests of this folder run: on the accelerator, or, without one, on an emulated one.

``pytest -m gpu tests/gpu`` takes the accelerator of this machine, ``make gpu`` among the rest. The
default tests take the emulated one. Nothing here needs pydantic, polars, Prefect or DuckDB.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch

from editcollapse.models import LoadedModel, load_model
from editcollapse.precision import float32_products
from tests.gpu.emulated import emulated_accelerator
from tests.gpu.expected import Expected, expected_of
from tests.science.tiny import write_model


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What ``load_model`` reads of a study's model."""

    name: str
    source: str
    dtype: str = "float64"
    revision: str | None = None
    start_token: str = "tokenizer"


@pytest.fixture(params=[pytest.param("accelerator", marks=pytest.mark.gpu), "emulated"])
def accelerator(request: pytest.FixtureRequest) -> Callable[..., contextlib.AbstractContextManager]:
    """Return the context in which a test has a device, with exact float32 products."""

    @contextlib.contextmanager
    def entered(capacity: int | None = None) -> Iterator[torch.device]:
        with float32_products():
            if request.param == "emulated":
                with emulated_accelerator(*(() if capacity is None else (capacity,))) as device:
                    yield device
                return
            here = torch.accelerator.current_accelerator(check_available=True)
            if here is None:
                pytest.skip("no accelerator here")
            yield torch.device(here.type, 0)

    return entered


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LoadedModel]:
    """Return a tiny model, float64 on the CPU, loaded by ``load_model`` once."""
    root = tmp_path_factory.mktemp("variants")
    known: dict[str, LoadedModel] = {}

    def load(variant: str) -> LoadedModel:
        if variant not in known:
            folder = write_model(variant, root / variant)
            known[variant] = load_model(Wanted(variant, str(folder)), "cpu")
        return known[variant]

    return load


@pytest.fixture(scope="session")
def expected(tiny: Callable[[str], LoadedModel]) -> Callable[[str], Expected]:
    """Return what the published procedure gives for a tiny model, once each."""
    known: dict[str, Expected] = {}

    def find(variant: str) -> Expected:
        if variant not in known:
            known[variant] = expected_of(tiny(variant))
        return known[variant]

    return find
