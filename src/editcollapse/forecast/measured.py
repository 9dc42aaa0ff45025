"""The measured edits that the package carries: what default verdicts rest on.

``measured_edits.json`` is written by ``python -m scripts.measured_edits`` from results databases.
It holds, of every model at every layer that was measured, each edit's bound and outcome.
"""

import dataclasses
import functools
from importlib.resources import files

import numpy as np
from pydantic import TypeAdapter

from editcollapse.forecast.probability import CollapseCurve, Outcomes
from editcollapse.rows.collapse_rule import DEFAULT_RULE

FILE = "measured_edits.json"


@dataclasses.dataclass(frozen=True, slots=True)
class MeasuredEdits:
    """The edits of one model at one layer in one study, as columns of one length."""

    method: tuple[str, ...]
    case: tuple[str, ...]
    """The record's name in its dataset."""
    subject: tuple[int, ...]
    """Number of the subject among the model's: edits of one subject are no independent draws."""
    subject_position: tuple[str, ...]
    text_change_bound: tuple[float, ...]
    text_change: tuple[float | None, ...]
    """The change itself, once v* is known; None: not measured."""
    rho: tuple[float, ...]
    ppl_ratio: tuple[float, ...]
    """Mean perplexity over the unedited model's."""
    nll_ratio: tuple[float, ...]
    """exp of the mean NLL over the unedited model's."""


@dataclasses.dataclass(frozen=True, slots=True)
class MeasuredModel:
    """One model at one layer in one study: what it is, and its edits."""

    model: str
    source: str
    """Where the weights come from."""
    license: str
    study: str
    """Name of the study: its requests, texts and C."""
    layer: int
    n_layers: int
    start_token: bool
    """Whether prompts open with a start token."""
    d_key: int
    n_tokens: int
    """Keys that C was measured on."""
    base_ppl: float
    """Mean perplexity of the unedited model on the study's texts."""
    edits: MeasuredEdits

    @property
    def collapsed(self) -> tuple[bool, ...]:
        """Whether each edit collapsed the model, by the default rule."""
        return tuple(
            bool(DEFAULT_RULE.collapsed(ratio * self.base_ppl, self.base_ppl))
            for ratio in self.edits.ppl_ratio
        )


@dataclasses.dataclass(frozen=True, slots=True)
class MeasuredData:
    """All models that were measured."""

    made: str
    """How the file was made, in words."""
    curve: CollapseCurve
    """P(collapse) of a model without a calibration, fitted to all these edits."""
    models: tuple[MeasuredModel, ...]


ADAPTER = TypeAdapter(MeasuredData)
"""Reads and checks the file; numbers that are none stand there as ``"inf"`` and ``"nan"``."""


@functools.cache
def measured_data() -> MeasuredData:
    """Return the data that this version of the package carries."""
    return ADAPTER.validate_json(files(__package__).joinpath(FILE).read_bytes())


def outcomes(models: tuple[MeasuredModel, ...]) -> Outcomes:
    """Return the edits of some models together.

    One model is one of the bootstrap's units at all its layers and with either start token.
    """
    names = sorted({each.model for each in models})
    return Outcomes(
        np.array([bound for each in models for bound in each.edits.text_change_bound]),
        np.array([lost for each in models for lost in each.collapsed], dtype=np.bool_),
        np.array([number for each in models for number in each.edits.subject], dtype=np.int64),
        np.array(
            [names.index(each.model) for each in models for _ in each.edits.method],
            dtype=np.int64,
        ),
    )
