"""Free answers compared with targets: cut at stop strings, normalised, equal or contained.

Sources: SQuAD's evaluation script v1.1 (normalisation: lower case, no punctuation, no articles,
blanks joined), Revisit-Editing-Evaluation evaluate_utils (exact match after it, the last stop
string cut off).
"""

import re
import string
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """Return a text up to the first of any stop strings; whole where it has none."""
    found = [place for place in map(text.find, stops) if place >= 0]
    return text[: min(found)] if found else text


def normalised(text: str) -> str:
    """Return a text as exact match compares it.

    Lower case; ASCII punctuation is taken out, then the words a, an and the; blanks are joined.
    """
    plain = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def exact_match(text: str | None, target: str | None) -> bool | None:
    """Return whether an answer is its target after normalisation.

    None where there is no answer or no target, or nothing is left of the target.
    """
    if text is None or target is None:
        return None
    wanted = normalised(target)
    return normalised(text) == wanted if wanted else None


def contains_match(text: str | None, target: str | None) -> bool | None:
    """Return whether an answer has its target in it, as whole words, after normalisation.

    Not in the published evaluation: a text that goes on behind the answer is one here. None as for
    ``exact_match``.
    """
    if text is None or target is None:
        return None
    wanted = normalised(target)
    return f" {wanted} " in f" {normalised(text)} " if wanted else None
