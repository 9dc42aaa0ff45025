"""The five kinds of vectors that a root-cause study compares, of one layer's requests.

k0, kbar and C^-1 kbar are those of the edit. A key behind one prefix says what a text in front of a
prompt changes; the key of a prompt's first token says whether it is the position or the word. All
of them are rows of one table, beside what became of their requests.

Source: C-ROME (arXiv 2406.11263), README of its code: keys of collapsed and of normal
edits, with and without prefixes, and first tokens of normal prompts.
"""

import dataclasses
import random
from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from editcollapse.covariance.second_moment import MomentSolver
from editcollapse.forward.batching import length_batches
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.keys import read_keys
from editcollapse.forward.rewrites import Rewrite
from editcollapse.models.loading import widened
from editcollapse.models.tokenization import pad_right

Kind = Literal["bare", "prefixed", "solved", "one_prefix", "first_token"]
Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]

_REQUESTS_AT_ONCE = 64
"""Requests whose keys behind all templates are in memory at the same time."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class KeyKinds:
    """Vectors of B rewrites, float64, (B, K) each; rows of nan where a rewrite has no such key."""

    bare: Numbers
    """k0."""
    prefixed: Numbers
    """kbar."""
    solved: Numbers
    """C^-1 kbar."""
    one_prefix: Numbers
    """Key behind one drawn context template; nan where the bare one is all there is."""
    first_token: Numbers
    """Key of the bare prompt's first token, a start token aside; nan where that is the subject's
    last, whose key is k0 itself."""
    first_ids: tuple[int, ...]
    """Of each rewrite, the token that opens its bare prompt, a start token aside."""
    is_first_token: Flags
    """Whether the subject's last token is the prompt's first."""

    @property
    def bare_dot(self) -> Numbers:
        """k0 . u, (B,): u is C^-1 kbar at unit length; what ROME divides by."""
        lengths: Numbers = np.linalg.norm(self.solved, axis=1)
        dots: Numbers = (self.bare * self.solved).sum(axis=1) / lengths
        return dots

    @property
    def key_cosine(self) -> Numbers:
        """cos(k0, kbar), (B,)."""
        lengths = np.linalg.norm(self.bare, axis=1) * np.linalg.norm(self.prefixed, axis=1)
        cosines: Numbers = (self.bare * self.prefixed).sum(axis=1) / lengths
        return cosines


@torch.no_grad()
def read_key_kinds(
    hooked: HookedLayer,
    rewrites: Sequence[Rewrite],
    solver: MomentSolver,
    seed: int,
    tokens_per_forward: int = 4096,
) -> KeyKinds:
    """Return the vectors of B rewrites that share their context templates.

    Args:
        hooked: the edited layer.
        rewrites: B of them, at least one.
        solver: C.
        seed: of the prefix that is drawn for each rewrite, the same whichever others there are.
        tokens_per_forward: tokens in one forward at most.
    """
    bare, prefixed, behind = [], [], []
    for start in range(0, len(rewrites), _REQUESTS_AT_ONCE):
        some = rewrites[start : start + _REQUESTS_AT_ONCE]
        keys = read_keys(hooked, some, tokens_per_forward)
        bare.append(_numbers(keys.bare_key))
        prefixed.append(_numbers(keys.prefixed_key))
        behind.append(_behind_one_prefix(keys.prompt_keys, some, seed))
    kbar = np.concatenate(prefixed)
    return KeyKinds(
        bare=np.concatenate(bare),
        prefixed=kbar,
        solved=_numbers(solver.solve(torch.from_numpy(kbar))),
        one_prefix=np.concatenate(behind),
        first_token=_first_tokens(hooked, rewrites, tokens_per_forward),
        first_ids=tuple(each.prompts[0].ids[_n_start(hooked)] for each in rewrites),
        is_first_token=np.array([each.audit.is_first_token for each in rewrites]),
    )


def drawn_template(request_id: str, n_templates: int, seed: int) -> int:
    """Return the index of the context template, other than the bare one, drawn for a request."""
    draw = random.Random(f"{seed} {request_id}")
    return draw.randrange(1, n_templates)


def _behind_one_prefix(prompt_keys: Tensor, rewrites: Sequence[Rewrite], seed: int) -> Numbers:
    """Return each rewrite's key behind its drawn template, of keys (B, P, K)."""
    n_templates = prompt_keys.shape[1]
    if n_templates == 1:
        return np.full((len(rewrites), prompt_keys.shape[2]), np.nan)
    drawn = [drawn_template(each.request.request_id, n_templates, seed) for each in rewrites]
    return _numbers(prompt_keys[torch.arange(len(rewrites)), torch.tensor(drawn)])


