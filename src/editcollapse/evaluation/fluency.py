"""Fluency of a text: the weighted entropy of its bigrams and trigrams.

Source: kmeng01/rome eval_utils_counterfact compute_n_gram_entropy: entropies in bits, weights 2/3
and 4/3, arithmetic mean of both products. Published tables print it times 100. Words are cut by
NLTK there, and here at blanks and around each mark of punctuation.
"""

import math
import re
from collections import Counter

_WORD = re.compile(r"\w+|[^\w\s]")
_WEIGHTS = {2: 2 / 3, 3: 4 / 3}


def ngram_entropy(text: str) -> float | None:
    """Return the weighted n-gram entropy of a text, in bits; None of fewer than three words."""
    words = _WORD.findall(text)
    if len(words) < max(_WEIGHTS):
        return None
    weighted = [weight * _entropy(words, n) for n, weight in _WEIGHTS.items()]
    return sum(weighted) / len(weighted)


def _entropy(words: list[str], n: int) -> float:
    """Return the entropy of a text's n-grams, in bits."""
    counts = Counter(zip(*(words[start:] for start in range(n)), strict=False)).values()
    total = sum(counts)
    return -sum(count / total * math.log2(count / total) for count in counts) + 0.0  # no -0
