"""Keys of many rewrites without any optimisation: all that denominators need.

A key depends on the tokens up to the subject's last one and on the blocks up to the edited one.
So nothing to the right of a subject runs, the forward stops where the key is read, and what the
rows share of their context templates runs once (``contexts``).

Source: kmeng01/rome compute_u, which runs every context whole through the whole model.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from editcollapse.batches import length_batches
from editcollapse.contexts import SharedContexts, Tails
from editcollapse.models import widened
from editcollapse.rewrites import Rewrite
from editcollapse.sites import EditSite


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PromptKeys:
    """Keys of B rewrites; float32 (float64 for a float64 model), on the model's device."""

    prompt_keys: Tensor
    """(B, P, K): key at the subject's last token in every context, the bare prompt first."""

    @property
    def bare_key(self) -> Tensor:
        """k0, (B, K)."""
        return self.prompt_keys[:, 0]

    @property
    def prefixed_key(self) -> Tensor:
        """kbar, (B, K): mean over all contexts, the bare one included."""
        return self.prompt_keys.mean(dim=1)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RewriteKeys(PromptKeys):
    """What ``read_keys`` reads."""

    bare_value: Tensor
    """(B, D): v0, the bare prompt's value there."""


@torch.no_grad()
def read_keys(
    site: EditSite, rewrites: Sequence[Rewrite], tokens_per_forward: int = 4096
) -> RewriteKeys:
    """Return the keys of B rewrites that share their context templates, and their bare values.

    Args:
        site: the edited layer.
        rewrites: B of them.
        tokens_per_forward: tokens in one forward at most; a shared token counts too.
    """
    n_prompts = len(rewrites[0].prompts)
    keys: Tensor | None = None
    for index, tails, ends in subject_tails(site, rewrites, tokens_per_forward):
        found = site.read_key(tails.ids, tails.left())
        found = widened(found[torch.arange(len(index), device=index.device), ends])
        if keys is None:
            keys = found.new_empty((len(rewrites) * n_prompts, found.shape[1]))
        keys[index] = found
    assert keys is not None
    by_edit = keys.view(len(rewrites), n_prompts, keys.shape[1])
    bare = by_edit[:, 0].to(site.loaded.dtype)
    return RewriteKeys(by_edit, widened(site.projection(bare)))


def subject_tails(
    site: EditSite, rewrites: Sequence[Rewrite], tokens_per_forward: int
) -> Iterator[tuple[Tensor, Tails, Tensor]]:
    """Yield what runs to read keys: rows that go together, up to their subjects' last tokens.

    Each group is the rows' int64 (N,) places among all rewrites' prompts, rewrite by rewrite; their
    tokens behind the shared contexts; and int64 (N,), where among these each subject's last one is.

    Args:
        site: the highest layer that is read.
        rewrites: B of them, which share their context templates.
        tokens_per_forward: tokens in one forward at most; a shared token counts too.
    """
    device = site.loaded.device
    prompts = [prompt for rewrite in rewrites for prompt in rewrite.prompts]
    rows = [prompt.ids[: prompt.subject_last + 1] for prompt in prompts]
    where = [prompt.subject_last for prompt in prompts]
    shared = SharedContexts(site, rows, where, len(rewrites[0].prompts), above=False)
    sizes = shared.sizes(torch.arange(len(rows), device=device)).tolist()
    own = [len(row) - size for row, size in zip(rows, sizes, strict=True)]
    for chosen in length_batches([size + shared.width for size in own], tokens_per_forward):
        index = torch.tensor(chosen, device=device)
        tails = Tails(site, shared, [rows[n] for n in chosen], index)
        yield index, tails, torch.tensor([own[n] - 1 for n in chosen], device=device)
