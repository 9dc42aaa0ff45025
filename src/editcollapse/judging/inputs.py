"""The inputs of a check, found and identified by content; no weight is loaded."""

import dataclasses
from pathlib import Path

from editcollapse.config.check import NO_COVARIANCE, TEXTS, CheckSpec
from editcollapse.config.spec import EvaluationSpec, ModelSpec
from editcollapse.data.corpora import CovarianceSource
from editcollapse.data.datasets import read_requests, select
from editcollapse.data.requests import RequestFile
from editcollapse.data.texts import TextSet, read_texts, texts_file
from editcollapse.errors import StudyError
from editcollapse.fingerprints import digest, digest_file
from editcollapse.judging.edited_source import EditedSource, identify_edited
from editcollapse.models.files import ModelFiles, digest_model, locate_model, name_of


@dataclasses.dataclass(frozen=True, slots=True)
class CheckInputs:
    """Both models, and what they are measured on."""

    spec: CheckSpec
    base_spec: ModelSpec
    base: ModelFiles
    edited: EditedSource
    texts: TextSet | None
    """None where neither perplexity nor C needs them."""
    facts: RequestFile | None
    source: CovarianceSource | None
    """Where C comes from; None for the texts, or for no C at all."""
    model_id: str
    """Of the unedited model, as a study has it."""

    @property
    def name(self) -> str:
        """What the check calls the edited model."""
        return self.spec.name or self.edited.source

    @property
    def covariance(self) -> str | None:
        """What C is of, for people; None where there is none."""
        if self.source is not None:
            return str(self.source)
        wanted = self.spec.covariance == TEXTS and self.texts is not None
        return f"covariance of {self.texts.name}" if wanted and self.texts is not None else None

    @property
    def check_id(self) -> str:
        """Digest of all that decides the numbers: both models, texts, facts and C."""
        spec = self.spec
        return digest(
            "check",
            self.model_id,
            self.edited.digest,
            None if self.texts is None else self.texts.content_digest,
            spec.perplexity,
            None if self.facts is None else (self.facts.content_digest, spec.limit),
            (spec.covariance if self.source is None else self._source_id, spec.tokens),
        )

    @property
    def _source_id(self) -> str:
        assert self.source is not None
        if self.source.statistics is not None:
            return digest_file(self.source.statistics)
        return (
            self.source.spec.kind
            if self.source.corpus is None
            else (self.source.corpus.content_digest)
        )


def check_inputs(spec: CheckSpec) -> CheckInputs:
    """Return a check's inputs, looked at as far as that needs no torch.

    Args:
        spec: what is asked; relative paths are looked up in the working directory.

    Raises:
        ModelError: a model is missing, cannot be used, or is no model made from the other.
        DatasetError: texts, facts or corpus cannot be used.
        MomentError: statistics are missing.
        StudyError: the covariance is the identity, or facts are asked for without perplexity.
    """
    base = locate_model(spec.base, spec.base_revision)
    base_spec = ModelSpec(
        name=name_of(base.source) or "model",
        source=spec.base,
        revision=spec.base_revision,
        dtype=spec.dtype,
        start_token=spec.start_token,
        chat_template=spec.chat_template,
    )
    edited = identify_edited(spec.edited, spec.edited_revision, base)
    needs_texts = spec.perplexity or spec.covariance == TEXTS
    texts = read_texts(texts_file(EvaluationSpec(texts=spec.texts))) if needs_texts else None
    facts = (
        None if spec.facts is None else select(read_requests(Path(spec.facts)), limit=spec.limit)
    )
    if facts is not None and not spec.perplexity:
        raise StudyError(
            "facts are asked of both models, and without perplexity neither is run: leave the "
            "facts out, or let perplexity be measured."
        )
    if spec.covariance == "identity":
        raise StudyError(
            "`covariance` identity: a change under it is that of the weights, which is reported "
            "in any case. Give texts, a corpus, samples, statistics or none."
        )
    source = None
    if spec.covariance not in {TEXTS, NO_COVARIANCE}:
        # Nothing is solved with C: it may be singular, and a damping says so.
        source = CovarianceSource.of(spec.covariance, spec.tokens, 1.0, base.widths.d_key)
    model_id = digest_model(base, base_spec).model_id
    return CheckInputs(spec, base_spec, base, edited, texts, facts, source, model_id)
