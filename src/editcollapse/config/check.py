"""What a check is asked: the model before, the model after, and what both are measured on."""

from pathlib import Path, PurePath
from typing import Annotated

from pydantic import Field

from editcollapse.config.base import Count, Spec
from editcollapse.config.spec import CollapseSpec, DtypeName, Identifier, StartTokenName

TEXTS = "texts"
"""``covariance`` of the perplexity texts themselves."""
NO_COVARIANCE = "none"


class CheckSpec(Spec):
    """A model that was edited, merged or quantised, and the one that it was made from."""

    base: str = Field(min_length=1)
    """The model before: a folder, a .gguf file or a Hugging Face hub id."""
    edited: str = Field(min_length=1)
    """The model after: likewise; or a folder with a LoRA adapter of peft, or a .safetensors file of
    changes by weight name."""
    name: Annotated[str, Field(max_length=200)] = ""
    """What to call it in results; where left out, the edited model's own name."""
    base_revision: Identifier | None = None
    """Branch, tag or commit of BASE on the hub."""
    edited_revision: Identifier | None = None
    """Branch, tag or commit of EDITED on the hub."""
    dtype: DtypeName = "float32"
    """Type in which both models run."""
    start_token: StartTokenName = "tokenizer"
    """Whether a start token (BOS) opens prompts of facts."""
    chat_template: bool = False
    """Whether prompts of facts are put into the tokenizer's chat template."""
    perplexity: bool = True
    """Whether both models are measured on texts; without, the verdict is a forecast."""
    texts: str | None = None
    """Perplexity texts: JSON, JSONL or plain text; left out: the package's neutral English."""
    facts: str | None = None
    """Edit requests whose success, before and after, is measured."""
    limit: Count | None = None
    """Only the first so many usable requests."""
    covariance: str = TEXTS
    """What the change on text is taken over: `texts` (the perplexity texts), a corpus (a text file
    or a hub data set id), `samples` (what BASE itself writes), published statistics (.npz or
    .safetensors, of the one layer whose down projection differs), or `none`."""
    tokens: Count = 100_000
    """Of a corpus or of samples, so many at most."""
    collapse: CollapseSpec = CollapseSpec()
    """When the edited model counts as collapsed."""

    @property
    def label(self) -> str:
        """What runs are called: the name, else the last part of the edited model's source."""
        return self.name or PurePath(self.edited).name or self.edited

    def with_absolute_paths(self, folder: Path) -> "CheckSpec":
        """The spec with every path that names something below ``folder`` made absolute."""

        def absolute(text: str | None) -> str | None:
            if text is None or text in {TEXTS, NO_COVARIANCE, "samples", "identity"}:
                return text
            found = (folder / Path(text).expanduser()).resolve()
            return str(found) if found.exists() else text

        names = ("base", "edited", "texts", "facts", "covariance")
        return self.model_copy(update={name: absolute(getattr(self, name)) for name in names})
