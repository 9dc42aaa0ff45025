"""What any edited model can be asked, whatever editor made it: ``EditedModel``."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from editcollapse.api.inputs import Texts, given_texts
from editcollapse.data.requests import EditRequest
from editcollapse.errors import ModelError, StudyError
from editcollapse.rows.collapse_rule import DEFAULT_RULE

if TYPE_CHECKING:
    from torch import nn

    from editcollapse.api.editor import Editor
    from editcollapse.models.loading import LoadedModel
    from editcollapse.rome.edited_model import Updates
    from editcollapse.stored.export import Exported
    from editcollapse.stored.export_options import ExportKind
    from editcollapse.stored.updates import StoredUpdate
    from editcollapse.study.known_updates import Setting, UpdateFacts


class EditedModel(ABC):
    """One model with one edit: of rank one (``Edit``), or of several layers or full rank.

    The edited model is computed beside the unedited one, whose weights stay as they are; any number
    of edits of one editor can be kept and asked in any order.
    """

    editor: "Editor"
    requests: tuple[EditRequest, ...]
    """The facts that were written."""
    method: str
    """Who wrote them."""
    layers: tuple[int, ...]
    """Zero-based blocks that are changed, in ascending order."""
    update_norm: float
    """Frobenius norm of the update, over all layers together."""
    relative_update_norm: float
    """The same over that of the layers' W."""
    n_steps: int
    """Optimisation steps taken, of all facts together."""
    target_probability: float
    """Of the target at the last pass of the optimisation; the mean over several facts."""

    @property
    @abstractmethod
    def text_change(self) -> float:
        """sqrt(tr(dW C dWᵀ) / tr(W C Wᵀ)), C undamped: the largest of a layer."""

    @property
    @abstractmethod
    def described(self) -> "tuple[Setting, ...]":
        """What the edit was made with, as people read it."""

    @property
    @abstractmethod
    def stored(self) -> "StoredUpdate":
        """The update as exports and other tools of this package take it, float64 on the CPU."""

    @property
    @abstractmethod
    def _updates(self) -> "Updates":
        """The edit as a batch of one."""

    def perplexity(self, texts: Texts) -> float:
        """Perplexity of the edited model: arithmetic mean over texts; inf and nan as measured.

        Raises:
            DatasetError: no text can be scored.
        """
        from editcollapse.units.single import perplexity_of

        model, texts = self.editor.model, given_texts(texts)
        return perplexity_of(model, self.layers[0], texts, self._updates).mean

    def perplexity_ratio(self, texts: Texts) -> float:
        """Perplexity of the edited model over the unedited one's; a collapse is far above 1.

        Raises:
            DatasetError: no text can be scored.
        """
        given = given_texts(texts)
        return self.perplexity(given) / self.editor.perplexity(given)

    def generate(self, prompt: str, n_tokens: int = 20) -> str:
        """What the edited model adds to a prompt, always the likeliest token.

        Args:
            prompt: the text to go on from.
            n_tokens: tokens at most.

        Raises:
            StudyError: ``n_tokens`` is below 1.
        """
        return continued(self.editor.model, self.layers[0], prompt, n_tokens, self._updates)

    def probability(self, prompt: str, target: str) -> float:
        """Probability that the edited model gives a target after a prompt.

        Raises:
            ModelError: the tokenizer or the model's length does not take the text.
        """
        from editcollapse.units.single import probability_of

        return probability_of(self.editor.model, self.layers[0], prompt, target, self._updates)

    def applied(self, model: "nn.Module | None" = None) -> "AbstractContextManager[nn.Module]":
        """Put the edit into the forward pass of a torch model for as long as a block runs.

        ::

            with edit.applied(model):
                logits = model(ids).logits

        Args:
            model: the same model, loaded by transformers; the editor's own where left out. Its
                weights are not touched: a hook on each edited down projection adds the change.

        Raises:
            ModelError: it is another model.
        """
        from editcollapse.units.single import added_to_forward

        return added_to_forward(self.editor.model, self.layers[0], self._updates, model)

    def export(
        self,
        folder: str | Path,
        kind: "ExportKind" = "weights",
        *,
        model: str | Path | None = None,
        texts: Texts | None = None,
        dtype: str = "kept",
        rank: int | None = None,
        max_shard_size: str = "5GB",
        overwrite: bool = False,
    ) -> "Exported":
        """Write the edited model, or the edit alone, as a folder that other tools read.

        Args:
            folder: where to; empty, or not there.
            kind: ``weights``, a folder that transformers loads; ``adapter``, a LoRA adapter that
                peft loads; ``factors``, the bare update.
            model: where the unedited model lies; where left out, what the editor was given.
            texts: for the card, perplexity is measured on them.
            dtype: type of what is written; ``kept``: as in the unedited model's files.
            rank: of an adapter, at most; an update of full rank (RECT, fine-tuning) needs one.
            max_shard_size: of one file of weights, such as 500MB.
            overwrite: whether an earlier export in the folder may go.

        Raises:
            ResultsError: the folder holds files, or cannot be written; or the update is of full
                rank, and an adapter of no given rank is asked for.
            ModelError: the unedited model's files are not found, or are another model's.
            StudyError: an argument has no such value.
        """
        from editcollapse.stored.export import export_update
        from editcollapse.stored.export_options import Base, ExportOptions
        from editcollapse.stored.folder import check_free
        from editcollapse.stored.models import base_model

        options = ExportOptions(
            kind=kind, dtype=dtype, rank=rank, max_shard_size=max_shard_size, overwrite=overwrite
        )
        check_free(Path(folder).expanduser(), overwrite=overwrite)
        editor, update = self.editor, self.stored
        loaded = editor.model
        try:
            source = None if model is None else str(model)
            base = Base.of(base_model(editor.spec, loaded.model_id, source))
        except ModelError:
            if kind == "weights" or model is not None:
                raise
            base = Base(loaded.source, editor.spec.revision, loaded.architecture, None)
        return export_update(update, base, self._facts(texts), Path(folder), options)

    @property
    def _label(self) -> str:
        """What was edited, for people."""
        if len(self.requests) > 1:
            return f"{len(self.requests)} facts at once"
        (request,) = self.requests
        return f"{request.filled_prompt} -> {request.target_new}"

    def _facts(self, texts: Texts | None) -> "UpdateFacts":
        """Return what the card of an export says."""
        from editcollapse.study.known_updates import Damage, UpdateFacts, WrittenFact

        one = self.requests[0] if len(self.requests) == 1 else None
        named = isinstance(texts, (str, Path))
        measured = None if texts is None else self.perplexity(texts)
        before = None if texts is None else self.editor.perplexity(texts)
        return UpdateFacts(
            method=self.method,
            layers=self.layers,
            subject=one.subject if one else None,
            prompt=one.prompt if one else None,
            target_new=one.target_new if one else None,
            target_true=one.target_true if one else None,
            n_edits=len(self.requests),
            at_once=(
                ()
                if one
                else tuple(
                    WrittenFact(each.subject, each.prompt, each.target_new)
                    for each in self.requests
                )
            ),
            settings=self.described,
            damage=Damage(
                text_set=Path(str(texts)).name if named else None,
                perplexity_before=before,
                perplexity=measured,
                collapsed=DEFAULT_RULE.collapsed(measured, before),
                text_change=self.text_change,
                relative_update_norm=self.relative_update_norm,
            ),
        )


def continued(
    loaded: "LoadedModel", layer: int, prompt: str, n_tokens: int, updates: "Updates | None"
) -> str:
    """Return what a model adds to a prompt, always the likeliest token.

    Args:
        loaded: the model.
        layer: zero-based block that the edit changes; of several the lowest.
        prompt: the text to go on from.
        n_tokens: tokens at most.
        updates: the edit, a batch of one; None for the unedited model.

    Raises:
        StudyError: ``n_tokens`` is below 1.
    """
    from editcollapse.runtime.precision import float32_products
    from editcollapse.units.generate import Continuer

    if n_tokens < 1:
        raise StudyError(f"`n_tokens` {n_tokens}: give at least 1.")
    with float32_products():
        return Continuer(loaded, layer, n_tokens).text(prompt, updates)
