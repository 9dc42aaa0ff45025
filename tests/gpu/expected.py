"""What the tests of this folder expect: the published procedure, in float64 on the CPU."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from editcollapse.models.loading import LoadedModel
from tests.support import reference
from tests.support.cases import (
    REQUESTS,
    TEMPLATES,
    TEXTS,
    reference_settings,
    reference_setup,
    settings,
    some_moment,
)

VALUES = settings(steps=8)
"""Of v*: enough passes for stops and clamps, few enough that float32 stays within 1e-4."""
CORPUS = (*TEXTS, *(request.filled_prompt for request in REQUESTS))
LONGEST = 12
"""Tokens of a document of the corpus at most."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ExpectedEdit:
    """One request's edit by every method, and the edited models' answers."""

    edit: reference.Edit
    perplexity: dict[str, float]
    efficacy: dict[str, float]
    nll: dict[str, float]
    """Of the new target behind the bare prompt, mean over its tokens."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """Of one tiny model."""

    moment: Tensor
    """C that the edits solve with, (K, K)."""
    second_moment: Tensor
    """C of ``CORPUS``, (K, K)."""
    edits: tuple[ExpectedEdit, ...]
    """Of every request."""


@torch.no_grad()
def _answers(setup: reference.Setup, edit: reference.Edit, prompt: str, target: str):
    perplexity, efficacy, nll = {}, {}, {}
    ids, goal = setup.ids(prompt), reference.target_ids(setup, target)
    places = range(len(ids) - 1, len(ids) - 1 + len(goal))
    for method, matrix in edit.matrices.items():
        with reference.edited(setup, matrix):
            perplexity[method] = reference.perplexity(setup, TEXTS)
            efficacy[method] = reference.token_accuracy(setup, prompt, target)
            scores = reference.log_probs(setup, [*ids, *goal[:-1]])
            nll[method] = -float(scores[places, goal].mean())
    return ExpectedEdit(edit, perplexity, efficacy, nll)


def expected_of(loaded: LoadedModel) -> Expected:
    """Return the edits, perplexities, answers and C of a float64 model, one at a time."""
    setup = reference_setup(loaded)
    moment = some_moment(loaded.widths.d_key)
    edits = []
    for request in REQUESTS:
        edit = reference.edit(
            setup,
            TEMPLATES,
            request.prompt,
            request.subject,
            request.target_new,
            moment,
            reference_settings(VALUES),
        )
        edits.append(_answers(setup, edit, request.filled_prompt, request.target_new))
    start = dataclasses.replace(setup, bos=None)
    return Expected(moment, reference.second_moment(start, CORPUS, LONGEST), tuple(edits))
