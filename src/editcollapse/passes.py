"""The pass over a corpus that a layer's second moment comes from, as orders; loads no torch.

Entries of a study with the same model and other layers share one pass: its units have the same
keys, so whichever entry comes first computes them.
"""

import dataclasses
from collections.abc import Sequence

from editcollapse.artifacts import ArtifactRef
from editcollapse.errors import ArtifactError
from editcollapse.moment_orders import (
    CheckpointOrder,
    CorpusOrder,
    MomentOrder,
    ProbesOrder,
    ShardOrder,
)
from editcollapse.orders import Manifest
from editcollapse.planning import N_PROBES, ModelPlan, StudyPlan
from editcollapse.requests import EditRequest


@dataclasses.dataclass(frozen=True, slots=True)
class MomentPass:
    """One layer's part in a pass."""

    moment: MomentOrder
    layers: tuple[int, ...]
    """All layers that the pass serves."""
    requests: tuple[EditRequest, ...]
    """Their prefixed keys are the probes."""

    @classmethod
    def of(cls, plan: StudyPlan, model: ModelPlan) -> "MomentPass":
        """Return the pass of one model of a study."""
        own = model.order.model_id
        layers = {each.order.layer for each in plan.models if each.order.model_id == own}
        records = plan.requests.records[:N_PROBES]
        return cls(
            moment=model.moment,
            layers=tuple(sorted(layers)),
            requests=tuple(record.request for record in records),
        )

    @property
    def n_shards_at_most(self) -> int:
        """Shards, if the corpus holds the whole budget."""
        spec = self.moment.covariance
        return -(-spec.n_tokens // spec.shard_tokens)

    def corpus_order(self) -> CorpusOrder:
        """Return the order that cuts the corpus into shards."""
        return CorpusOrder(
            results=self.moment.results,
            model=self.moment.model,
            covariance=self.moment.covariance,
            source_digest=self.moment.source_digest,
        )

    def shard_orders(self, corpus: Manifest) -> tuple[ShardOrder, ...]:
        """Return the order of each shard's sums, given what the corpus unit returned."""
        return tuple(
            ShardOrder(
                results=self.moment.results,
                model=self.moment.model,
                layers=self.layers,
                shard=shard,
                label=f"{index} of {len(corpus.parts)}",
            )
            for index, shard in enumerate(corpus.parts, start=1)
        )

    def probes_order(self, templates: Manifest) -> ProbesOrder:
        """Return the order of the probe keys, given what the templates unit returned."""
        return ProbesOrder(
            results=self.moment.results,
            model=self.moment.model,
            layers=self.layers,
            templates=templates.values,
            requests=self.requests,
            probe_set_id=self.moment.probe_set_id,
        )

    def checkpoint_order(
        self, sums: Sequence[Manifest], probes: Manifest, before: Manifest | None
    ) -> CheckpointOrder:
        """Return the order of a checkpoint.

        Args:
            sums: what the shards' units returned so far, in order.
            probes: what the probes unit returned.
            before: what the checkpoint before returned.
        """
        return CheckpointOrder(
            results=self.moment.results,
            model=self.moment.model,
            covariance_id=self.moment.covariance_id,
            damping=self.moment.covariance.damping,
            probe_set_id=self.moment.probe_set_id,
            probes=self._own(probes),
            sums=tuple(self._own(each) for each in sums),
            before=None if before is None else before.tensors,
        )

    def merge_order(
        self, sums: Sequence[Manifest], probes: Manifest, looked_at: Sequence[Manifest] = ()
    ) -> MomentOrder:
        """Return the order that merges the sums into C.

        Args:
            sums: what the shards' units returned, in order.
            probes: what the probes unit returned.
            looked_at: what checkpoints returned; without any, C is followed while it is merged.
        """
        rows = [
            ref for each in looked_at for ref in each.rows if ref.table == "covariance_convergence"
        ]
        update = {
            "sums": tuple(self._own(each) for each in sums),
            "probes": None if looked_at else self._own(probes),
            "convergence": tuple(rows),
        }
        return self.moment.model_copy(update=update)

    def _own(self, manifest: Manifest) -> ArtifactRef:
        """Return the file of this layer among those of all layers."""
        if len(manifest.parts) != len(self.layers):
            raise ArtifactError(
                f"{manifest.unit_id} left {len(manifest.parts)} files for layers {self.layers}. "
                "Run the study again in another results folder."
            )
        return manifest.parts[self.layers.index(self.moment.model.layer)]
