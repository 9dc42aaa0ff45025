"""Fixtures for all tests. Imports no torch by itself: the storage tests must not pay for it."""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.flow_fixtures import (
    backend,
    first_run,
    prefect_home,
    results,
    run_study,
    server,
    study,
)

__all__ = ["backend", "first_run", "prefect_home", "results", "run_study", "server", "study"]

# Tiny matrices are slower with several threads than with one; must be set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

_AS_TOKENIZER = "tokenizer"


def pytest_collection_finish() -> None:
    """Keep modules and tests out of collections of garbage, half a second each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a tiny model by its name in ``tests.support.tiny.VARIANTS``."""
    from tests.support.tiny import write_model

    root = tmp_path_factory.mktemp("models")

    def folder(variant: str) -> Path:
        path = root / variant
        return path if path.is_dir() else write_model(variant, path)

    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Callable[[str], Path]) -> Callable[..., Any]:
    """Return a tiny model, loaded by ``load_model`` from its folder, once an option."""
    from editcollapse.config.spec import ModelSpec
    from editcollapse.models.loading import load_model

    loaded: dict[tuple[str, str, str], Any] = {}

    def model(variant: str, dtype: str = "float64", start_token: str = _AS_TOKENIZER) -> Any:
        key = (variant, dtype, start_token)
        if key not in loaded:
            source = str(tiny_folder(variant))
            spec = ModelSpec(name=variant, source=source, dtype=dtype, start_token=start_token)
            loaded[key] = load_model(spec, "cpu")
        return loaded[key]

    return model
