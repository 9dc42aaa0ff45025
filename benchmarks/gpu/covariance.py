"""C on a device: tokens a second of both sides, and the share of the device's product speed."""

import statistics
from collections.abc import Sequence
from itertools import islice

from torch import Tensor

from benchmarks import reference_measures
from benchmarks.gpu.case import GpuCase
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.floor import Speeds, covariance_floor
from benchmarks.gpu.measuring import once
from benchmarks.gpu.memory import peak_figures, say_peak
from benchmarks.gpu.reporting import Reporter
from editcollapse.covariance.second_moment import MomentSum, sum_keys
from editcollapse.covariance.shards import Shard, budgeted_rows, cut

FIGURES = (
    ("covariance, reference", "tokens/s"),
    ("covariance, ours", "tokens/s"),
    ("covariance, ratio", "x"),
    ("covariance, share of a plain product", "share"),
)
_LONGEST_S = 2.5
"""Of one run of ours at the speed of a plain product."""
_MOST, _LEAST = 1 << 17, 1 << 10
_WARM_UP = 64
"""Documents that run before any time is taken."""
_SHARD_TOKENS = 1 << 16
_REPEATS = 2
_ASSUMED_SHARE = 0.4
"""Of the product's speed that both sides together are assumed to reach, to plan repeats."""


def measure(case: GpuCase, speeds: Speeds, clock: Clock, report: Reporter) -> Tensor:
    """Return C, (K, K) float64 on the CPU; write the speed of both sides, in turn.

    Timed is what grows with tokens: forwards and sums of k kT, with the sums left on the device.
    Both sides have their tokens beforehand.
    """
    loaded = case.loaded
    budget = case.budget("moment")
    each_s = covariance_floor(loaded, case.layer, _MOST, speeds).seconds / _MOST
    wanted = min(_MOST, int(_LONGEST_S / each_s))
    rows = list(
        budgeted_rows(
            loaded.encoder,
            case.documents,
            n_tokens=max(_LEAST, 1 << (wanted.bit_length() - 1)),
            max_length=loaded.encoder.max_length,
        )
    )
    shards = list(cut(rows, _SHARD_TOKENS))
    n_tokens = sum(map(len, rows))
    total = MomentSum.empty(loaded.widths.d_key, case.device)

    def ours(some: Sequence[Shard]) -> None:
        for shard in some:
            (part,) = sum_keys(loaded, [case.layer], shard, budget)
            total.add_sum_(part)
            del part  # as in a study, whose units each sum one shard

    ours(list(cut(islice(rows, _WARM_UP), _SHARD_TOKENS)))
    mine, others = [], []
    once_s = n_tokens * each_s / _ASSUMED_SHARE
    for _ in range(_REPEATS if clock.fits(2 * _REPEATS * once_s) else 1):
        theirs = once(lambda: reference_measures.second_moment(case.published, rows), case.device)
        others.append(n_tokens / theirs.seconds)
        mine.append(n_tokens / once(lambda: ours(shards), case.device).seconds)
    rate, theirs_rate = statistics.median(mine), statistics.median(others)
    note = f"{n_tokens} tokens, layer {case.layer}, {len(mine)} repeats"
    report.say("covariance, reference", "tokens/s", theirs_rate, note)
    report.say("covariance, ours", "tokens/s", rate, note)
    report.say("covariance, ratio", "x", rate / theirs_rate, note)
    report.say("covariance, share of a plain product", "share", rate * each_s, note)
    report.attempt(peak_figures("moment"), lambda: _say_peak(case, budget, report), case.device)
    return total.mean()


def _say_peak(case: GpuCase, budget: int, report: Reporter) -> None:
    """Write the peak of a shard whose documents fill a forward, as the longest ones do."""
    length = case.loaded.encoder.max_length
    n_rows = max(1, budget // length)
    shard = Shard((tuple(range(length)),) * n_rows)
    cost = once(lambda: sum_keys(case.loaded, [case.layer], shard, budget), case.device)
    say_peak(case, "moment", n_rows * length, cost.peak_bytes, report)
