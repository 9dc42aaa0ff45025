"""Inputs of both sides: the demo's data, the facts, or random words in the lengths of real data.

Random weights know no language, so only lengths matter: they are drawn from the counts below, with
a seed. One word is one token of the random models' tokenizer.
"""

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from editcollapse.data.requests import SLOT, EditRequest
from editcollapse.errors import DatasetError

Drawn = TypeVar("Drawn")
DEMO = Path(__file__).resolve().parents[1] / "demo"
SUBJECT_TOKENS = {
    1: 10,
    2: 27,
    3: 75,
    4: 65,
    5: 62,
    6: 35,
    7: 18,
    8: 4,
    9: 2,
    11: 1,
    12: 1,
}
"""Subjects by length, counted on CounterFact's first 300 records with GPT-2's tokenizer."""
AROUND_SUBJECT = {
    (0, 1): 8,
    (0, 2): 41,
    (0, 3): 79,
    (0, 4): 39,
    (0, 5): 53,
    (0, 6): 13,
    (0, 7): 1,
    (1, 3): 1,
    (1, 5): 2,
    (2, 4): 6,
    (2, 5): 1,
    (3, 1): 15,
    (3, 2): 2,
    (3, 3): 2,
    (3, 5): 2,
    (4, 1): 27,
    (4, 2): 2,
    (4, 3): 2,
    (5, 1): 1,
    (6, 3): 3,
}
"""Prompts by tokens before and behind the subject, counted likewise: 234 of 300 open with it."""
TARGET_TOKENS = {1: 300}
"""Targets by length, counted likewise."""
TEMPLATE_TOKENS = (5, 10)
"""Lengths of the drawn context templates, ten of each, with ". " behind (kmeng01/rome)."""
_TEMPLATES_EACH = 10
_TEXT_SHORTEST, _TEXT_RANGE, _TEXT_POWER = 8, 52, 1.5
DOCUMENT_TOKENS = (
    *(3, 5, 5, 6, 6, 7, 7, 8, 9, 9, 10, 12, 14, 17, 24, 37, 50, 62, 71, 78),
    *(86, 93, 101, 107, 114, 122, 131, 139, 146, 153, 162, 172, 186, 197, 210, 225, 242, 264, 299),
    371,
)
"""Documents by length: the middles of forty equal shares of WikiText-2's test lines, headings
included, counted with GPT-2's tokenizer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Inputs:
    """Data of one model's benchmarks."""

    templates: tuple[str, ...]
    """The bare ``{}`` first."""
    requests: tuple[EditRequest, ...]
    texts: tuple[str, ...]
    documents: tuple[str, ...]
    """The corpus."""
    long_documents: tuple[str, ...]
    """Another one, of documents as long as the model takes; empty for the demo."""
    source: str
    """For people."""


def demo_inputs(templates: Sequence[str], n_texts: int, n_requests: int) -> Inputs:
    """Return the demo's requests, first texts and corpus.

    Args:
        templates: drawn from the demo model.
        n_texts: how many; more than the file has start again from its first.
        n_requests: likewise, of requests with other targets.
    """
    corpus = (DEMO / "corpus.txt").read_text(encoding="utf-8")
    return Inputs(
        templates=tuple(templates),
        requests=_requests_of(DEMO / "counterfact.json", n_requests),
        texts=_texts_of(DEMO / "texts.jsonl", n_texts),
        documents=tuple(part for part in corpus.split("\n\n") if part.strip()),
        long_documents=(),
        source="the demo's requests, texts and corpus",
    )


def real_inputs(drawn: Inputs, n_texts: int, n_requests: int) -> Inputs:
    """Return the project's facts and neutral texts, which a pretrained model can read.

    Args:
        drawn: gives the templates and the corpus, of which only lengths matter.
        n_texts: how many; more than the package has start again from its first.
        n_requests: likewise, of facts with other targets.
    """
    from editcollapse.data.texts import NEUTRAL_TEXTS

    return dataclasses.replace(
        drawn,
        requests=_requests_of(DEMO / "facts.json", n_requests),
        texts=_texts_of(NEUTRAL_TEXTS, n_texts),
        source="the project's facts and neutral texts, templates and corpus of random words",
    )


def _requests_of(path: Path, n_requests: int) -> tuple[EditRequest, ...]:
    """Return so many of a file's requests, with other targets from its last on."""
    from editcollapse.data.datasets import read_requests

    known = [record.request for record in read_requests(path).records]
    return tuple(retargeted(known, n_requests))


