"""C on a device: tokens a second of both sides, and the share of the device's product speed."""

import statistics

from torch import Tensor

from benchmarks import reference_measures
from benchmarks.gpu.case import GpuCase
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.floor import Speeds, covariance_floor
from benchmarks.gpu.measuring import once
from benchmarks.gpu.memory import say_peak
from benchmarks.gpu.reporting import Reporter
from editcollapse.devices import tokens_per_forward
from editcollapse.moments import measure_moment

FIGURES = (
    ("covariance, reference", "tokens/s"),
    ("covariance, ours", "tokens/s"),
    ("covariance, ratio", "x"),
    ("covariance, share of a plain product", "share"),
)
_LONGEST_S = 2.5
"""Of one run of ours at the speed of a plain product."""
_MOST, _LEAST = 1 << 17, 1 << 10
_WARM_UP = 1 << 12
_REPEATS = 2
_ASSUMED_SHARE = 0.4
"""Of the product's speed that both sides together are assumed to reach, to plan repeats."""


def measure(case: GpuCase, speeds: Speeds, clock: Clock, report: Reporter) -> Tensor:
    """Return C, (K, K) float64 on the CPU; write the speed of both sides, in turn."""
    loaded = case.loaded
    budget = tokens_per_forward(case.device, loaded.size(case.layer), "moment")
    each_s = covariance_floor(loaded, case.layer, _MOST, speeds).seconds / _MOST
    n_tokens = min(_MOST, len(case.documents) and _held(case), int(_LONGEST_S / each_s))
    n_tokens = max(_LEAST, 1 << (n_tokens.bit_length() - 1))
    found: list[Tensor] = []

    def ours(n: int = n_tokens) -> None:
        moment = measure_moment(
            loaded,
            case.layer,
            case.documents,
            n_tokens=n,
            max_length=loaded.encoder.max_length,
            tokens_per_batch=budget,
        )
        found[:] = [moment.matrix]

    rows = list(
        reference_measures.tokenised(
            loaded.encoder.encode, case.documents, loaded.encoder.max_length, n_tokens
        )
    )

    def theirs() -> None:
        reference_measures.second_moment(case.published, rows)

    ours(min(_WARM_UP, n_tokens))
    mine, others, peaks = [], [], []
    once_s = n_tokens * each_s / _ASSUMED_SHARE
    for _ in range(_REPEATS if clock.fits(4 * _REPEATS * once_s) else 1):
        others.append(n_tokens / once(theirs, case.device).seconds)
        cost = once(ours, case.device)
        mine.append(n_tokens / cost.seconds)
        peaks.append(cost.peak_bytes)
    rate, theirs_rate = statistics.median(mine), statistics.median(others)
    note = f"{n_tokens} tokens, layer {case.layer}, {len(mine)} repeats"
    report.say("covariance, reference", "tokens/s", theirs_rate, note)
    report.say("covariance, ours", "tokens/s", rate, note)
    report.say("covariance, ratio", "x", rate / theirs_rate, note)
    report.say("covariance, share of a plain product", "share", rate * each_s, note)
    say_peak(case, "moment", min(budget, n_tokens), peaks[-1], report)
    return found[0]


def _held(case: GpuCase) -> int:
    """Return the tokens of the case's documents."""
    return sum(len(ids) for ids in case.loaded.encoder.encode_many(list(case.documents)))
