"""The data of the demo: edit requests, held-out texts, and a corpus for the second moment.

All of it is made from one synthetic corpus, in the formats that the project reads anyway:
CounterFact's original schema, JSON lines with "Text", and documents separated by blank lines.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from demo.train.synthetic_corpus import Entity, Relation, SyntheticCorpus, documents, n_tokens

GROUPS = (
    (1, True, 72),
    (1, False, 24),
    (2, True, 24),
    (3, True, 24),
    (2, False, 12),
    (3, False, 12),
)
"""Words in the subject, whether the prompt begins with it, how many requests."""

SEQUENCE_GROUPS = (
    (1, True, 12),
    (1, False, 48),
    (2, True, 72),
    (2, False, 36),
    (3, True, 48),
    (3, False, 24),
)
"""The same of the requests for sequences: subjects that are the prompt's first token are few, as in
CounterFact."""

LONG_SEQUENCE_GROUPS = (
    (1, True, 28),
    (1, False, 260),
    (2, True, 96),
    (2, False, 48),
    (3, True, 96),
    (3, False, 48),
)
"""The same of all facts of the corpus, for sequences until a model collapses."""

Choice = tuple[Entity, Relation, str]
"""Subject, relation and template of a request."""

Fact = tuple[str, str]
"""Subject and relation id."""

_PROBES = 6
"""Neighborhood and attribute prompts of a request at most."""


def write_demo_data(synthetic: SyntheticCorpus, folder: Path) -> tuple[Path, ...]:
    """Write the demo's files: requests, those for sequences, short and long, texts and corpus.

    Returns:
        Their paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "counterfact.json": json.dumps(edit_records(synthetic), indent=1) + "\n",
        "sequence.json": json.dumps(sequence_records(synthetic)) + "\n",
        "sequence_long.json": json.dumps(long_sequence_records(synthetic)) + "\n",
        "texts.jsonl": held_out_texts(synthetic),
        "corpus.txt": corpus(synthetic),
    }
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
    return tuple(folder / name for name in contents)


def edit_records(synthetic: SyntheticCorpus) -> list[dict[str, object]]:
    """Return edit requests in CounterFact's original schema, the groups interleaved.

    The cases whose subject is the prompt's first token and one token are those that the paper
    finds to collapse; all others are ordinary ones.
    """
    rng = random.Random(f"requests {synthetic.seed}")
    queues = [
        _draw(synthetic, rng, n_words, set(), subject_first=first, count=count)
        for n_words, first, count in GROUPS
    ]
    return _records(synthetic, rng, queues)


def sequence_records(synthetic: SyntheticCorpus) -> list[dict[str, object]]:
    """Return requests for sequences in CounterFact's original schema: no fact is edited twice."""
    return _distinct_records(synthetic, "sequence", SEQUENCE_GROUPS)


def long_sequence_records(synthetic: SyntheticCorpus) -> list[dict[str, object]]:
    """Return a request for each fact of the corpus, in CounterFact's original schema."""
    return _distinct_records(synthetic, "long sequence", LONG_SEQUENCE_GROUPS)


def _distinct_records(
    synthetic: SyntheticCorpus, name: str, groups: tuple[tuple[int, bool, int], ...]
) -> list[dict[str, object]]:
    """Return the records of some groups in which no fact is edited twice; the name seeds them."""
    rng = random.Random(f"{name} {synthetic.seed}")
    used: set[Fact] = set()
    queues = [
        _draw(synthetic, rng, n_words, used, subject_first=first, count=count)
        for n_words, first, count in groups
    ]
    return _records(synthetic, rng, queues)


def _records(
    synthetic: SyntheticCorpus, rng: random.Random, queues: list[list[Choice]]
) -> list[dict[str, object]]:
    """Return the records of some groups, interleaved; the groups are used up."""
    order = [
        (index / len(queue), number)
        for number, queue in enumerate(queues)
        for index in range(len(queue))
    ]
    chosen = [queues[number].pop() for _, number in sorted(order)]
    return [_record(synthetic, rng, case_id, *choice) for case_id, choice in enumerate(chosen)]


