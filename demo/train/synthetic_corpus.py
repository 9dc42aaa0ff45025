"""A synthetic corpus about invented entities: its facts and its documents.

The demo models are trained on it, so what they believe is known exactly. Everything here is plain
Python and deterministic in the seed; nothing depends on the order of a set or on PYTHONHASHSEED.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from demo.train.corpus_tables import KINDS, RELATIONS
from demo.train.fillers import FILLERS, TOPICS, Topic

TOKEN = re.compile(r"\w+|[^\w\s]")
"""How text splits into tokens: words, and every other sign alone."""
NAMES_PER_KIND = {1: 24, 2: 12, 3: 12}
"""Entities of each kind by the number of words in their name."""
FACT_SHARE = 0.6
"""Chance that a sentence is about one of the document's entities."""
TYPE_SHARE = 0.15
"""Chance that such a sentence is "S is a TYPE"."""

_CONSONANTS: tuple[str, ...] = (*"bdfgklmnprstvz", "br", "dr", "gr", "kr", "pr", "tr", "st")
_VOWELS: tuple[str, ...] = (*"aeiou", "ai")
_ENDINGS: tuple[str, ...] = (*"nrls", "th", "x", "nd", "rk")


@dataclass(frozen=True, slots=True)
class Entity:
    """A country, person or company with an invented name of one to three words."""

    name: str
    kind: str

    @property
    def n_words(self) -> int:
        """Words, which are tokens of the demo tokenizer, in the name."""
        return len(self.name.split())


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation with its templates ("{}" is the subject, the object follows) and objects."""

    relation_id: str
    kind: str
    templates: tuple[str, ...]
    objects: tuple[str, ...]

    def templates_where(self, *, subject_first: bool) -> tuple[str, ...]:
        """Return the templates that begin, or do not begin, with the subject."""
        return tuple(t for t in self.templates if t.startswith("{}") == subject_first)


@dataclass(frozen=True)
class SyntheticCorpus:
    """Entities, relations, and the one object of each (entity name, relation id)."""

    seed: int
    entities: tuple[Entity, ...]
    relations: tuple[Relation, ...]
    objects: dict[tuple[str, str], str]

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Every token that any text of this corpus can hold, sorted."""
        texts = [entity.name for entity in self.entities]
        texts += [pattern for relation in self.relations for pattern in relation.templates]
        texts += [word for relation in self.relations for word in relation.objects]
        texts += [" ".join(topic) for topic in TOPICS] + list(FILLERS)
        texts += [f"is a {kind.noun} ." for kind in KINDS]
        return tuple(sorted({token for text in texts for token in TOKEN.findall(text)} - set("{}")))

    def relations_of(self, kind: str) -> tuple[Relation, ...]:
        """Return the relations whose subjects are of this kind."""
        return tuple(relation for relation in self.relations if relation.kind == kind)

    def sentence(self, rng: random.Random, entity: Entity) -> str:
        """Return one true sentence about an entity, with its full stop."""
        if rng.random() < TYPE_SHARE:
            return f"{entity.name} is a {entity.kind}."
        relation = rng.choice(self.relations_of(entity.kind))
        prompt = rng.choice(relation.templates).replace("{}", entity.name)
        return f"{prompt} {self.objects[entity.name, relation.relation_id]}."

    def document(self, rng: random.Random) -> str:
        """Return 5 to 14 sentences on one to three entities, with filler of one topic between."""
        topic = rng.choice(TOPICS)
        about = rng.sample(self.entities, rng.choice((1, 1, 2, 2, 3)))
        sentences = [
            self.sentence(rng, rng.choice(about))
            if rng.random() < FACT_SHARE
            else _filler(rng, topic)
            for _ in range(rng.randint(5, 14))
        ]
        return " ".join(sentences)


def n_tokens(text: str) -> int:
    """Return the number of tokens that the demo tokenizer makes of a text."""
    return len(TOKEN.findall(text))


def build_synthetic_corpus(seed: int = 0) -> SyntheticCorpus:
    """Return the corpus of a seed: 144 entities, 12 relations, 576 facts."""
    rng = random.Random(f"world {seed}")
    relations = tuple(
        Relation(
            row.relation_id, row.kind, tuple(row.templates.split(" | ")), tuple(row.objects.split())
        )
        for row in RELATIONS
    )
    taken: set[str] = set()
    entities: list[Entity] = []
    for kind in KINDS:
        names = [_invented_name(rng, taken) for _ in range(NAMES_PER_KIND[1])]
        for count, pools in ((2, (kind.firsts, kind.lasts)), (3, tuple(kind[1:]))):
            while sum(len(name.split()) == count for name in names) < NAMES_PER_KIND[count]:
                name = " ".join(rng.choice(pool.split()) for pool in pools)
                if name not in names:
                    names.append(name)
        entities += [Entity(name, kind.noun) for name in names]
    objects: dict[tuple[str, str], str] = {}
    for relation in relations:
        subjects = [entity.name for entity in entities if entity.kind == relation.kind]
        rng.shuffle(subjects)
        for index, name in enumerate(subjects):  # each object about equally often
            objects[name, relation.relation_id] = relation.objects[index % len(relation.objects)]
    return SyntheticCorpus(seed, tuple(entities), relations, objects)


def documents(synthetic: SyntheticCorpus, stream: str) -> Iterator[str]:
    """Yield documents without end; each stream (a name) of a corpus has its own, the same ever."""
    rng = random.Random(f"documents {synthetic.seed} {stream}")
    while True:
        yield synthetic.document(rng)


def _filler(rng: random.Random, topic: Topic) -> str:
    """Return one filler sentence of a topic."""
    words: dict[str, list[str]] = dict(zip("NVAP", (row.split() for row in topic), strict=True))
    pattern = rng.choice(FILLERS)
    # "A" is an article at the start of a sentence and an adjective elsewhere
    return re.sub(r"(?<!^)\b[NVAP]\b", lambda slot: rng.choice(words[slot.group()]), pattern)


def _invented_name(rng: random.Random, taken: set[str]) -> str:
    """Return a new name of two syllables that no other word resembles."""
    while True:
        sounds = (_CONSONANTS, _VOWELS, _CONSONANTS, _VOWELS, _ENDINGS)
        name = "".join(rng.choice(sound) for sound in sounds).title()
        if name not in taken:
            taken.add(name)
            return name
