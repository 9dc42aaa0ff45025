"""Shards: whole documents, every token once, in the corpus's order; and batches of them."""

import itertools

import pytest

from editcollapse.covariance.shards import (
    Shard,
    budgeted_rows,
    check_budget,
    cut,
    put_shard,
    read_shard,
)
from editcollapse.errors import MomentError
from editcollapse.forward.batching import length_batches, padded_tokens, padding_share
from editcollapse.study.artifacts import ArtifactStore
from tests.support.cases import TEXTS

ROWS = tuple(tuple(range(start, start + length)) for start, length in enumerate((3, 5, 1, 4, 9, 2)))
LENGTHS = tuple((7 * place * place + 3 * place) % 97 + 1 for place in range(300))


@pytest.mark.parametrize("shard_tokens", [1, 4, 5, 24, 1000])
def test_shards_hold_whole_documents_in_job(shard_tokens):
    """Cut anyhow, shards hold the same rows; each but the last two is full; none can lose one."""
    shards = list(cut(ROWS, shard_tokens))
    assert tuple(itertools.chain.from_iterable(shard.rows for shard in shards)) == ROWS
    n_tokens = sum(map(len, ROWS))
    assert 2 <= len(shards) <= max(2, -(-n_tokens // shard_tokens))
    longest = max(map(len, ROWS))
    assert abs(shards[-1].n_tokens - shards[-2].n_tokens) <= longest
    for shard in shards[:-2]:
        assert shard.n_tokens >= shard_tokens > shard.n_tokens - len(shard.rows[-1])


def test_nothing_gives_no_shard():
    """Without rows there is no shard, not an empty one."""
    assert list(cut([], 5)) == []


def test_single_document_is_one_shard():
    """Its tokens keep their context, so there is no second half."""
    assert [shard.rows for shard in cut(ROWS[:1], 2)] == [ROWS[:1]]


@pytest.mark.parametrize("budget", [1, 7, 20, 10_000])
def test_budget_is_spent_exactly(tiny_model, budget):
    """Rows are the documents' first tokens, as many as the budget allows, or all there are."""
    encoder = tiny_model("gpt2").encoder
    rows = list(budgeted_rows(encoder, TEXTS, n_tokens=budget, max_length=6))
    every = [token for text in TEXTS for token in encoder.encode(text)[:6]]
    assert [token for row in rows for token in row] == every[:budget]


def test_documents_are_read_as_far_as_the_budget_goes(tiny_model):
    """A stream is not read past the document that spends the budget."""
    stream = iter(TEXTS)
    encoder = tiny_model("gpt2").encoder
    list(budgeted_rows(encoder, stream, n_tokens=9, max_length=6))
    assert next(stream) == TEXTS[2]


def test_shard_comes_back_from_its_file(tmp_path):
    """Ids are int32; the file's name is the digest of its bytes, so equal shards are one file."""
    store = ArtifactStore(tmp_path)
    shard = Shard(ROWS)
    ref = put_shard(store, shard)
    assert read_shard(store, ref) == shard
    assert put_shard(store, Shard(ROWS)) == ref
    assert {str(tensor.dtype) for tensor in store.tensors(ref).values()} == {"torch.int32"}


def test_small_corpus_is_told_and_an_empty_one_refused(caplog):
    """Fewer tokens than asked for are a warning with both counts; none at all are an error."""
    check_budget(9, 9)
    assert caplog.text == ""
    check_budget(5, 9)
    assert "the corpus holds 5 tokens of the 9 asked for" in caplog.text
    with pytest.raises(MomentError, match="the corpus has no tokens"):
        check_budget(0, 9)


@pytest.mark.parametrize("budget", [1, 50, 400, 10_000])
def test_batches_hold_every_row_once_within_the_budget(budget):
    """Every row is in one batch; no batch of several rows is over the budget, padding included."""
    batches = length_batches(LENGTHS, budget)
    assert sorted(itertools.chain.from_iterable(batches)) == list(range(len(LENGTHS)))
    assert all(len(batch) == 1 or padded_tokens(LENGTHS, batch) <= budget for batch in batches)


def test_batch_ends_where_lengths_jump():
    """Short rows do not wait in a batch of long ones, once there are enough of them."""
    lengths = [10] * 30 + [100] * 3
    batches = length_batches(lengths, 1000)
    assert [sorted(lengths[place] for place in batch) for batch in batches] == [
        [10] * 30,
        [100] * 3,
    ]
    assert padding_share(lengths, batches) == 0
    assert length_batches([1, 2, 3], 1000) == [[0, 1, 2]]  # too few to be a batch by themselves


def test_padding_share_counts_padding():
    """Rows of 2 and 4 tokens in one batch are 8 tokens, 2 of them padding."""
    assert padding_share([2, 4], [[0, 1]]) == 0.25
    assert padding_share([2, 4], [[0], [1]]) == 0
    assert padding_share([], []) == 0