def _first_tokens(
    hooked: HookedLayer, rewrites: Sequence[Rewrite], tokens_per_forward: int
) -> Numbers:
    """Return the key of each bare prompt's first token, nan where it is the subject's last.

    It depends on the start token and on that token alone: nothing to its right runs.
    """
    index = _n_start(hooked)
    wanted = [b for b, each in enumerate(rewrites) if not each.audit.is_first_token]
    heads = [rewrites[b].prompts[0].ids[: index + 1] for b in wanted]
    found = np.full((len(rewrites), hooked.loaded.widths.d_key), np.nan)
    for chosen in length_batches([len(head) for head in heads], tokens_per_forward):
        ids = pad_right([heads[n] for n in chosen], hooked.loaded.device)
        found[[wanted[n] for n in chosen]] = _numbers(hooked.read_key(ids)[:, index])
    return found


def _n_start(hooked: HookedLayer) -> int:
    """Return how many start tokens open a prompt of the model."""
    return hooked.loaded.encoder.n_opening


def _numbers(tensor: Tensor) -> Numbers:
    """Return a tensor's numbers as float64."""
    numbers: Numbers = widened(tensor.detach()).cpu().double().numpy()
    return numbers


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Outcomes of B edits, in the order of the requests."""

    request_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    numerators: Numbers
    """‖r‖ by ROME, (B,)."""
    is_collapsed: tuple[bool | None, ...]

    @property
    def collapsed(self) -> Flags | None:
        """Which edits collapsed the model; None where any was not measured."""
        if None in self.is_collapsed:
            return None
        return np.array(self.is_collapsed, dtype=bool)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class VectorTable:
    """All vectors there are, kind by kind, and whose each is."""

    vectors: Numbers
    """float64 (M, K)."""
    kinds: tuple[Kind, ...]
    """Of each row."""
    request_indices: tuple[int, ...]
    """Of each row, the index of its request."""
    request_ids: tuple[str, ...]
    """Of the requests."""

    @classmethod
    def of(cls, keys: KeyKinds, request_ids: tuple[str, ...]) -> "VectorTable":
        """Return the vectors of requests whose ids are given."""
        named: tuple[tuple[Kind, Numbers], ...] = (
            ("bare", keys.bare),
            ("prefixed", keys.prefixed),
            ("solved", keys.solved),
            ("one_prefix", keys.one_prefix),
            ("first_token", keys.first_token),
        )
        there = {kind: np.flatnonzero(~np.isnan(found).any(axis=1)) for kind, found in named}
        return cls(
            vectors=np.concatenate([found[there[kind]] for kind, found in named]),
            kinds=tuple(kind for kind, _ in named for _ in there[kind]),
            request_indices=tuple(int(index) for kind, _ in named for index in there[kind]),
            request_ids=request_ids,
        )

    def rows_of(self, kinds: Sequence[Kind]) -> list[int]:
        """Return the rows of some kinds, in their order."""
        return [row for row, kind in enumerate(self.kinds) if kind in kinds]

    def some(self, kinds: Sequence[Kind]) -> Numbers:
        """Return the vectors of some kinds."""
        chosen: Numbers = self.vectors[self.rows_of(kinds)]
        return chosen

    @property
    def frame(self) -> pl.DataFrame:
        """What the file holds: float32, as keys are read from a model of float32 or less."""
        return pl.DataFrame(
            {
                "request_id": [self.request_ids[index] for index in self.request_indices],
                "kind": list(self.kinds),
                "vector": pl.Series(self.vectors.astype(np.float32)).cast(pl.List(pl.Float32)),
            }
        )
