"""Attention of suffix tokens and its hand-written gradient are what autograd gives."""

import pytest
import torch

from editcollapse.forward.packed_attention import AttentionRule, SegmentKeys, attend
from editcollapse.forward.packed_layout import Segment
from tests.support.cases import drawing

_D = 5
_SHARED, _OWN = 4, 3


def segment(slots, edits, width):
    """Return a segment of prompts."""
    return Segment(tuple(range(slots)), torch.arange(edits), width, n_reads=1, is_kl=False)


def by_row(keys, which, part):
    """Return the keys or values of each row of a segment, (S, G, E, L + O + W, d)."""
    shared, near = keys.shared[which], keys.near[which][..., : keys.n_own, :]
    shared = shared[:, :, None].expand(*near.shape[:3], *shared.shape[2:])
    slots, edits, width = keys.segment.shape
    suffix = part.view(part.shape[0], slots, edits, width, -1).transpose(0, 1)
    return torch.cat([shared, near, suffix], dim=3)


def plain(query, key, value, segments, masks, rule):
    """Return the same attention, written out for autograd."""
    results, asked, known = [], 0, 0
    for keys, mask in zip(segments, masks, strict=True):
        slots, edits, _ = keys.segment.shape
        n = mask.shape[4]
        some = slice(asked, asked + slots * edits * n)
        suffix = slice(known, known + keys.segment.n_tokens)
        heads = query[:, some].view(len(key), -1, slots, edits, n, _D).permute(2, 0, 3, 1, 4, 5)
        keyed = by_row(keys, 0, key[:, suffix])[:, :, :, None]
        valued = by_row(keys, 1, value[:, suffix])[:, :, :, None]
        scores = heads @ keyed.mT * rule.scaling
        if rule.softcap is not None:
            scores = rule.softcap * torch.tanh(scores / rule.softcap)
        found = torch.softmax(scores + mask, dim=-1) @ valued
        results.append(found.permute(0, 2, 4, 1, 3, 5).reshape(slots * edits * n, -1, _D))
        asked, known = some.stop, suffix.stop
    return torch.cat(results)


@pytest.mark.parametrize("softcap", [None, 2.0], ids=["plain", "softcap"])
@pytest.mark.parametrize(("n_groups", "n_heads"), [(4, 4), (2, 4), (1, 3)])
@pytest.mark.parametrize("n_shared", [0, _SHARED])
@pytest.mark.parametrize("last_only", [False, True], ids=["all", "reads"])
def test_result_and_gradients(softcap, n_groups, n_heads, n_shared, last_only):
    """float64, 1e-9: grouped heads, soft caps, masks, rows that share nothing, last queries."""
    draw = drawing(n_heads)
    segments, masks = [], []
    for one in (segment(2, 3, 1), segment(3, 2, 4)):
        slots, edits, width = one.shape
        near = (slots, n_groups, edits, _OWN + width, _D)
        shared = (slots, n_groups, n_shared, _D)
        segments.append(
            SegmentKeys(one, (draw(*shared), draw(*shared)), (draw(*near), draw(*near)))
        )
        n = 1 if last_only else width
        mask = torch.zeros(slots, 1, edits, 1, n, n_shared + _OWN + width, dtype=torch.float64)
        mask[..., : n_shared // 2] = -torch.inf  # padding on the left
        mask[..., n_shared : n_shared + 1] = -torch.inf  # a window, or padding of its own
        if not last_only:
            later = torch.ones(n, width, dtype=torch.bool).triu(1)
            mask[..., -width:].masked_fill_(later, -torch.inf)
        masks.append(mask)
    n_suffix = sum(keys.segment.n_tokens for keys in segments)
    n_queries = sum(
        keys.segment.n_rows * mask.shape[4] for keys, mask in zip(segments, masks, strict=True)
    )
    query = draw(n_heads, n_queries, _D)
    key, value = draw(n_groups, n_suffix, _D), draw(n_groups, n_suffix, _D)
    rule = AttentionRule(scaling=0.7, softcap=softcap)
    weight = draw(n_queries, n_heads, _D)
    found = []
    for way in (plain, lambda q, k, v, *rest: attend(q, (k, v), *rest)):
        leaves = [each.clone().requires_grad_() for each in (query, key, value)]
        result = way(*leaves, segments, masks, rule)
        (result * weight).sum().backward()
        found.append([result.detach(), *(leaf.grad for leaf in leaves)])
    for expected, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
