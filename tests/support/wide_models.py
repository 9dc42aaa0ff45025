"""Models of real widths and few blocks whose weights take no memory, and the works run on them.

Weights and products are zeros that nobody works out (``live_bytes.NoArithmetic``): what a forward
holds depends on sizes alone. ``python -m tests.support.wide_models`` prints peaks and estimates
of published models.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from benchmarks.inputs import random_inputs
from benchmarks.models import SHAPES, word_tokenizer, words_of
from editcollapse.catalog.architectures import architecture_of, widths_of
from editcollapse.catalog.presets import ValueSettings
from editcollapse.covariance.second_moment import sum_keys
from editcollapse.covariance.shards import Shard
from editcollapse.evaluation import perplexity
from editcollapse.evaluation.perplexity import EncodedTexts, text_nll
from editcollapse.evaluation.probes import ProbePlan, Question
from editcollapse.evaluation.scores import answer_probes
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.models.files import ModelDigests
from editcollapse.models.loading import LoadedModel, fuse_activations_
from editcollapse.models.tokenization import Encoder
from editcollapse.rome.updates import RankOneUpdates
from editcollapse.rome.values import optimise_values
from editcollapse.runtime.memory import LOGITS, Work, forward_bytes
from tests.support import tiny
from tests.support.live_bytes import NoArithmetic, live_bytes

POSITIONS = 1024
_MIB = 1 << 20
_PUBLISHED = (("gpt2-xl", 6, 64, 8192), ("gpt-j-6b", 4, 32, 4096), ("llama2-7b", 4, 32, 4096))
"""Blocks, edits, and tokens of other work, as much as a small machine measures in minutes."""
_TEXT = 32


def real_shape(name: str, n_layers: int) -> tuple[str, dict[str, Any], int]:
    """Return configuration class, fields and vocabulary of a benchmark's shape with few blocks."""
    shape = SHAPES[name]
    layers = "n_layer" if "n_layer" in shape.fields else "num_hidden_layers"
    return shape.config, shape.fields | {layers: n_layers}, shape.n_vocabulary


def variant_shape(
    name: str, n_layers: int, d_model: int, d_key: int, n_vocabulary: int
) -> tuple[str, dict[str, Any], int]:
    """Return the same of a tiny variant made wide: heads of 128 numbers, no windows."""
    n_heads = d_model // 128
    known = {
        "n_embd": d_model,
        "hidden_size": d_model,
        "n_inner": d_key,
        "intermediate_size": d_key,
        "ffn_dim": d_key,
        "ffn_hidden_size": d_key,
        "word_embed_proj_dim": d_model,
        "no_rope_layers": [1] * n_layers,
        "n_layer": n_layers,
        "num_hidden_layers": n_layers,
        "num_layers": n_layers,
        "n_head": n_heads,
        "num_heads": n_heads,
        "num_attention_heads": n_heads,
        "head_dim": 128,
        "rotary_dim": 32,
        "attention_types": [[["global"], n_layers]],
        "layer_types": ["full_attention"] * n_layers,
        "max_position_embeddings": POSITIONS,
        "n_positions": POSITIONS,
    }
    variant = tiny.VARIANTS[name]
    fields = {field: known.get(field, value) for field, value in variant.fields.items()}
    return variant.config, fields, n_vocabulary


def wide_model(shape: tuple[str, dict[str, Any], int], dtype: str) -> LoadedModel:
    """Return a model of a shape, its weights zeros that take no memory."""
    with NoArithmetic():
        return real_model(shape, dtype, torch.device("cpu"))


