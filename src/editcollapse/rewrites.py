"""A batch of edit requests as token rows: what the key reads and the v* optimisation run on."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from editcollapse.requests import SLOT, EditRequest
from editcollapse.tokens import Encoder, PositionAudit, SubjectSequence, UnusableTextError

KL_PROMPT = f"{SLOT} is a"


@dataclasses.dataclass(frozen=True, slots=True)
class Rewrite:
    """One request in tokens: P rewrite rows and one KL row.

    Source: kmeng01/rome compute_v: rows are context(prompt(subject)) and the target less its last
    token; the KL row is "{subject} is a".
    """

    request: EditRequest
    audit: PositionAudit
    prompts: tuple[SubjectSequence, ...]
    """One for each context template, the bare prompt first."""
    kl_prompt: SubjectSequence
    target: tuple[int, ...]
    """Ids of ``target_new``."""

    @property
    def rows(self) -> list[tuple[int, ...]]:
        """Token ids of the P + 1 rows."""
        return [*(prompt.ids + self.target[:-1] for prompt in self.prompts), self.kl_prompt.ids]

    @property
    def n_tokens(self) -> int:
        """Tokens of the widest row, times rows."""
        return max(len(row) for row in self.rows) * (len(self.prompts) + 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Unusable:
    """A request that this model cannot take."""

    request: EditRequest
    reason: str


def build_rewrite(encoder: Encoder, templates: Sequence[str], request: EditRequest) -> Rewrite:
    """Return a request in tokens.

    Args:
        encoder: the model's tokenizer and start-token policy.
        templates: context templates, the bare ``{}`` first.
        request: the edit.

    Raises:
        UnusableTextError: the tokenizer or the model's length does not take it.
    """
    target = encoder.target_ids(request.target_new)
    prompts = tuple(
        encoder.subject_sequence(template, request.prompt, request.subject)
        for template in templates
    )
    for prompt in prompts:
        encoder.check_length(prompt.ids + target[:-1], request.filled_prompt)
    return Rewrite(
        request=request,
        audit=encoder.audit(request),
        prompts=prompts,
        kl_prompt=encoder.subject_sequence(SLOT, KL_PROMPT, request.subject),
        target=target,
    )


def build_rewrites(
    encoder: Encoder, templates: Sequence[str], requests: Sequence[EditRequest]
) -> tuple[list[Rewrite], list[Unusable]]:
    """Return the requests in tokens, and those that this model cannot take with the reason."""
    rewrites, unusable = [], []
    for request in requests:
        try:
            rewrites.append(build_rewrite(encoder, templates, request))
        except UnusableTextError as error:
            unusable.append(Unusable(request, str(error)))
    return rewrites, unusable


@dataclasses.dataclass(frozen=True, slots=True)
class RowLayout:
    """Where B rewrites of P prompts each read, in their B·(P+1) padded rows.

    Row b·(P+1)+p is prompt p of edit b; the last of each edit is its KL row.
    """

    n_edits: int
    n_prompts: int
    subject_last: Tensor
    """int64 (B, P+1): where delta is added, KL row included."""
    loss_row: Tensor
    """int64 (M,): row of each target token, counted within the batch."""
    loss_position: Tensor
    """int64 (M,): position whose logits predict it."""
    loss_label: Tensor
    """int64 (M,): the target token."""
    loss_weight: Tensor
    """float64 (M,): one over the number of the edit's target tokens."""

    @classmethod
    def of(cls, rewrites: Sequence[Rewrite], device: torch.device) -> "RowLayout":
        """Return the layout of rewrites that share their templates."""
        n_prompts = len(rewrites[0].prompts)
        subject, row, position, label, weight = [], [], [], [], []
        for b, rewrite in enumerate(rewrites):
            prompts = [*rewrite.prompts, rewrite.kl_prompt]
            subject.append([prompt.subject_last for prompt in prompts])
            for p, prompt in enumerate(rewrite.prompts):
                for t, token in enumerate(rewrite.target):
                    row.append(b * (n_prompts + 1) + p)
                    position.append(len(prompt.ids) - 1 + t)
                    label.append(token)
                    weight.append(1.0 / len(rewrite.target))
        return cls(
            n_edits=len(rewrites),
            n_prompts=n_prompts,
            subject_last=torch.tensor(subject, device=device),
            loss_row=torch.tensor(row, device=device),
            loss_position=torch.tensor(position, device=device),
            loss_label=torch.tensor(label, device=device),
            loss_weight=torch.tensor(weight, dtype=torch.float64, device=device),
        )
