"""What one edit is forecast with: layer, v* settings, context templates and C; no study needed."""

import dataclasses
from collections.abc import Iterator, Sequence

from editcollapse.artifacts import ArtifactStore
from editcollapse.corpora import open_corpus
from editcollapse.devices import tokens_per_forward
from editcollapse.fingerprints import digest
from editcollapse.forecast_orders import KnownSetup
from editcollapse.known_setups import moment_ref
from editcollapse.methods import METHODS
from editcollapse.models import LoadedModel
from editcollapse.moments import MomentSolver, SecondMoment, measure_moments
from editcollapse.orders import EditOrder, ModelOrder, template_set_id_of
from editcollapse.requests import EditRequest
from editcollapse.specs import CovarianceSpec, TemplateSpec
from editcollapse.templates import generate_templates


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EditSetup:
    """One request, ready to be forecast."""

    edits: EditOrder
    """A batch of one, with all methods."""
    solver: MomentSolver
    summary: str
    """For people."""


def known_edit(
    results: str, model: ModelOrder, known: KnownSetup, request: EditRequest
) -> EditSetup:
    """Return a request as a study in a results folder would edit it.

    Args:
        results: path or URL of the folder.
        model: layer and v* settings of ``known``.
        known: what the database says.
        request: the edit.

    Raises:
        ArtifactError: C's file is missing or has changed.
        MomentError: C has no Cholesky factor.
    """
    store = ArtifactStore(results)
    ref = None if known.moment_digest is None else moment_ref(store, known.moment_digest)
    solver = MomentSolver(None if ref is None else store.tensors(ref)["moment"], known.damping)
    edits = _batch_of_one(results, model, known.templates, known.covariance_id, request)
    return EditSetup(edits, solver, str(known))


def new_edit(
    loaded: LoadedModel,
    model: ModelOrder,
    covariance: CovarianceSpec,
    templates: TemplateSpec,
    seed: int,
    request: EditRequest,
) -> EditSetup:
    """Return a request with templates drawn and C measured here and now: ``new_edits`` of one."""
    (found,) = new_edits(loaded, (model,), covariance, templates, seed, request)
    return found


def new_edits(
    loaded: LoadedModel,
    models: Sequence[ModelOrder],
    covariance: CovarianceSpec,
    templates: TemplateSpec,
    seed: int,
    request: EditRequest,
) -> Iterator[EditSetup]:
    """Yield a request at some layers, with C of all from one pass; nothing is stored.

    The templates are drawn once, and one C is factored at a time.

    Args:
        loaded: the model.
        models: layers and v* settings; the same model.
        covariance: the identity, or a corpus.
        templates: how they are drawn.
        seed: of the draws.
        request: the edit.

    Raises:
        DatasetError: the corpus cannot be read.
        MomentError: the corpus has no tokens, or C has no Cholesky factor.
    """
    drawn = generate_templates(loaded, templates.kind, templates.lengths, seed)
    moments: list[SecondMoment | None] = [None] * len(models)
    what = "identity covariance"
    if covariance.kind == "corpus":
        corpus = open_corpus(str(covariance.source), text_field=covariance.text_field)
        layers = [model.layer for model in models]
        found = measure_moments(
            loaded,
            layers,
            corpus.documents(),
            n_tokens=covariance.n_tokens,
            max_length=covariance.max_length,
            tokens_per_batch=tokens_per_forward(loaded.device, loaded.size(max(layers)), "moment"),
        )
        moments, what = [*found], f"covariance of {found[0].n_tokens} tokens of {corpus.name}"
    covariance_id = digest("unstored covariance", covariance)
    n_templates = len(drawn.templates)
    for model, moment in zip(models, moments, strict=True):
        solver = MomentSolver(None if moment is None else moment.matrix, covariance.damping)
        edits = _batch_of_one("", model, drawn.templates, covariance_id, request)
        where = f"layer {model.layer} ({model.layer_source})"
        summary = f"{where}, {what}, {n_templates} templates drawn"
        yield EditSetup(edits, solver, f"{summary}, clamp factor {model.values.clamp_factor:g}")


def _batch_of_one(
    results: str,
    model: ModelOrder,
    templates: tuple[str, ...],
    covariance_id: str,
    request: EditRequest,
) -> EditOrder:
    return EditOrder(
        results=results,
        model=model,
        methods=tuple(METHODS),
        templates=templates,
        template_set_id=template_set_id_of(model.model_id, templates),
        covariance_id=covariance_id,
        damping=0.0,  # the solver has it
        moment=None,
        requests=(request,),
        batch_index=0,
        batch_label="1 of 1",
    )
