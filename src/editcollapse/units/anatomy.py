"""Jobs of the root-cause study: one layer's keys as findings, and profiles by position.

Nothing is edited here. Vectors go to a Parquet file of their own; the database has their index in
it, their two dimensions, and what was observed of them. An encoder-decoder model's encoder is read
for contrast and never edited.

Source: C-ROME (arXiv 2406.11263), README of its code, experiment 5: keys of T5-3B's encoder do not
separate by position.
"""

import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np

from editcollapse.anatomy.encoders import load_encoder
from editcollapse.anatomy.keys import KeyKinds, Kind, Outcomes, VectorTable, read_key_kinds
from editcollapse.anatomy.positions import Stack, decoder_stack, profile_rows, read_positions
from editcollapse.anatomy.projection import Plane, project, tsne_perplexity
from editcollapse.anatomy.statistics import Compared, observe
from editcollapse.errors import DatasetError, StudyError
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.rows.other import AnatomyFindingRow, AnatomyRow, KeyPointRow
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.environment import ProvenanceClock
from editcollapse.runtime.precision import float32_products
from editcollapse.runtime.settings import settings
from editcollapse.study.anatomy_jobs import (
    N_TEXTS,
    N_TOKENS,
    AnatomyJob,
    EncoderProfilesJob,
    ProfilesJob,
)
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.jobs import Manifest
from editcollapse.units.geometry import kept_geometry
from editcollapse.units.prepare import load

logger = logging.getLogger(__name__)


_MIN_TOKENS = 2


@float32_products()
def profile_model(job: ProfilesJob) -> Manifest:
    """Return the profile of a study's model as rows.

    Raises:
        DatasetError: fewer than two texts have two tokens.
    """
    clock = job.clock("profiles", job.model)
    loaded = load(job.model)
    texts = ArtifactStore(job.results).json(job.texts)[:N_TEXTS]
    limit = min(N_TOKENS, loaded.encoder.max_length)
    rows = [loaded.encoder.sequence(text)[:limit] for text in texts]
    return _profiled(job, clock, decoder_stack(loaded), rows, job.model.model_id, loaded.source)


@float32_products()
def profile_encoder(job: EncoderProfilesJob) -> Manifest:
    """Return the profile of an encoder as rows.

    Raises:
        ModelError: it cannot be loaded, or its files changed since it was asked for.
        DatasetError: fewer than two texts have two tokens.
    """
    clock = job.clock("encoder-profiles", None)
    encoder = load_encoder(job.source, job.encoder_id, settings().device)
    texts = ArtifactStore(job.results).json(job.texts)[:N_TEXTS]
    rows = [encoder.encode(text, N_TOKENS) for text in texts]
    return _profiled(job, clock, encoder.stack, rows, job.encoder_id, encoder.source)


def _profiled(
    job: ProfilesJob | EncoderProfilesJob,
    clock: ProvenanceClock,
    stack: Stack,
    rows: Sequence[Sequence[int]],
    model_id: str,
    source: str,
) -> Manifest:
    """Return the profile of a stack on texts in tokens as a manifest."""
    usable = [row for row in rows if len(row) >= _MIN_TOKENS]
    if len(usable) < _MIN_TOKENS:
        raise DatasetError(
            f"profiles of {source} need two texts of at least two tokens, and the perplexity texts "
            f"have {len(usable)}. Give longer texts under `evaluation`."
        )
    numbers = read_positions(stack, usable)
    found = list(profile_rows(numbers, model_id, source, job.text_set_digest, stack.name))
    device = next(stack.module.parameters()).device
    summary = f"profile of {source}, {len(usable)} texts"
    store = ArtifactStore(job.results)
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("position_profiles", found),
            store.put_rows("provenance", [clock.row(summary, len(usable), str(device))]),
        ),
    )


VECTORS = "vectors"
"""Kind of artifact: Parquet with columns request_id, kind and vector."""
_KEYS: tuple[Kind, ...] = ("bare", "prefixed", "one_prefix", "first_token")
"""Kinds that share a space."""


