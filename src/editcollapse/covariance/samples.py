"""A corpus for everybody: what the model itself writes, drawn at temperature 1, seeded.

A row is written one token at a time behind the token that texts start with. Where the model ends a
text, the row begins another with nothing before it, until it holds its tokens. Each row draws from
a generator of its own, so that it does not matter which rows are written together, but for rounding
of the logits.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from editcollapse.config.spec import ROWS_AT_ONCE, CovarianceSpec
from editcollapse.errors import ModelError
from editcollapse.fingerprints import digest
from editcollapse.models.loading import LoadedModel
from editcollapse.runtime.oom import GroupLimit, oom_split

OWN_SAMPLES = "own samples"
"""What C of a model's own samples is said to be of."""
_END_OF_TEXT = "<|endoftext|>"
_SEED_DIGITS = 15
"""Hex digits: a seed has 60 bits."""
_BLOCK = 512
"""Probabilities that are added up together when a token is looked for."""
_STEPS_PER_TOKEN = 2
"""Steps of a row at most, for each token that it should hold: some ends texts at once."""

_ROOM = 32
"""Tokens that keys and values are copied after, to make room for as many more."""

Documents = tuple[tuple[int, ...], ...]


def start_of_text(loaded: LoadedModel) -> int:
    """Return the token that a text of this model starts behind.

    The one that its tokenizer opens texts with; else ``<|endoftext|>``, which stands between the
    texts that GPT-2 and many others were trained on; else BOS, else EOS.

    Raises:
        ModelError: the tokenizer has none of them.
    """
    tokenizer: Any = loaded.encoder.tokenizer
    opened = loaded.encoder.opening_ids
    between = tokenizer.get_vocab().get(_END_OF_TEXT)
    for token in (opened[-1] if opened else None, between):
        if token is not None:
            return int(token)
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise ModelError(
        f'covariance kind "samples": the tokenizer of {loaded.source} has no token that a text '
        "could start from (BOS, end of text). Take C from a corpus."
    )


def write_rows(
    loaded: LoadedModel,
    rows: Sequence[int],
    length: int,
    seed: int,
    on_tokens: Callable[[int, int], None] | None = None,
) -> list[Documents]:
    """Return the documents of each row, in token ids, without the token that they start behind.

    Args:
        loaded: the model that writes them.
        rows: numbers of the rows; row and seed decide what is drawn.
        length: tokens that the documents of a row hold together; no document is longer than
            what the model takes.
        seed: of the draws.
        on_tokens: called with tokens written and their sum.

    Raises:
        ModelError: there is no start token, or logits are not all numbers.
        DeviceMemoryError: one row alone does not fit on the device.
    """
    limit = GroupLimit(loaded.device, "a text that a model writes")
    found: list[Documents] = []

    def report(done: int) -> None:
        if on_tokens is not None:
            on_tokens(len(found) * length + done, len(rows) * length)

    def run(group: Sequence[int]) -> list[Documents]:
        return _Writing(loaded, group, length, seed).run(report)

    for _, documents in oom_split(rows, run, limit, lambda group: len(group) * length):
        found.extend(documents)
    return found


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of a block, with room for more: copied now and then, not at every token."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Begin without tokens."""
        super().lazy_initialization(key_states, value_states)
        self.n_tokens = 0
        self.room = (key_states[:, :, :0], value_states[:, :, :0])

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Return all keys and values, the new ones last."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        first, self.n_tokens = self.n_tokens, self.n_tokens + key_states.shape[2]
        if self.n_tokens > self.room[0].shape[2]:
            keys, values = self.room
            grown = _ROOM + key_states.shape[2]
            self.room = (_with_room(keys, grown), _with_room(values, grown))
        for held, new in zip(self.room, (key_states, value_states), strict=True):
            held[:, :, first : self.n_tokens] = new
        self.keys, self.values = (held[:, :, : self.n_tokens] for held in self.room)
        return self.keys, self.values


def _with_room(held: Tensor, n_tokens: int) -> Tensor:
    return torch.cat([held, held.new_empty((*held.shape[:2], n_tokens, held.shape[3]))], dim=2)


