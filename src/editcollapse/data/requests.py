"""The edit request: what is to be rewritten, and what to ask afterwards."""

import dataclasses
from functools import cached_property

from editcollapse.fingerprints import canonical_without, digest

SLOT = "{}"


@dataclasses.dataclass(frozen=True)  # no slots: they leave no room for what is computed once
class EditRequest:
    """One fact to rewrite, with its probes. Immutable; its id is a digest of its own content."""

    subject: str
    """The entity, as it stands in the prompt, without surrounding blanks."""
    prompt: str
    """The rewrite prompt with exactly one slot ``{}`` where the subject stands."""
    target_new: str
    """The object to be written, without surrounding blanks."""
    target_true: str | None
    """The object believed before; None where the dataset does not say."""
    paraphrase_prompts: tuple[str, ...] = ()
    """The same fact in other words, complete strings: generalization."""
    neighborhood_prompts: tuple[str, ...] = ()
    """Other subjects with the same true object, complete strings: locality."""
    neighborhood_targets: tuple[str, ...] = ()
    """What the unedited model should answer to each neighborhood prompt; one for each, or empty,
    in which case ``target_true`` stands for all."""
    relation_id: str | None = None
    """Name of the relation, where known; CounterFact's are Wikidata properties."""
    portability_prompts: tuple[str, ...] = ()
    """What follows from the fact, complete strings: aliases, reasoning (KnowEdit)."""
    portability_targets: tuple[str, ...] = ()
    """What the edited model should answer to each portability prompt; one for each."""

    @cached_property
    def request_id(self) -> str:
        """Digest of the content; computed once, as it is asked for batch after batch."""
        later = ("portability_prompts", "portability_targets")
        return digest("request", canonical_without(self, *later))

    @property
    def filled_prompt(self) -> str:
        """The rewrite prompt with the subject in its slot."""
        return self.prompt.replace(SLOT, self.subject)

    @property
    def neighborhood_pairs(self) -> tuple[tuple[str, str], ...]:
        """Each neighborhood prompt with its target; empty where no target is known."""
        if self.neighborhood_targets:
            return tuple(zip(self.neighborhood_prompts, self.neighborhood_targets, strict=True))
        if self.target_true is None:
            return ()
        return tuple((prompt, self.target_true) for prompt in self.neighborhood_prompts)


@dataclasses.dataclass(frozen=True, slots=True)
class Rejection:
    """A record that cannot be used, with the reason; the good records still run."""

    record_index: int
    """Zero-based position in the file."""
    case_id: str | None
    reason: str
    """One sentence: what was found and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class RequestRecord:
    """An accepted record: the request and where it came from."""

    record_index: int
    case_id: str | None
    request: EditRequest


@dataclasses.dataclass(frozen=True, slots=True)
class RequestFile:
    """All that a file of edit requests holds."""

    name: str
    """File name without folder and suffix; what reports show."""
    schema: str
    """counterfact, counterfact_flat, zsre, zsre_flat, qaedit, or mapped by [dataset.fields]."""
    content_digest: str
    """Digest of the file's bytes, and of a mapping of its fields: the dataset's identity."""
    n_records: int
    records: tuple[RequestRecord, ...]
    rejections: tuple[Rejection, ...]
