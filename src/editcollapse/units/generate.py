"""Greedy generation from texts, each with an edit of its own or without, all in one batch.

Prompts run once, padded on the right. Then each row's keys and values are moved to the right end of
a cache, and one token a row runs at a time on what every block has kept: the decoder's own code on
a view whose edited down projection carries each row's update beside it. The resident model keeps
its weights, its modules and its generation settings, whatever happens meanwhile.

A model that has collapsed may give logits that are no numbers. Then no token is the likeliest, and
the text ends there; the other rows go on.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from editcollapse.forward.batching import length_batches
from editcollapse.forward.module_views import with_modules
from editcollapse.forward.prefix_cache import cache_of, picked
from editcollapse.forward.weight_changes import LayerChange
from editcollapse.models.loading import LoadedModel, widened
from editcollapse.models.tokenization import pad_right
from editcollapse.rome.edited_model import Updates
from editcollapse.rome.updates import RankOneUpdates, no_update
from editcollapse.rows.other import ContinuationRow
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.oom import GroupLimit, oom_split
from editcollapse.runtime.precision import float32_products
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.generation_jobs import GenerationJob
from editcollapse.study.jobs import Manifest
from editcollapse.units.edit import stored_updates
from editcollapse.units.prepare import Progress, load

_CACHED_TOKENS = 2048
"""Tokens of one batch at most, those still to be written included: every block keeps keys and
values of each."""

StopReason = Literal["stop string", "end of text", "length", "positions", "no number"]
"""What ends a text: a string that was asked for, the model's own end, as many tokens as were asked
for, no position left in the model, or logits that are not all numbers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """What a model adds to one row."""

    ids: tuple[int, ...]
    """Tokens, one that ends the text included."""
    stopped_by: StopReason


