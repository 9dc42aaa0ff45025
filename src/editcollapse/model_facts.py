"""What a model is, as far as edits are concerned: sizes, residual, head, what opens a prompt."""

import dataclasses
from typing import Any

from editcollapse.models import LoadedModel


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model is, as far as edits are concerned."""

    source: str
    family: str
    n_layers: int
    d_model: int
    d_key: int
    n_vocabulary: int
    n_parameters: int
    dtype: str
    parallel_residual: bool
    """Whether attention and MLP read the same residual stream."""
    projection: str
    """What the down projection is: Conv1D, whose weight is stored as (K, D), or Linear."""
    tied_head: bool
    start_token: str | None
    """What opens every prompt; None where a subject can be the sequence's first token."""
    first_token: str
    """What stands at position 0 of the probing text."""

    def lines(self) -> list[str]:
        """Return the facts for people."""
        residual = "parallel" if self.parallel_residual else "sequential"
        head = "tied to the embedding" if self.tied_head else "of its own"
        first = (
            f"the start token {self.start_token!r}: no subject is the sequence's first token"
            if self.start_token is not None
            else f"the text's own first token, here {self.first_token!r}: a subject can stand there"
        )
        sizes = f"{self.n_layers} layers, D {self.d_model}, K {self.d_key}"
        return [
            f"{self.source}: family {self.family}, {self.n_parameters:,} parameters, {self.dtype}",
            f"{sizes}, vocabulary {self.n_vocabulary}",
            f"{residual} residual, {self.projection} down projection, head {head}",
            f"position 0 holds {first}",
        ]


def facts_of(loaded: LoadedModel, first_id: int) -> ModelFacts:
    """Return what a model is.

    Args:
        loaded: the model.
        first_id: first token of a probing text.
    """
    row = loaded.architecture
    model: Any = loaded.model
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return ModelFacts(
        source=loaded.source,
        family=row.family,
        n_layers=loaded.widths.n_layers,
        d_model=loaded.widths.d_model,
        d_key=loaded.widths.d_key,
        n_vocabulary=loaded.widths.n_vocabulary,
        n_parameters=loaded.n_parameters,
        dtype=str(loaded.dtype).removeprefix("torch."),
        parallel_residual=loaded.is_parallel,
        projection="Conv1D" if row.transposed else "Linear",
        tied_head=head is embedding,
        start_token=loaded.encoder.start_token,
        first_token=str(loaded.encoder.tokenizer.convert_ids_to_tokens(first_id)),
    )
