"""The two terms of v*'s loss that read logits, with their gradient written out.

Both start from one matrix of logits. Autograd would keep and pass through that matrix once for
every step between it and the loss; here its softmax is the only thing kept, and becomes the
gradient in place.
"""

from typing import Any

import torch
from torch import Tensor


def token_losses(
    logits: Tensor, labels: Tensor, before: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return NLL (M,) and KL(now ‖ before) (A,), in nats, and the log-probabilities (A, V).

    Differentiable in ``logits``, which are used up.

    Args:
        logits: (M + A, V), float32 or better: M rows with a label, then A KL rows.
        labels: int64 (M,).
        before: (A, V) log-probabilities that the KL compares with; None for these very ones.
    """
    found: tuple[Tensor, Tensor, Tensor] = _TokenLosses.apply(  # type: ignore[no-untyped-call]
        logits, labels, before
    )
    return found


class _TokenLosses(torch.autograd.Function):
    """NLL of labels, and KL(now ‖ before) of the rows after them."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, before: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what ``token_losses`` does."""
        # In place: nothing before this reads the logits again, and they are the largest tensor.
        log_probs = logits.detach()
        torch.log_softmax(log_probs, dim=-1, out=log_probs)
        n_labels = len(labels)
        nll = -log_probs[:n_labels].gather(1, labels[:, None])[:, 0]
        now = log_probs[n_labels:].clone()
        ratio = torch.zeros_like(now) if before is None else now - before
        kl = (now.exp() * ratio).sum(dim=1)
        ctx.save_for_backward(labels, ratio, kl)
        ctx.shares = log_probs.exp_()
        ctx.mark_non_differentiable(now)
        return nll, kl, now

    @staticmethod
    def backward(
        ctx: Any, nll_grad: Tensor, kl_grad: Tensor, _: Tensor
    ) -> tuple[Tensor, None, None]:
        """Return the gradient of the logits.

        d NLL / d logits = p - onehot(label); d KL / d logits = p (log p - log before - KL).
        """
        labels, ratio, kl = ctx.saved_tensors
        shares, ctx.shares = ctx.shares, None
        n_labels = len(labels)
        shares[:n_labels] *= nll_grad[:, None]
        shares[:n_labels].scatter_add_(1, labels[:, None], -nll_grad[:, None])
        shares[n_labels:] *= (ratio - kl[:, None]) * kl_grad[:, None]
        return shares, None, None
