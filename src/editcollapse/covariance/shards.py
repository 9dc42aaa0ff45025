"""A corpus as token ids in shards: cut once, then read anywhere without corpus or tokenizer.

A shard holds whole documents, so that every token keeps the context that it has in a single
pass. Where a shard ends changes a sum over the corpus by rounding alone.
"""

import dataclasses
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from editcollapse.errors import MomentError
from editcollapse.models.tokenization import Encoder

if TYPE_CHECKING:
    from editcollapse.study.artifacts import ArtifactRef, ArtifactStore

logger = logging.getLogger(__name__)


_KIND = "corpora"
_DOCUMENTS = 64
"""Documents that the tokenizer takes at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """Some documents of a corpus in tokens."""

    rows: tuple[tuple[int, ...], ...]
    """Token ids of each document, none of them empty."""

    @property
    def n_tokens(self) -> int:
        """Tokens of all documents."""
        return sum(map(len, self.rows))

    @property
    def n_texts(self) -> int:
        """Documents."""
        return len(self.rows)


def budgeted_rows(
    encoder: Encoder,
    documents: Iterable[str],
    *,
    n_tokens: int,
    max_length: int,
    start_token: bool = False,
) -> Iterator[tuple[int, ...]]:
    """Yield the token ids of documents until the budget is spent.

    Args:
        encoder: the model's tokenizer.
        documents: texts, read as a stream.
        n_tokens: the budget; the last document is cut so that exactly so many tokens are yielded,
            or all there are.
        max_length: tokens of a document at most; the model's own limit holds too.
        start_token: open each document with the model's start token.
    """
    length = min(max_length, encoder.max_length)
    left = n_tokens
    start = encoder.start_ids if start_token else ()
    stream = iter(documents)
    while texts := _next_documents(stream, left):
        for found in encoder.encode_many(texts):
            ids = (start + found)[: min(length, left)]
            if ids:
                yield ids
            left -= len(ids)
            if left <= 0:
                return


def _next_documents(stream: Iterator[str], left: int) -> list[str]:
    """Return the next documents, none that a budget of ``left`` tokens may not need.

    A text has fewer tokens than characters, so what holds fewer characters is needed whole.
    """
    texts: list[str] = []
    n_characters = 0
    for text in stream:
        texts.append(text)
        n_characters += len(text)
        if n_characters >= left or len(texts) == _DOCUMENTS:
            break
    return texts


def cut(rows: Iterable[tuple[int, ...]], shard_tokens: int) -> Iterator[Shard]:
    """Yield rows in shards; each but the last two holds ``shard_tokens`` tokens or a few more.

    A shard ends with the document that fills it. The last two are of about one size, and what would
    fit into one makes two, so that C can be held against either half of its tokens: there are at
    most ceil(tokens / shard_tokens) of them, or two. A single document is not cut.
    """
    full: list[tuple[int, ...]] = []
    held: list[tuple[int, ...]] = []
    n_held = 0
    for row in rows:
        held.append(row)
        n_held += len(row)
        if n_held >= shard_tokens:
            if full:
                yield Shard(tuple(full))
            full, held, n_held = held, [], 0
    last = full + held
    middle = _middle([len(row) for row in last])
    for part in (last[:middle], last[middle:]):
        if part:
            yield Shard(tuple(part))


def _middle(lengths: Sequence[int]) -> int:
    """Return after how many documents as near as can be to half of their tokens have passed."""
    ends = list(itertools.accumulate(lengths))
    return 1 + min(range(len(ends)), key=lambda i: abs(2 * ends[i] - ends[-1])) if ends else 0


def check_budget(found: int, asked: int) -> None:
    """Say that a corpus is smaller than the budget; raise MomentError where it has no tokens."""
    if found == 0:
        raise MomentError("the corpus has no tokens. Give a text file with documents in it.")
    if found < asked:
        logger.warning("the corpus holds %d tokens of the %d asked for", found, asked)


def put_shard(store: "ArtifactStore", shard: Shard) -> "ArtifactRef":
    """Write a shard as one file: int32 ``ids`` of all documents and int32 ``lengths``.

    Raises:
        ResultsError: the folder cannot be written.
    """
    ids = [token for row in shard.rows for token in row]
    lengths = [len(row) for row in shard.rows]
    return store.put_tensors(
        _KIND,
        {
            "ids": torch.tensor(ids, dtype=torch.int32),
            "lengths": torch.tensor(lengths, dtype=torch.int32),
        },
    )


def read_shard(store: "ArtifactStore", ref: "ArtifactRef") -> Shard:
    """Return a shard that ``put_shard`` wrote.

    Raises:
        ArtifactError: the file is missing or its content has changed.
    """
    tensors = store.tensors(ref)
    rows = torch.split(tensors["ids"], tensors["lengths"].tolist())
    return Shard(tuple(tuple(row.tolist()) for row in rows))
