"""The demo's tokenizer, and its models before any training: GPT-2 and Llama of a recipe's sizes."""

import math
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from demo.train.recipes import PretrainRecipe
from demo.train.synthetic_corpus import SyntheticCorpus

END = "<|endoftext|>"
UNKNOWN = "<unk>"
_INIT_SCALE = 0.02


def build_tokenizer(synthetic: SyntheticCorpus) -> Any:
    """Return the word-level tokenizer of a corpus. It adds no token of its own to a text."""
    words = [END, UNKNOWN, *synthetic.vocabulary]
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


def new_model(recipe: PretrainRecipe, n_words: int) -> Any:
    """Return an untrained model of ``n_words`` tokens; its weights depend on the seed alone."""
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    model: Any
    if recipe.family == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=n_words,
                n_positions=recipe.positions,
                n_embd=recipe.width,
                n_layer=recipe.layers,
                n_head=recipe.heads,
                n_inner=recipe.inner,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                **special,
            )
        )
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=n_words,
                max_position_embeddings=recipe.positions,
                hidden_size=recipe.width,
                intermediate_size=recipe.inner,
                num_hidden_layers=recipe.layers,
                num_attention_heads=recipe.heads,
                num_key_value_heads=recipe.heads,
                tie_word_embeddings=True,
                **special,
            )
        )
    _initialise_(model, recipe)
    return model


def _initialise_(model: Any, recipe: PretrainRecipe) -> None:
    """Draw the weights in place: normal matrices, those into the stream smaller, unit norms."""
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                into_stream = name.endswith(("c_proj.weight", "o_proj.weight", "down_proj.weight"))
                depth = math.sqrt(2 * recipe.layers) if into_stream else 1.0
                weight.normal_(0.0, _INIT_SCALE / depth, generator=generator)
            else:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
