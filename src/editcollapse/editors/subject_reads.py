"""Keys and current target values of facts, on a model as it is or with each fact's own changes.

Source: kmeng01/memit compute_ks and memit_main: keys are means over types of contexts of the means
inside a type, and the values that are there are read anew before every layer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from editcollapse.forward.batching import length_batches
from editcollapse.forward.hooked_layer import HookedLayer, LayerStates
from editcollapse.forward.keys import read_keys
from editcollapse.forward.rewrites import Rewrite
from editcollapse.forward.weight_changes import LayerChange, added
from editcollapse.models.loading import LoadedModel, widened
from editcollapse.models.tokenization import pad_right


def mean_keys(
    loaded: LoadedModel,
    layer: int,
    rewrites: Sequence[Rewrite],
    changes: Sequence[LayerChange] = (),
    tokens_per_forward: int = 4096,
) -> Tensor:
    """Return MEMIT's key of each fact, (B, K) float64 on the CPU.

    The bare prompt is one type of context and all texts before it another: it weighs a half.

    Args:
        loaded: the model.
        layer: zero-based block.
        rewrites: B facts with the same context templates.
        changes: of lower layers, one for each fact; nothing where the model is as it should be.
        tokens_per_forward: tokens in one forward at most.
    """
    hooked = HookedLayer(loaded, layer)
    n_prompts = len(rewrites[0].prompts)
    if changes:
        prompts = [prompt for rewrite in rewrites for prompt in rewrite.prompts]
        rows = [prompt.ids[: prompt.subject_last + 1] for prompt in prompts]
        owners = [b for b in range(len(rewrites)) for _ in range(n_prompts)]
        found = _ends(hooked, rows, owners, changes, tokens_per_forward, of_key=True)
        keys = found.view(len(rewrites), n_prompts, -1)
    else:
        keys = read_keys(hooked, rewrites, tokens_per_forward).prompt_keys.cpu().double()
    if n_prompts == 1:
        return keys[:, 0]
    return (keys[:, 0] + keys[:, 1:].mean(dim=1)) / 2


def current_values(
    hooked: HookedLayer,
    rewrites: Sequence[Rewrite],
    changes: Sequence[LayerChange] = (),
    tokens_per_forward: int = 4096,
) -> Tensor:
    """Return what target values replace, at the subject's last token of the bare prompts.

    Args:
        hooked: the last layer; its site says whether that is the value or the block's output.
        rewrites: B facts.
        changes: as for ``mean_keys``.
        tokens_per_forward: tokens in one forward at most.

    Returns:
        (B, D) float64 on the CPU.
    """
    prompts = [rewrite.prompts[0] for rewrite in rewrites]
    rows = [prompt.ids[: prompt.subject_last + 1] for prompt in prompts]
    owners = list(range(len(rewrites)))
    return _ends(hooked, rows, owners, changes, tokens_per_forward, of_key=False)


@torch.no_grad()
def _ends(
    hooked: HookedLayer,
    rows: Sequence[tuple[int, ...]],
    owners: Sequence[int],
    changes: Sequence[LayerChange],
    tokens_per_forward: int,
    *,
    of_key: bool,
) -> Tensor:
    """Return key or target at the last token of every row, (N, K or D) float64 on the CPU."""
    device = hooked.loaded.device
    found: list[Tensor] = [torch.empty(0)] * len(rows)
    for chosen in length_batches([len(row) for row in rows], tokens_per_forward):
        ids = pad_right([rows[n] for n in chosen], device)
        ends = torch.tensor([len(rows[n]) - 1 for n in chosen], device=device)
        owner = torch.tensor([owners[n] for n in chosen], device=device)
        with added(hooked.loaded, changes, owner):
            if of_key:
                states = hooked.read_key(ids)
            else:
                read: LayerStates = hooked.read(ids)
                states = hooked.target(read)
        last = widened(states[torch.arange(len(chosen), device=device), ends]).cpu().double()
        for n, state in zip(chosen, last, strict=True):
            found[n] = state
    return torch.stack(found)
