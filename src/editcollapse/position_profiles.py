"""Means over texts, by block and position, of residual norm, key and attention: where a sink shows.

Source: attention sinks and massive activations at the first position: Xiao et al., Efficient
Streaming Language Models with Attention Sinks (arXiv 2309.17453); Sun et al., Massive Activations
in Large Language Models (arXiv 2402.17762).
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from scipy import stats

from editcollapse.answer_outcomes import PositionProfileRow
from editcollapse.key_kinds import Numbers
from editcollapse.position_numbers import PositionNumbers

_MIN_TEXTS = 2
"""Texts that reach a position, at least: one has no spread."""
_UPPER = 0.975
"""Quantile of Student's t."""


@dataclasses.dataclass(frozen=True, slots=True)
class Mean:
    """A mean over texts with its 95 % interval of Student's t."""

    value: float
    low: float
    high: float


def profile_rows(
    numbers: PositionNumbers, model_id: str, source: str, text_set_digest: str, stack: str
) -> Iterator[PositionProfileRow]:
    """Yield the means of every block at every position that at least two texts reach.

    Args:
        numbers: of the texts.
        model_id: id of the model, or of the encoder.
        source: where the model came from.
        text_set_digest: of the texts and of how much of each was run.
        stack: ``decoder`` or ``encoder``.
    """
    _, n_layers, n_positions = numbers.key_norm.shape
    for layer in range(n_layers):
        for position in range(n_positions):
            here = (slice(None), layer, position)
            residual, key = mean_of(numbers.residual_norm[here]), mean_of(numbers.key_norm[here])
            cosine = mean_of(numbers.key_cosine[here])
            if residual is None or key is None or cosine is None:
                continue
            attention = mean_of(numbers.attention[here])
            looked = ~np.isnan(numbers.attention[here])
            yield PositionProfileRow(
                model_id=model_id,
                text_set_digest=text_set_digest,
                stack=stack,
                layer=layer,
                position=position,
                model_source=source,
                n_texts=int((~np.isnan(numbers.key_norm[here])).sum()),
                residual_norm=residual.value,
                residual_norm_low=residual.low,
                residual_norm_high=residual.high,
                key_norm=key.value,
                key_norm_low=key.low,
                key_norm_high=key.high,
                key_cosine=cosine.value,
                key_cosine_low=cosine.low,
                key_cosine_high=cosine.high,
                attention=None if attention is None else attention.value,
                attention_low=None if attention is None else attention.low,
                attention_high=None if attention is None else attention.high,
                uniform_attention=None
                if attention is None
                else float(numbers.uniform_attention[looked, position].mean()),
            )


def mean_of(numbers: Numbers) -> Mean | None:
    """Return the mean of those that are not nan; None where there are fewer than two."""
    there = numbers[~np.isnan(numbers)]
    if len(there) < _MIN_TEXTS:
        return None
    mean = float(there.mean())
    spread = float(there.std(ddof=1)) / len(there) ** 0.5
    reach = float(stats.t.ppf(_UPPER, len(there) - 1)) * spread
    return Mean(mean, mean - reach, mean + reach)
