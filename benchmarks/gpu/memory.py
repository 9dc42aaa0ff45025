"""Peak memory of a piece of work beside the estimate that ``plan`` prints."""

from benchmarks.gpu.case import GpuCase
from benchmarks.gpu.reporting import Reporter
from editcollapse.evaluation.perplexity import EncodedTexts
from editcollapse.runtime.memory import Work, forward_bytes

_NAMES: dict[Work, str] = {"values": "v*", "evaluation": "perplexity", "moment": "covariance"}
_GIB = 1 << 30


def peak_figures(work: Work) -> tuple[tuple[str, str], ...]:
    """Return what and unit of the figures that ``say_peak`` writes."""
    name = _NAMES[work]
    return (
        (f"peak memory, {name}", "GiB"),
        (f"peak memory, {name}, measured over estimated", "x"),
    )


def largest_forward(texts: EncodedTexts, tokens_per_forward: int, n_updates: int) -> int:
    """Return the padded tokens of the largest forward of ``perplexity.text_nll``.

    Args:
        texts: that it measures on.
        tokens_per_forward: that it may take.
        n_updates: edited models.
    """
    largest = 0
    for _, group in texts.groups(tokens_per_forward, n_updates):
        once = len(group) * (len(group[-1]) - 1)  # a text's last token does not run
        largest = max(largest, min(n_updates, max(1, tokens_per_forward // once)) * once)
    return largest


def say_peak(
    case: GpuCase, work: Work, n_tokens: int, peak_bytes: int | None, report: Reporter
) -> None:
    """Write a peak, weights included, and what it is of the estimate.

    Args:
        case: the model.
        work: what ran.
        n_tokens: of the largest forward, as the estimate counts them.
        peak_bytes: on top of the weights; None on a CPU, where it is not measured.
        report: of the case.
    """
    if peak_bytes is None:
        report.leave_out(peak_figures(work), "device memory is measured on CUDA")
        return
    estimate = forward_bytes(case.loaded.size(case.layer), work, n_tokens)
    note = f"{n_tokens} tokens; estimate {estimate / _GIB:.2f} GiB on top of the weights"
    (peak, unit), (ratio, of) = peak_figures(work)
    whole = case.weight_bytes + peak_bytes
    report.say(peak, unit, whole / _GIB, note)
    report.say(ratio, of, whole / (case.weight_bytes + estimate), note)
