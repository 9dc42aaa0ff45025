"""Questions that are answered freely: each prompt of a request in each context, in tokens.

Source: Revisit-Editing-Evaluation, contexts question-only and ``qa_inst``. Its ``chat_temp`` is
Llama 2's frame whatever the model; here it is the tokenizer's own chat template.
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal

from editcollapse.config.generation import ContextName, FreeProbe, GenerationSpec
from editcollapse.data.requests import EditRequest
from editcollapse.errors import ModelError
from editcollapse.models.tokenization import Encoder, UnusableTextError

_INSTRUCTION = "Please answer the question:\n\nQ: {}\nA:"
FLUENCY: Literal["fluency"] = "fluency"
"""Probe of the text whose n-gram entropy is the fluency."""


@dataclasses.dataclass(frozen=True, slots=True)
class FreeQuestion:
    """One prompt in one context."""

    context: ContextName
    probe: FreeProbe | Literal["fluency"]
    prompt_index: int
    """Which prompt of its kind."""
    prompt: str
    """As the request has it."""
    target: str | None
    """What the answer is compared with; None where nobody knows."""
    ids: tuple[int, ...] | None
    """Context and prompt in tokens; None where the model cannot be asked."""
    reason: str | None
    """Why not."""


class FreeQuestions:
    """The questions to requests in the contexts that a study asks for.

    Args:
        encoder: the model's tokenizer and start-token policy.
        spec: contexts, probes and how many prompts of each.
    """

    def __init__(self, encoder: Encoder, spec: GenerationSpec) -> None:
        self._encoder, self._spec = encoder, spec
        self._chat: Encoder | None = encoder if encoder.chat is not None else None
        self._no_chat: str | None = None
        if self._chat is None and "chat" in spec.contexts:
            try:
                self._chat = Encoder(
                    encoder.tokenizer,
                    "tokenizer",
                    encoder.max_length,
                    encoder.source,
                    in_chat=True,
                )
            except ModelError:
                self._no_chat = f"the tokenizer of {encoder.source} has no usable chat template"

    def of(self, request: EditRequest) -> list[FreeQuestion]:
        """Return the questions to one request, context by context."""
        return [
            self._question(context, probe, index, prompt, target)
            for context in self._spec.contexts
            for probe in self._spec.probes
            for index, (prompt, target) in enumerate(_prompts(request, probe))
            if self._spec.max_prompts is None or index < self._spec.max_prompts
        ]

    def fluency(self, request: EditRequest) -> FreeQuestion:
        """Return the edited prompt as the beginning of a text, whatever contexts are asked for."""
        return self._question("question", FLUENCY, 0, request.filled_prompt, None)

    def _ids(self, context: ContextName, prompt: str) -> tuple[int, ...]:
        """Return a prompt in a context, in tokens.

        Raises:
            UnusableTextError: the tokenizer has no chat template, or the model has no position
                left for an answer.
        """
        encoder = self._encoder
        if context == "chat":
            if self._chat is None:
                raise UnusableTextError(str(self._no_chat))
            ids = self._chat.prompt_ids(prompt)
        else:
            ids = encoder.sequence(
                prompt if context == "question" else _INSTRUCTION.replace("{}", prompt)
            )
        encoder.check_length(ids, prompt)
        if len(ids) == encoder.max_length:
            raise UnusableTextError(
                f"{prompt[:60]!r} leaves no position of {encoder.max_length} for an answer"
            )
        return ids

    def _question(
        self,
        context: ContextName,
        probe: FreeProbe | Literal["fluency"],
        index: int,
        prompt: str,
        target: str | None,
    ) -> FreeQuestion:
        try:
            ids, reason = self._ids(context, prompt), None
        except UnusableTextError as error:
            ids, reason = None, str(error)
        return FreeQuestion(context, probe, index, prompt, target, ids, reason)


def _prompts(request: EditRequest, probe: FreeProbe) -> Iterator[tuple[str, str | None]]:
    """Yield a request's prompts of one kind, each with its target."""
    if probe == "rewrite":
        yield request.filled_prompt, request.target_new
    elif probe == "paraphrase":
        for prompt in request.paraphrase_prompts:
            yield prompt, request.target_new
    elif probe == "neighborhood":
        targets = dict(enumerate(request.neighborhood_targets))
        for index, prompt in enumerate(request.neighborhood_prompts):
            yield prompt, targets.get(index, request.target_true)
    else:
        yield from zip(request.portability_prompts, request.portability_targets, strict=True)
