"""How many tokens a forecast needs: ``python -m benchmarks.support MODEL --corpus FILE``.

Bounds and rho of the same edits under C of 1, 2, 4, ... tokens a dimension, beside those under
the largest C that the corpus gives. C of few tokens is taken from the corpus's start, and what its
edits change is also measured on the tokens behind it.
"""

import argparse
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from editcollapse.catalog.methods import METHODS
from editcollapse.catalog.presets import preset_for
from editcollapse.config.spec import ModelSpec
from editcollapse.covariance.condition import condition_number
from editcollapse.covariance.held_out import factored
from editcollapse.covariance.second_moment import MomentSolver, MomentSum, SecondMoment, sum_keys
from editcollapse.covariance.shards import Shard, budgeted_rows
from editcollapse.data.corpora import open_corpus
from editcollapse.data.datasets import read_requests
from editcollapse.data.requests import EditRequest
from editcollapse.errors import MomentError
from editcollapse.forecast.bounds import KeyFacts, LayerGeometry, UpdateBounds, update_bounds
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.keys import read_keys
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.models.files import name_of
from editcollapse.models.loading import LoadedModel, load_model
from editcollapse.rome.templates import generate_templates
from editcollapse.runtime.precision import float32_products

_METHODS = ("rome", "c_rome")
_MAX_LENGTH = 1024
_TOKENS_PER_FORWARD = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Support:
    """Forecasts under one C beside those under the largest."""

    tokens_per_d_key: float
    n_tokens: int
    condition: float
    own: Tensor
    """Bound without halves over the largest C's bound, (2 B,)."""
    bound: Tensor
    """Bound over the largest C's, (2 B,)."""
    covered: Tensor
    """Bound over what an edit at the clamp changes on tokens that C has not seen, (2 B,)."""
    rho: Tensor
    """Of ROME: rho over that under the largest C, (B,)."""

    def __str__(self) -> str:
        return (
            " | ".join(
                (
                    f"| {self.tokens_per_d_key:.1f}",
                    f"{self.n_tokens:,}",
                    f"{self.condition:.1e}",
                    *map(_range, (self.own, self.bound, self.covered, self.rho)),
                )
            )
            + " |"
        )


_HEADER = """\
| tokens a dimension | tokens | condition | on own tokens | bound | over change elsewhere | rho |
|---|---|---|---|---|---|---|"""


def _range(ratios: Tensor) -> str:
    """Return the median of ratios with their 5th and 95th percentiles."""
    low, middle, high = (float(ratios.quantile(share)) for share in (0.05, 0.5, 0.95))
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def doublings(rows: Iterable[tuple[int, ...]], first: int) -> Iterator[Shard]:
    """Yield rows in shards of whole documents, each as large as all before it together.

    Args:
        rows: token ids of documents.
        first: tokens of the first shard, or a few more.
    """
    held: list[tuple[int, ...]] = []
    n_before = n_held = 0
    for row in rows:
        held.append(row)
        n_held += len(row)
        if n_held >= max(first, n_before):
            yield Shard(tuple(held))
            n_before += n_held
            held, n_held = [], 0


@float32_products()
def support(
    loaded: LoadedModel,
    layer: int,
    clamp: float,
    rows: Iterable[tuple[int, ...]],
    requests: Sequence[EditRequest],
) -> Iterator[Support]:
    """Yield the forecasts under C of about 1, 2, 4, ... tokens a dimension.

    The halves of each C are the one before and what came to it.

    Args:
        loaded: the model.
        layer: zero-based block.
        clamp: clamp factor of v*.
        rows: token ids of documents.
        requests: of edits.
    """
    hooked, width = HookedLayer(loaded, layer), loaded.widths.d_key
    templates = generate_templates(loaded, "five_words", ((5, 10), (10, 10)), 0).templates
    rewrites, _ = build_rewrites(loaded.encoder, templates, requests)
    with torch.no_grad():
        facts = KeyFacts.of(hooked, read_keys(hooked, rewrites, _TOKENS_PER_FORWARD))
    moments: list[SecondMoment] = []
    total = MomentSum.empty(width, loaded.device)
    for shard in doublings(rows, width):
        before = MomentSum([slab.clone() for slab in total.slabs], total.n_tokens)
        total.add_sum_(sum_keys(loaded, [layer], shard, _TOKENS_PER_FORWARD)[0])
        moments.append(SecondMoment(total.mean(), total.n_tokens, total.n_texts, half=before))
    whole = moments.pop()

    def bounds(solver: MomentSolver) -> list[UpdateBounds]:
        geometry = LayerGeometry.of(hooked, solver)
        return [update_bounds(facts, METHODS[name], geometry, clamp) for name in _METHODS]

    largest = bounds(factored(whole, 0.0))
    weight = loaded.weight(layer)
    for moment in moments[1:]:
        n_tokens, n_all = moment.n_tokens, whole.n_tokens
        try:
            found, own = bounds(factored(moment, 0.0)), bounds(MomentSolver(moment.matrix))
        except MomentError:
            continue
        rest = (whole.matrix * n_all - moment.matrix * n_tokens) / (n_all - n_tokens)
        unseen = MomentSolver(rest)
        size = unseen.output_spread(weight)
        changes = [
            each.certified_bound * unseen.spread(each.directions.right) / size for each in found
        ]
        pairs = list(zip(found, largest, strict=True))
        yield Support(
            tokens_per_d_key=n_tokens / width,
            n_tokens=n_tokens,
            condition=condition_number(moment.matrix),
            own=torch.cat(
                [
                    a.text_change_bound / b.text_change_bound
                    for a, b in zip(own, largest, strict=True)
                ]
            ),
            bound=torch.cat([a.text_change_bound / b.text_change_bound for a, b in pairs]),
            covered=torch.cat(
                [a.text_change_bound / b for a, b in zip(found, changes, strict=True)]
            ),
            rho=found[0].directions.rho / largest[0].directions.rho,
        )


def main() -> None:
    """Print a row for each size of C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--requests", required=True, type=Path)
    parser.add_argument("--layer", type=int)
    parser.add_argument("--start-token", default="tokenizer")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=10**9)
    asked = parser.parse_args()
    spec = ModelSpec(name=name_of(asked.model), source=asked.model, start_token=asked.start_token)
    loaded = load_model(spec, "cpu")
    preset = preset_for(None, loaded.architecture.family, loaded.widths)
    layer, _ = preset.layer_of(asked.layer, "as given")
    print(f"{loaded.name}, layer {layer}, d_key {loaded.widths.d_key}\n\n{_HEADER}", flush=True)
    documents = open_corpus(asked.corpus).documents()
    rows = budgeted_rows(loaded.encoder, documents, n_tokens=asked.tokens, max_length=_MAX_LENGTH)
    requests = [each.request for each in read_requests(asked.requests).records[: asked.count]]
    for row in support(loaded, layer, preset.values.clamp_factor, rows, requests):
        print(row, flush=True)


if __name__ == "__main__":
    main()
