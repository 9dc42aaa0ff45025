"""The vectors of a root-cause study as one table, and what became of its requests."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import polars as pl

from editcollapse.key_kinds import Flags, KeyKinds, Kind, Numbers


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What became of B requests, in their order."""

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
    places: tuple[int, ...]
    """Of each row, the place of its request."""
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
            places=tuple(int(place) for kind, _ in named for place in there[kind]),
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
                "request_id": [self.request_ids[place] for place in self.places],
                "kind": list(self.kinds),
                "vector": pl.Series(self.vectors.astype(np.float32)).cast(pl.List(pl.Float32)),
            }
        )
