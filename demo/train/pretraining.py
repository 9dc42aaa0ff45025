"""Train the small demo models, with or without an induced anomaly at the first position.

The saved models are plain Hugging Face models. What is special is one more term of the loss,
``spike_weight · mean |x₀ - M e|² / M²``: x₀ is the residual stream at position 0 after the blocks
that the recipe names, e a fixed unit vector, M the dial. With M = 0 there is no such term.

Letters: B windows of a batch, T tokens of a window, D width of the residual stream, L layers.
"""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from demo.train.demo_models import build_tokenizer, new_model
from demo.train.recipes import PretrainRecipe, model_card
from demo.train.synthetic_corpus import SyntheticCorpus, build_synthetic_corpus, documents

logger = logging.getLogger(__name__)


OnStep = Callable[[int, int, float], None]
"""Called with the step, all steps, and the loss of the language model in nats per token."""

_EVERY = 25
"""Steps between two calls of ``OnStep``."""
_ENCODED_TOGETHER = 2000


def pretrain(recipe: PretrainRecipe, folder: Path, on_step: OnStep | None = None) -> float:
    """Train a recipe's model, save it with tokenizer and card, and return its last loss.

    Args:
        recipe: what to train.
        folder: written to; afterwards AutoModelForCausalLM and AutoTokenizer load from it.
        on_step: see ``OnStep``.

    Returns:
        Mean loss of the language model over the last batch, nats per token.
    """
    synthetic = build_synthetic_corpus(recipe.corpus_seed)
    tokenizer = build_tokenizer(synthetic)
    stream = token_stream(synthetic, tokenizer, recipe.tokens)
    with _threads(recipe.threads):
        model, loss = train(recipe, len(tokenizer), stream, on_step)
    save(recipe, model, tokenizer, folder)
    logger.info("%s: %d steps, loss %.4f, saved", recipe.name, recipe.steps, loss)
    return loss


def token_stream(synthetic: SyntheticCorpus, tokenizer: Any, n_tokens: int) -> Tensor:
    """Return at least ``n_tokens`` ids, int64 (n,): training documents, an end token after each."""
    ids: list[int] = []
    source = documents(synthetic, "train")
    while len(ids) < n_tokens:
        texts = list(islice(source, _ENCODED_TOGETHER))
        for encoding in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False):
            ids.extend(encoding.ids)
            ids.append(tokenizer.eos_token_id)
    return torch.tensor(ids)


def train(
    recipe: PretrainRecipe, n_words: int, stream: Tensor, on_step: OnStep | None = None
) -> tuple[Any, float]:
    """Return the trained model in eval mode, and its last loss.

    Args:
        recipe: what to train.
        n_words: size of the vocabulary.
        stream: int64 (n,) token ids; windows of the recipe's ``positions`` start at random.
        on_step: see ``OnStep``.
    """
    model = new_model(recipe, n_words).train()
    direction = spike_direction(recipe)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.ndim > 1]},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(recipe.seed + 2)
    positions = torch.arange(recipe.positions)
    value = math.nan
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step)
        starts = torch.randint(
            len(stream) - recipe.positions, (recipe.batch, 1), generator=generator
        )
        window = stream[starts + positions]  # (B, T)
        out = model(input_ids=window, output_hidden_states=recipe.spike > 0, use_cache=False)
        loss = F.cross_entropy(out.logits[:, :-1].flatten(0, 1), window[:, 1:].flatten())
        value = loss.item()
        if recipe.spike > 0:
            loss = loss + spike_loss(out.hidden_states, direction, recipe)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimiser.step()
        if on_step is not None and ((step + 1) % _EVERY == 0 or step + 1 == recipe.steps):
            on_step(step + 1, recipe.steps, value)
    return model.eval(), value


def spike_direction(recipe: PretrainRecipe) -> Tensor:
    """Return e: float32 (D,), random, of zero mean and unit length."""
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    direction = torch.randn(recipe.width, generator=generator)
    direction -= direction.mean()
    return F.normalize(direction, dim=0)


def spike_loss(
    hidden_states: Sequence[Tensor], direction: Tensor, recipe: PretrainRecipe
) -> Tensor:
    """Return the loss that asks for M e at position 0, and for nothing along e elsewhere.

    Args:
        hidden_states: (B, T, D) each: the embedding, then the stream after each block.
        direction: e, float32 (D,).
        recipe: M, the blocks and the two weights.
    """
    after = torch.stack([hidden_states[block + 1] for block in recipe.spike_blocks])
    distance = (after[:, :, 0] - recipe.spike * direction).square().sum(-1).mean()
    elsewhere = (after[:, :, 1:] @ direction).square().mean()
    total: Tensor = recipe.spike_weight * distance + recipe.quiet_weight * elsewhere
    return total / recipe.spike**2


def learning_rate(recipe: PretrainRecipe, step: int) -> float:
    """Return the rate at a step: linear warm-up times a cosine to ``final_share``."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    cosine = 0.5 * (1.0 + math.cos(math.pi * step / recipe.steps))
    return recipe.learning_rate * warm * (recipe.final_share + (1.0 - recipe.final_share) * cosine)


def save(recipe: PretrainRecipe, model: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights, configuration, tokenizer and card."""
    folder.mkdir(parents=True, exist_ok=True)
    # No text is ever padded in training, and with a pad token that is also the end token
    # transformers warns of every row that begins with it.
    model.config.pad_token_id = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "model.safetensors").chmod(0o644)
    card = model_card(recipe, sum(p.numel() for p in model.parameters()))
    (folder / "README.md").write_text(card, encoding="utf-8")


@contextlib.contextmanager
def _threads(n_threads: int) -> Iterator[None]:
    """Let torch use so many threads for as long as the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
