"""Root-cause jobs: the requests of one model's layer, with the outcome of their edits.

Keys and C are read again; numerators and outcomes come from the edits that a study has made and
measured. Profiles by position are of a model alone, and need no edit.
"""

import random
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from editcollapse.fingerprints import canonical_without, digest, unit_key
from editcollapse.rows.collapse_rule import CollapseRule
from editcollapse.study.artifacts import ArtifactRef
from editcollapse.study.jobs import EditJob, Job, ModelSetup

MAX_REQUESTS = 2000
"""Requests that one root-cause study looks at, at most: distances are of all pairs."""
N_TEXTS = 64
"""Texts that profiles by position are means of, at most."""
N_TOKENS = 64
"""Tokens of a text that run, at most."""


class RomeOutcome(BaseModel):
    """Outcome of ROME's edit of one request."""

    model_config = ConfigDict(frozen=True)

    request_id: str
    numerator_norm: float
    """‖r‖ of the edit."""
    is_collapsed: bool | None
    """Whether it collapsed the model; None where that was not measured."""


class AnatomyJob(Job):
    """Compare the keys of requests whose edits by ROME were made and measured."""

    study_id: str
    edits: EditJob
    """One batch of all chosen requests; its methods are not read."""
    outcomes: tuple[RomeOutcome, ...]
    """By request, one each."""
    rule: CollapseRule
    """What the outcomes were judged by."""
    seed: int

    @classmethod
    def of(
        cls,
        study_id: str,
        edits: EditJob,
        outcomes: Sequence[RomeOutcome],
        rule: CollapseRule,
        seed: int,
    ) -> "AnatomyJob":
        """Return the root-cause study of a batch with all of a study's requests of one model.

        Requests without an edit by ROME are left out: the model could not take them, or a guard
        had them edited otherwise.

        Args:
            study_id: the study.
            edits: a batch of the model with all requests.
            outcomes: what ROME's edits of them turned out to be.
            rule: what the outcomes were judged by.
            seed: of the requests that are drawn where there are too many, of the prefixes, of
                t-SNE and of the intervals.
        """
        made = {each.request_id for each in outcomes}
        asked = [request.request_id for request in edits.requests]
        wanted = chosen_requests([each for each in asked if each in made], outcomes, seed)
        return cls(
            results=edits.results,
            study_id=study_id,
            edits=edits.model_copy(
                update={"requests": tuple(r for r in edits.requests if r.request_id in wanted)}
            ),
            outcomes=tuple(each for each in outcomes if each.request_id in wanted),
            rule=rule,
            seed=seed,
        )

    @property
    def anatomy_id(self) -> str:
        """Digest of the requests, their outcomes and all settings."""
        model = self.edits.model
        return digest(
            "anatomy",
            self.study_id,
            model.model_id,
            model.layer,
            model.settings_id,
            self.edits.covariance_id,
            self.edits.template_set_id,
            [request.request_id for request in self.edits.requests],
            sorted((each.request_id, each.is_collapsed) for each in self.outcomes),
            canonical_without(self.rule, "measure"),
            self.seed,
        )

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key("anatomy", self.anatomy_id)

    @property
    def label(self) -> str:
        """For people: model and layer."""
        return f"{self.edits.model.spec.name} layer {self.edits.model.layer}"


class ProfilesJob(Job):
    """Profile a model's residual stream, keys and attention by position."""

    model: ModelSetup
    texts: ArtifactRef
    """The study's perplexity texts; the first of them are run."""

    @property
    def text_set_digest(self) -> str:
        """Digest of the texts and of how much of them is run."""
        return text_set_digest(self.texts)

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key("profiles", self.model.model_id, self.text_set_digest)

    @property
    def label(self) -> str:
        """For people: the model."""
        return self.model.spec.name


class EncoderProfilesJob(Job):
    """Profile the encoder of an encoder-decoder model: the contrast to causal attention."""

    source: str
    """Folder or hub id; not part of the key."""
    encoder_id: str
    """Weights, configuration and tokenizer by content."""
    texts: ArtifactRef

    @property
    def text_set_digest(self) -> str:
        """Digest of the texts and of how much of them is run."""
        return text_set_digest(self.texts)

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key("encoder-profiles", self.encoder_id, self.text_set_digest)

    @property
    def label(self) -> str:
        """For people: which encoder; a folder's path is nobody else's business."""
        return f"encoder {self.encoder_id[:8]}"


def text_set_digest(texts: ArtifactRef) -> str:
    """Return the digest of a text set of which the first tokens of the first texts are run."""
    return digest("profile-texts", texts.digest, N_TEXTS, N_TOKENS)


def chosen_requests(
    request_ids: Sequence[str], outcomes: Sequence[RomeOutcome], seed: int
) -> frozenset[str]:
    """Return which requests are looked at: all, or so many as can be compared.

    Where there are too many, those that collapsed come first, up to half; the others are drawn.

    Args:
        request_ids: of all requests.
        outcomes: of their edits by ROME.
        seed: of the draw.
    """
    wanted = list(dict.fromkeys(request_ids))
    if len(wanted) <= MAX_REQUESTS:
        return frozenset(wanted)
    draw = random.Random(seed)
    fell = {each.request_id for each in outcomes if each.is_collapsed}
    collapsed = [request_id for request_id in wanted if request_id in fell]
    normal = [request_id for request_id in wanted if request_id not in fell]
    half = MAX_REQUESTS // 2
    n_collapsed = min(len(collapsed), max(half, MAX_REQUESTS - len(normal)))
    kept = draw.sample(collapsed, n_collapsed) + draw.sample(normal, MAX_REQUESTS - n_collapsed)
    return frozenset(kept)
