"""Questions to an edited model, in tokens: which rows run, and which positions are read.

Sources: kmeng01 eval_utils_counterfact (each prompt with both targets), EasyEdit and
Collapse-in-Model-Editing evaluate_utils (teacher-forced argmax of the target's tokens; portability
likewise).
"""

import dataclasses
import random
from collections.abc import Sequence
from typing import Literal

from editcollapse.data.requests import EditRequest
from editcollapse.fingerprints import digest
from editcollapse.models.tokenization import Encoder, UnusableTextError

ProbeKind = Literal["rewrite", "prefixed", "paraphrase", "neighborhood", "portability"]
Side = Literal["new", "true"]


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One prompt followed by one target, teacher-forced."""

    kind: ProbeKind
    prompt_index: int
    """Which prompt of its kind; for ``prefixed`` the index of the context template."""
    side: Side
    """``new`` or, for what was or should stay the answer, ``true``."""
    row: int
    """Index into the plan's rows."""
    first_position: int
    """Position whose logits predict the target's first token."""
    target: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ProbePlan:
    """All questions to one request; equal rows are asked once."""

    request_id: str
    rows: tuple[tuple[int, ...], ...]
    questions: tuple[Question, ...]
    prefix_index: int | None
    """The context template drawn for the published one-prefix efficacy; None without prefixes."""
    skipped: tuple[str, ...] = ()
    """Questions that the model cannot be asked, with the reason; their scores stay unmeasured."""


def plan_probes(
    encoder: Encoder, templates: Sequence[str], request: EditRequest, seed: int
) -> ProbePlan:
    """Return the questions to one request.

    Args:
        encoder: the model's tokenizer and start-token policy.
        templates: context templates, the bare one first.
        request: the edit.
        seed: draws the one test prefix, together with the request's id.

    Raises:
        UnusableTextError: the rewrite itself cannot be asked; any other question that cannot is
            named in ``ProbePlan.skipped``.
    """
    rows: dict[tuple[int, ...], int] = {}
    questions: list[Question] = []
    skipped: list[str] = []

    def ask(kind: ProbeKind, index: int, side: Side, prompt: str, target: str | None) -> None:
        if target is None:
            return
        ids = encoder.prompt_ids(prompt)
        try:
            goal = encoder.target_ids(target)
            row = ids + goal[:-1]
            encoder.check_length(ids, prompt)
            encoder.check_length(row, prompt)
        except UnusableTextError as error:
            if (kind, side) == ("rewrite", "new"):
                raise
            skipped.append(str(error))
            return
        number = rows.setdefault(row, len(rows))
        questions.append(Question(kind, index, side, number, len(ids) - 1, goal))

    prompt = request.filled_prompt
    ask("rewrite", 0, "new", prompt, request.target_new)
    ask("rewrite", 0, "true", prompt, request.target_true)
    for index, template in enumerate(templates[1:], start=1):
        before, after = template.split("{}")
        ask("prefixed", index, "new", f"{before}{prompt}{after}", request.target_new)
    for index, paraphrase in enumerate(request.paraphrase_prompts):
        ask("paraphrase", index, "new", paraphrase, request.target_new)
        ask("paraphrase", index, "true", paraphrase, request.target_true)
    for index, (neighbor, answer) in enumerate(request.neighborhood_pairs):
        ask("neighborhood", index, "new", neighbor, request.target_new)
        ask("neighborhood", index, "true", neighbor, answer)
    followed = zip(request.portability_prompts, request.portability_targets, strict=True)
    for index, (consequence, answer) in enumerate(followed):
        ask("portability", index, "new", consequence, answer)
    return ProbePlan(
        request_id=request.request_id,
        rows=tuple(rows),
        questions=tuple(questions),
        prefix_index=_drawn_prefix(len(templates), request.request_id, seed),
        skipped=tuple(skipped),
    )


def _drawn_prefix(n_templates: int, request_id: str, seed: int) -> int | None:
    """Return a uniformly drawn template other than the bare one."""
    if n_templates < 2:  # noqa: PLR2004  the bare one and one more
        return None
    return random.Random(digest("prefix", seed, request_id)).randrange(1, n_templates)
