"""Where the tests of this folder run: on the accelerator, or, without one, on an emulated one.

``pytest -m gpu tests/gpu`` takes the accelerator of this machine, ``make gpu`` among the rest. The
default tests take the emulated one. Nothing here needs pydantic, polars, Prefect or DuckDB.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from editcollapse.models.loading import LoadedModel, load_model
from editcollapse.runtime.precision import float32_products
from tests.gpu.emulated import emulated_accelerator
from tests.gpu.expected import Expected, expected_of
from tests.support.tiny import VARIANTS, write_model

DEMO_MODELS = Path(__file__).resolve().parents[2] / "demo" / "models"


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What ``load_model`` reads of a study's model."""

    name: str
    source: str
    dtype: str = "float64"
    revision: str | None = None
    start_token: str = "tokenizer"
    chat_template: bool = False


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


@pytest.fixture
def emulated() -> Callable[..., contextlib.AbstractContextManager]:
    """Return the context in which a test has the emulated accelerator."""
    return emulated_accelerator


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LoadedModel]:
    """Return a tiny or an embedded model by name, float64 on the CPU, loaded once."""
    root = tmp_path_factory.mktemp("variants")
    known: dict[str, LoadedModel] = {}

    def load(name: str) -> LoadedModel:
        if name not in known:
            folder = write_model(name, root / name) if name in VARIANTS else DEMO_MODELS / name
            known[name] = load_model(Wanted(name, str(folder)), "cpu")
        return known[name]

    return load


@pytest.fixture(scope="session")
def expected(model: Callable[[str], LoadedModel]) -> Callable[[str], Expected]:
    """Return what the published procedure gives for a tiny model, once each."""
    known: dict[str, Expected] = {}

    def find(name: str) -> Expected:
        if name not in known:
            known[name] = expected_of(model(name))
        return known[name]

    return find
