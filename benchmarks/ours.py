"""Our side: the very functions that the tasks call, with the jobs that a study gives them."""

from collections.abc import Sequence

from torch import Tensor

from benchmarks.cases import Case
from editcollapse.covariance.second_moment import measure_moment
from editcollapse.data.requests import EditRequest
from editcollapse.evaluation.perplexity import EncodedTexts, text_nll
from editcollapse.forward.hooked_layer import HookedLayer
from editcollapse.forward.keys import read_keys
from editcollapse.forward.rewrites import Rewrite, build_rewrite, build_rewrites
from editcollapse.rome.updates import RankOneUpdates
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.memory import Work
from editcollapse.study.jobs import EditJob, ForecastJob
from editcollapse.units.edit import edit_batch, stored_updates
from editcollapse.units.forecast import forecast_batch


def edit_job(case: Case, requests: Sequence[EditRequest], methods: tuple[str, ...]) -> EditJob:
    """Return the job of one batch, as ``plan`` makes it."""
    return EditJob(
        results=str(case.results),
        model=case.setup,
        methods=methods,
        templates=case.inputs.templates,
        template_set_id="benchmark",
        covariance_id=f"benchmark {case.moment.digest}",
        damping=0.0,
        moment=case.moment,
        requests=tuple(requests),
        batch_index=0,
        batch_label="benchmark",
    )


def rewrite(case: Case, request: EditRequest) -> Rewrite:
    """Return a request in tokens: the rows that both sides edit."""
    return build_rewrite(case.loaded.encoder, case.inputs.templates, request)


def edit(
    case: Case, requests: Sequence[EditRequest], methods: tuple[str, ...]
) -> dict[str, RankOneUpdates]:
    """Return the updates of a batch by method: the unit ``edit_batch``, its files included."""
    done = edit_batch(edit_job(case, requests, methods))
    assert not done.unusable, done.unusable
    assert done.tensors is not None
    return stored_updates(case.store, done.tensors)


def keys(case: Case, requests: Sequence[EditRequest]) -> tuple[Tensor, Tensor]:
    """Return the bare and the prefixed key of each subject, (B, K) float64 on the CPU each."""
    rewrites, _ = build_rewrites(case.loaded.encoder, case.inputs.templates, requests)
    found = read_keys(HookedLayer(case.loaded, case.layer), rewrites, _budget(case, "evaluation"))
    return found.bare_key.cpu().double(), found.prefixed_key.cpu().double()


def forecast(case: Case, requests: Sequence[EditRequest]) -> int:
    """Forecast a batch by every method, the unit ``forecast_batch``; return how many requests."""
    done = forecast_batch(ForecastJob.of(edit_job(case, requests, ("rome",))))
    assert not done.unusable, done.unusable
    return len(requests)


def measure(case: Case, updates: RankOneUpdates, texts: EncodedTexts) -> Tensor:
    """Return the mean token NLL of every text under every edited model, float64 (E, N), nats."""
    hooked = HookedLayer(case.loaded, case.layer)
    return text_nll(hooked, texts, updates, _budget(case, "evaluation"))


def moment(case: Case, documents: Sequence[str], n_tokens: int) -> Tensor:
    """Return C over the first tokens of some documents, (K, K) float64 on the CPU."""
    found = measure_moment(
        case.loaded,
        case.layer,
        documents,
        n_tokens=n_tokens,
        max_length=case.loaded.encoder.max_length,
        tokens_per_batch=_budget(case, "moment"),
    )
    assert found.n_tokens == n_tokens
    return found.matrix


def _budget(case: Case, work: Work) -> int:
    """Return the tokens of one forward, as the units choose them."""
    return tokens_per_forward(case.loaded.device, case.loaded.size(case.layer), work)
