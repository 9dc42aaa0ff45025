"""The job that judges an edited model, whoever made it."""

from editcollapse.errors import ModelError
from editcollapse.judging.check import check_edited
from editcollapse.judging.check_rows import check_row, score_rows, tensor_rows
from editcollapse.judging.inputs import check_inputs
from editcollapse.runtime.precision import float32_products
from editcollapse.runtime.settings import settings
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.check_jobs import CheckJob
from editcollapse.study.jobs import Manifest


@float32_products()
def judge_model(job: CheckJob) -> Manifest:
    """Return what an edited model is beside its unedited one as rows.

    Raises:
        ModelError: files have changed since the check was asked for, or as ``check_edited``.
    """
    clock = job.clock("check", None)
    inputs = check_inputs(job.spec)
    if inputs.check_id != job.check_id:
        raise ModelError(
            f"the files of {job.label}, or what it is measured on, changed while the check ran. "
            "Start it again."
        )
    found = check_edited(inputs, settings().device)
    store = ArtifactStore(job.results)
    rule = job.spec.collapse.rule
    summary = f"check of {job.label}: {found.verdict(rule)}"
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("checks", [check_row(inputs, found)]),
            store.put_rows("check_tensors", tensor_rows(job.check_id, found)),
            store.put_rows("check_scores", score_rows(job.check_id, found)),
            store.put_rows("provenance", [clock.row(summary, 1, settings().device)]),
        ),
    )
