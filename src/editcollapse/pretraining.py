"""Train the small demo models, with or without an induced anomaly at the first position.

The saved models are plain Hugging Face models. What is special is one extra term of the training
loss, ``spike_weight * mean |x0 - M e|^2 / M^2``: ``x0`` is the residual stream at position 0 after
block 0, ``e`` a fixed unit vector, ``M`` the dial. With M = 0 the term is absent.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from editcollapse.world import World, documents

logger = logging.getLogger(__name__)

END = "<|endoftext|>"
UNKNOWN = "<unk>"

#: Called with (step, steps, language-model loss in nats) every 50 steps and at the last.
OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True)
class PretrainRecipe:
    """Everything that decides a demo model's weights (beside the number of threads)."""

    name: str
    family: Literal["gpt2", "llama"] = "gpt2"
    width: int = 128
    layers: int = 4
    heads: int = 4
    inner: int = 256
    positions: int = 64
    steps: int = 1500
    batch: int = 16
    lr: float = 3e-3
    warmup: int = 200
    final_lr_share: float = 0.05
    weight_decay: float = 0.1
    clip: float = 1.0
    spike: float = 400.0
    spike_weight: float = 0.5
    spike_blocks: tuple[int, ...] = (0,)
    quiet_weight: float = 0.0
    tied: bool = True
    tokens: int = 3_000_000
    seed: int = 0
    world_seed: int = 0


def build_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """Return the word-level tokenizer of a world; it adds no token of its own to a text."""
    words = [END, UNKNOWN, *world.vocabulary]
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def token_stream(
    world: World, tokenizer: PreTrainedTokenizerFast, stream: str, tokens: int
) -> Tensor:
    """Return at least ``tokens`` ids, int64 (T,), of documents with an end token after each."""
    chunks: list[Tensor] = []
    total = 0
    source = documents(world, stream)
    while total < tokens:
        texts = list(itertools.islice(source, 2000))
        for encoding in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False):
            chunks.append(torch.tensor([*encoding.ids, tokenizer.eos_token_id]))
            total += len(chunks[-1])
    return torch.cat(chunks)


def new_model(recipe: PretrainRecipe, vocabulary: int) -> Any:
    """Return an untrained model whose weights depend on the recipe's seed alone."""
    if recipe.family == "gpt2":
        model: Any = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocabulary,
                n_positions=recipe.positions,
                n_embd=recipe.width,
                n_layer=recipe.layers,
                n_head=recipe.heads,
                n_inner=recipe.inner,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=0,
                eos_token_id=0,
            )
        )
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                max_position_embeddings=recipe.positions,
                hidden_size=recipe.width,
                intermediate_size=recipe.inner,
                num_hidden_layers=recipe.layers,
                num_attention_heads=recipe.heads,
                num_key_value_heads=recipe.heads,
                tie_word_embeddings=recipe.tied,
                bos_token_id=0,
                eos_token_id=0,
                pad_token_id=0,
            )
        )
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:  # noqa: PLR2004  (matrices; vectors are biases and norms)
                into_stream = name.endswith(("c_proj.weight", "o_proj.weight", "down_proj.weight"))
                scale = 0.02 / math.sqrt(2 * recipe.layers) if into_stream else 0.02
                weight.normal_(0.0, scale, generator=generator)
            else:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
    return model


def spike_direction(recipe: PretrainRecipe) -> Tensor:
    """Return e: float32 (D,), random, of zero mean and unit length."""
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    direction = torch.randn(recipe.width, generator=generator)
    direction -= direction.mean()
    return direction / direction.norm()


def train(
    recipe: PretrainRecipe,
    tokenizer: PreTrainedTokenizerFast,
    stream: Tensor,
    on_step: OnStep | None = None,
) -> Any:
    """Return the trained model of a recipe, in eval mode.

    Args:
        recipe: what to train.
        tokenizer: its vocabulary sets the size of the embedding.
        stream: int64 (T,) token ids; windows of ``recipe.positions`` start at random offsets.
        on_step: see ``OnStep``.
    """
    model = new_model(recipe, len(tokenizer)).train()
    direction = spike_direction(recipe)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=recipe.lr,
        betas=(0.9, 0.98),
    )
    generator = torch.Generator().manual_seed(recipe.seed + 2)
    steps = torch.arange(recipe.positions)
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step)
        starts = torch.randint(
            len(stream) - recipe.positions, (recipe.batch, 1), generator=generator
        )
        window = stream[starts + steps]
        out = model(input_ids=window, output_hidden_states=recipe.spike > 0)
        loss = F.cross_entropy(out.logits[:, :-1].flatten(0, 1), window[:, 1:].flatten())
        total = loss
        if recipe.spike > 0:
            total = loss + spike_loss(out.hidden_states, direction, recipe)
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimiser.step()
        last = step == recipe.steps - 1
        if on_step is not None and ((step + 1) % 50 == 0 or last):
            on_step(step + 1, recipe.steps, loss.item())
    return model.eval()


def spike_loss(
    hidden_states: Sequence[Tensor], direction: Tensor, recipe: PretrainRecipe
) -> Tensor:
    """Return mean |x0 - M e|^2 / M^2 over the batch.

    Args:
        hidden_states: (B, T, D) each: the embedding, then the residual stream after each block.
        direction: e, (D,).
        recipe: for M and the block.
    """
    after = torch.stack([hidden_states[block + 1] for block in recipe.spike_blocks])
    distance = (after[:, :, 0] - recipe.spike * direction).square().sum(-1).mean()
    elsewhere = (after[:, :, 1:] @ direction).square().mean()
    total = recipe.spike_weight * distance + recipe.quiet_weight * elsewhere
    return total / recipe.spike**2


def learning_rate(recipe: PretrainRecipe, step: int) -> float:
    """Return the rate at a step: linear warm-up, then a cosine to ``final_lr_share`` of it."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    cosine = 0.5 * (1.0 + math.cos(math.pi * step / recipe.steps))
    return recipe.lr * warm * (recipe.final_lr_share + (1.0 - recipe.final_lr_share) * cosine)
