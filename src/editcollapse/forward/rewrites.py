"""A batch of edit requests as token rows: what the key reads and the v* optimisation run on."""

import dataclasses
from collections.abc import Sequence
from itertools import islice

from editcollapse.data.requests import SLOT, EditRequest
from editcollapse.models.tokenization import (
    Encoder,
    PositionAudit,
    SubjectSequence,
    SubjectText,
    UnusableTextError,
)

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
        """Token ids of the P + 1 rows; the KL row ends at its subject, where it is read."""
        kl_row = self.kl_prompt.ids[: self.kl_prompt.subject_last + 1]
        return [*(prompt.ids + self.target[:-1] for prompt in self.prompts), kl_row]

    @property
    def subject_last(self) -> list[int]:
        """Place of the subject's last token in each of the P + 1 rows."""
        return [prompt.subject_last for prompt in (*self.prompts, self.kl_prompt)]

    @property
    def suffix_widths(self) -> list[int]:
        """Tokens of each prompt's row from its subject's last one on, (P,)."""
        size = len(self.target) - 1
        return [len(prompt.ids) + size - prompt.subject_last for prompt in self.prompts]

    @property
    def n_suffix(self) -> int:
        """Suffix tokens of all P + 1 rows."""
        return sum(self.suffix_widths) + 1

    @property
    def pass_tokens(self) -> int:
        """What the edit counts in a pass of v*.

        Its suffix tokens, and a quarter of those on their left: they take memory, hardly any work.
        """
        return self.n_suffix + sum(self.subject_last) // 4


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
    audit = encoder.audit_of(prompts[0], prompts[1:])
    return Rewrite(request, audit, tuple(prompts), kl_prompt, target)


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


def pass_groups(rewrites: Sequence[Rewrite], tokens_per_pass: int) -> list[list[int]]:
    """Return indices of rewrites in groups of like size that run together, narrow ones first.

    Args:
        rewrites: of one batch.
        tokens_per_pass: of one pass at most (``Rewrite.pass_tokens``); one rewrite may have more.
    """
    order = sorted(range(len(rewrites)), key=lambda b: rewrites[b].pass_tokens)
    total = sum(rewrite.pass_tokens for rewrite in rewrites)
    enough = total / max(1, -(-total // tokens_per_pass))
    groups: list[list[int]] = []
    size = 0
    for b in order:
        more = rewrites[b].pass_tokens
        if not groups or size >= enough or size + more > tokens_per_pass:
            groups.append([])
            size = 0
        groups[-1].append(b)
        size += more
    return groups