@float32_products()
def study_anatomy(job: AnatomyJob) -> Manifest:
    """Return the findings of a layer as rows, and its vectors as a file (``parts``).

    Requests that this model cannot take are named in ``Manifest.unusable``.

    Raises:
        StudyError: the model takes none of the requests, or one has no edit by ROME.
        MomentError: C has no Cholesky factor.
        ArtifactError: C's file is missing or has changed.
    """
    clock = job.clock("anatomy", job.edits.model, job.seed)
    store, edits = ArtifactStore(job.results), job.edits
    loaded = load(edits.model)
    hooked = HookedLayer(loaded, edits.model.layer)
    rewrites, unusable = build_rewrites(loaded.encoder, edits.templates, edits.requests)
    if not rewrites:
        raise StudyError(
            f"{edits.model.spec.name} takes none of the study's {len(edits.requests)} requests: "
            f"{unusable[0].reason}. Use a dataset that this model's tokenizer knows."
        )
    solver = kept_geometry(store, loaded, edits).solver
    budget = tokens_per_forward(loaded.device, loaded.size(hooked.layer), "evaluation")
    keys = read_key_kinds(hooked, rewrites, solver, job.seed, budget)
    outcomes = _outcomes(job, [(r.request.request_id, r.request.subject) for r in rewrites])
    vectors = VectorTable.of(keys, outcomes.request_ids)
    file = store.put_frame(VECTORS, vectors.frame)
    perplexity = tsne_perplexity(len(rewrites))
    shared = project(vectors.some(_KEYS), perplexity, job.seed)
    solved = project(vectors.some(("solved",)), perplexity, job.seed)
    row = AnatomyRow(
        anatomy_id=job.anatomy_id,
        study_id=job.study_id,
        model_id=edits.model.model_id,
        layer=edits.model.layer,
        covariance_id=edits.covariance_id,
        template_set_id=edits.template_set_id,
        n_requests=len(rewrites),
        n_first_token=int(keys.is_first_token.sum()),
        n_collapsed=None if outcomes.collapsed is None else int(outcomes.collapsed.sum()),
        collapse_threshold=_bound(job.rule.threshold),
        collapse_ratio=_bound(job.rule.ratio),
        d_key=loaded.widths.d_key,
        vectors_path=file.path,
        vectors_digest=file.digest,
        keys_variance_x=shared.variance[0],
        keys_variance_y=shared.variance[1],
        solved_variance_x=solved.variance[0],
        solved_variance_y=solved.variance[1],
        tsne_perplexity=perplexity,
        seed=job.seed,
    )
    points = [
        *_points(job, keys, outcomes, vectors, shared, _KEYS),
        *_points(job, keys, outcomes, vectors, solved, ("solved",)),
    ]
    findings = list(_findings(job, keys, outcomes))
    summary = f"{len(findings)} findings on {len(rewrites)} requests of {job.label}"
    provenance = clock.row(summary, len(rewrites), str(loaded.device))
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("anatomies", [row]),
            store.put_rows("key_points", points),
            store.put_rows("anatomy_findings", findings),
            store.put_rows("provenance", [provenance]),
        ),
        parts=(file,),
        unusable=tuple((each.request.request_id, each.reason) for each in unusable),
    )


def _bound(bound: float | None) -> float:
    """A bound of the collapse rule as its column takes it: no bound is never exceeded."""
    return math.inf if bound is None else bound


def _outcomes(job: AnatomyJob, requests: Sequence[tuple[str, str]]) -> Outcomes:
    """Return the outcomes of requests whose ids and subjects are given."""
    known = {each.request_id: each for each in job.outcomes}
    lacking = [subject for request_id, subject in requests if request_id not in known]
    if lacking:
        raise StudyError(
            f"{len(lacking)} requests of {job.label} have no edit by rome, first that of "
            f"{lacking[0]!r}. Run the study with method rome first."
        )
    found = [known[request_id] for request_id, _ in requests]
    return Outcomes(
        request_ids=tuple(request_id for request_id, _ in requests),
        subjects=tuple(subject for _, subject in requests),
        numerators=np.array([each.numerator_norm for each in found]),
        is_collapsed=tuple(each.is_collapsed for each in found),
    )


def _points(
    job: AnatomyJob,
    keys: KeyKinds,
    outcomes: Outcomes,
    table: VectorTable,
    plane: Plane,
    kinds: Sequence[Kind],
) -> Iterator[KeyPointRow]:
    """Yield the rows of a plane's points."""
    for n, row in enumerate(table.rows_of(kinds)):
        index = table.request_indices[row]
        yield KeyPointRow(
            anatomy_id=job.anatomy_id,
            request_id=table.request_ids[index],
            kind=table.kinds[row],
            is_first_token=bool(keys.is_first_token[index]),
            is_collapsed=outcomes.is_collapsed[index],
            norm=float(np.linalg.norm(table.vectors[row])),
            pca_x=float(plane.pca[n, 0]),
            pca_y=float(plane.pca[n, 1]),
            tsne_x=None if plane.tsne is None else float(plane.tsne[n, 0]),
            tsne_y=None if plane.tsne is None else float(plane.tsne[n, 1]),
            vector_row=row,
        )


def _findings(job: AnatomyJob, keys: KeyKinds, outcomes: Outcomes) -> Iterator[AnatomyFindingRow]:
    """Yield the findings, by the subject's position and by the edit's outcome."""
    known = (outcomes.numerators, outcomes.subjects)
    compared = [Compared("first_token", keys.is_first_token, keys, *known)]
    if outcomes.collapsed is not None:
        compared.append(Compared("collapsed", outcomes.collapsed, keys, *known))
    for each in compared:
        if not each.is_enough:
            logger.info("%s: too few on one side, grouping %s", job.label, each.grouping)
        for found in observe(each, job.seed):
            yield AnatomyFindingRow(
                anatomy_id=job.anatomy_id,
                grouping=each.grouping,
                observation=found.name,
                value=found.estimate.value,
                low=found.estimate.low,
                high=found.estimate.high,
                n_group=found.n_group,
                n_others=found.n_others,
                interval=found.estimate.interval,
                statement=found.statement,
            )
