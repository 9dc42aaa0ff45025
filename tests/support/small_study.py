"""A study of a second: a random GPT-2 of three layers, eight facts, three texts, a short corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

N_REQUESTS = 8
BATCH_SIZE = 2
N_BATCHES = N_REQUESTS // BATCH_SIZE
METHODS = ("rome", "c_rome", "r_rome")
N_SHARDS = 3
N_EDITS = N_REQUESTS * len(METHODS)
NOTE = "Random weights: the numbers mean nothing."
START = "<|endoftext|>"

_SUBJECTS = ("Mira", "Oslo", "Quill", "Vane", "Lumo Bram", "Sela Kind", "Arden", "Tarn")
_OBJECTS = ("red", "blue", "green", "tennis", "football")
_WORDS = [
    "The",
    "city",
    "of",
    "is",
    "was",
    "in",
    "near",
    "plays",
    "speaks",
    "likes",
    "and",
    "who",
    "works",
    "for",
    "a",
    "river",
    "colour",
    "sport",
    "name",
    "said",
    "that",
    "one",
    "more",
    "thing",
    "about",
    "it",
    "place",
    "called",
    "old",
    "new",
    "north",
    "south",
    ".",
    ",",
]
_D_MODEL, _D_KEY, _N_LAYERS, _MAX_LENGTH = 16, 24, 3, 64
_SPREAD = 0.25


def write_study(folder: Path, *, model: str = "model", **changes: Any) -> Path:
    """Write a study with all its inputs into a folder; return the study file.

    Args:
        folder: made where it is not there.
        model: name of the model's folder.
        changes: as ``write_toml``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder / model)
    (folder / "facts.json").write_text(json.dumps([fact(i) for i in range(N_REQUESTS)]))
    texts = [f"The city of {name} is near the river ." for name in _SUBJECTS[:3]]
    (folder / "texts.json").write_text(json.dumps(texts))
    (folder / "corpus.txt").write_text("\n\n".join(_corpus()))
    return write_toml(folder / "study.toml", **{"models.source": model, **changes})


def fact(index: int) -> dict[str, Any]:
    """Return one CounterFact record."""
    subject = _SUBJECTS[index % len(_SUBJECTS)]
    new, old = _OBJECTS[index % 5], _OBJECTS[(index + 2) % 5]
    prompt = "{} likes the colour" if index % 2 else "The name of {} is"
    return {
        "case_id": index,
        "requested_rewrite": {
            "prompt": prompt,
            "relation_id": "P1",
            "target_new": {"str": new},
            "target_true": {"str": old},
            "subject": subject,
        },
        "paraphrase_prompts": [f"It was said that {subject} is"],
        "neighborhood_prompts": [f"{_SUBJECTS[(index + 3) % 8]} likes the colour"],
    }


def write_tuning_study(folder: Path) -> Path:
    """Write the study with facts of which its random model finds enough likelier than others."""
    study = write_study(folder, batch_size=16)
    prompts = ("{} likes the colour", "The name of {} is", "{} plays", "The city of {} is near")
    facts = []
    for index in range(96):
        record = fact(index)
        rewrite = record["requested_rewrite"]
        rewrite["prompt"] = prompts[index // len(_SUBJECTS) % len(prompts)]
        other = index + 1 + index // (len(_SUBJECTS) * len(prompts))
        rewrite["target_true"] = {"str": _OBJECTS[other % len(_OBJECTS)]}
        facts.append(record)
    (folder / "facts.json").write_text(json.dumps(facts))
    return study


def write_toml(path: Path, **changes: Any) -> Path:
    """Write the study file.

    Args:
        path: where.
        changes: value by name, dotted for those in a table (``covariance.damping``); None leaves
            the name out. ``editors``: a list of tables.
    """
    editors = changes.pop("editors", ())
    fields: dict[str, Any] = {
        "name": "small",
        "note": NOTE,
        "methods": list(METHODS),
        "batch_size": BATCH_SIZE,
        "models.name": "tiny",
        "models.source": "model",
        "models.layer": 1,
        "dataset.path": "facts.json",
        "templates.kind": "five_words",
        "templates.lengths": [[3, 2]],
        "covariance.source": "corpus.txt",
        "covariance.n_tokens": 400,
        "covariance.shard_tokens": 150,
        "value.steps": 3,
        "evaluation.texts": "texts.json",
    }
    fields |= changes
    # Names without a table first: after a table's head they would belong to it.
    sections: dict[str, list[str]] = {"": []}
    for name, value in fields.items():
        head, _, field = name.rpartition(".")
        lines = sections.setdefault(head, [f"[[{head}]]" if head == "models" else f"[{head}]"])
        if value is not None:
            lines.append(f"{field} = {json.dumps(value)}")
    for number, editor in enumerate(editors):
        own = [f"{field} = {json.dumps(value)}" for field, value in editor.items()]
        sections[f"editors {number}"] = ["[[editors]]", *own]
    path.write_text("\n".join("\n".join(lines) + "\n" for lines in sections.values()))
    return path


def write_model(folder: Path, *, seed: int = 0, start_token: bool = True) -> Path:
    """Write a random GPT-2 with a tokenizer of one token a word."""
    tokenizer = _tokenizer(start_token=start_token)
    config = GPT2Config(
        n_layer=_N_LAYERS,
        n_embd=_D_MODEL,
        n_inner=_D_KEY,
        n_head=4,
        n_positions=_MAX_LENGTH,
        vocab_size=len(tokenizer),
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            centre = parameter.mean().round() if parameter.ndim == 1 else 0.0
            parameter.copy_(centre + _SPREAD * noise)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(*, start_token: bool) -> PreTrainedTokenizerFast:
    subjects = [word for name in _SUBJECTS for word in name.split()]
    words = [START, "<unk>", *_WORDS, *subjects, *_OBJECTS]
    ids = {word: index for index, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": START, "eos_token": START} if start_token else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **special)


def _corpus() -> list[str]:
    """Return documents enough for a second moment of full rank."""
    words = [*_WORDS, *_OBJECTS, "Mira", "Oslo", "Arden", "Tarn"]
    return [
        " ".join(words[(7 * start + 3 * step * step + step) % len(words)] for step in range(20))
        for start in range(30)
    ]
