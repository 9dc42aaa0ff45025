"""An edit as a results folder's studies make it: their layer, v* settings, templates and C.

Nothing of it is drawn or measured again, and the edit has the id that it has in those studies.
"""

import dataclasses

from editcollapse.config.spec import CovarianceSpec, TemplateSpec, ValueSpec
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.jobs import CovarianceJob, KnownSetup, Manifest
from editcollapse.study.plan import StudyPlan


class KnownMoment(CovarianceJob):
    """A second moment that has been measured: it is named, not asked for."""

    known_id: str

    @property
    def covariance_id(self) -> str:
        """The id that it was measured under."""
        return self.known_id


def with_known_setup(plan: StudyPlan, known: KnownSetup) -> StudyPlan:
    """Return the plan of a study of one model with what is known in the place of its own settings.

    Args:
        plan: the study; its templates, covariance and v* settings do not matter.
        known: what the database says of the results folder's studies.
    """
    (model,) = plan.models
    setup = model.setup.model_copy(
        update={
            "layer": known.layer,
            "layer_source": known.layer_source,
            "values": known.values,
        }
    )
    templates = model.templates.model_copy(update={"model": setup, "given": known.templates})
    moment = KnownMoment(
        results=plan.results,
        model=setup,
        covariance=CovarianceSpec(kind="statistics", damping=known.damping),
        source_digest=known.moment_digest or "",
        known_id=known.covariance_id,
    )
    study = plan.study.model_copy(
        update={
            "templates": TemplateSpec(kind="file", path=known.template_set_id),
            "covariance": CovarianceSpec(
                kind="statistics", source=known.covariance_id, damping=known.damping
            ),
            "value": ValueSpec(**dataclasses.asdict(known.values)),
        }
    )
    ready = dataclasses.replace(model, setup=setup, templates=templates, moment=moment)
    return dataclasses.replace(plan, study=study, models=(ready,))


def known_manifests(results: str, known: KnownSetup) -> tuple[Manifest, Manifest]:
    """Return the manifests of templates and covariance, without rows: those are ingested."""
    moment = None
    if known.moment_digest is not None:
        moment = moment_ref(ArtifactStore(results), known.moment_digest)
    templates = Manifest(
        unit_id=known.template_set_id, summary="known templates", values=known.templates
    )
    return templates, Manifest(
        unit_id=known.covariance_id, summary="known covariance", tensors=moment
    )


def moment_ref(store: ArtifactStore, moment_digest: str) -> ArtifactRef:
    """Return the reference of a file of C, of which the database keeps the digest."""
    path = f"artifacts/moments/{moment_digest}.safetensors"
    try:
        n_bytes = store.results.fetch(path).stat().st_size
    except OSError:
        n_bytes = 0  # the store says that it is missing
    return ArtifactRef(digest=moment_digest, path=path, n_bytes=n_bytes)
