"""A batch of edit requests as token rows: what the key reads and the v* optimisation run on."""

import dataclasses
from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from editcollapse.requests import SLOT, EditRequest
from editcollapse.tokens import (
    Encoder,
    PositionAudit,
    SubjectSequence,
    SubjectText,
    UnusableTextError,
)

_ENOUGH = 8
"""One over the share of a full pass that keeps a device busy: measured on CPUs, 512 tokens."""
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
    def n_live(self) -> int:
        """Most tokens that a row has from its subject's last one on."""
        rows = zip((*self.prompts, self.kl_prompt), self.rows, strict=True)
        return max(len(row) - prompt.subject_last for prompt, row in rows)

    @property
    def n_left(self) -> int:
        """Most tokens that a row has left of its subject's last one."""
        return max(prompt.subject_last for prompt in (*self.prompts, self.kl_prompt))


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
    return _rewrite_of(encoder, request, encoder.subject_sequences(_texts(templates, request)))


def _texts(templates: Sequence[str], request: EditRequest) -> list[SubjectText]:
    """Return the texts of a rewrite's rows, the KL row last."""
    filled = [(template, request.prompt) for template in templates] + [(SLOT, KL_PROMPT)]
    return [SubjectText.of(template, prompt, request.subject) for template, prompt in filled]


def _rewrite_of(
    encoder: Encoder,
    request: EditRequest,
    sequences: Sequence[SubjectSequence | UnusableTextError],
) -> Rewrite:
    """Return a rewrite of its rows' sequences; raise the first error among them."""
    target = encoder.target_ids(request.target_new)
    whole: list[SubjectSequence] = []
    for sequence in sequences:
        if isinstance(sequence, UnusableTextError):
            raise sequence
        whole.append(sequence)
    *prompts, kl_prompt = whole
    for prompt in prompts:
        encoder.check_length(prompt.ids + target[:-1], request.filled_prompt)
    return Rewrite(request, encoder.audit_of(prompts[0]), tuple(prompts), kl_prompt, target)


def build_rewrites(
    encoder: Encoder, templates: Sequence[str], requests: Sequence[EditRequest]
) -> tuple[list[Rewrite], list[Unusable]]:
    """Return the requests in tokens, and those that this model cannot take with the reason."""
    rewrites, unusable = [], []
    texts = [_texts(templates, request) for request in requests]
    # One call of the tokenizer for all rows: it works on them side by side.
    sequences = iter(encoder.subject_sequences([text for rows in texts for text in rows]))
    for request, rows in zip(requests, texts, strict=True):
        try:
            rewrites.append(_rewrite_of(encoder, request, list(islice(sequences, len(rows)))))
        except UnusableTextError as error:
            unusable.append(Unusable(request, str(error)))
    return rewrites, unusable


def like_width_groups(rewrites: Sequence[Rewrite], tokens_per_pass: int) -> list[list[int]]:
    """Return places of rewrites in groups that run together, narrow ones first.

    A pass costs each edit as many live tokens as the widest of its group has. So a group holds
    one width, unless it would be too small to keep the device busy.

    Args:
        rewrites: of one batch.
        tokens_per_pass: live tokens in one pass at most; a left context counts a quarter, since
            it takes memory and hardly any work.
    """
    enough = tokens_per_pass // _ENOUGH
    order = sorted(range(len(rewrites)), key=lambda b: (rewrites[b].n_live, rewrites[b].n_left))
    groups: list[list[int]] = []
    for b in order:
        n_live, n_rows = rewrites[b].n_live, len(rewrites[b].prompts) + 1
        if groups:
            group = [*groups[-1], b]
            n_left = max(rewrites[other].n_left for other in group)
            fits = len(group) * n_rows * (n_live + n_left // 4) <= tokens_per_pass
            narrower = rewrites[group[0]].n_live < n_live
            if fits and not (narrower and (len(group) - 1) * n_rows * n_live > enough):
                groups[-1] = group
                continue
        groups.append([b])
    return groups


@dataclasses.dataclass(frozen=True, slots=True)
class RowLayout:
    """Where B rewrites of P prompts each read, in their B·(P+1) padded rows.

    Row b·(P+1)+p is prompt p of edit b; the last of each edit is its KL row.
    """

    n_edits: int
    n_prompts: int
    subject_last: Tensor
    """int64 (B, P+1): where delta is added, KL row included."""
    reads: Tensor
    """int64 (B, P+1, M): positions whose logits are read, counted from the subject's last token:
    those that predict the target; in the KL row, the subject's last token itself. Filled up with
    the last one where the target has fewer than M tokens."""
    labels: Tensor
    """int64 (B, M): the target's tokens, filled up likewise."""
    weights: Tensor
    """float64 (B, M): one over the number of the target's tokens, 0 where filled up."""

    @classmethod
    def of(cls, rewrites: Sequence[Rewrite], device: torch.device) -> "RowLayout":
        """Return the layout of rewrites that share their templates."""
        width = max(len(rewrite.target) for rewrite in rewrites)
        subject, reads, labels, weights = [], [], [], []
        for rewrite in rewrites:
            size = len(rewrite.target)
            places = [min(t, size - 1) for t in range(width)]
            subject.append(
                [prompt.subject_last for prompt in (*rewrite.prompts, rewrite.kl_prompt)]
            )
            first = [len(prompt.ids) - 1 - prompt.subject_last for prompt in rewrite.prompts]
            reads.append([[start + t for t in places] for start in first] + [[0] * width])
            labels.append([rewrite.target[t] for t in places])
            weights.append([1.0 / size] * size + [0.0] * (width - size))
        return cls(
            n_edits=len(rewrites),
            n_prompts=len(rewrites[0].prompts),
            subject_last=torch.tensor(subject, device=device),
            reads=torch.tensor(reads, device=device),
            labels=torch.tensor(labels, device=device),
            weights=torch.tensor(weights, dtype=torch.float64, device="cpu"),
        )
