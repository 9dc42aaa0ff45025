"""Generation jobs: the edits whose models continue their prompts; loads no torch.

Of each model of a study, the edits that damage it most, if they damage it at all. They are chosen
from the row files of the batches just measured, so no database is asked.
"""

import math

import polars as pl
from pydantic import BaseModel, ConfigDict

from editcollapse.catalog.methods import distinct_rules
from editcollapse.errors import ArtifactError
from editcollapse.fingerprints import unit_key
from editcollapse.rows.collapse_rule import DAMAGE_RATIO
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.jobs import EditJob, Job, Manifest, ModelSetup

N_NEW_TOKENS = 30
"""Tokens that are generated at most."""


class EditToContinue(BaseModel):
    """One edit: where its update lies, and the text to go on from."""

    model_config = ConfigDict(frozen=True)

    edit_id: str
    prompt: str
    """The rewrite prompt with its subject."""
    updates: ArtifactRef
    """Tensor file of its batch."""
    method: str
    """Name that the update has in the file: methods with equal rules are stored once."""
    update_row: int
    """Row of the update in the file's tensors. Index from 0."""


class GenerationJob(Job):
    """Go on from the rewrite prompts of some edits of one model, unedited and edited."""

    model: ModelSetup
    edits: tuple[EditToContinue, ...]
    n_new_tokens: int = N_NEW_TOKENS

    @property
    def key(self) -> str:
        """Cache key of the job."""
        return unit_key(
            "continuations",
            self.model.model_id,
            self.model.layer,
            [
                (edit.edit_id, edit.prompt, edit.updates.digest, edit.method, edit.update_row)
                for edit in self.edits
            ],
            self.n_new_tokens,
        )

    @property
    def label(self) -> str:
        """For people: model, layer and how many edits."""
        model = self.model
        return f"{model.spec.name} layer {model.layer}, {len(self.edits)} edits"


class MostDamaging:
    """The edits of one model that leave the largest perplexity; nan and inf before any number.

    Only such as have done damage: above ``DAMAGE_RATIO`` times the unedited perplexity. Ties are
    broken by ``edit_id``, so the choice depends neither on batches nor on their order.

    Args:
        store: where the row files lie.
        n_edits: edits to keep at most.
        unedited: what the model's unedited unit returned.

    Raises:
        ArtifactError: its row file is missing or has changed.
    """

    def __init__(self, store: ArtifactStore, n_edits: int, unedited: Manifest) -> None:
        self._store = store
        self._n_edits = n_edits
        self._harmless = math.inf
        if n_edits:
            base = self._rows(unedited, "base_perplexities", ["perplexity"])
            self._harmless = DAMAGE_RATIO * base["perplexity"][0]
        self._kept: list[tuple[tuple[bool, float, str], EditToContinue]] = []

    def add(self, job: EditJob, edits: Manifest, measured: Manifest) -> None:
        """Look at one more batch.

        Args:
            job: the batch.
            edits: what its edit unit returned.
            measured: what its evaluation unit returned.

        Raises:
            ArtifactError: a row file is missing or has changed, or the batch left no updates.
        """
        if self._n_edits == 0:
            return
        if edits.tensors is None:
            raise ArtifactError(f"{edits.unit_id} left no updates. Run the study again.")
        prompts = {request.request_id: request.filled_prompt for request in job.requests}
        stored_as = distinct_rules(job.methods)
        made = self._rows(edits, "edits", ["edit_id", "request_id", "method", "update_row"])
        found = self._rows(measured, "measurements", ["edit_id", "perplexity"])
        for row in found.join(made, on="edit_id").iter_rows(named=True):
            if row["perplexity"] <= self._harmless:  # nan never is
                continue
            edit = EditToContinue(
                edit_id=row["edit_id"],
                prompt=prompts[row["request_id"]],
                updates=edits.tensors,
                method=stored_as[row["method"]],
                update_row=row["update_row"],
            )
            self._kept.append((_rank(row["perplexity"], edit.edit_id), edit))
        self._kept = sorted(self._kept, key=lambda kept: kept[0])[: self._n_edits]

    def job(self, results: str, model: ModelSetup) -> GenerationJob | None:
        """Return the job of the edits kept, the worst first; None where there are none."""
        edits = tuple(edit for _, edit in self._kept)
        return GenerationJob(results=results, model=model, edits=edits) if edits else None

    def _rows(self, manifest: Manifest, table: str, columns: list[str]) -> pl.DataFrame:
        """Return some columns of a job's rows of one table."""
        frames = [self._store.frame(ref) for ref in manifest.rows if ref.table == table]
        if not frames:
            raise ArtifactError(f"{manifest.unit_id} left no {table}. Run the study again.")
        return pl.concat(frame.select(columns) for frame in frames)


def _rank(perplexity: float, edit_id: str) -> tuple[bool, float, str]:
    """Return the sort key of edits, the most damaging first."""
    if math.isnan(perplexity):
        return (False, 0.0, edit_id)
    return (True, -perplexity, edit_id)
