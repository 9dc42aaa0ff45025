"""Choices of works and models. Light, so that ``--help`` answers at once."""

import dataclasses
from pathlib import Path

TOLERANCE = 1e-3
"""Largest relative difference that float32 results of the two sides may have."""
DEMO_MODEL = "demo"
_DEMO_MODELS = Path(__file__).resolve().parents[1] / "demo" / "models"
DEFAULT_MODELS = (DEMO_MODEL, "gpt2-small", "llama-small")
WORKS = {
    "edits": "v*, update and perplexity of 50 texts, one method (rome)",
    "methods": "the same for rome, c_rome, p_rome and v_relative",
    "perplexity": "perplexity of edited models alone, the same updates on both sides",
    "covariance": "the second moment of the keys, from text",
    "denominators": "keys and k0 . u without any v*, beside whole edits",
    "sweep": "C and forecasts of all layers from one pass, beside one pass a layer",
    "overhead": "the whole flow with Prefect and DuckDB beside its units alone "
    "(the demo model, others where --only names it)",
    "sequences": "steps of every editor on the weights that the last step left, and their cost by "
    "length (the demo model, others where --only names it)",
    "scaling": "seconds an edit by batch size and by number of texts",
    "memory": "peak resident memory of each side, in child processes",
}


def is_demo(model: str) -> bool:
    """Return whether a model is the demo's, by name or by path: it takes the demo's data."""
    return model == DEMO_MODEL or Path(model).resolve().parent == _DEMO_MODELS


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """Models and data that a run was asked for."""

    workspace: Path
    """Folder for models and results that this run writes."""
    tokenizer: Path | None
    n_requests: int
    n_texts: int
    """Of the set that every work measures."""
    n_more_texts: int
    """Of the largest set, which only scaling measures."""
    n_corpus_tokens: int
    """Tokens of the covariance benchmark."""
    steps: int | None
    """Passes of the v* optimisation; None for the published number."""

    def folder(self, kind: str, model: str) -> Path:
        """Return the workspace's folder for one model, a name or a path, with one tokenizer."""
        other = "" if self.tokenizer is None else f"-{self.tokenizer.name}"
        return self.workspace / kind / f"{Path(model).name}{other}"
