"""Text to token ids: start tokens, targets, and the position of the subject's last token.

Ids are built once and stay ids: nothing is decoded and encoded again. A subject is located by
the tokenizer's offsets on the full string, never by adding up lengths of parts.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from editcollapse.data.requests import SLOT, EditRequest
from editcollapse.errors import ModelError

SubjectPosition = Literal["first_token", "first_several", "inside"]
_ANCHOR = "a"
_UNDERLINE = "▁"


class UnusableTextError(ModelError):
    """This tokenizer or model cannot take one text; other texts of the batch go on."""


@dataclasses.dataclass(frozen=True, slots=True)
class SubjectSequence:
    """Token ids of a prompt with the place of its subject."""

    ids: tuple[int, ...]
    """Start token, if any, and prompt."""
    subject_first: int
    """Index of the subject's first token in ``ids``."""
    subject_last: int
    """Index of the subject's last token in ``ids``: where the key is read."""


@dataclasses.dataclass(frozen=True, slots=True)
class SubjectText:
    """A filled context template, with the characters of the subject in it."""

    text: str
    subject: str
    first: int
    """Index of the subject's first character in ``text``."""

    @property
    def last(self) -> int:
        """Index of the subject's last character in ``text``."""
        return self.first + len(self.subject) - 1

    @classmethod
    def of(cls, template: str, prompt: str, subject: str) -> "SubjectText":
        """Return a template around a prompt around a subject, each with one ``{}``."""
        before_prompt, after_prompt = template.split(SLOT)
        before, after = prompt.split(SLOT)
        text = f"{before_prompt}{before}{subject}{after}{after_prompt}"
        return cls(text, subject, len(before_prompt) + len(before))


@dataclasses.dataclass(frozen=True, slots=True)
class PositionAudit:
    """Position of a request's subject in its bare prompt, under one tokenizer."""

    subject_position: SubjectPosition
    subject_first_index: int
    subject_last_index: int
    n_subject_tokens: int
    n_prompt_tokens: int
    is_first_token: bool
    is_sequence_start: bool
    subject_last_token: str


