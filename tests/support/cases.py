"""Requests, templates and texts of the float64 tests, and the reference's view of a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from editcollapse.catalog.presets import ValueSettings
from editcollapse.data.requests import EditRequest
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.models.loading import LoadedModel
from editcollapse.rome.updates import RankOneUpdates
from editcollapse.rome.values import TargetValues, optimise_values
from tests.support import reference

LAYER = 1
STEPS = 5
TIGHT = 1e-9
"""Relative tolerance of float64 tests: far above rounding (1e-16 a step), far below any mistake."""

TEMPLATES = ("{}", "The city stood here. {}", "One more thing about it. {}")

REQUESTS = (
    EditRequest(  # one-token subject, first; one-token targets
        "Lumo",
        "{} is the capital of",
        "Arden",
        "Tarn",
        ("Lumo stood in", "One more thing about Lumo"),
        ("Oslo is the capital of", "Quill is the capital of"),
    ),
    EditRequest(  # subject of several tokens, first; a target of two tokens
        "North Bram river",
        "{} lives in",
        "New Port",
        "Old Tarn",
        ("The river North Bram river was in",),
        ("Mira lives in",),
    ),
    EditRequest("Quill Vane", "The place that {} is called", "South", "New Port Tarn"),  # inside
    EditRequest("Sela", "The river that was said near {}", "red river city", "blue"),  # last
)

TEXTS = (
    "The capital of Arden is Lumo.",
    "Bram lives in Tarn and works for Mira, who speaks of football and tennis.",
    "Lumo is",
    "One more thing about the river: it was red.",
    "Sela plays tennis.",
)


def drawing(seed: int) -> Callable[..., Tensor]:
    """Return a function that draws normal float64 numbers of a shape."""
    generator = torch.Generator().manual_seed(seed)
    return partial(torch.randn, generator=generator, dtype=torch.float64)


def settings(**other: Any) -> ValueSettings:
    """Return settings of the v* optimisation with few steps."""
    return ValueSettings(**({"steps": STEPS} | other))


def reference_settings(ours: ValueSettings) -> reference.Settings:
    """Return the same settings under the reference's names."""
    return reference.Settings(
        steps=ours.steps,
        lr=ours.learning_rate,
        weight_decay=ours.weight_decay,
        kl_factor=ours.kl_factor,
        clamp=ours.clamp_factor,
        stop_below=ours.stop_loss,
    )


def reference_setup(loaded: LoadedModel, layer: int = LAYER) -> reference.Setup:
    """Return the model as the reference sees it."""
    start = loaded.encoder.start_ids
    return reference.Setup(
        loaded.model,
        loaded.encoder.tokenizer,
        loaded.down_projection(layer),
        start[0] if start else None,
    )


def some_moment(d_key: int, seed: int = 3) -> Tensor:
    """Return a well-conditioned second moment, float64 (K, K), far from the identity."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(4 * d_key, d_key, generator=generator, dtype=torch.float64)
    keys = keys * torch.linspace(0.5, 2.0, d_key, dtype=torch.float64)
    return keys.T @ keys / len(keys)


def distance(ours: Tensor, expected: Tensor) -> float:
    """Return the largest difference in units of the largest expected entry."""
    if expected.numel() == 0:
        return 0.0
    scale = float(expected.abs().max())
    return float((ours - expected).abs().max()) / (scale or 1.0)


class Float64Throughout(TorchFunctionMode):
    """Takes away the casts to float32 inside some families' float64 models.

    RMSNorm, and the attention of GPT-J and GPT-Neo, compute in float32 whatever the model's type.
    A difference of 1e-16 in what goes in can then flip a rounding of 1e-7, so that two exact ways
    of computing the same thing agree to 1e-7 only. Without the casts they must agree to 1e-9.
    """

    def __torch_function__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        wide = args and isinstance(args[0], Tensor) and args[0].dtype == torch.float64
        if wide and function is Tensor.float:
            return args[0]
        if wide and function is Tensor.to:
            args = tuple(torch.float64 if arg is torch.float32 else arg for arg in args)
        if wide and kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        return function(*args, **kwargs)


def some_updates(loaded: LoadedModel, n_edits: int, seed: int = 5) -> RankOneUpdates:
    """Return random updates large enough to change every answer, float64."""
    generator = torch.Generator().manual_seed(seed)
    widths = loaded.widths
    left = torch.randn(n_edits, widths.d_model, generator=generator, dtype=torch.float64)
    right = torch.randn(n_edits, widths.d_key, generator=generator, dtype=torch.float64)
    return RankOneUpdates(left, right / right.norm(dim=1, keepdim=True))


def some_values(loaded: LoadedModel, **other: Any) -> TargetValues:
    """Return the target values of ``REQUESTS`` after few steps."""
    rewrites, _ = build_rewrites(loaded.encoder, TEMPLATES, REQUESTS)
    return optimise_values(HookedLayer(loaded, LAYER), rewrites, settings(**({"steps": 3} | other)))
