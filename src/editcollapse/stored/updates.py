"""An update of a model's weights, read back: by layer, as factors or whole."""

import dataclasses

from torch import Tensor

from editcollapse.config.spec import ModelSpec


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LayerUpdate:
    """The change dW of one layer's down projection."""

    layer: int
    left: Tensor
    """(D, R) float64 on the CPU; or dW itself, (D, K), where ``right`` is None."""
    right: Tensor | None
    """(R, K) float64 on the CPU: dW = left right."""

    @property
    def rank(self) -> int | None:
        """Of the factors; None where the change is whole."""
        return None if self.right is None else len(self.right)

    @property
    def matrix(self) -> Tensor:
        """DW multiplied out, (D, K) float64."""
        return self.left if self.right is None else self.left @ self.right


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class StoredUpdate:
    """One update of one model: of an edit, or of all edits of a sequence up to a step."""

    model_id: str
    """Of the unedited model, by content."""
    spec: ModelSpec
    """How it is loaded; the source of a local model may be its bare name (``KnownEdit.spec``)."""
    label: str
    """For people."""
    layers: tuple[LayerUpdate, ...]
    """In ascending order, one at least."""

    @property
    def lowest(self) -> int:
        """The lowest layer that is changed."""
        return self.layers[0].layer