def real_model(
    shape: tuple[str, dict[str, Any], int], dtype: str, device: torch.device
) -> LoadedModel:
    """Return a model of a shape with the weights that it starts from, built on a device."""
    name, fields, n_vocabulary = shape
    config = getattr(transformers, name)(
        vocab_size=n_vocabulary,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
        **({"max_position_embeddings": POSITIONS} | fields),
    )
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.eval().requires_grad_(requires_grad=False)
    fuse_activations_(model)
    plain = model.config.to_dict()
    return LoadedModel(
        model=model,
        encoder=Encoder(_tokenizer(n_vocabulary), "never", POSITIONS, name),
        architecture=architecture_of(plain, name),
        widths=widths_of(plain, name),
        digests=ModelDigests("zeros", "words", dtype, "never"),
        source=name,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """One work in batches that fill the tokens of a forward."""

    work: Work
    n_tokens: int
    """Of a forward, as the estimate counts them."""
    run: Callable[[], object]

    @property
    def peak(self) -> int:
        """The most bytes that are alive at once, without arithmetic."""
        with live_bytes(arithmetic=False) as live:
            self.run()
        return live.peak


def pieces(
    loaded: LoadedModel, layer: int, n_edits: int, n_tokens: int, n_document: int = POSITIONS
) -> tuple[Piece, ...]:
    """Return every kind of work.

    Args:
        loaded: the model.
        layer: the edited one.
        n_edits: of v*'s batch: requests in the lengths of CounterFact, with 21 templates.
        n_tokens: of a forward of the other works.
        n_document: tokens of each document of a corpus.
    """
    hooked = HookedLayer(loaded, layer)
    words = words_of(_tokenizer(loaded.widths.n_vocabulary))
    inputs = random_inputs(
        words, n_requests=n_edits, n_texts=1, n_more_texts=1, n_corpus_tokens=1, longest=POSITIONS
    )
    rewrites, _ = build_rewrites(loaded.encoder, inputs.templates, inputs.requests)
    rows = [(1,) * _TEXT] * (2 * n_tokens // _TEXT)
    question = Question("rewrite", 0, "new", 0, _TEXT - 1, (1,))
    plans = [ProbePlan("id", (row,), (question,), None) for row in rows]
    texts = EncodedTexts(((1,) * (_TEXT + 1),) * 2, ())
    shard = Shard(((1,) * n_document,) * (3 * n_tokens // n_document))
    own, many = _updates(loaded, len(rows)), _updates(loaded, n_tokens // _TEXT)
    counted = sum(rewrite.pass_tokens for rewrite in rewrites)
    return (
        Piece("values", counted, lambda: optimise_values(hooked, rewrites, ValueSettings(steps=2))),
        Piece("answers", n_tokens, lambda: answer_probes(hooked, plans, [None, own], n_tokens)),
        Piece("evaluation", n_tokens, lambda: text_nll(hooked, texts, many, n_tokens)),
        Piece("moment", n_tokens, lambda: sum_keys(loaded, [layer], shard, n_tokens)),
    )


def heads_as_on_accelerators(monkeypatch: Any) -> None:
    """Make the head read as many states at once as it does there."""
    monkeypatch.setattr(perplexity, "_LOGITS_ON_CPU", LOGITS)


def _updates(loaded: LoadedModel, n_updates: int) -> RankOneUpdates:
    """Return updates of nothing, on the CPU as everywhere: they are no part of a forward."""
    d, k = loaded.widths.d_model, loaded.widths.d_key
    return RankOneUpdates(
        torch.zeros((n_updates, d), dtype=torch.float64),
        torch.zeros((n_updates, k), dtype=torch.float64),
    )


@functools.cache
def _tokenizer(n_vocabulary: int) -> Any:
    return word_tokenizer(n_vocabulary)


def main() -> None:
    """Print a table of peaks and estimates, published models with few blocks, layer 1."""
    perplexity._LOGITS_ON_CPU = LOGITS  # type: ignore[misc]  as on accelerators
    say = sys.stdout.write
    say("| model, type | work | tokens | peak, MiB | estimate, MiB | peak / estimate |\n")
    say("|---|---|---|---|---|---|\n")
    for name, n_layers, n_edits, n_tokens in _PUBLISHED:
        for dtype in ("float32", "bfloat16"):
            loaded = wide_model(real_shape(name, n_layers), dtype)
            for piece in pieces(loaded, 1, n_edits, n_tokens):
                peak, n = piece.peak, piece.n_tokens
                estimate = forward_bytes(loaded.size(1), piece.work, n)
                sizes = f"{n} | {peak / _MIB:.0f} | {estimate / _MIB:.0f} | {peak / estimate:.2f}"
                say(f"| {name}, {dtype} | {piece.work} | {sizes} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