class _Writing:
    """Rows that are written side by side.

    Args:
        loaded: the model.
        rows: their numbers.
        length: tokens of each.
        seed: of the draws.
    """

    def __init__(self, loaded: LoadedModel, rows: Sequence[int], length: int, seed: int) -> None:
        self._loaded, self._length = loaded, length
        self._start = start_of_text(loaded)
        self._ends = frozenset((*loaded.end_ids, self._start))
        self._longest = loaded.encoder.max_length
        n_steps = _STEPS_PER_TOKEN * length
        draws = [
            torch.rand(n_steps, dtype=torch.float64, generator=_generator(seed, row))
            for row in rows
        ]
        self._draws = torch.stack(draws).to(loaded.device)

    @torch.inference_mode()
    def run(self, on_tokens: Callable[[int], None]) -> list[Documents]:
        """Return the documents of each row."""
        device, n_rows = self._loaded.device, len(self._draws)
        decoder: Any = self._loaded.decoder
        cache = Cache(layer_class_to_replicate=_RoomyLayer)
        seen = torch.ones((n_rows, 0), dtype=torch.int64, device=device)
        positions = torch.zeros(n_rows, dtype=torch.int64, device=device)
        last = torch.full((n_rows,), self._start, device=device)
        written: list[list[list[int]]] = [[[]] for _ in range(n_rows)]
        left = [self._length] * n_rows
        for step in range(self._draws.shape[1]):
            seen = torch.cat([seen, seen.new_ones(n_rows, 1)], dim=1)
            hidden = decoder(
                input_ids=last[:, None],
                position_ids=positions[:, None],
                attention_mask=seen,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, 0]
            drawn = draw(self._loaded.logits(hidden), self._draws[:, step]).tolist()
            ended = []
            for row, token in enumerate(drawn):
                if left[row] and token not in self._ends:
                    written[row][-1].append(token)
                    left[row] -= 1
                if token in self._ends or len(written[row][-1]) == self._longest:
                    ended.append(row)
                    written[row].append([])
            on_tokens(n_rows * self._length - sum(left))
            if not any(left):
                break
            last = torch.tensor(drawn, device=device)
            positions = positions + 1
            if ended:
                index = torch.tensor(ended, device=device)
                last[index], positions[index], seen[index] = self._start, 0, 0
        return [tuple(tuple(text) for text in texts if text) for texts in written]


def draw(logits: Tensor, at: Tensor) -> Tensor:
    """Return the token of each row at which the sum of probabilities passes a number.

    Args:
        logits: (N, V), any float dtype.
        at: float64 (N,), 0 to 1.

    Returns:
        int64 (N,). Sums are float64 over exponentials in float32 or better.

    Raises:
        ModelError: a logit is NaN or infinite.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    weights = (wide - wide.amax(-1, keepdim=True)).exp_()
    n_blocks = -(-weights.shape[1] // _BLOCK)
    weights = torch.nn.functional.pad(weights, (0, n_blocks * _BLOCK - weights.shape[1]))
    blocks = weights.view(len(weights), n_blocks, _BLOCK)
    sums = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    if not bool(sums.isfinite().all()):
        raise ModelError("a model whose logits are not all numbers writes no text.")
    goal = at[:, None] * sums[:, -1:]
    block = (sums <= goal).sum(-1).clamp(max=n_blocks - 1)
    rows = torch.arange(len(weights), device=weights.device)
    before = torch.where(block > 0, sums[rows, (block - 1).clamp(min=0)], 0.0)
    within = blocks[rows, block].double().cumsum(-1) + before[:, None]
    # By rounding the goal may lie behind the block's last sum: then its last likely token.
    last = (blocks[rows, block] > 0).int().mul(torch.arange(_BLOCK, device=at.device)).amax(-1)
    place = torch.minimum((within <= goal).sum(-1), last)
    return block * _BLOCK + place


def own_texts(
    loaded: LoadedModel,
    spec: CovarianceSpec,
    seed: int,
    on_tokens: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, ...]]:
    """Yield what a model writes up to a budget, as a study's jobs do, in one call.

    Args:
        loaded: the model.
        spec: token budget, tokens of a row and start token.
        seed: of the draws.
        on_tokens: called with tokens written and their sum.

    Raises:
        ModelError: as ``write_rows``.
    """
    length, n_rows = spec.row_tokens, spec.n_rows

    def texts() -> Iterator[tuple[int, ...]]:
        for first in range(0, n_rows, ROWS_AT_ONCE):
            rows = range(first, min(n_rows, first + ROWS_AT_ONCE))

            def report(done: int, _: int, before: int = first * length) -> None:
                if on_tokens is not None:
                    on_tokens(before + done, n_rows * length)

            for documents in write_rows(loaded, rows, length, seed, report):
                yield from documents

    start = loaded.encoder.start_ids if spec.start_token else ()
    return budgeted_samples(texts(), spec.n_tokens, start)


def budgeted_samples(
    documents: Iterable[tuple[int, ...]], n_tokens: int, start: tuple[int, ...] = ()
) -> Iterator[tuple[int, ...]]:
    """Yield documents, each behind the start tokens, until the budget is spent.

    The last is cut so that exactly ``n_tokens`` are yielded, or all there are.
    """
    left = n_tokens
    for document in documents:
        ids = (start + document)[:left]
        yield ids
        left -= len(ids)
        if left <= 0:
            return


def _generator(seed: int, row: int) -> torch.Generator:
    number = int(digest("samples", seed, row)[:_SEED_DIGITS], 16)
    return torch.Generator().manual_seed(number)
