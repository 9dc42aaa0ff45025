"""Greedy generation from a text, with an edit or without.

``transformers``' own ``generate`` runs on a view of the model in which the edited layer's down
projection has its update beside it. The resident model keeps its weights, its modules and its
generation settings, whatever happens meanwhile.

A model that has collapsed may give logits that are no numbers. Then no token is the likeliest, and
the text ends there.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from editcollapse.forward.module_views import with_modules
from editcollapse.models.loading import LoadedModel, widened
from editcollapse.rome.updates import RankOneUpdates
from editcollapse.rows.other import ContinuationRow
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.generation_jobs import GenerationJob
from editcollapse.study.jobs import Manifest
from editcollapse.units.edit import stored_updates
from editcollapse.units.prepare import Progress, load


def edited_value(value: Tensor, key: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Value of a down projection under a rank-one update: W k + left (right · k).

    Args:
        value: W k of any tokens, bias included, (..., D), dtype of the weights.
        key: k of the same tokens, (..., K).
        left: (D,), any float dtype.
        right: (K,), any float dtype.

    Returns:
        (..., D), dtype of ``value``; the change is computed in float32 or better.
    """
    wide = widened(key)
    change = (wide @ right.to(wide))[..., None] * left.to(wide)
    return value + change.to(value.dtype)


class _EditedProjection(nn.Module):
    """Stands for a down projection whose weight is W + left rightᵀ; nothing is written to W.

    Args:
        projection: the down projection.
        update: one update.
    """

    def __init__(self, projection: nn.Module, update: RankOneUpdates) -> None:
        super().__init__()
        self.projection = projection
        self._left, self._right = update.left[0], update.right[0]

    def forward(self, key: Tensor) -> Tensor:
        """Return the edited value, (..., D), dtype of the weights."""
        value: Tensor = self.projection(key)
        return edited_value(value, key, self._left, self._right)


class Continuer:
    """Lets one model go on from prompts.

    Args:
        loaded: the model; it stays as it is.
        layer: zero-based block that edits change.
        n_new_tokens: tokens that are generated at most.

    Raises:
        ModelError: the model has no such layer.
    """

    def __init__(self, loaded: LoadedModel, layer: int, n_new_tokens: int) -> None:
        self._loaded = loaded
        self._projection = loaded.down_projection(layer)
        row = loaded.architecture
        self._path = f"{row.decoder}.{row.blocks}.{layer}.{row.down_projection}"
        self._n_new_tokens = n_new_tokens
        self._ends = _end_ids(loaded)

    def text(self, prompt: str, update: RankOneUpdates | None = None) -> str:
        """Return the generated text behind a prompt, without special tokens.

        Args:
            prompt: opened by a start token as the model's policy wants it.
            update: the edit, a batch of one; None for the unedited model.
        """
        ids = self._loaded.encoder.sequence(prompt)
        return self._decoded(ids, self.tokens(ids, update))

    @torch.inference_mode()
    def tokens(self, ids: tuple[int, ...], update: RankOneUpdates | None = None) -> tuple[int, ...]:
        """Return the tokens that the model adds, the one that ends the text included.

        They are fewer than asked for where the text ends, where the model has no more positions,
        and before a step whose logits are not all numbers.

        Args:
            ids: start token and prompt.
            update: the edit, a batch of one; None for the unedited model.
        """
        n_new = min(self._n_new_tokens, self._loaded.encoder.max_length - len(ids))
        if n_new <= 0:
            return ()
        replaced: dict[str, nn.Module] = {}
        if update is not None:
            replaced[self._path] = _EditedProjection(self._projection, update)
        view = cast("Any", with_modules(self._loaded.model, replaced))
        # Of the view alone: what the model's own says of sampling and penalties is not asked for.
        view.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=n_new,
            eos_token_id=list(self._ends) or None,
            pad_token_id=self._ends[0] if self._ends else None,
            return_dict_in_generate=True,
            output_logits=True,
        )
        rows = torch.tensor([ids], device=self._loaded.device)
        found = view.generate(rows, attention_mask=torch.ones_like(rows))
        added: list[int] = found.sequences[0, len(ids) :].tolist()
        no_number = [bool(logits.isnan().any()) for logits in found.logits]
        return tuple(added[: no_number.index(True)] if any(no_number) else added)

    def _decoded(self, ids: tuple[int, ...], added: tuple[int, ...]) -> str:
        """Return the text of the tokens that were added.

        Decoded behind the prompt, whose own text is then taken off: alone, the first of them would
        lose the blank in front of it under some tokenizers.
        """
        before, whole = self._text_of(ids), self._text_of(ids + added)
        return whole[len(before) :] if whole.startswith(before) else self._text_of(added)

    def _text_of(self, ids: tuple[int, ...]) -> str:
        text: str = self._loaded.encoder.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def _end_ids(loaded: LoadedModel) -> tuple[int, ...]:
    """Return the tokens that end a text: the model's own, and the tokenizer's."""
    settings = getattr(loaded.model, "generation_config", None)
    own = getattr(settings, "eos_token_id", None)
    ids = [own] if isinstance(own, int) else list(own or ())
    end = loaded.encoder.tokenizer.eos_token_id
    return tuple(dict.fromkeys([*ids, *([] if end is None else [int(end)])]))


@float32_products()
def continue_texts(job: GenerationJob, on_edit: Progress = None) -> Manifest:
    """Generate from the prompts of some edits, unedited and edited; return rows.

    Raises:
        ArtifactError: a file of updates is missing or has changed.
        ModelError: the model cannot be loaded.
    """
    clock = job.clock("continuations", job.model)
    store = ArtifactStore(job.results)
    loaded = load(job.model)
    continuer = Continuer(loaded, job.model.layer, job.n_new_tokens)
    before = {
        prompt: continuer.text(prompt)
        for prompt in dict.fromkeys(edit.prompt for edit in job.edits)
    }
    rows = []
    for done, edit in enumerate(job.edits):
        updates = stored_updates(store, edit.updates)[edit.method]
        update = updates.rows(slice(edit.update_row, edit.update_row + 1))
        rows.append(
            ContinuationRow(
                edit_id=edit.edit_id,
                n_new_tokens=job.n_new_tokens,
                prompt=edit.prompt,
                text_before=before[edit.prompt],
                text_after=continuer.text(edit.prompt, update),
            )
        )
        if on_edit is not None:
            on_edit(done + 1, len(job.edits))
    summary = f"{len(rows)} texts continued by {job.model.spec.name}, layer {job.model.layer}"
    provenance = clock.row(summary, len(rows), str(loaded.device))
    return Manifest(
        unit_id=job.key,
        summary=summary,
        rows=(
            store.put_rows("continuations", rows),
            store.put_rows("provenance", [provenance]),
        ),
    )
