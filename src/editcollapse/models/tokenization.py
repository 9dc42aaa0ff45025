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
from editcollapse.models.chat import ChatFrame

SubjectPosition = Literal["first_token", "first_several", "inside"]
_ANCHOR = "a"
_BLANK = " "
_PROBES = (_ANCHOR, "1 city, in \u00fcber. It is")
"""Messages by which a chat template in parts is compared with the whole."""
_UNDERLINE = "▁"


class UnusableTextError(ModelError):
    """This tokenizer or model cannot take one text; other texts of the batch go on."""


@dataclasses.dataclass(frozen=True, slots=True)
class SubjectSequence:
    """Token ids of a prompt with the place of its subject."""

    ids: tuple[int, ...]
    """Start token, if any, and prompt; or the prompt in its chat template."""
    subject_first: int
    """Index of the subject's first token in ``ids``."""
    subject_last: int
    """Index of the subject's last token in ``ids``: where the key is read."""
    last_extent: tuple[int, int]
    """First character of that token and the one behind it, counted from the subject's end; a blank
    in front, which tokenizers put into a word's token, is left out. ``(-5, 0)``: the subject's last
    five; ``(-5, 3)``: these and three behind the subject."""


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
    """Position of a request's subject in its bare prompt, under one tokenizer.

    In a chat template the prompt is all of the template's text, so that a subject stands inside.
    """

    subject_position: SubjectPosition
    subject_first_index: int
    subject_last_index: int
    n_subject_tokens: int
    n_prompt_tokens: int
    is_first_token: bool
    is_sequence_start: bool
    subject_last_token: str
    last_token_differs: bool
    """Whether in a context the subject ends with a token of other characters: the keys k0 and kbar
    are then of different tokens. A blank in front is no difference."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Around:
    """What stands around a prompt: ids that are always the same, and text encoded with it."""

    opening: tuple[int, ...] = ()
    before: str = ""
    after: str = ""
    closing: tuple[int, ...] = ()


class Encoder:
    """A tokenizer with a start-token policy.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        start_token: open prompts as the ``tokenizer`` does, ``never``, or ``always``.
        max_length: positions that the model has; longer sequences are refused.
        source: folder or hub id, for messages.
        in_chat: put every prompt into the tokenizer's chat template, which then opens it instead of
            a start token; a target is the answer. Texts stay as they are.

    Raises:
        ModelError: the tokenizer gives no offsets; ``always`` was asked and it has no BOS; or it
            has no chat template and prompts are to be put into one.
    """

    def __init__(
        self,
        tokenizer: Any,
        start_token: str,
        max_length: int,
        source: str,
        *,
        in_chat: bool = False,
    ) -> None:
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
        self.chat = ChatFrame.of(tokenizer, source) if in_chat else None
        self._anchor, self._gap = _ANCHOR, _BLANK
        self._around = _Around(opening=self.start_ids)
        if self.chat is not None:
            self._anchor, self._gap = self.chat.after, self.chat.lead
            self._around = self._around_chat(self.chat)
        self._anchor_ids = self.encode(self._anchor)
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

    def _around_chat(self, chat: ChatFrame) -> "_Around":
        """Return a chat template as ids where special tokens shut its text off from the message.

        What is between them is encoded with each message, as it is in one text.
        """
        whole = _Around(before=chat.before, after=chat.after)
        added = set(self.tokenizer.added_tokens_decoder)
        (found,) = self.tokenizer.backend_tokenizer.encode_batch(
            [chat.around(_ANCHOR)], add_special_tokens=False
        )
        head = tail = 0
        opening: tuple[int, ...] = ()
        closing: tuple[int, ...] = ()
        text_end = len(chat.before) + len(_ANCHOR)
        for index, (token, (start, end)) in enumerate(zip(found.ids, found.offsets, strict=True)):
            if token in added and end <= len(chat.before):
                head, opening = end, tuple(found.ids[: index + 1])
            elif token in added and start >= text_end and not closing:
                tail, closing = start - text_end, tuple(found.ids[index:])
        after = chat.after[:tail] if closing else chat.after
        parts = _Around(opening, chat.before[head:], after, closing)
        same = all(
            self._ids_around(parts, text) == self._ids_around(whole, text) for text in _PROBES
        )
        return parts if same else whole

    def _ids_around(self, around: "_Around", text: str) -> tuple[int, ...]:
        ids = self.encode(f"{around.before}{text}{around.after}")
        return around.opening + ids + around.closing

    @property
    def start_token(self) -> str | None:
        """The start token as text; None where prompts open with their own first token."""
        if not self.start_ids:
            return None
        return " ".join(self.tokenizer.convert_ids_to_tokens(list(self.start_ids)))

    @property
    def n_opening(self) -> int:
        """Tokens that open every prompt and are no part of it: those of the start token."""
        if self.chat is None:
            return len(self.start_ids)
        # A template that is no more than a start token.
        return int(self.chat.before == self.tokenizer.bos_token)

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

    def prompt_ids(self, prompt: str) -> tuple[int, ...]:
        """Return what a model is asked with: ``sequence``, or the ids of the chat template."""
        return self._ids_around(self._around, prompt if self.chat is None else prompt.strip())

    def target_ids(self, target: str) -> tuple[int, ...]:
        """Return the ids of a target as it stands after a word: exactly one space before it.

        In a chat template it stands where the answer begins, as the template writes answers.
        Encoded behind an anchor, a word or the generation prompt, whose own ids are then taken off;
        so a SentencePiece tokenizer adds no lone underline piece, and a byte-level one keeps the
        space in the first piece. Where the anchor itself changes, the target is encoded alone.

        Raises:
            UnusableTextError: the target has no ids, or one that the tokenizer does not know.
        """
        known = self._targets.get(target)
        if known is not None:
            return known
        joined = self.encode(f"{self._anchor}{self._gap}{target}")
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
        ids = self.encode(f"{self._gap}{target}")
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
        placed = [self._placed(text) for text in texts]
        # The backend's own call: its encodings find a character without a list of all spans.
        encodings = self.tokenizer.backend_tokenizer.encode_batch(
            [text.text for text in placed], add_special_tokens=False
        )
        found: list[SubjectSequence | UnusableTextError] = []
        for text, encoding in zip(placed, encodings, strict=True):
            try:
                found.append(self._located(text, encoding))
            except UnusableTextError as error:
                found.append(error)
        return found

    def _placed(self, text: "SubjectText") -> "SubjectText":
        """Return a text with what is encoded with it: of the chat template, where there is one."""
        if self.chat is None:
            return text
        before, after = self._around.before, self._around.after
        blanks = len(text.text) - len(text.text.lstrip())
        first = len(before) + text.first - blanks
        return SubjectText(f"{before}{text.text.strip()}{after}", text.subject, first)

    def _located(self, text: "SubjectText", encoding: Any) -> SubjectSequence:
        """Return the ids of an encoded text with the subject's place."""
        first, last = encoding.char_to_token(text.first), encoding.char_to_token(text.last)
        if last is None or first is None:
            raise UnusableTextError(
                f"the tokenizer of {self.source} has no token for the end of the subject "
                f"{text.subject!r}"
            )
        # A character may be several tokens, each with all of its extent.
        ids = encoding.ids
        while last + 1 < len(ids) and _covers(encoding.token_to_chars(last + 1), text.last):
            last += 1
        if ids[last] == self.tokenizer.unk_token_id:
            raise UnusableTextError(
                f"the tokenizer of {self.source} does not know the end of the subject "
                f"{text.subject!r}"
            )
        start, end = encoding.token_to_chars(last)
        while text.text[start].isspace():
            start += 1
        shift, stop = len(self._around.opening), text.last + 1
        sequence = SubjectSequence(
            ids=(*self._around.opening, *ids, *self._around.closing),
            subject_first=first + shift,
            subject_last=last + shift,
            last_extent=(start - stop, end - stop),
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
        """Return the position of the subject in the bare prompt; no context is looked at.

        Raises:
            UnusableTextError: as ``subject_sequence``.
        """
        return self.audit_of(self.subject_sequence(SLOT, request.prompt, request.subject))

    def audit_of(
        self, bare: SubjectSequence, contexts: Sequence[SubjectSequence] = ()
    ) -> PositionAudit:
        """Return the position of the subject in a bare prompt that is in tokens already.

        Args:
            bare: the prompt.
            contexts: the same prompt in context templates.
        """
        n_start = self.n_opening
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
            last_token_differs=any(each.last_extent != bare.last_extent for each in contexts),
        )


def _covers(extent: tuple[int, int] | None, character: int) -> bool:
    """Return whether a token's extent has a character in it."""
    return extent is not None and extent[0] <= character < extent[1]


def pad_right(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return rows of ids as one int64 (N, T) tensor, padded on the right.

    A row is padded with its own last id. Causal models do not look to the right, so neither a mask
    nor a padding token is needed, and real positions keep their values exactly.
    """
    width = max(len(row) for row in rows)
    padded = [[*row, *([row[-1]] * (width - len(row)))] for row in rows]
    return torch.tensor(padded, dtype=torch.int64, device=device)
