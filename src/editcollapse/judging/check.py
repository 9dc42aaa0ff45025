"""One check from end to end: differences, the change on text, and both models on texts and facts.

Weights are compared from their files; one model at a time is loaded, the unedited one first. An
adapter and a delta are added to its weights in the type that they run in, as merging would.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from editcollapse.config.check import NO_COVARIANCE
from editcollapse.covariance.samples import own_texts
from editcollapse.covariance.shards import budgeted_rows
from editcollapse.covariance.statistics import read_statistics
from editcollapse.errors import ModelError, MomentError
from editcollapse.evaluation.perplexity import encode_texts
from editcollapse.judging.changes import Change, OtherWeights, read_delta, read_lora
from editcollapse.judging.differences import (
    TensorDifference,
    differences,
    ratio,
    whole_difference,
    whole_weight,
)
from editcollapse.judging.findings import (
    CheckFindings,
    MeasuredTexts,
    RequestScores,
    TensorChange,
    forecast_change,
)
from editcollapse.judging.input_moments import InputMoment, input_moments, text_change
from editcollapse.judging.inputs import CheckInputs
from editcollapse.judging.measuring import answers_to, perplexity_on, probes_of, scored
from editcollapse.judging.weights import (
    LoadedWeights,
    ModelWeights,
    StoredWeights,
    WeightPlace,
    Weights,
    described_weights,
    read_config,
    row_blocks,
)
from editcollapse.models.files import ModelFiles, fingerprint_tokenizer, has_tokenizer
from editcollapse.models.loading import (
    LoadedModel,
    forget_models,
    load_model,
    load_plain_weights,
    load_with_encoder,
    read_encoder,
)
from editcollapse.runtime.devices import tokens_per_forward
from editcollapse.runtime.environment import begun, reporter

_OF_NO_MATTER = frozenset(
    {
        *("_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"),
        *("architectures", "bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings"),
        *("_attn_implementation", "attn_implementation", "task_specific_params", "id2label"),
        *("label2id", "problem_type", "chunk_size_feed_forward", "is_llama_config"),
        *("output_attentions", "output_hidden_states", "return_dict", "pretraining_tp"),
        *("initializer_range", "head_dim", "name_or_path", "quantization_config"),
    }
)
"""Fields of a configuration that decide no logits, or that others decide."""


def check_edited(inputs: CheckInputs, device: str) -> CheckFindings:
    """Return what an edited model is beside the one that it was made from.

    Args:
        inputs: both models, and what they are measured on.
        device: a torch device; ``auto`` takes the best that is there.

    Raises:
        ModelError: a model cannot be loaded, an adapter or a delta does not fit it, or the edited
            model's tokenizer is another.
        MomentError: C cannot be measured, or statistics are of one layer and several differ.
        DatasetError: no text can be scored.
        DeviceMemoryError: a model does not fit on the device.
    """
    forget_models()
    with ExitStack() as opened:
        return _Check(inputs, device, opened).findings()


@dataclasses.dataclass(frozen=True, slots=True)
class _Said:
    """What both models say."""

    before: MeasuredTexts | None = None
    after: MeasuredTexts | None = None
    n_texts: int = 0
    scores: tuple[RequestScores, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class _OnText:
    """The change of one linear weight's output on text."""

    change: float
    n_tokens: int
    tokens_per_input: float


@dataclasses.dataclass(frozen=True, slots=True)
class _Checkpoint:
    """A model's weights and its configuration."""

    described: ModelWeights
    weights: Weights
    config: dict[str, Any]
    """As transformers reads it, with its defaults."""
    unread: tuple[str, ...]
    """Tensors of its files that the model does not have."""


