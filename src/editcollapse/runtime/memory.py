"""Memory of a forward, estimated from sizes alone, and the tokens that one may hold.

Four kinds of work run forwards: ``values`` (v*: with gradients through the blocks above the
edit), ``answers`` (edited models, each on rows of its own), ``evaluation`` (many edited models on
the same rows; keys) and ``moment`` (keys of a corpus, up to the edit). What each holds at its
fullest moment is added up here, tensor by tensor. Loads no torch; tests compare the sums with the
bytes of all live tensors.

Numbers do not depend on the tokens of a forward beyond rounding.
"""

import dataclasses
from bisect import bisect_right
from typing import Literal

from editcollapse.catalog.architectures import Widths

Work = Literal["values", "answers", "evaluation", "moment"]

_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
_CAPS_ON_CPU: dict[Work, int] = {
    "values": 8192,
    "answers": 4096,
    "evaluation": 4096,
    "moment": 4096,
}
"""Measured on two cores: larger forwards leave the cache, smaller ones wait for Python."""
_CAP_ELSEWHERE = 32768
"""Not measured: a batch that fills any accelerator."""
_SHARE_OF_FREE = 0.8
"""Of the free memory; the rest is for fragments, libraries' workspaces and unusual texts."""

# A token of v* as ``rewrites.Rewrite.pass_tokens`` counts them, counted on requests in the lengths
# of CounterFact with 21 templates.
_SUFFIX = 0.6
"""Suffix tokens of one counted token."""
_ROWS_PER_SUFFIX = 0.25
"""Rows, and so tokens whose logits are read, for each suffix token."""
_NEAR_PER_SUFFIX = 3.0
"""Own and suffix tokens beside each other, with padding, for each suffix token."""
_PREFIX_PER_SUFFIX = 4.2
"""Tokens left of a row's subject, shared ones included and padded, for each suffix token."""
_KEYS_PER_QUERY = 22
"""Tokens that a suffix token looks at, with padding."""
_KL_COPIES = 0.2
"""Of all rows read: the KL rows' log-probabilities, before and now, their difference, a copy."""

_HEAD_WIDTH = 64
"""Numbers of one head, a guess where only D is known; small, so that scores are not too few."""
_OWN_ATTENTION = frozenset({"gptj", "gpt_neo"})
"""Families that v* runs with their own attention: caches of all left tokens, keys in float32."""
_EAGER_HEADS = {"gptj": 256, "gpt_neo": 128, "gemma2": 256}
"""Families without a kernel for attention, whose scores are tensors: numbers of one head."""
_CAPPED_HEAD = frozenset({"gemma2"})
"""Families that bend their logits: one more copy."""
_EAGER_TEXT = 1024
"""Tokens of a corpus's document at most, unless a study says otherwise: each has a score."""
_EAGER_SCORES = 3
"""Copies of a score at once."""
LOGITS = 1 << 24
"""Logits that ``head`` holds at once on an accelerator, and ``answers`` anywhere, at most."""
_ASKED_SHARE = 0.1
"""Of the tokens of questions: those whose logits are read."""
SPLIT_TOKENS = 2048
"""Tokens of one forward of the part of v* that runs once (``suffix``)."""
_SPLIT_PER_COUNTED = 1.3
"""Tokens of that part for each counted one."""
_SUMMED_SHARE = 0.625
"""Of the entries of C: those that the row slabs of its upper triangle hold (``sums``)."""
_SLAB_SHARE = 0.25
"""Of the entries of C: those of the largest slab."""
_SHARE_FOR_WEIGHTS = 0.5
"""Of main memory; weights whose packed copies would take more are not packed."""
_SOLVER_BYTES = 45
"""Bytes of each entry of C in main memory while a forecast takes it into its halves: C's factor, C,
a half's sum, and both means. Edits alone take half of it."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Kept:
    """Activations that a block above the edit keeps per suffix token for the backward pass."""

    states: int
    """Numbers as wide as D in the type of the weights: inputs of norms, the query."""
    widened: int
    """The same in float32: inputs of norms that widen."""
    keys: int
    """Numbers as wide as K in the type of the weights: three where the MLP has a gate."""
    running_keys: int = 2
    """Numbers as wide as K at once where nothing is kept."""
    is_parallel: bool = False
    """Whether the MLP reads the block's input, as attention does."""


