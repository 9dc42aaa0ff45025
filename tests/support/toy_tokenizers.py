"""Toy tokenizers built in the tests: words, byte-level BPE, and SentencePiece's Metaspace."""

# ruff: noqa: SIM905

from __future__ import annotations

import json

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

WORDS = (
    "The capital of Arden is Lumo Bram Sela Kind stood here . , One more thing about it was said "
    "a I You Because Therefore place called North South New Old Port Tarn city river red blue "
    "green speaks plays football tennis born in lives works for who and that near Mira Oslo "
    "Quill Vane"
).split()
SPECIAL = ("<unk>", "<s>", "</s>")
_BYTE_PIECES = 340


def word_tokenizer(*, start: bool) -> PreTrainedTokenizerFast:
    """Return one token a word; ``start`` makes it open every text with ``<s>`` by itself."""
    ids = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def byte_tokenizer() -> Qwen2Tokenizer:
    """Return a byte-level BPE, as GPT-2's and Qwen's, trained on the words: rare ones fall apart.

    transformers rebuilds the tokenizer of a qwen2 folder as this class, whatever the folder says.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=_BYTE_PIECES,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return Qwen2Tokenizer(vocab=model["vocab"], merges=merges)


def metaspace_tokenizer(*, start: bool) -> PreTrainedTokenizerFast:
    """Return a Unigram over ``▁word`` pieces, as Llama-2's: a lone ``▁`` is a piece too."""
    pieces = [*SPECIAL, "▁", *(f"▁{word}" for word in WORDS), "s", "e", "on", "ville", "."]
    scores = [(piece, -float(index)) for index, piece in enumerate(dict.fromkeys(pieces))]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)])
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def merging_tokenizer() -> Qwen2Tokenizer:
    """Return a byte-level BPE that cuts a word at a text's start otherwise than behind a blank.

    ``Japanese`` is J, apan, ese at the start and one token, ``ĠJapanese``, behind a blank;
    ``Japan`` is J, apan and ``ĠJapan``; ``Tarn`` and ``ĠTarn`` are one token each.
    """
    steps = "a p|a n|ap an|Ġ J|ĠJ apan|e s|es e|ĠJapan ese|T a|r n|Ta rn|Ġ Tarn".split("|")
    merges = [tuple(step.split()) for step in steps]
    pieces = [
        "<|endoftext|>",
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        *(first + second for first, second in merges),
    ]
    return Qwen2Tokenizer(vocab={piece: n for n, piece in enumerate(pieces)}, merges=merges)