class Encoder:
    """A tokenizer with a start-token policy.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        start_token: open prompts as the ``tokenizer`` does, ``never``, or ``always``.
        max_length: positions that the model has; longer sequences are refused.
        source: folder or hub id, for messages.

    Raises:
        ModelError: the tokenizer gives no offsets, or ``always`` was asked and it has no BOS.
    """

    def __init__(self, tokenizer: Any, start_token: str, max_length: int, source: str) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"the tokenizer of {source} gives no character offsets. "
                "Save it as tokenizer.json (a fast tokenizer)."
            )
        self.tokenizer = tokenizer
        self.source = source
        self.max_length = max_length
        self.opening_ids = self._start_ids("tokenizer")
        """What the tokenizer opens a text with by itself, whatever the policy is."""
        self.start_ids = self._start_ids(start_token)
        self._anchor_ids = self.encode(_ANCHOR)
        self._targets: dict[str, tuple[int, ...]] = {}

    def _start_ids(self, policy: str) -> tuple[int, ...]:
        if policy == "never":
            return ()
        if policy == "always":
            if self.tokenizer.bos_token_id is None:
                raise ModelError(
                    f'start_token = "always", but the tokenizer of {self.source} has no BOS token. '
                    'Use "tokenizer" or "never".'
                )
            return (int(self.tokenizer.bos_token_id),)
        plain = self.tokenizer(_ANCHOR, add_special_tokens=False)["input_ids"]
        full = self.tokenizer(_ANCHOR)["input_ids"]
        for n_start in range(len(full) - len(plain) + 1):
            if full[n_start : n_start + len(plain)] == plain:
                return tuple(full[:n_start])
        return ()

    @property
    def start_token(self) -> str | None:
        """The start token as text; None where prompts open with their own first token."""
        if not self.start_ids:
            return None
        return " ".join(self.tokenizer.convert_ids_to_tokens(list(self.start_ids)))

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text without any special token."""
        return tuple(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def encode_many(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the ids of each text without any special token; faster than one after another."""
        if not texts:
            return []
        found = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [tuple(ids) for ids in found]

    def sequence(self, text: str) -> tuple[int, ...]:
        """Return the start token, if any, and the ids of a text."""
        return self.start_ids + self.encode(text)

    def target_ids(self, target: str) -> tuple[int, ...]:
        """Return the ids of a target as it stands after a word: exactly one space before it.

        Encoded behind an anchor word, whose own ids are then taken off; so a SentencePiece
        tokenizer adds no lone underline piece, and a byte-level one keeps the space in the first
        piece. Where the anchor itself changes, the target is encoded alone.

        Raises:
            UnusableTextError: the target has no ids, or one that the tokenizer does not know.
        """
        known = self._targets.get(target)
        if known is not None:
            return known
        joined = self.encode(f"{_ANCHOR} {target}")
        size = len(self._anchor_ids)
        ids = joined[size:] if joined[:size] == self._anchor_ids else self._alone(target)
        if not ids or self.tokenizer.unk_token_id in ids:
            raise UnusableTextError(
                f"the tokenizer of {self.source} has no token for the target {target!r}"
                if ids
                else f"the target {target!r} has no tokens in {self.source}"
            )
        self._targets[target] = ids
        return ids

    def _alone(self, target: str) -> tuple[int, ...]:
        """Return the ids of a target encoded by itself, less a lone underline piece in front."""
        ids = self.encode(f" {target}")
        pieces = self.tokenizer.convert_ids_to_tokens(list(ids))
        lone = len(pieces) > 1 and pieces[0] == _UNDERLINE and pieces[1].startswith(_UNDERLINE)
        return ids[1:] if lone else ids

    def subject_sequence(self, template: str, prompt: str, subject: str) -> SubjectSequence:
        """Return the ids of a template around a prompt around a subject, and the subject's place.

        Args:
            template: context template with one ``{}``; ``{}`` alone is the bare prompt.
            prompt: rewrite prompt with one ``{}``.
            subject: the entity.

        Raises:
            UnusableTextError: no token covers the subject's last character, or that token is
                unknown to the tokenizer, or the sequence is too long.
        """
        (found,) = self.subject_sequences([SubjectText.of(template, prompt, subject)])
        if isinstance(found, UnusableTextError):
            raise found
        return found

    def subject_sequences(
        self, texts: "Sequence[SubjectText]"
    ) -> "list[SubjectSequence | UnusableTextError]":
        """Return ``subject_sequence`` of each text, or the error that it raises."""
        if not texts:
            return []
        encoding = self.tokenizer(
            [text.text for text in texts],
            add_special_tokens=False,
            return_offsets_mapping=True,
            verbose=False,
        )
        found: list[SubjectSequence | UnusableTextError] = []
        rows = zip(texts, encoding["input_ids"], encoding["offset_mapping"], strict=True)
        for text, ids, spans in rows:
            try:
                found.append(self._located(text, ids, spans))
            except UnusableTextError as error:
                found.append(error)
        return found

    def _located(
        self, text: "SubjectText", ids: Sequence[int], spans: Sequence[tuple[int, int]]
    ) -> SubjectSequence:
        """Return the ids with the subject's place; ``spans`` are characters of each token."""
        first_character, last_character = text.first, text.last
        first = last = None
        for index, (start, end) in enumerate(spans):
            if first is None and start <= first_character < end:
                first = index
            if start <= last_character < end:
                last = index
        if last is None or first is None:
            raise UnusableTextError(
                f"the tokenizer of {self.source} has no token for the end of the subject "
                f"{text.subject!r}"
            )
        if ids[last] == self.tokenizer.unk_token_id:
            raise UnusableTextError(
                f"the tokenizer of {self.source} does not know the end of the subject "
                f"{text.subject!r}"
            )
        shift = len(self.start_ids)
        sequence = SubjectSequence(
            ids=self.start_ids + tuple(ids),
            subject_first=first + shift,
            subject_last=last + shift,
        )
        self.check_length(sequence.ids, text.text)
        return sequence

    def check_length(self, ids: Sequence[int], text: str) -> None:
        """Raise UnusableTextError for a sequence without tokens or with more than positions."""
        if not ids:
            raise UnusableTextError(f"{text[:60]!r} has no tokens in {self.source}")
        if len(ids) > self.max_length:
            raise UnusableTextError(
                f"{text[:60]!r} has {len(ids)} tokens; {self.source} takes {self.max_length}"
            )

    def audit(self, request: EditRequest) -> PositionAudit:
        """Return the position of the subject in the bare prompt.

        Raises:
            UnusableTextError: as ``subject_sequence``.
        """
        return self.audit_of(self.subject_sequence(SLOT, request.prompt, request.subject))

    def audit_of(self, bare: SubjectSequence) -> PositionAudit:
        """Return the position of the subject in a bare prompt that is in tokens already."""
        n_start = len(self.start_ids)
        n_tokens = bare.subject_last - bare.subject_first + 1
        position: SubjectPosition = "inside"
        if bare.subject_first == n_start:
            position = "first_token" if n_tokens == 1 else "first_several"
        return PositionAudit(
            subject_position=position,
            subject_first_index=bare.subject_first,
            subject_last_index=bare.subject_last,
            n_subject_tokens=n_tokens,
            n_prompt_tokens=len(bare.ids) - n_start,
            is_first_token=bare.subject_last == n_start,
            is_sequence_start=bare.subject_last == 0,
            subject_last_token=self.tokenizer.convert_ids_to_tokens(bare.ids[bare.subject_last]),
        )


def pad_right(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return rows of ids as one int64 (N, T) tensor, padded on the right.

    A row is padded with its own last id. Causal models do not look to the right, so neither a mask
    nor a padding token is needed, and real positions keep their values exactly.
    """
    width = max(len(row) for row in rows)
    padded = [[*row, *([row[-1]] * (width - len(row)))] for row in rows]
    return torch.tensor(padded, dtype=torch.int64, device=device)