_RMS_GATED = _Kept(1, 2, 3, 3)
_KEPT = {
    "gpt2": _Kept(3, 0, 1),
    "gpt_neo": _Kept(3, 0, 1),
    "gpt_neox": _Kept(3, 0, 1, is_parallel=True),
    "gptj": _Kept(2, 0, 1, is_parallel=True),
    "phi": _Kept(2, 0, 1, is_parallel=True),
    "phi3": _Kept(1, 2, 3, 4),
    "qwen3": _Kept(1, 4, 3, 3),
    "gemma2": _Kept(1, 4, 3, 3),
    "gemma3_text": _Kept(1, 6, 3, 3),
}
"""By family; others are as Llama."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelSize:
    """A model and its edited layer, as far as memory depends on them."""

    family: str
    widths: Widths
    layer: int
    dtype: str
    """Of the weights."""

    @property
    def n_above(self) -> int:
        """Blocks above the edited one."""
        return self.widths.n_layers - self.layer - 1

    @property
    def number(self) -> int:
        """Bytes of one number in the type of the weights."""
        return _BYTES[self.dtype]

    @property
    def wide_number(self) -> int:
        """Bytes of one number of keys, deltas and logits: float32 or better."""
        return max(4, self.number)

    @property
    def kept(self) -> _Kept:
        """What a block keeps of a token for the backward pass."""
        return _KEPT.get(self.family, _RMS_GATED)

    @property
    def moment_bytes(self) -> int:
        """Bytes of C in main memory while edits are forecast."""
        return _SOLVER_BYTES * self.widths.d_key**2


def forward_bytes(size: ModelSize, work: Work, n_tokens: int) -> int:
    """Return the bytes on the device that a forward of so many padded tokens takes at its fullest.

    The model's weights are not among them. For ``values`` tokens are counted as
    ``rewrites.Rewrite.pass_tokens`` counts them.
    """
    match work:
        case "values":
            return int(_values_bytes(size, n_tokens))
        case "moment":
            return int(_moment_bytes(size, n_tokens))
        case _:
            return _edited_bytes(size, n_tokens, is_asked=work == "answers")


def default_tokens(size: ModelSize, work: Work, device_type: str, free: int | None) -> int:
    """Return the padded tokens that one forward may hold, at least one.

    Args:
        size: the loaded model.
        work: what runs.
        device_type: ``cpu`` or an accelerator's.
        free: free bytes of the device with the model loaded; None where nobody knows: then the
            cap of the device decides.
    """
    cap = _CAPS_ON_CPU[work] if device_type == "cpu" else _CAP_ELSEWHERE
    if free is None:
        return cap
    room = int(_SHARE_OF_FREE * free)
    fitting = bisect_right(range(cap + 1), room, key=lambda n: forward_bytes(size, work, n))
    return max(1, fitting - 1)


def _values_bytes(size: ModelSize, n_tokens: int) -> float:
    """Return the bytes of v*: its first part, which runs once, or a pass at its fullest.

    A pass is fullest at the logits, or where the backward pass enters the last whole block.
    """
    d, number = size.widths.d_model, size.number
    n_suffix = _SUFFIX * n_tokens
    logit = size.wide_number + (number if number < size.wide_number else 0)
    logits = size.widths.n_vocabulary * (logit + _KL_COPIES * size.wide_number) * _ROWS_PER_SUFFIX
    block = _kept_by_block(size)
    n_whole = max(0, size.n_above - 1)
    if size.family in _OWN_ATTENTION:
        prefix, last = 2 * d * number * _PREFIX_PER_SUFFIX, block
    else:
        # The last block runs for the tokens that are read.
        prefix, last = 2 * d * number * _NEAR_PER_SUFFIX, _ROWS_PER_SUFFIX * block
    row = _ROWS_PER_SUFFIX * size.widths.d_key * (number + size.wide_number)
    held = size.n_above * prefix + _block_input_bytes(size) + 2 * d * number + row
    a_pass = n_whole * block + max(last + logits, _backward_bytes(size))
    some = min(SPLIT_TOKENS, _SPLIT_PER_COUNTED * n_tokens)
    per_split = 2 * d * number * size.widths.n_layers + _running_bytes(size)
    return n_suffix * held + max(n_suffix * a_pass, some * per_split)


def _base_bytes(size: ModelSize) -> int:
    """Return the bytes of a token's unedited states, which edited models start from.

    Under many updates they are held once for all, and count for nothing.
    """
    d = size.widths.d_model
    found = d * size.number + size.widths.d_key * size.wide_number
    if size.number < size.wide_number:
        return found
    return found + d * size.number + _block_input_bytes(size)


def _edited_bytes(size: ModelSize, n_tokens: int, *, is_asked: bool) -> int:
    """Return the bytes of edited models: a block, the first one's input, or the logits.

    Args:
        size: the model.
        n_tokens: of all rows under all models.
        is_asked: whether each row runs under one model and few of its tokens are read.
    """
    d = size.widths.d_model
    running = _running_bytes(size)
    if size.number >= size.wide_number:
        states = 7 if size.family in _OWN_ATTENTION else 5
        running = max(running, states * d * size.number + _block_input_bytes(size))
    # Widened; then log-probabilities take their place, or stand beside them where both are read.
    logit = size.wide_number + (size.number if size.number < size.wide_number else 0)
    if is_asked:
        logit = 2 * size.wide_number
    if size.family in _CAPPED_HEAD:
        logit += size.wide_number
    n_read = int(_ASKED_SHARE * n_tokens) if is_asked else n_tokens
    logits = logit * min(LOGITS, n_read * size.widths.n_vocabulary)
    base = _base_bytes(size) if is_asked else 0
    return n_tokens * base + max(n_tokens * running, n_tokens * d * size.number + logits)


def _moment_bytes(size: ModelSize, n_tokens: int) -> float:
    """Return the bytes of a covariance: its sums, and a block, or keys that are checked."""
    d, k = size.widths.d_model, size.widths.d_key
    keys = n_tokens * k * size.wide_number
    running = _running_bytes(size)
    if size.family in _EAGER_HEADS:
        score = d // _EAGER_HEADS[size.family] * _EAGER_TEXT * _BYTES["float32"]
        running = max(running, 5 * d * size.wide_number + _EAGER_SCORES * score)
    sums = _SUMMED_SHARE * k**2 * (size.wide_number + _BYTES["float64"])
    checked = 0.0
    if size.wide_number < _BYTES["float64"]:
        slab = _SLAB_SHARE * k**2 * _BYTES["float64"]
        checked = keys + max(slab, n_tokens * k * _BYTES["float64"])
    return sums + max(n_tokens * running, checked)


def loaded_bytes(weight_bytes: int, stored: str, dtype: str) -> int:
    """Return the size of the weights in the type that they are loaded in.

    Args:
        weight_bytes: their size on disk.
        stored: the type on disk, as ``config.json`` says; anything unknown counts as float32.
        dtype: the type asked for.
    """
    return weight_bytes * _BYTES[dtype] // _BYTES.get(stored, _BYTES["float32"])


def packed_bytes(weight_bytes: int, dtype: str, device_type: str, host: int | None) -> int:
    """Return the bytes of the packed copies of weights (``products``), at most; 0 without any.

    float32 weights on a CPU are packed, once for each direction, unless weights and copies together
    would take over half of main memory.

    Args:
        weight_bytes: size of the loaded weights.
        dtype: their type.
        device_type: ``cpu`` or an accelerator's.
        host: main memory of this machine, used or not; None where nobody knows.
    """
    copies = 2 * weight_bytes
    if device_type != "cpu" or dtype != "float32" or host is None:
        return 0
    return copies if weight_bytes + copies <= _SHARE_FOR_WEIGHTS * host else 0


def _running_bytes(size: ModelSize) -> int:
    """Return the bytes of a token in a block that runs without gradients.

    At its MLP: the stream where the forward began, before and behind attention, the normed stream,
    what attention gave, and all of the MLP. Or at an attention that widens queries and keys.
    """
    d, k = size.widths.d_model, size.widths.d_key
    states = 4 if size.kept.keys > 1 else 5
    found = (states * d + size.kept.running_keys * k) * size.number
    if size.family in _OWN_ATTENTION:
        return max(found, 5 * d * size.number + 6 * d * size.wide_number)
    return found


def _backward_bytes(size: ModelSize) -> int:
    """Return the bytes of a token where the gradient is in a block's MLP: kept and new ones."""
    d, k = size.widths.d_model, size.widths.d_key
    has_gate = size.kept.keys > 1
    return ((7 * d + 3 * k) if has_gate else (3 * d + 2 * k)) * size.number


def _block_input_bytes(size: ModelSize) -> int:
    """Return the bytes of a token's products at the entry of the block above the edit."""
    d, k = size.widths.d_model, size.widths.d_key
    return (3 * d + k * int(size.kept.is_parallel)) * size.number


def _kept_by_block(size: ModelSize) -> float:
    """Return the bytes that a block above the edit keeps per suffix token for the backward."""
    d, k, kept = size.widths.d_model, size.widths.d_key, size.kept
    found = (kept.states * d + kept.keys * k) * size.number + kept.widened * d * size.wide_number
    if size.family not in _OWN_ATTENTION:
        return found + _KEYS_PER_QUERY * d / _HEAD_WIDTH * size.number
    # Prefix and suffix keys and values joined; keys, and the query, are kept as they are widened.
    joined = 1 + _PREFIX_PER_SUFFIX
    if size.number < size.wide_number:
        found += d * (size.wide_number - size.number)
    return found + joined * d * (size.number + size.wide_number)
