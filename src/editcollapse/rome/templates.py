"""Context templates: the two published generators, seeded, and templates from a file.

A template set is the bare ``{}`` and texts followed by ``. {}``.
Sources: kmeng01/rome (start token), EasyEdit and Collapse-in-Model-Editing (five words).
"""

import dataclasses
import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor

from editcollapse.data.requests import SLOT
from editcollapse.errors import ModelError
from editcollapse.models.loading import LoadedModel
from editcollapse.models.tokenization import pad_right

FIVE_WORDS = ("The", "Therefore", "Because", "I", "You")
TOP_K = 5


@dataclasses.dataclass(frozen=True, slots=True)
class TemplateSet:
    """Context templates, the bare one first."""

    templates: tuple[str, ...]
    kind: str
    seed: int | None
    """None where the templates were given, not drawn."""


def generate_templates(
    loaded: LoadedModel, kind: str, lengths: Sequence[tuple[int, int]], seed: int
) -> TemplateSet:
    """Return the bare template and texts drawn from the model.

    Args:
        loaded: the model that writes the texts.
        kind: ``start_token``: each text starts from the model's end-of-text or BOS token;
            ``five_words``: from one of five words in turn, with the start-token policy's tokens.
        lengths: pairs of total length in tokens, prompt included, and number of texts.
        seed: of the draws; the same seed gives the same texts on the same device type.

    Raises:
        ModelError: ``start_token`` is asked of a tokenizer that has no such token.
    """
    generator = torch.Generator().manual_seed(seed)
    texts: list[str] = []
    for length, n_texts in lengths:
        prompts = _prompts(loaded, kind, n_texts)
        texts.extend(_sample(loaded, prompts, length, generator))
    templates = [SLOT, *(f"{text}. {SLOT}" for text in texts)]
    return TemplateSet(tuple(templates), kind, seed)


def _prompts(loaded: LoadedModel, kind: str, n_texts: int) -> list[tuple[int, ...]]:
    """Return the token ids that each text starts from."""
    encoder = loaded.encoder
    if kind == "five_words":
        # EasyEdit draws n // 5 texts for each word; other numbers are filled up.
        words = [FIVE_WORDS[i * len(FIVE_WORDS) // n_texts] for i in range(n_texts)]
        return [encoder.sequence(word) for word in words]
    tokenizer = encoder.tokenizer
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        raise ModelError(
            f'templates of kind "start_token": the tokenizer of {loaded.source} has neither a BOS '
            'nor an end-of-text token. Use "five_words" or a file.'
        )
    return [(int(start),)] * n_texts


@torch.no_grad()
def _sample(
    loaded: LoadedModel, prompts: list[tuple[int, ...]], length: int, generator: torch.Generator
) -> list[str]:
    """Return one text for each prompt: top-k sampling, plain softmax over the k logits."""
    rows = [list(prompt) for prompt in prompts]
    while min(len(row) for row in rows) < length:
        ids = pad_right(rows, loaded.device)
        last = torch.tensor([len(row) - 1 for row in rows], device=loaded.device)
        logits = loaded.model(input_ids=ids, use_cache=False).logits
        step = _draw(logits[torch.arange(len(rows), device=loaded.device), last], generator)
        for row, token in zip(rows, step, strict=True):
            if len(row) < length:
                row.append(token)
    return [_clean(loaded, row) for row in rows]


def _draw(logits: Tensor, generator: torch.Generator) -> list[int]:
    """Return one token a row, (N, V) -> N ids, drawn on the CPU so that a seed means one thing."""
    top = logits.float().cpu().topk(min(TOP_K, logits.shape[-1]), dim=-1)
    choice = torch.multinomial(top.values.softmax(-1), 1, generator=generator)
    return [int(token) for token in top.indices.gather(1, choice)[:, 0]]


def _clean(loaded: LoadedModel, ids: list[int]) -> str:
    """Return the text as the published generators leave it, without slots of its own."""
    text = loaded.encoder.tokenizer.decode(ids, skip_special_tokens=True)
    text = unicodedata.normalize("NFKD", text).replace("\n\n", " ").replace("<|endoftext|>", "")
    return text.replace("{", " ").replace("}", " ").strip()
