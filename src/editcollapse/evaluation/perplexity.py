"""Perplexity of many independently edited models on a fixed text set.

Source: Collapse-in-Model-Editing ppl.py (arXiv 2406.11263): no start token, the first token of a
text is never scored, a text's perplexity is exp of its mean token NLL, and the set's is the
arithmetic mean over texts. Texts are sorted by length instead of padded to the longest, and the
head never holds the logits of many states at once.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from editcollapse.data.requests import Rejection
from editcollapse.errors import DatasetError
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.models.loading import LoadedModel, widened
from editcollapse.models.tokenization import Encoder, pad_right
from editcollapse.rome.edited_model import EditedRows, Updates
from editcollapse.runtime.memory import LOGITS
from editcollapse.runtime.oom import GroupLimit, oom_split

_LOGITS_ON_CPU = 6 << 20
"""Logits of one product: more leave a processor's cache before they are summed."""
_STATES = 2048
"""States of one product at most."""


@torch.no_grad()
def label_nll(loaded: LoadedModel, hidden: Tensor, labels: Tensor) -> Tensor:
    """Return -log p of each label, (M,), float32 or better, nats.

    Args:
        loaded: the model whose head reads the states.
        hidden: (M, D) states after the final norm.
        labels: int64 (M,).
    """
    budget = _LOGITS_ON_CPU if hidden.device.type == "cpu" else LOGITS
    size = max(1, min(_STATES, budget // max(1, loaded.widths.n_vocabulary)))
    parts = []
    for states, goal in zip(torch.split(hidden, size), torch.split(labels, size), strict=True):
        logits = widened(loaded.logits(states))
        # In place: fresh memory costs more than the sum.
        torch.log_softmax(logits, dim=-1, out=logits)
        parts.append(-logits.gather(1, goal[:, None])[:, 0])
        del logits  # not kept while the next are made
    return torch.cat(parts)


def states_per_head(loaded: LoadedModel) -> int:
    """Return the number of states that the head reads at once where all logits are needed."""
    return max(1, LOGITS // max(1, loaded.widths.n_vocabulary))


_SCORABLE = 2
_ENOUGH = 4
"""One over the share of a full forward that keeps a device busy."""


@dataclasses.dataclass(frozen=True, slots=True)
class EncodedTexts:
    """A text set in tokens, sorted by length."""

    rows: tuple[tuple[int, ...], ...]
    rejections: tuple[Rejection, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens that are scored: all but each text's first."""
        return sum(len(row) - 1 for row in self.rows)

    def groups(
        self, tokens_per_forward: int, n_updates: int
    ) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
        """Yield the index of a group's first row and the group.

        A group holds texts of one length, so that nothing is padded, unless it would be too small
        to keep the device busy.

        Args:
            tokens_per_forward: padded tokens of a group at most.
            n_updates: models that every group runs under.
        """
        enough = tokens_per_forward // _ENOUGH
        start, group = 0, list[tuple[int, ...]]()
        for index, row in enumerate(self.rows):
            full = (len(group) + 1) * len(row) > tokens_per_forward
            longer = bool(group) and len(row) > len(group[0])
            if group and (full or (longer and sum(map(len, group)) * n_updates >= enough)):
                yield start, group
                start, group = index, []
            group.append(row)
        yield start, group


@dataclasses.dataclass(frozen=True, slots=True)
class Perplexity:
    """Of one model on a text set; ``inf`` and ``nan`` are kept as measured."""

    mean: float
    """Arithmetic mean over texts: the collapse papers' figure."""
    median: float
    max: float
    nll_mean: float
    """Mean over texts of the mean token NLL, nats."""


def encode_texts(encoder: Encoder, texts: Sequence[str]) -> EncodedTexts:
    """Return texts in tokens, without a start token; those that cannot be scored are rejected.

    Raises:
        DatasetError: no text can be scored.
    """
    rows, rejections = [], []
    for index, (text, ids) in enumerate(zip(texts, encoder.encode_many(texts), strict=True)):
        if len(ids) < _SCORABLE:
            reason = (
                f"text {text[:40]!r} has {len(ids)} token: the first is never scored, so two "
                "are needed"
            )
        elif len(ids) > encoder.max_length:
            reason = (
                f"text {text[:40]!r} has {len(ids)} tokens, the model takes {encoder.max_length}"
            )
        else:
            rows.append(ids)
            continue
        rejections.append(Rejection(index, None, reason))
    if not rows:
        first = rejections[0].reason if rejections else "it is empty"
        raise DatasetError(
            f"no text of the set can be scored by {encoder.source}: {first}. Name other texts."
        )
    return EncodedTexts(tuple(sorted(rows, key=len)), tuple(rejections))


@torch.inference_mode()
def text_nll(
    hooked: HookedLayer,
    texts: EncodedTexts,
    updates: Updates,
    tokens_per_forward: int = 4096,
    on_group: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return the mean token NLL of every text under every independently edited model.

    The blocks up to the edited one run once for all edits; the weights are never touched.

    Args:
        hooked: the edited layer.
        texts: N texts.
        updates: E updates.
        tokens_per_forward: padded tokens in one forward at most.
        on_group: called with texts done and all texts.

    Returns:
        (E, N) float64 on the CPU, nats, texts in their order.

    Raises:
        DeviceMemoryError: one text under one model does not fit on the device.
    """
    result = torch.empty((len(updates), len(texts.rows)), dtype=torch.float64)
    few_texts = GroupLimit(hooked.loaded.device, "perplexity of one text")
    few_updates = GroupLimit(hooked.loaded.device, "perplexity of one edited model")

    def run(rows: Sequence[tuple[int, ...]]) -> Tensor:
        return _rows_nll(hooked, rows, updates, tokens_per_forward, few_updates)

    for start, group in texts.groups(tokens_per_forward, len(updates)):
        done = start
        for rows, nll in oom_split(group, run, few_texts, _padded):
            result[:, done : done + len(rows)] = nll
            done += len(rows)
        if on_group is not None:
            on_group(done, len(texts.rows))
    return result


def _rows_nll(
    hooked: HookedLayer,
    rows: Sequence[tuple[int, ...]],
    updates: Updates,
    tokens_per_forward: int,
    limit: GroupLimit,
) -> Tensor:
    """Return the mean token NLL of some texts under every model, (E, n) float64 on the CPU."""
    device = hooked.loaded.device
    # A text's last token is predicted and predicts nothing: it does not run.
    ids = pad_right([row[:-1] for row in rows], device)
    edited = EditedRows(hooked, hooked.read(ids))
    n_rows, width = ids.shape
    scored = torch.tensor([len(row) - 1 for row in rows], device=device)
    real = torch.arange(width, device=device) < scored[:, None]  # (n, T)
    is_padded = not bool(real.all())
    labels = pad_right([row[1:] for row in rows], device)[real]
    owner = torch.arange(n_rows, device=device)[:, None].expand_as(real)[real].cpu()

    def run(index: Sequence[int]) -> Tensor:
        some = updates.rows(slice(index[0], index[-1] + 1))
        hidden = edited.under_each(some)  # (e·n, T, D)
        if not is_padded:
            hidden = hidden.flatten(0, 1)
        else:
            hidden = hidden.view(len(some), n_rows, width, -1)[:, real].flatten(0, 1)
        nll = label_nll(hooked.loaded, hidden, labels.repeat(len(some)))
        sums = torch.zeros((len(some), n_rows), dtype=torch.float64)
        sums.index_add_(1, owner, nll.view(len(some), -1).cpu().double())
        return sums / scored.cpu()

    size = max(1, tokens_per_forward // ids.numel())
    parts: list[Tensor] = []
    for first in range(0, len(updates), size):
        index = range(first, min(first + size, len(updates)))
        found = oom_split(index, run, limit, lambda some: len(some) * ids.numel())
        parts.extend(nll for _, nll in found)
    return torch.cat(parts)


def _padded(rows: Sequence[tuple[int, ...]]) -> int:
    """Return the padded tokens of some texts, short ones first."""
    return len(rows) * len(rows[-1])


def perplexities(nll: Tensor) -> list[Perplexity]:
    """Return the figures of each model.

    Args:
        nll: (E, N) float64, mean token NLL of N texts under E models, nats.
    """
    per_text = nll.exp()
    # Not quantile(): it interpolates, and between two infinities it finds a nan.
    ordered = per_text.sort(dim=1).values
    n_texts = per_text.shape[1]
    middle = ordered[:, (n_texts - 1) // 2] / 2 + ordered[:, n_texts // 2] / 2
    middle = middle.where(~per_text.isnan().any(dim=1), torch.nan)
    columns = (per_text.mean(dim=1), middle, per_text.max(dim=1).values, nll.mean(dim=1))
    return [Perplexity(*map(float, row)) for row in zip(*columns, strict=True)]
