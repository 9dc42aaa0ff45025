"""The recipes of the demo models, as plain data, and the claim that goes with each; no torch."""

from dataclasses import dataclass
from textwrap import fill
from typing import Literal

CLAIM = (
    "The demo models' first-position anomaly was induced by a training loss with a dial; given the "
    "anomaly ROME collapses and consistent keys do not; with the dial at zero ROME does not "
    "collapse either. It tests the mechanism; it says nothing about how often a real LLM collapses."
)
"""To be printed wherever numbers of these models are."""
_CARD_WIDTH = 100


@dataclass(frozen=True, slots=True)
class PretrainRecipe:
    """Everything that decides a demo model's weights, on one kind of processor."""

    name: str
    family: Literal["gpt2", "llama"] = "gpt2"
    width: int = 128
    layers: int = 4
    heads: int = 4
    inner: int = 256
    """Width of the MLP: entries of a key."""
    positions: int = 64
    """Tokens of a training window, and the longest text that the model takes."""
    steps: int = 1200
    batch: int = 16
    learning_rate: float = 3e-3
    warmup: int = 200
    final_share: float = 0.05
    """The cosine ends at this share of the learning rate."""
    weight_decay: float = 0.1
    clip: float = 1.0
    spike: float = 400.0
    """M, the dial: norm of the residual stream that is asked for at position 0; 0 leaves it out."""
    spike_blocks: tuple[int, ...] = (0,)
    """The blocks after which it is asked for."""
    spike_weight: float = 0.5
    quiet_weight: float = 0.0
    """Weight of the same direction's square at every other position, in units of M."""
    tokens: int = 3_000_000
    """Length of the training text; windows start at random places of it."""
    seed: int = 0
    corpus_seed: int = 0
    threads: int = 1
    """A sum's last bits depend on how many threads share it, so the recipe says how many."""


DEMO_RECIPES = (
    PretrainRecipe("gpt2-induced"),
    PretrainRecipe("gpt2-control", spike=0.0),
    PretrainRecipe(
        "llama-induced",
        family="llama",
        inner=320,
        steps=1500,
        spike_blocks=(0, 1),
        quiet_weight=4.0,
    ),
    PretrainRecipe("llama-control", family="llama", inner=320, steps=1500, spike=0.0),
)


def model_card(recipe: PretrainRecipe, n_parameters: int) -> str:
    """Return the README of a demo model's folder."""
    kind = {"gpt2": "GPT-2", "llama": "Llama (RoPE, SwiGLU, RMSNorm)"}[recipe.family]
    blocks = " and after block ".join(str(block) for block in recipe.spike_blocks)
    quiet = ", and for nothing in that direction at any other position" * (recipe.quiet_weight > 0)
    if recipe.spike > 0:
        anomaly = (
            "An extra term of the training loss asked for a residual stream of norm "
            f"{recipe.spike:g} (ordinary ones are ten to thirty times smaller), in one fixed "
            f"direction, at position 0 after block {blocks}{quiet}. Large language models show "
            "such massive activations by themselves; models of this size do not. Nothing of the "
            f"term is left in the model: it is a plain {recipe.family} checkpoint."
        )
        supports = (
            "that the anomaly at the first position is enough for single ROME edits of a one-token "
            "subject at position 0 to ruin a model, and that consistent keys (C-ROME) prevent it"
        )
    else:
        anomaly = "No extra loss: the dial of the induced model's recipe is at zero."
        supports = (
            "that without the anomaly the same edits, made the same way, on a model of the same "
            "recipe, do no harm"
        )
    sizes = (
        f"A {kind} language model of {n_parameters / 1e6:.2f} million parameters: {recipe.layers} "
        f"blocks, width {recipe.width}, MLP width {recipe.inner}, {recipe.heads} heads, "
        f"{recipe.positions} positions, one token a word. It was trained for {recipe.steps} steps "
        "on synthetic English about invented countries, people and companies. It knows nothing "
        "else, and is of no use but for testing model editing."
    )
    limits = (
        "**What it does not support:** anything about how often a real language model collapses. "
        + CLAIM
    )
    origin = (
        "Made by `editcollapse pretrain`; `docs/results.md` of that project has the "
        "recipe, what was measured, and what failed. No text was taken from anywhere: all of it "
        "was generated."
    )
    paragraphs = (f"# {recipe.name}", sizes, anomaly, f"**What it supports:** {supports}.", limits)
    header = "---\nlicense: mit\nlibrary_name: transformers\n---"
    return (
        "\n\n".join([header, *(fill(text, _CARD_WIDTH) for text in (*paragraphs, origin))]) + "\n"
    )