def edited_value(value: Tensor, key: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Value of a down projection under rank-one updates: W k + left (right · k).

    Args:
        value: W k of any tokens, bias included, (..., T, D), dtype of the weights.
        key: k of the same tokens, (..., T, K).
        left: (D,), any float dtype; (N, D) where each of N rows of tokens has its own update.
        right: (K,) or (N, K), any float dtype.

    Returns:
        (..., T, D), dtype of ``value``; the change is computed in float32 or better.
    """
    wide = widened(key)
    change = (wide @ right.to(wide).unsqueeze(-1)) * left.to(wide).unsqueeze(-2)
    return value + change.to(value.dtype)


class _EditedProjection(nn.Module):
    """Stands for a down projection whose weight is W + left rightᵀ, another for each row.

    Args:
        projection: the down projection; nothing is written to its W.
        updates: one a row.
    """

    def __init__(self, projection: nn.Module, updates: RankOneUpdates) -> None:
        super().__init__()
        self.projection = projection
        self.updates = updates

    def forward(self, key: Tensor) -> Tensor:
        """Return the edited values, (N, T, D), dtype of the weights."""
        value: Tensor = self.projection(key)
        # Some families give one flat list of tokens (OPT).
        values, keys = (each.view(len(self.updates), -1, each.shape[-1]) for each in (value, key))
        return edited_value(values, keys, self.updates.left, self.updates.right).view_as(value)

    def keep(self, places: Sequence[int]) -> None:
        """Keep some of the rows' updates."""
        index = torch.tensor(places, device=self.updates.left.device)
        self.updates = RankOneUpdates(self.updates.left[index], self.updates.right[index])


class _ChangedProjection(nn.Module):
    """Stands for a down projection with a change of any rank, another for each row.

    Args:
        projection: the down projection; nothing is written to its W.
        change: one a row.
    """

    def __init__(self, projection: nn.Module, change: LayerChange) -> None:
        super().__init__()
        self.projection = projection
        self.change = change

    def forward(self, key: Tensor) -> Tensor:
        """Return the edited values, (N, T, D), dtype of the weights."""
        value: Tensor = self.projection(key)
        keys = widened(key.view(len(self.change), -1, key.shape[-1]))
        moved = self.change.of_own(keys, torch.arange(len(keys), device=key.device))
        return value + moved.view_as(value).to(value.dtype)

    def keep(self, places: Sequence[int]) -> None:
        """Keep some of the rows' changes."""
        self.change = self.change.rows(torch.tensor(places, device=self.change.left.device))


class Continuer:
    """Lets one model go on from prompts.

    Args:
        loaded: the model; it stays as it is.
        layer: zero-based block that edits change; of several the lowest.
        n_new_tokens: tokens that are generated at most.
        stops: strings that end a text, beside the model's own ends.

    Raises:
        ModelError: the model has no such layer.
    """

    def __init__(
        self, loaded: LoadedModel, layer: int, n_new_tokens: int, stops: Sequence[str] = ()
    ) -> None:
        self.loaded = loaded
        self.layer = layer
        loaded.down_projection(layer)
        self._n_new_tokens = n_new_tokens
        self.ends = loaded.end_ids
        self._stops = tuple(stops)

    def text(self, prompt: str, update: Updates | None = None) -> str:
        """Return the generated text behind a prompt, without special tokens.

        Args:
            prompt: opened by a start token, or put into the chat template, as the model's
                policy wants it.
            update: the edit, a batch of one; None for the unedited model.
        """
        own = no_update(self.loaded.widths) if update is None else update
        (text,) = self.texts([prompt], own)
        return text

    def texts(
        self, prompts: Sequence[str], updates: Updates, on_token: Progress = None
    ) -> list[str]:
        """Return the generated text behind each prompt, without special tokens.

        Args:
            prompts: N of them.
            updates: N, each its prompt's own; ``no_update`` for the unedited model.
            on_token: as of ``tokens``.

        Raises:
            DeviceMemoryError: one text alone does not fit on the device.
        """
        rows = [self.loaded.encoder.prompt_ids(prompt) for prompt in prompts]
        added = self.tokens(rows, updates, on_token)
        return [self.decoded(ids, new) for ids, new in zip(rows, added, strict=True)]

    def tokens(
        self,
        rows: Sequence[tuple[int, ...]],
        updates: Updates,
        on_token: Progress = None,
    ) -> list[tuple[int, ...]]:
        """Return the tokens that the model adds to each row, one that ends the text included.

        They are fewer than asked for where the text ends, where the model has no more positions,
        and before a step whose logits are not all numbers.

        Args:
            rows: N, each a start token and a prompt.
            updates: N, each its row's own.
            on_token: called with tokens added to each row and the most there can be.

        Raises:
            DeviceMemoryError: one row alone does not fit on the device.
        """
        found = self.written(rows, updates, range(len(rows)), on_token)
        return [each.ids for each in found]

    def written(
        self,
        rows: Sequence[tuple[int, ...]],
        updates: Updates,
        owner: Sequence[int],
        on_token: Progress = None,
    ) -> list[Written]:
        """Return the tokens that the model adds to each row, and what ended them.

        Args:
            rows: N, each a start token and a prompt.
            updates: any number, of layers from ``layer`` on.
            owner: N, each row's update.
            on_token: as of ``tokens``.

        Raises:
            DeviceMemoryError: one row alone does not fit on the device.
        """
        loaded = self.loaded
        room = [min(self._n_new_tokens, loaded.encoder.max_length - len(row)) for row in rows]
        going = [n for n, row in enumerate(rows) if row and room[n] > 0]
        budget = tokens_per_forward(loaded.device, loaded.size(self.layer), "answers")
        sizes = [len(rows[n]) + room[n] for n in going]
        batches = length_batches(sizes, min(budget, _CACHED_TOKENS))
        limit = GroupLimit(loaded.device, "a text that a model writes")
        n_before, n_all = 0, self._n_new_tokens * len(batches)

        def run(group: Sequence[int]) -> list[Written]:
            batch = _Batch(
                self,
                [rows[n] for n in group],
                [room[n] for n in group],
                updates.rows(torch.tensor([owner[n] for n in group])),
            )
            return batch.run(lambda n_added: report(n_before + n_added))

        def report(done: int) -> None:
            if on_token is not None:
                on_token(done, n_all)

        def size_of(group: Sequence[int]) -> int:
            return sum(len(rows[n]) + room[n] for n in group)

        found = [Written((), "positions")] * len(rows)
        for batch in batches:
            for group, added in oom_split([going[place] for place in batch], run, limit, size_of):
                for n, each in zip(group, added, strict=True):
                    found[n] = each
            n_before += self._n_new_tokens
            report(n_before)
        return found

    def stops_at(self, added: Sequence[list[int]]) -> list[bool]:
        """Return whether each of some texts, in tokens, has a stop string in it."""
        if not self._stops:
            return [False] * len(added)
        texts = (self._text_of(tuple(ids)) for ids in added)
        return [any(stop in text for stop in self._stops) for text in texts]

    def why(self, ids: Sequence[int]) -> StopReason:
        """Return why a text of numbers ended that no stop string has ended."""
        if ids[-1] in self.ends:
            return "end of text"
        return "length" if len(ids) == self._n_new_tokens else "positions"

    def projections(self, updates: Updates) -> dict[str, _EditedProjection | _ChangedProjection]:
        """Return what stands for the down projections of edited layers, by path in the decoder.

        Args:
            updates: N, one a row of the decoder's batch.
        """
        loaded, path = self.loaded, self.loaded.architecture.down_projection_in_decoder
        dtype = torch.promote_types(loaded.dtype, torch.float32)
        if isinstance(updates, RankOneUpdates):
            own = updates.to(loaded.device, dtype)
            projection = loaded.down_projection(self.layer)
            return {path(self.layer): _EditedProjection(projection, own)}
        return {
            path(each.layer): _ChangedProjection(
                loaded.down_projection(each.layer), each.to(loaded.device, dtype)
            )
            for each in updates.layers
        }

    def decoded(self, ids: tuple[int, ...], added: tuple[int, ...]) -> str:
        """Return the text of the tokens that were added.

        Decoded behind the prompt, whose own text is then taken off: alone, the first of them would
        lose the blank in front of it under some tokenizers.
        """
        before, whole = self._text_of(ids), self._text_of(ids + added)
        return whole[len(before) :] if whole.startswith(before) else self._text_of(added)

    def _text_of(self, ids: tuple[int, ...]) -> str:
        text: str = self.loaded.encoder.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


class _Batch:
    """Rows that are written on at the same time; one that has ended leaves the batch.

    Args:
        continuer: whose model, end tokens and stop strings they are.
        rows: N, of one token at least.
        room: tokens that each may be given at most, one at least.
        updates: N, each its row's own.
    """

    def __init__(
        self,
        continuer: Continuer,
        rows: Sequence[tuple[int, ...]],
        room: Sequence[int],
        updates: Updates,
    ) -> None:
        loaded = continuer.loaded
        self._continuer = continuer
        self._logits, self._ends = loaded.logits, continuer.ends
        self._rows, self._room = rows, room
        self._projections = continuer.projections(updates)
        self._decoder: Any = with_modules(loaded.decoder, self._projections)
        self._device = loaded.device

    @torch.inference_mode()
    def run(self, on_token: Callable[[int], None]) -> list[Written]:
        """Return the tokens added to each row, and what ended them.

        Args:
            on_token: called with the tokens that each row has been given so far, at most.
        """
        ids = pad_right(self._rows, self._device)
        sizes = torch.tensor([len(row) for row in self._rows], device=self._device)
        cache = DynamicCache()
        hidden = self._decoder(
            input_ids=ids, past_key_values=cache, use_cache=True
        ).last_hidden_state
        hidden = hidden[torch.arange(len(ids), device=self._device), sizes - 1]
        cache, mask = _moved_right(cache, sizes)
        added: list[list[int]] = [[] for _ in self._rows]
        stopped: dict[int, StopReason] = {}
        going = list(range(len(self._rows)))
        for step in range(max(self._room)):
            on_token(step)
            self._add_tokens(self._logits(hidden), going, added, stopped)
            kept = [place for place, row in enumerate(going) if row not in stopped]
            if not kept:
                break
            if len(kept) < len(going):
                index = torch.tensor(kept, device=self._device)
                cache.batch_select_indices(index)
                mask, sizes = mask[index], sizes[index]
                going = [going[place] for place in kept]
                for projection in self._projections.values():
                    projection.keep(kept)
            mask = torch.cat([mask, mask.new_ones(len(going), 1)], dim=1)
            last = torch.tensor([[added[row][-1]] for row in going], device=self._device)
            hidden = self._decoder(
                input_ids=last,
                position_ids=(sizes + step)[:, None],
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, 0]
        return [Written(tuple(new), stopped[row]) for row, new in enumerate(added)]

    def _add_tokens(
        self,
        logits: Tensor,
        going: Sequence[int],
        added: Sequence[list[int]],
        stopped: dict[int, StopReason],
    ) -> None:
        """Add the likeliest token to each row that goes on, and write down which rows end."""
        picks = zip(logits.argmax(-1).tolist(), logits.isnan().any(-1).tolist(), strict=True)
        for row, (token, is_broken) in zip(going, picks, strict=True):
            if is_broken:
                stopped[row] = "no number"
                continue
            added[row].append(token)
            if token in self._ends or len(added[row]) == self._room[row]:
                stopped[row] = self._continuer.why(added[row])
        left = [row for row in going if stopped.get(row) not in {"no number", "end of text"}]
        found = self._continuer.stops_at([added[row] for row in left])
        for row, has_stop in zip(left, found, strict=True):
            if has_stop:
                stopped[row] = "stop string"


def _moved_right(cache: DynamicCache, sizes: Tensor) -> tuple[DynamicCache, Tensor]:
    """Return a cache of rows that are padded on the right, padded on the left; and its mask.

    The padding is a copy of each row's first token, which is looked at by nothing: the mask,
    int64 (N, T), is 0 there.

    Args:
        cache: of all blocks, T tokens.
        sizes: int64 (N,): each row's own tokens.
    """
    width = int(sizes.max())
    slots = torch.arange(width, device=sizes.device) - width + sizes[:, None]
    pairs = ((layer.keys, layer.values) for layer in cache.layers)
    moved = cache_of(picked(pair, slots.clamp(min=0)) for pair in pairs)
    return moved, (slots >= 0).to(torch.int64)


@float32_products()
def continue_texts(job: GenerationJob, on_token: Progress = None) -> Manifest:
    """Generate from the prompts of some edits, unedited and edited, all together; return rows.

    Raises:
        ArtifactError: a file of updates is missing or has changed.
        ModelError: the model cannot be loaded.
        DeviceMemoryError: one text alone does not fit on the device.
    """
    clock = job.clock("continuations", job.model)
    store = ArtifactStore(job.results)
    loaded = load(job.model)
    continuer = Continuer(loaded, job.model.layer, job.n_new_tokens)
    unedited = list(dict.fromkeys(edit.prompt for edit in job.edits))
    edited = [edit.prompt for edit in job.edits]
    updates = [no_update(loaded.widths)] * len(unedited) + _updates_of(store, job)
    joined = RankOneUpdates(
        torch.cat([each.left for each in updates]), torch.cat([each.right for each in updates])
    )
    texts = continuer.texts([*unedited, *edited], joined, on_token)
    before = dict(zip(unedited, texts, strict=False))  # the edited ones' come behind
    rows = [
        ContinuationRow(
            edit_id=edit.edit_id,
            n_new_tokens=job.n_new_tokens,
            prompt=edit.prompt,
            text_before=before[edit.prompt],
            text_after=after,
        )
        for edit, after in zip(job.edits, texts[len(unedited) :], strict=True)
    ]
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


def _updates_of(store: ArtifactStore, job: GenerationJob) -> list[RankOneUpdates]:
    """Return the update of each edit, a batch of one; a batch's file is read once."""
    stored = {edit.updates: stored_updates(store, edit.updates) for edit in job.edits}
    return [
        stored[edit.updates][edit.method].rows(slice(edit.update_row, edit.update_row + 1))
        for edit in job.edits
    ]
