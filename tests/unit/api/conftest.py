"""The library on a demo model, on the CPU."""

from pathlib import Path

import pytest

import editcollapse as ec
from editcollapse.models.loading import forget_models

DEMO = Path(__file__).parents[3] / "demo"
MODEL = DEMO / "models" / "gpt2-induced"
CORPUS, TEXTS = DEMO / "corpus.txt", DEMO / "texts.jsonl"
N_TOKENS = 4000
FACT = {"prompt": "{} was born in", "subject": "Pugis", "target": "Jorvale"}


@pytest.fixture(scope="module", autouse=True)
def _on_the_cpu():
    """Run on the CPU, and leave no model behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDITCOLLAPSE_DEVICE", "cpu")
        yield
    forget_models()


@pytest.fixture(scope="module")
def editor() -> ec.Editor:
    """Return an editor of a demo model."""
    return ec.Editor(MODEL, covariance=CORPUS, tokens=N_TOKENS, layer=1)
