"""How much memory a forward takes, from sizes alone, and so how many tokens one may hold.

Three kinds of work run forwards: ``values`` (v*: with gradients through the blocks above the
edit), ``evaluation`` (edited models, without) and ``moment`` (keys of a corpus, up to the edit).
Each takes bytes that grow with the tokens of a forward, and bytes that do not. Loads no torch;
tests compare the figures with what autograd keeps, and docs/devices.md with measured peaks.

Numbers do not depend on the tokens of a forward beyond rounding.
"""

import dataclasses
from typing import Literal

from editcollapse.architectures import Widths

Work = Literal["values", "evaluation", "moment"]

_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
_CAPS_ON_CPU: dict[Work, int] = {"values": 8192, "evaluation": 4096, "moment": 4096}
"""Measured on two cores: larger forwards leave the cache, smaller ones wait for Python."""
_CAP_ELSEWHERE = 32768
"""Not measured: a batch that fills any accelerator."""
_SHARE_OF_FREE = 0.7
"""Of the free memory; the rest is for fragments and for what the estimate leaves out."""
_LEFT_PER_LIVE = 2
"""Tokens left of a subject's last one, for each live token: context prefixes and the prompt."""
_LEFT_COUNTS = 0.25
"""What such a token counts beside a live one (``rewrites.like_width_groups``)."""
_SCORED_PER_LIVE = 0.5
"""Positions whose logits the loss reads, for each live token."""
_LOGIT_COPIES = 4
"""Logits, log-probabilities, and the gradient of each."""
_ONE_KEY = frozenset({"gpt2", "gptj", "gpt_neo", "gpt_neox", "phi"})
"""Families whose MLP has no gate: a block keeps K numbers of it, not 3 K."""
_LOGITS = 1 << 24
"""Logits that ``perplexity`` holds at once, at most."""
_SUM_BYTES = 40
"""Bytes of each entry of C while it is summed and its first products are checked."""
_SHARE_FOR_WEIGHTS = 0.5
"""Of main memory; weights whose packed copies would take more are not packed."""
_SOLVER_BYTES = 24
"""Bytes of each entry of C in main memory: C, the damped matrix, and its Cholesky factor."""


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
    def n_keys(self) -> int:
        """Numbers as wide as a key that a block's MLP keeps: more where it has a gate."""
        return 1 if self.family in _ONE_KEY else 3

    @property
    def moment_bytes(self) -> int:
        """Bytes of C in main memory while a batch of edits solves with it."""
        return _SOLVER_BYTES * self.widths.d_key**2


def bytes_per_token(size: ModelSize, work: Work) -> int:
    """Return the bytes that one more padded token adds to a forward.

    For ``values`` tokens are counted as ``rewrites.like_width_groups`` counts them: a live one
    whole, one left of the subject's last token a quarter.
    """
    d, k = size.widths.d_model, size.widths.d_key
    states = (2 * d + k) * size.number
    running = (4 * d + (1 + size.n_keys) * k) * size.number + 2 * d * size.wide_number
    if work == "evaluation":
        return running + states
    if work == "moment":
        return running + states + k * (size.number + size.wide_number)
    live = size.n_above * _kept_by_block(size) + running + 2 * states
    live += int(_SCORED_PER_LIVE * _LOGIT_COPIES * size.widths.n_vocabulary * size.wide_number)
    left = size.n_above * _left_in_block(size)
    return int((live + _LEFT_PER_LIVE * left) / (1 + _LEFT_PER_LIVE * _LEFT_COUNTS))


def forward_bytes(size: ModelSize, work: Work, n_tokens: int) -> int:
    """Return the bytes on the device that a forward of so many padded tokens takes.

    The model's weights are not among them.
    """
    return _shared_bytes(size, work, n_tokens) + n_tokens * bytes_per_token(size, work)


def _shared_bytes(size: ModelSize, work: Work, n_tokens: int) -> int:
    """Return the bytes that do not grow with the tokens of a forward, or only up to a bound."""
    if work == "evaluation":
        # Each itself, as log-probability, and, where it is of a half type, widened.
        logit = 2 * size.wide_number + size.number * int(size.number < size.wide_number)
        return logit * min(_LOGITS, n_tokens * size.widths.n_vocabulary)
    return _SUM_BYTES * size.widths.d_key**2 if work == "moment" else 0


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
    room = int(_SHARE_OF_FREE * free) - _shared_bytes(size, work, cap)
    return max(1, min(cap, room // bytes_per_token(size, work)))


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


def _left_in_block(size: ModelSize) -> int:
    """Return the bytes that a block above the edit holds of a token left of the live ones.

    Its key and value three times: as computed once, chosen for the edits that still run, and
    joined to those of the live tokens.
    """
    return 6 * size.widths.d_model * size.number


def _kept_by_block(size: ModelSize) -> int:
    """Return the bytes that a block above the edit keeps of a live token for the backward pass.

    A bound over the families, measured: six D in the type of the weights and four in float32
    (norms that widen), two for keys and values joined to those on the left, and K once, or three
    times where the MLP has a gate.
    """
    d, k = size.widths.d_model, size.widths.d_key
    return (8 * d + size.n_keys * k) * size.number + 4 * d * size.wide_number
