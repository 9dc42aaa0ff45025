"""Models to measure on: the demo's, and random weights in the shapes of GPT-2 and Llama.

Random models are written as real folders, so that ``models.loading.load_model`` loads them.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from editcollapse.errors import ModelError

END = "<|endoftext|>"
UNKNOWN = "<unk>"
_ALWAYS = (END, UNKNOWN, "a", "is", ".")
"""Pieces that every random model's tokenizer has: two special ones, and what edits add."""
_SPREAD = 0.02
"""Standard deviation of random matrices, as GPT-2 and Llama start from."""
_SPACED = re.compile(r"^[Ġ▁][A-Za-z]+$")


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """A model's configuration class and its fields."""

    config: str
    n_vocabulary: int
    n_positions: int
    fields: dict[str, Any]
    note: str

    def configuration(self, n_vocabulary: int | None = None) -> Any:
        """Return the configuration, without special tokens beyond the first."""
        return getattr(transformers, self.config)(
            vocab_size=n_vocabulary or self.n_vocabulary,
            max_position_embeddings=self.n_positions,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=None,
            **self.fields,
        )


def _gpt2(layers: int, width: int, heads: int) -> dict[str, Any]:
    return {"n_layer": layers, "n_embd": width, "n_head": heads}


def _llama(layers: int, width: int, heads: int, inner: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": inner,
    }


_GPTJ = {"n_layer": 28, "n_embd": 4096, "n_head": 16, "rotary_dim": 64}

SHAPES: dict[str, Shape] = {
    "tiny": Shape("GPT2Config", 512, 256, _gpt2(3, 64, 4), "3 x 64, a smoke test"),
    "tiny-llama": Shape("LlamaConfig", 512, 256, _llama(3, 64, 4, 96), "3 x 64, a smoke test"),
    "tiny-gptj": Shape(
        "GPTJConfig", 512, 256, _gpt2(3, 64, 4) | {"rotary_dim": 8}, "3 x 64, a smoke test"
    ),
    "small": Shape("GPT2Config", 2048, 256, _gpt2(6, 256, 4), "6 x 256, for tests of memory"),
    "gpt2-small": Shape("GPT2Config", 50257, 1024, _gpt2(12, 768, 12), "12 x 768, K 3072"),
    "llama-small": Shape("LlamaConfig", 32000, 1024, _llama(12, 768, 12, 2048), "12 x 768, K 2048"),
    "gpt2-xl": Shape("GPT2Config", 50257, 1024, _gpt2(48, 1600, 25), "48 x 1600, K 6400"),
    "gpt2-xl-4": Shape("GPT2Config", 50257, 1024, _gpt2(4, 1600, 25), "GPT-2-XL, 4 blocks of 48"),
    "llama2-7b-4": Shape(
        "LlamaConfig", 32000, 4096, _llama(4, 4096, 32, 11008), "Llama-2-7B, 4 blocks of 32"
    ),
    "gpt-j-6b": Shape("GPTJConfig", 50400, 2048, _GPTJ, "28 x 4096, K 16384"),
    "llama2-7b": Shape(
        "LlamaConfig", 32000, 4096, _llama(32, 4096, 32, 11008), "32 x 4096, K 11008"
    ),
}
"""Sizes of the published models, and like ones; K is 4 D where no inner width is named."""


def word_tokenizer(n_vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of exactly so many tokens, one a word: ``w0``, ``w1`` and so on."""
    words = [*_ALWAYS, *(f"w{index}" for index in range(n_vocabulary - len(_ALWAYS)))]
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, unk_token=UNKNOWN
    )


def words_of(tokenizer: Any) -> list[str]:
    """Return words that are one token each behind a blank, in the order of their ids.

    Raises:
        ModelError: the tokenizer has fewer than a hundred of them.
    """
    own = [f"w{index}" for index in range(len(tokenizer) - len(_ALWAYS))]
    vocabulary = tokenizer.get_vocab()
    if own and own[0] in vocabulary and own[-1] in vocabulary:
        return own
    spaced = [piece[1:] for piece in sorted(vocabulary, key=vocabulary.get) if _SPACED.match(piece)]
    single = [word for word in spaced if len(tokenizer.tokenize(f" {word}")) == 1]
    enough = 100
    if len(single) < enough:
        raise ModelError(
            f"--tokenizer: {tokenizer.name_or_path} has {len(single)} words of one token, "
            f"{enough} are needed. Name a byte-level or SentencePiece tokenizer, or none."
        )
    return single


def random_model(
    shape: Shape, *, dtype: torch.dtype, device: torch.device | str, seed: int = 0
) -> Any:
    """Return a causal LM with random matrices, in evaluation mode and without gradients.

    It is built on the device itself, in its final type.
    """
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(shape.configuration(), dtype=dtype)
    generator = torch.Generator(device=device).manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:  # norms and biases stay at one and zero
                parameter.normal_(std=_SPREAD, generator=generator)
    return model.eval().requires_grad_(requires_grad=False)


def write_model(shape: Shape, folder: Path, tokenizer: Path | None = None) -> Path:
    """Write a random float32 model with its tokenizer; return the folder.

    Args:
        shape: of the model.
        folder: to be made.
        tokenizer: folder of the tokenizer to use; a word tokenizer of the model's size without.

    Raises:
        ModelError: the tokenizer has more tokens than the model.
    """
    if tokenizer is None:
        chosen: Any = word_tokenizer(shape.n_vocabulary)
    else:
        chosen = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    if len(chosen) > shape.n_vocabulary:
        raise ModelError(
            f"--tokenizer {tokenizer} has {len(chosen)} tokens, the model {shape.n_vocabulary}. "
            "Name a smaller one or leave the model out."
        )
    random_model(shape, dtype=torch.float32, device="cpu").save_pretrained(folder)
    chosen.save_pretrained(folder)
    return folder
