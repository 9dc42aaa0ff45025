"""What one edit is forecast with: layer, v* settings, context templates and C; no study needed."""

import dataclasses

from editcollapse.artifacts import ArtifactStore
from editcollapse.corpora import open_corpus
from editcollapse.devices import tokens_per_forward
from editcollapse.fingerprints import digest
from editcollapse.forecast_orders import KnownSetup
from editcollapse.known_setups import moment_ref
from editcollapse.methods import METHODS
from editcollapse.models import LoadedModel
from editcollapse.moments import MomentSolver, measure_moment
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
    """Return a request with templates drawn and C measured here and now; nothing is stored.

    Args:
        loaded: the model.
        model: its layer and v* settings.
        covariance: the identity, or a corpus.
        templates: how they are drawn.
        seed: of the draws.
        request: the edit.

    Raises:
        DatasetError: the corpus cannot be read.
        MomentError: the corpus has no tokens, or C has no Cholesky factor.
    """
    drawn = generate_templates(loaded, templates.kind, templates.lengths, seed)
    moment = None
    what = "identity covariance"
    if covariance.kind == "corpus":
        corpus = open_corpus(str(covariance.source), text_field=covariance.text_field)
        found = measure_moment(
            loaded,
            model.layer,
            corpus.documents(),
            n_tokens=covariance.n_tokens,
            max_length=covariance.max_length,
            tokens_per_batch=tokens_per_forward(loaded.device, loaded.size(model.layer), "moment"),
        )
        moment, what = found.matrix, f"covariance of {found.n_tokens} tokens of {corpus.name}"
    solver = MomentSolver(moment, covariance.damping)
    covariance_id = digest("unstored covariance", covariance)
    edits = _batch_of_one("", model, drawn.templates, covariance_id, request)
    n_templates = len(drawn.templates)
    summary = f"layer {model.layer} ({model.layer_source}), {what}, {n_templates} templates drawn"
    return EditSetup(edits, solver, f"{summary}, clamp factor {model.values.clamp_factor:g}")


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
