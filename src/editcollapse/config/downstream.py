"""Downstream tasks that are asked of edited models, and which edits are asked."""

from typing import Annotated

from pydantic import Field, model_validator

from editcollapse.config.base import Count, Spec

_Named = Annotated[str, Field(min_length=1, pattern=r"\S")]


class DownstreamSpec(Spec):
    """Tasks of lm-evaluation-harness, and the edited models that they are asked of.

    The unedited model is always asked. Of the edits of each model those that `worst`, `sample` and
    `edits` choose are taken, each once.
    """

    tasks: tuple[_Named, ...] = Field(min_length=1)
    """Tasks, groups or tags by lm_eval's own name; or YAML files of local tasks with local data,
    relative to the working directory."""
    items: Count | None = None
    """Items of each task at most; all where left out."""
    shots: Annotated[int, Field(ge=0)] | None = None
    """Examples before each item; where left out, what the task says. One that says 0 stays so."""
    worst: Annotated[int, Field(ge=0)] = 3
    """So many edits of each model whose perplexity is largest."""
    sample: Annotated[int, Field(ge=0)] = 10
    """So many others of each model, spread evenly over the logarithm of the perplexity."""
    edits: tuple[_Named, ...] = ()
    """Edits by id, or by how it begins."""
    sequences: tuple[_Named, ...] = ()
    """Sequences by id, or by how it begins: after the last checkpoint; `ID:N`: after step `N`."""
    exported: tuple[_Named, ...] = ()
    """Folders of edited models, such as `editcollapse export` writes, or hub ids."""

    @model_validator(mode="after")
    def _names_each_once(self) -> "DownstreamSpec":
        for name in ("tasks", "edits", "sequences", "exported"):
            given = getattr(self, name)
            if len(set(given)) != len(given):
                raise ValueError(f"`{name}` must be distinct, got {', '.join(given)}")
        return self
