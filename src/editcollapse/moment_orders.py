"""Orders of the units that a second moment is made by: corpus, shards, probes, checkpoints, C.

As everywhere, keys depend on content alone (``orders``).
"""

from typing import Any

from editcollapse.artifacts import ArtifactRef
from editcollapse.fingerprints import digest, unit_key
from editcollapse.orders import ModelOrder, Order
from editcollapse.requests import EditRequest
from editcollapse.specs import CovarianceSpec


class CorpusOrder(Order):
    """Cut a corpus into shards of token ids."""

    model: ModelOrder
    covariance: CovarianceSpec
    source_digest: str

    @property
    def key(self) -> str:
        """Cache key of the unit."""
        spec = self.covariance
        return unit_key(
            "corpus",
            self.model.model_id,
            self.source_digest,
            (spec.n_tokens, spec.max_length, spec.start_token, spec.text_field),
            spec.shard_tokens,
        )


class ShardOrder(Order):
    """Sum k kT over the tokens of one shard, for some layers."""

    model: ModelOrder
    layers: tuple[int, ...]
    shard: ArtifactRef
    label: str
    """For people: ``3 of 12``; not part of the key."""

    @property
    def key(self) -> str:
        """Cache key of the unit: another budget or corpus with the same shard shares it."""
        return unit_key("shard", self.model.model_id, self.layers, self.shard.digest)


class ProbesOrder(Order):
    """Read the prefixed keys that the convergence of C is followed with, at some layers."""

    model: ModelOrder
    layers: tuple[int, ...]
    templates: tuple[str, ...]
    requests: tuple[EditRequest, ...]
    probe_set_id: str

    @property
    def key(self) -> str:
        """Cache key of the unit."""
        return unit_key("probes", self.model.model_id, self.layers, self.probe_set_id)


class MomentOrder(Order):
    """Measure or read the second moment of one layer."""

    model: ModelOrder
    covariance: CovarianceSpec
    source_digest: str
    """Content of the corpus or of the statistics file; empty for the identity."""
    probe_set_id: str = ""
    """Digest of the requests and templates that the probe keys are read from."""
    sums: tuple[ArtifactRef, ...] = ()
    """With a corpus: the layer's sum of each shard, in order; not part of the key."""
    probes: ArtifactRef | None = None
    """Probe keys; None where checkpoints have followed C already. Not part of the key."""
    convergence: tuple[ArtifactRef, ...] = ()
    """Rows that those checkpoints have left; not part of the key."""

    @property
    def covariance_id(self) -> str:
        """Digest of what decides C and how it is solved."""
        spec = self.covariance
        asked: tuple[Any, ...] = (spec.kind, self.source_digest)
        if spec.kind == "corpus":
            asked += (spec.n_tokens, spec.max_length, spec.start_token, spec.text_field)
            if spec.stop_change is not None:
                # How many tokens C holds then depends on where and on what it is looked at.
                asked += (spec.stop_change, spec.shard_tokens, self.probe_set_id)
        damping = 0.0 if spec.kind == "identity" else spec.damping
        # The identity is the same at every layer of every model, but a row belongs to one.
        return digest("covariance", self.model.model_id, self.model.layer, asked, damping)

    @property
    def key(self) -> str:
        """Cache key of the unit."""
        return unit_key("covariance", self.covariance_id)


class CheckpointOrder(Order):
    """Compare the directions that C gives to the probes with those of the checkpoint before."""

    model: ModelOrder
    covariance_id: str
    """With a stop rule: it depends on shards and probes."""
    damping: float
    probe_set_id: str
    probes: ArtifactRef
    sums: tuple[ArtifactRef, ...]
    """The layer's sum of each shard so far, in order."""
    before: ArtifactRef | None
    """Directions at the checkpoint before; None where there were none."""

    @property
    def key(self) -> str:
        """Cache key of the unit."""
        return unit_key("checkpoint", self.covariance_id, len(self.sums))

    @property
    def label(self) -> str:
        """For people: how many shards are summed."""
        return f"{len(self.sums)} shards"
