"""Models of real widths and few blocks whose weights take no memory, and the works run on them.

Weights and products are zeros that nobody works out (``live_bytes.NoArithmetic``): what a forward
holds depends on sizes alone. ``python -m tests.science.wide_models`` prints peaks and estimates
of published models.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from benchmarks.inputs import random_inputs
from benchmarks.models import SHAPES, word_tokenizer, words_of
from editcollapse import head
from editcollapse.activations import fuse_activations_
from editcollapse.answers import answer_probes
from editcollapse.architectures import architecture_of, widths_of
from editcollapse.budgets import forward_bytes
from editcollapse.model_files import ModelDigests
from editcollapse.models import LoadedModel
from editcollapse.perplexity import EncodedTexts, text_nll
from editcollapse.presets import ValueSettings
from editcollapse.probes import ProbePlan, Question
from editcollapse.rewrites import build_rewrites
from editcollapse.shards import Shard
from editcollapse.sites import EditSite
from editcollapse.summing import sum_keys
from editcollapse.tokens import Encoder
from editcollapse.updates import RankOneUpdates
from editcollapse.values import optimise_values
from tests.science import tiny
from tests.science.live_bytes import NoArithmetic, live_bytes

POSITIONS = 1024
_MIB = 1 << 20
_PUBLISHED = (("gpt2-xl", 6, 64, 8192), ("gpt-j-6b", 4, 32, 4096), ("llama2-7b", 4, 32, 4096))
"""Blocks, edits, and tokens of other work, as much as a small machine measures in minutes."""
_TEXT, _UPDATES = 32, 32


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
    name, fields, n_vocabulary = shape
    config = getattr(transformers, name)(
        vocab_size=n_vocabulary,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
        **({"max_position_embeddings": POSITIONS} | fields),
    )
    with NoArithmetic():
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.eval().requires_grad_(requires_grad=False)
    fuse_activations_(model)
    plain = model.config.to_dict()
    return LoadedModel(
        model=model,
        encoder=Encoder(_tokenizer(n_vocabulary), "never", POSITIONS, name),
        architecture=architecture_of(plain["model_type"], name),
        widths=widths_of(plain, name),
        digests=ModelDigests("zeros", "words", dtype, "never"),
        source=name,
    )


def values_peak(loaded: LoadedModel, layer: int, n_edits: int) -> tuple[int, int]:
    """Return the tokens of a batch as v* counts them, and the most bytes that its passes hold.

    Requests have the lengths of CounterFact, and 21 templates.
    """
    words = words_of(_tokenizer(loaded.widths.n_vocabulary))
    inputs = random_inputs(
        words, n_requests=n_edits, n_texts=1, n_more_texts=1, n_corpus_tokens=1, longest=POSITIONS
    )
    rewrites, _ = build_rewrites(loaded.encoder, inputs.templates, inputs.requests)
    site = EditSite(loaded, layer)
    with live_bytes(arithmetic=False) as live:
        optimise_values(site, rewrites, ValueSettings(steps=2))
    return sum(rewrite.pass_tokens for rewrite in rewrites), live.peak


def answers_peak(loaded: LoadedModel, layer: int, n_tokens: int) -> int:
    """Return the most bytes that answers hold, unedited and edited, of full batches."""
    site = EditSite(loaded, layer)
    rows = [(1,) * _TEXT] * (2 * n_tokens // _TEXT)
    question = Question("rewrite", 0, "new", 0, _TEXT - 1, (1,))
    plans = [ProbePlan("id", (row,), (question,), None) for row in rows]
    with live_bytes(arithmetic=False) as live:
        answer_probes(site, plans, [None, _updates(loaded, len(rows))], n_tokens)
    return live.peak


def evaluation_peak(loaded: LoadedModel, layer: int, n_tokens: int) -> int:
    """Return the most bytes that perplexity under many updates holds, with full batches."""
    site = EditSite(loaded, layer)
    texts = EncodedTexts(((1,) * (_TEXT + 1),) * 2, ())
    updates = _updates(loaded, n_tokens // _TEXT)
    with live_bytes(arithmetic=False) as live:
        text_nll(site, texts, updates, n_tokens)
    return live.peak


def moment_peak(loaded: LoadedModel, layer: int, n_tokens: int, n_document: int) -> int:
    """Return the most bytes that sums of keys hold, with full batches of equal documents."""
    shard = Shard(((1,) * n_document,) * (3 * n_tokens // n_document))
    with live_bytes(arithmetic=False) as live:
        sum_keys(loaded, [layer], shard, n_tokens)
    return live.peak


def heads_as_on_accelerators(monkeypatch: Any) -> None:
    """Make the head read as many states at once as it does there."""
    monkeypatch.setattr(head, "_LOGITS_ON_CPU", head._LOGITS)


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
    head._LOGITS_ON_CPU = head._LOGITS  # type: ignore[misc]  as on accelerators
    say = sys.stdout.write
    say("| model, type | work | tokens | peak, MiB | estimate, MiB | peak / estimate |\n")
    say("|---|---|---|---|---|---|\n")
    for name, n_layers, n_edits, n_tokens in _PUBLISHED:
        for dtype in ("float32", "bfloat16"):
            loaded = wide_model(real_shape(name, n_layers), dtype)
            n_values, values = values_peak(loaded, 1, n_edits)
            found = (
                ("values", n_values, values),
                ("answers", n_tokens, answers_peak(loaded, 1, n_tokens)),
                ("evaluation", n_tokens, evaluation_peak(loaded, 1, n_tokens)),
                ("moment", n_tokens, moment_peak(loaded, 1, n_tokens, POSITIONS)),
            )
            for work, n, peak in found:
                estimate = forward_bytes(loaded.size(1), work, n)
                sizes = f"{n} | {peak / _MIB:.0f} | {estimate / _MIB:.0f} | {peak / estimate:.2f}"
                say(f"| {name}, {dtype} | {work} | {sizes} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