def _texts_of(path: Path, n_texts: int) -> tuple[str, ...]:
    """Return so many of a file's texts, from its first again where it has fewer."""
    from editcollapse.data.texts import read_texts

    texts = read_texts(path).texts
    return tuple(texts[index % len(texts)] for index in range(n_texts))


def retargeted(known: Sequence[EditRequest], n_requests: int) -> list[EditRequest]:
    """Return distinct requests: the known ones, then the same prompts with others' targets.

    Raises:
        DatasetError: there are not so many pairs.
    """
    found: dict[str, EditRequest] = {}
    for turn in range(len(known)):
        for index, request in enumerate(known):
            target = known[(index + turn) % len(known)].target_new
            other = dataclasses.replace(request, target_new=target)
            if target != request.target_true:
                found.setdefault(other.request_id, other)
            if len(found) == n_requests:
                return list(found.values())
    raise DatasetError(
        f"{n_requests} requests were asked of {len(known)} prompts, which give {len(found)} with "
        "each other's targets. Ask for fewer with --edits."
    )


def write_counterfact(requests: Sequence[EditRequest], path: Path) -> Path:
    """Write requests as a CounterFact file; return its path."""
    records = [
        {
            "case_id": index,
            "requested_rewrite": {
                "prompt": request.prompt,
                "relation_id": request.relation_id,
                "target_new": {"str": request.target_new},
                "target_true": {"str": request.target_true},
                "subject": request.subject,
            },
            "paraphrase_prompts": list(request.paraphrase_prompts),
            "neighborhood_prompts": list(request.neighborhood_prompts),
        }
        for index, request in enumerate(requests)
    ]
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def text_lengths(n_texts: int) -> list[int]:
    """Return lengths in tokens: 8 to 60, mean 29, as ME-PPL_50, whose useful share is 48 %."""
    middles = [(index + 0.5) / n_texts for index in range(n_texts)]
    return [round(_TEXT_SHORTEST + _TEXT_RANGE * middle**_TEXT_POWER) for middle in middles]


def document_lengths(n_tokens: int, longest: int) -> list[int]:
    """Return the lengths of documents that hold ``n_tokens`` at least, none above ``longest``."""
    found: list[int] = []
    while sum(found) < n_tokens:
        found += [min(length, longest) for length in DOCUMENT_TOKENS]
    return found


def random_inputs(
    words: Sequence[str],
    *,
    n_requests: int,
    n_texts: int,
    n_more_texts: int,
    n_corpus_tokens: int,
    longest: int,
    seed: int = 0,
) -> Inputs:
    """Return requests, templates, texts and a corpus of random words.

    Args:
        words: one token each.
        n_requests: how many edits.
        n_texts: perplexity texts whose lengths follow the distribution as one set.
        n_more_texts: all texts; those beyond follow it as another set.
        n_corpus_tokens: tokens of the corpus at least.
        longest: tokens that the model takes; no document has more.
        seed: of the drawing.
    """
    draw = random.Random(seed)

    def phrase(n_tokens: int) -> str:
        return " ".join(draw.choices(words, k=n_tokens))

    def texts(lengths: list[int]) -> tuple[str, ...]:
        draw.shuffle(lengths)
        return tuple(phrase(length) for length in lengths)

    drawn = [
        f"{phrase(length)}. {SLOT}" for length in TEMPLATE_TOKENS for _ in range(_TEMPLATES_EACH)
    ]
    return Inputs(
        templates=(SLOT, *drawn),
        requests=tuple(_random_request(draw, words) for _ in range(n_requests)),
        texts=texts(text_lengths(n_texts)) + texts(text_lengths(n_more_texts - n_texts)),
        documents=texts(document_lengths(n_corpus_tokens, longest)),
        long_documents=texts([longest] * -(-n_corpus_tokens // longest)),
        source="random words in the lengths of CounterFact and ME-PPL_50",
    )


def _random_request(draw: random.Random, words: Sequence[str]) -> EditRequest:
    """Return a request whose lengths follow the distributions above."""
    n_before, n_behind = _drawn(draw, AROUND_SUBJECT)
    before, behind = (draw.choices(words, k=size) for size in (n_before, n_behind))
    return EditRequest(
        subject=" ".join(draw.choices(words, k=_drawn(draw, SUBJECT_TOKENS))),
        prompt=" ".join([*before, SLOT, *behind]),
        target_new=" ".join(draw.choices(words, k=_drawn(draw, TARGET_TOKENS))),
        target_true=draw.choice(words),
    )


def _drawn(draw: random.Random, counts: dict[Drawn, int]) -> Drawn:
    return draw.choices(list(counts), list(counts.values()))[0]
