"""Random updates of tiny models, and the models in types of their own."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from editcollapse.config.spec import ModelSpec
from editcollapse.models.files import digest_model, locate_model
from editcollapse.stored.export_options import Base
from editcollapse.stored.models import BaseModel
from editcollapse.stored.updates import LayerUpdate, StoredUpdate
from editcollapse.study.known_updates import Damage, UpdateFacts

FACTS = UpdateFacts(
    method="rome",
    layers=(0, 1),
    subject="Mira",
    prompt="{} likes",
    target_new="red",
    damage=Damage(text_set="texts", perplexity_before=3.0, perplexity=4.5, collapsed=False),
    verdict="at risk",
)
IDS = torch.tensor([[3, 5, 7, 9, 4, 6]])


def in_dtype(folder: Path, target: Path, dtype: str) -> Path:
    """Write a copy of a model's folder with weights of another type; return it."""
    from transformers import AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder).save_pretrained(target)
    return target


def found(folder: Path, dtype: str) -> BaseModel:
    """Return the model of a folder, as an export finds it."""
    spec = ModelSpec(name="tiny", source=str(folder), dtype=dtype)
    files = locate_model(str(folder))
    return BaseModel(spec, files, digest_model(files, spec).model_id)


def update_of(base: BaseModel, ranks: dict[int, int | None], size: float = 1.0) -> StoredUpdate:
    """Return a random update of some layers.

    Args:
        base: the model.
        ranks: layer to rank; None for a whole matrix.
        size: of the update's entries, about.
    """
    widths = base.files.widths
    draw = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    layers = []
    for layer, rank in ranks.items():
        if rank is None:
            whole = size * normal(widths.d_model, widths.d_key)
            layers.append(LayerUpdate(layer, whole, None))
        else:
            # As ROME's: a short factor and a long one.
            left = 50 * size * normal(widths.d_model, rank)
            layers.append(LayerUpdate(layer, left, normal(rank, widths.d_key) / 50))
    return StoredUpdate(base.model_id, base.spec, "a random update", tuple(layers))


def base_of(base: BaseModel) -> Base:
    """Return a found model as an export takes it."""
    return Base.of(base)


@torch.no_grad()
def logits_of(model: torch.nn.Module) -> torch.Tensor:
    """Return a model's logits of a few tokens, (1, T, V)."""
    return model(IDS).logits


def plain(folder: Path, **settings: object) -> torch.nn.Module:
    """Return the model of a folder as transformers loads it, in its own type."""
    settings = {"dtype": "auto"} | settings
    return AutoModelForCausalLM.from_pretrained(folder, **settings).eval()