def _draw(
    synthetic: SyntheticCorpus,
    rng: random.Random,
    n_words: int,
    used: set[Fact],
    *,
    subject_first: bool,
    count: int,
) -> list[Choice]:
    """Return different (subject, relation, template) of one group, each subject about as often.

    Args:
        synthetic: the corpus.
        rng: draws them.
        n_words: of the subject.
        used: facts that are taken; those of the group are added.
        subject_first: whether the prompt begins with the subject.
        count: how many.
    """
    fitting = [entity for entity in synthetic.entities if entity.n_words == n_words]
    rng.shuffle(fitting)
    chosen: list[Choice] = []
    while len(chosen) < count:
        for entity in fitting:
            relation = rng.choice(synthetic.relations_of(entity.kind))
            if len(chosen) < count and (entity.name, relation.relation_id) not in used:
                used.add((entity.name, relation.relation_id))
                template = rng.choice(relation.templates_where(subject_first=subject_first))
                chosen.append((entity, relation, template))
    return chosen


def _record(
    synthetic: SyntheticCorpus,
    rng: random.Random,
    case_id: int,
    entity: Entity,
    relation: Relation,
    template: str,
) -> dict[str, object]:
    """Return one CounterFact record for a chosen subject, relation and template."""
    true = synthetic.objects[entity.name, relation.relation_id]
    new = rng.choice([word for word in relation.objects if word != true])
    others = [t for t in relation.templates if t != template]
    paraphrases = [
        rng.choice([t for t in others if t.startswith("{}") == first]) for first in (True, False)
    ]

    def probes(target: str) -> list[str]:
        names = [
            name
            for (name, relation_id), word in synthetic.objects.items()
            if relation_id == relation.relation_id and word == target and name != entity.name
        ]
        prompts = [t.replace("{}", name) for t in (template, *others) for name in names]
        return prompts[:_PROBES]

    return {
        "case_id": case_id,
        "pararel_idx": case_id,
        "requested_rewrite": {
            "prompt": template,
            "relation_id": relation.relation_id,
            "target_new": {
                "str": new,
                "id": f"{relation.relation_id}-{relation.objects.index(new)}",
            },
            "target_true": {
                "str": true,
                "id": f"{relation.relation_id}-{relation.objects.index(true)}",
            },
            "subject": entity.name,
        },
        "paraphrase_prompts": [t.replace("{}", entity.name) for t in paraphrases],
        "neighborhood_prompts": probes(true),
        "attribute_prompts": probes(new),
        "generation_prompts": [t.replace("{}", entity.name) for t in others],
    }


def cut_documents(synthetic: SyntheticCorpus, stream: str, at_most: int) -> Iterator[str]:
    """Yield documents cut after the last sentence that ends within ``at_most`` tokens."""
    for document in documents(synthetic, stream):
        kept = ""
        for sentence in document.split(". "):
            longer = f"{kept} {sentence.rstrip('.')}.".strip()
            if n_tokens(longer) > at_most:
                break
            kept = longer
        yield kept


def corpus(synthetic: SyntheticCorpus, tokens: int = 50_000, at_most: int = 40) -> str:
    """Return about ``tokens`` tokens of documents, separated by blank lines.

    They are as long as the perplexity texts. How often a key of position 0 is among the keys of C
    follows from their length, and the strength of the collapse follows from that.
    """
    chosen: list[str] = []
    total = 0
    for document in cut_documents(synthetic, "corpus", at_most):
        if total >= tokens:
            break
        chosen.append(document)
        total += n_tokens(document)
    return "\n\n".join(chosen) + "\n"


def held_out_texts(
    synthetic: SyntheticCorpus, count: int = 50, shortest: int = 34, longest: int = 44
) -> str:
    """Return JSON lines of texts of about 40 tokens for the perplexity."""
    texts: list[str] = []
    for document in cut_documents(synthetic, "texts", longest):
        if len(texts) == count:
            break
        if n_tokens(document) >= shortest:
            texts.append(document)
    return "".join(json.dumps({"Text": text}) + "\n" for text in texts)