class _Check:
    """A check, its weights compared.

    Args:
        inputs: of the check.
        device: a torch device.
        opened: closes the files of weights.
    """

    def __init__(self, inputs: CheckInputs, device: str, opened: ExitStack) -> None:
        self._inputs, self._device = inputs, device
        base = _opened(inputs.base, opened)
        self._base = base.weights
        self._settings: tuple[str, ...] = ()
        unread: tuple[str, ...] = ()
        if inputs.edited.model is None:
            self._change: Change = _factored(inputs, base.described)
        else:
            edited = _opened(inputs.edited.model, opened)
            _check_same_tensors(inputs, base, edited)
            self._change = OtherWeights(self._base, edited.weights)
            self._settings = _settings_changed(base.config, edited.config)
            unread = edited.unread
        report = begun(f"{inputs.name}: weights", "tensor")
        self._found = list(differences(self._base, self._change, report))
        self._changed = [each for each in self._found if each.is_changed]
        self._is_broken = any(each.n_not_finite for each in self._changed)
        self._notes = list(_notes(inputs, unread))

    def findings(self) -> CheckFindings:
        """Return all that is found."""
        inputs, spec = self._inputs, self._inputs.spec
        wanted = spec.covariance != NO_COVARIANCE and not self._is_broken
        linear = [each.place for each in self._changed if each.place.is_linear and wanted]
        statistics = None if inputs.source is None else inputs.source.statistics
        known: dict[str, _OnText] = {}
        if linear and statistics is not None:
            known = self._by_statistics(statistics, linear)
        measured = linear if statistics is None else []
        says = spec.perplexity and bool(self._changed or self._settings)
        said = _Said()
        if measured or says:
            loaded = load_model(inputs.base_spec, self._device, inputs.base)
            known |= self._on_text(loaded, measured)
            if says:
                said = self._said(loaded)
        changes = tuple(_tensor_change(each, known.get(each.place.name)) for each in self._changed)
        norm, weight_norm = (
            math.sqrt(sum(each**2 for each in norms))
            for norms in ([c.norm for c in changes], [c.weight_norm for c in changes])
        )
        whole = [name for name in self._base.places if not self._base.is_shared(name)]
        return CheckFindings(
            base=inputs.base.source,
            edited=inputs.edited.source,
            kind=inputs.edited.kind,
            n_tensors=max(len(whole), len(self._found)),
            changes=changes,
            relative_norm=ratio(norm, weight_norm),
            settings_changed=self._settings,
            notes=tuple(self._notes),
            covariance=inputs.covariance if known else None,
            text_set=None if said.before is None or inputs.texts is None else inputs.texts.name,
            n_texts=said.n_texts,
            before=said.before,
            after=said.after,
            scores=said.scores,
            forecast=forecast_change(changes, self._settings),
        )

    def _said(self, loaded: LoadedModel) -> _Said:
        """Return what both models say; the unedited one is given up for the edited."""
        inputs = self._inputs
        assert inputs.texts is not None
        texts = inputs.texts.texts
        requests = () if inputs.facts is None else tuple(r.request for r in inputs.facts.records)
        probes = probes_of(loaded.encoder, requests)
        self._notes += [f"a request cannot be asked: {reason}." for reason in probes.unusable]
        before, n_texts = perplexity_on(loaded, texts)
        if self._is_broken:
            nothing = MeasuredTexts(math.nan, math.nan, math.nan)
            return _Said(before, nothing, n_texts)
        unedited = answers_to(loaded, probes)
        encoder, digests, edited = loaded.encoder, loaded.digests, inputs.edited.model
        if edited is not None:
            loaded.model.to("meta")  # one model at a time
            loaded = load_with_encoder(edited, encoder, digests, self._device)
        else:
            _apply(loaded, self._base, self._change)
        after, _ = perplexity_on(loaded, texts)
        return _Said(before, after, n_texts, scored(probes, unedited, answers_to(loaded, probes)))

    def _on_text(self, loaded: LoadedModel, linear: Sequence[WeightPlace]) -> dict[str, _OnText]:
        """Return the change on text of linear weights, by name."""
        if not linear:
            return {}
        inputs, by_module = self._inputs, {place.module: place for place in linear}
        rows = list(_rows(inputs, loaded))
        budget = tokens_per_forward(
            loaded.device, loaded.size(loaded.widths.n_layers - 1), "moment"
        )
        what = f"{loaded.name}: second moments of {len(by_module)} maps' inputs"
        found: dict[str, _OnText] = {}
        moments = input_moments(loaded, list(by_module), rows, budget, begun(what, "token"))
        for moment in moments:
            for module in moment.modules:
                found[by_module[module].name] = self._changed_by(by_module[module], moment)
        return found

    def _by_statistics(self, statistics: Path, linear: Sequence[WeightPlace]) -> dict[str, _OnText]:
        """Return the change on text of the one down projection that statistics are of."""
        down = [place for place in linear if place.part == "down projection"]
        if len(down) != 1:
            raise MomentError(
                f"`covariance` {statistics.name}: published statistics are of one layer, and the "
                f"down projections of {len(down)} differ. Give texts or a corpus."
            )
        found = read_statistics(statistics, self._inputs.base.widths.d_key)
        moment = InputMoment((down[0].module,), found.matrix, found.n_tokens)
        return {down[0].name: self._changed_by(down[0], moment)}

    def _changed_by(self, place: WeightPlace, moment: InputMoment) -> _OnText:
        """Return what the change of one linear weight does under C."""
        difference = whole_difference(self._base, self._change, place)
        weight = whole_weight(self._base, place)
        change = text_change(difference, weight, moment.moment)
        return _OnText(change, moment.n_tokens, moment.n_tokens / len(moment.moment))


def _opened(files: ModelFiles, opened: ExitStack) -> _Checkpoint:
    """Return a model's weights: in its files, or of a GGUF dequantised in memory."""
    if files.gguf is not None:
        model: Any = load_plain_weights(files)
        described, weights = ModelWeights(model, files), LoadedWeights(model, files)
        return _Checkpoint(described, weights, model.config.to_dict(), ())
    config = read_config(files)
    described = described_weights(files, config)
    stored = opened.enter_context(StoredWeights(files, described))
    return _Checkpoint(described, stored, config.to_dict(), tuple(stored.unread))


