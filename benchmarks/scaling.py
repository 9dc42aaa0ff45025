"""Time of an edit as batch and text set grow, and the effect of our batch."""

from torch.profiler import ProfilerActivity, profile

from benchmarks import ours, reference, reference_measures
from benchmarks.cases import Case
from benchmarks.machine import timed
from benchmarks.results import Operator, Results, Scaled, Spread
from benchmarks.works import ONE_METHOD, Size
from editcollapse.catalog.presets import ValueSettings
from editcollapse.evaluation.perplexity import encode_texts

BATCHES = (1, 4, 16, 64)
TEXTS = (10, 50, 200)
_TOP = 12


def batches(case: Case, size: Size, found: Results) -> None:
    """Measure our seconds an edit, v* and update, for batches of one edit and more."""
    for n_edits in BATCHES:
        if n_edits > size.n_ours:
            continue
        requests = case.inputs.requests[:n_edits]
        seconds = [
            timed(lambda: ours.edit(case, requests, ONE_METHOD), case.loaded.device)  # noqa: B023
            for _ in range(size.repeats)
        ]
        spread = Spread.of([each / n_edits for each in seconds])
        found.scaled.append(Scaled(case.name, "edits in a batch", n_edits, None, spread))


def texts(case: Case, size: Size, found: Results) -> None:
    """Measure both sides' seconds for the perplexity of an edited model, in turn."""
    updates = ours.edit(case, case.inputs.requests[: size.n_ours], ONE_METHOD)["rome"]
    one = reference.Update(updates.left[0], updates.right[0])
    device = case.loaded.device
    for n_texts in TEXTS:
        if n_texts > len(case.inputs.texts):
            continue
        some = encode_texts(case.loaded.encoder, case.inputs.texts[:n_texts])

        def theirs() -> None:
            with reference.edited(case.published, one):
                reference_measures.text_nll(case.published, some.rows)  # noqa: B023

        spent: tuple[list[float], list[float]] = ([], [])
        for _ in range(size.repeats):
            spent[0].append(timed(theirs, device))
            whole = timed(lambda: ours.measure(case, updates, some), device)  # noqa: B023
            spent[1].append(whole / len(updates))
        spreads = Spread.of(spent[0]), Spread.of(spent[1])
        found.scaled.append(Scaled(case.name, "texts", n_texts, *spreads))


def operators(case: Case, size: Size, found: Results) -> None:
    """Add the operators that take most of the time of one of our batches."""
    requests = case.inputs.requests[: size.n_ours]
    on_gpu = case.loaded.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as recorded:
        updates = ours.edit(case, requests, ONE_METHOD)["rome"]
        ours.measure(case, updates, case.texts)
    events = recorded.key_averages()
    time_of = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    spent = {event.key: getattr(event, time_of) / 1e6 for event in events}
    calls = {event.key: event.count for event in events}
    total = sum(spent.values())
    for name in sorted(spent, key=lambda key: -spent[key])[:_TOP]:
        share = spent[name] / total
        found.operators.append(Operator(case.name, name, calls[name], spent[name], share))


def warm_up(case: Case) -> None:
    """Run both sides once, so that no first call is timed: two passes of one edit, the texts."""
    few = ValueSettings(steps=2)
    short = case.with_values(few)
    request = case.inputs.requests[0]
    updates = ours.edit(short, [request], ONE_METHOD)["rome"]
    ours.measure(case, updates, case.texts)
    rewrite = ours.rewrite(case, request)
    update = reference.edit(case.published, rewrite, "rome", case.inverse, few)
    with reference.edited(case.published, update):
        reference_measures.text_nll(case.published, case.texts.rows)