def _factored(inputs: CheckInputs, described: ModelWeights) -> Change:
    """Return what an adapter or a delta does to the weights."""
    edited = inputs.edited
    assert edited.weights is not None
    if edited.lora is not None:
        return read_lora(edited.weights, edited.lora, described, edited.source)
    return read_delta(edited.weights, described, edited.source)


def _check_same_tensors(inputs: CheckInputs, base: _Checkpoint, edited: _Checkpoint) -> None:
    """Raise ModelError where two configurations make other tensors."""
    one, other = base.described.places, edited.described.places
    if one.keys() != other.keys() or any(
        other[name].shape != place.shape for name, place in one.items()
    ):
        raise ModelError(
            f"{inputs.edited.source} has other weights than {inputs.base.source}, by its "
            "configuration. Give a model that was made from it."
        )


@torch.no_grad()
def _apply(loaded: LoadedModel, base: Weights, change: Change) -> None:
    """Add a change to a loaded model's weights, rounded to their type."""
    weights = dict(loaded.model.named_parameters(remove_duplicate=False))
    for name in change.names():
        place = base.places[name]
        for first, last in row_blocks(place):
            before = base.rows(name, first, last)
            after = before.to("cpu", torch.float64) + change.difference(name, before, first, last)
            weights[name][first:last] = after.to(weights[name].dtype)


def _rows(inputs: CheckInputs, loaded: LoadedModel) -> Iterable[tuple[int, ...]]:
    """Return the token ids that C is taken over."""
    source = inputs.source
    if source is None:
        assert inputs.texts is not None
        return encode_texts(loaded.encoder, inputs.texts.texts).rows
    if source.corpus is None:
        written = reporter(f"{loaded.name}: own samples", "token")
        return own_texts(loaded, source.spec, source.seed, written)
    return budgeted_rows(
        loaded.encoder,
        source.corpus.documents(),
        n_tokens=source.spec.n_tokens,
        max_length=source.spec.max_length,
    )


def _settings_changed(one: dict[str, Any], other: dict[str, Any]) -> tuple[str, ...]:
    """Return the fields that differ of two configurations, as transformers reads them."""
    fields = sorted((one.keys() | other.keys()) - _OF_NO_MATTER)
    return tuple(name for name in fields if one.get(name) != other.get(name))


def _notes(inputs: CheckInputs, unread: Sequence[str]) -> Iterator[str]:
    """Yield what to know of the edited model's files.

    Raises:
        ModelError: its tokenizer reads text as other tokens.
    """
    base, edited = inputs.base, inputs.edited.model
    if unread:
        yield (
            f"{len(unread)} tensors of {inputs.edited.source} are none of the model's and are not "
            f"read: {', '.join(unread[:3])}."
        )
    if edited is None:
        return
    if not has_tokenizer(edited):
        yield f"{edited.source} has no tokenizer: that of {base.source} is taken."
    elif fingerprint_tokenizer(base) != fingerprint_tokenizer(edited):
        yield from _tokenizers(inputs, edited)


def _tokenizers(inputs: CheckInputs, edited: ModelFiles) -> Iterator[str]:
    """Yield a note on tokens of one tokenizer alone.

    Raises:
        ModelError: one reads text otherwise than the other.
    """
    one, other = (read_encoder(files, inputs.base_spec) for files in (inputs.base, edited))
    vocabularies = [each.tokenizer.get_vocab() for each in (one, other)]
    shared = vocabularies[0].keys() & vocabularies[1].keys()
    moved = [token for token in shared if vocabularies[0][token] != vocabularies[1][token]]
    texts = () if inputs.texts is None else inputs.texts.texts
    if moved or one.encode_many(texts) != other.encode_many(texts):
        raise ModelError(
            f"the tokenizer of {edited.source} reads text as other tokens than that of "
            f"{inputs.base.source} ({len(moved)} of {len(shared)} tokens have other ids), so that "
            "their perplexities cannot be compared. Give a model with the same tokenizer."
        )
    others = sorted(vocabularies[0].keys() ^ vocabularies[1].keys())
    if others:
        yield (
            f"{len(others)} tokens are in one of the two tokenizers alone "
            f"({', '.join(others[:3])}). That of {inputs.base.source} is taken."
        )


def _tensor_change(found: TensorDifference, on_text: _OnText | None) -> TensorChange:
    place = found.place
    return TensorChange(
        tensor=place.name,
        layer=place.layer,
        part=place.part,
        shape=place.shape,
        n_entries=place.n_entries,
        n_changed=found.n_changed,
        n_not_finite=found.n_not_finite,
        max_abs=found.max_abs,
        norm=found.norm,
        weight_norm=found.weight_norm,
        relative_norm=found.relative_norm,
        spectral_norm=found.spectral_norm,
        effective_rank=found.effective_rank,
        first_share=found.first_share,
        text_change=None if on_text is None else on_text.change,
        n_tokens=None if on_text is None else on_text.n_tokens,
        tokens_per_input=None if on_text is None else on_text.tokens_per_input,
    )
