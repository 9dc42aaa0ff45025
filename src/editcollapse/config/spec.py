"""Study specification: pydantic models of a study file; the Prefect form shows their fields."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from editcollapse.catalog.editors import EditorName
from editcollapse.catalog.methods import METHODS, MethodName
from editcollapse.catalog.presets import ValueSettings
from editcollapse.config.base import Count, Spec
from editcollapse.config.field_paths import FieldPath
from editcollapse.config.generation import GenerationSpec, JudgeSpec
from editcollapse.config.sequence import EditorSpec, SequenceSpec
from editcollapse.rows.collapse_rule import DEFAULT_RULE, CollapseRule, Measure

_LARGEST_EXACT = 2**53
"""Beyond it a float does not say which integer it was."""


def digits(value: Any) -> Any:
    """An integer, or a float that is one, as its digits; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, float) and not (value.is_integer() and abs(value) < _LARGEST_EXACT):
        return value
    return str(int(value))


DtypeName = Literal["float32", "bfloat16", "float16", "float64"]
StartTokenName = Literal["tokenizer", "never", "always"]
Identifier = Annotated[str, BeforeValidator(digits)]
"""A name that may be written as an integer."""
Policy = Literal["refuse", "switch", "prefix"]
ActsAt = Literal["at risk", "will collapse"]
_Bound = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ValueSpec(Spec):
    """Overrides of the v* settings; what is left out comes from the preset."""

    steps: Count | None = None
    """Forward passes at most."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Adam's learning rate."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Weight of the norm of delta."""
    kl_factor: float | None = Field(default=None, ge=0)
    """Weight of the KL term."""
    clamp_factor: float | None = Field(default=None, gt=0)
    """Largest norm of delta in units of the unedited value's."""
    stop_loss: float | None = None
    """Stop below this loss."""

    def over(self, base: ValueSettings) -> ValueSettings:
        """The settings with this spec's values in place of the base's."""
        own = self.model_dump(exclude_none=True)
        return ValueSettings(
            steps=own.get("steps", base.steps),
            learning_rate=own.get("learning_rate", base.learning_rate),
            weight_decay=own.get("weight_decay", base.weight_decay),
            kl_factor=own.get("kl_factor", base.kl_factor),
            clamp_factor=own.get("clamp_factor", base.clamp_factor),
            stop_loss=own.get("stop_loss", base.stop_loss),
        )


class ModelSpec(Spec):
    """One model to edit."""

    name: Identifier = Field(pattern=r"^[\w.-]{1,80}$")
    """What reports call it: letters, digits, '.', '_' and '-'."""
    source: str = Field(min_length=1)
    """A local folder or .gguf file (relative to the study file), or a Hugging Face hub id.
    Safetensors or GGUF only."""
    revision: Identifier | None = None
    """Branch, tag or commit on the hub; the default branch where left out."""
    preset: str | None = None
    """Published settings by name; where left out the model is recognised by its sizes."""
    layer: int | None = Field(default=None, ge=0)
    """Zero-based block to edit; where left out the preset's."""
    dtype: DtypeName = "float32"
    """Type of the weights as loaded. Keys, solves and updates are float32 or better in any case."""
    start_token: StartTokenName = "tokenizer"
    """Whether a start token (BOS) opens prompts: as the tokenizer does, never, or always."""
    chat_template: bool = False
    """Whether prompts are put into the tokenizer's own chat template, as the user's message, and
    targets are the answer. Texts for perplexity and C stay as they are."""
    statistics: str | None = None
    """Second moment of this model, where `covariance.kind` is "statistics": an .npz of
    kmeng01/rome's layer statistics or a .safetensors with `moment` and `count`."""
    value: ValueSpec = ValueSpec()
    """Settings of the v* optimisation for this model alone; they go before the study's."""

    @model_validator(mode="after")
    def _has_one_opening(self) -> "ModelSpec":
        if self.chat_template and self.start_token != "tokenizer":
            raise ValueError(
                "a chat template opens prompts itself: leave `start_token` out, or `chat_template`"
            )
        return self


class FieldsSpec(Spec):
    """Where the fields of an edit request stand in records of a schema of one's own.

    A path has names parted by dots; `[0]` is an item of a list, `[*]` all items of a list or all
    values of an object, `["a.b"]` a name with a dot: `facts[0].new`, `locality[*].loc`.
    """

    subject: FieldPath
    """The entity, as it stands in the prompt."""
    prompt: FieldPath
    """The rewrite prompt, with the subject or `{}` in its place."""
    target_new: FieldPath
    """The object to be written."""
    target_true: FieldPath | None = None
    """The object believed before; of a list the first."""
    case_id: FieldPath | None = None
    """The record's own name."""
    relation_id: FieldPath | None = None
    """Name of the relation."""
    paraphrase_prompts: FieldPath | None = None
    """The same fact in other words, a text or a list."""
    neighborhood_prompts: FieldPath | None = None
    """Prompts whose answers should stay, a text or a list."""
    neighborhood_targets: FieldPath | None = None
    """An answer for each; where left out, `target_true` stands for all."""
    portability_prompts: FieldPath | None = None
    """Prompts of what follows from the fact, a text or a list."""
    portability_targets: FieldPath | None = None
    """An answer for each."""

    @model_validator(mode="after")
    def _go_together(self) -> "FieldsSpec":
        if (self.portability_prompts is None) != (self.portability_targets is None):
            raise ValueError("give both `portability_prompts` and `portability_targets`")
        if self.neighborhood_targets is not None and self.neighborhood_prompts is None:
            raise ValueError("`neighborhood_targets` needs `neighborhood_prompts`")
        return self


class DatasetSpec(Spec):
    """The edit requests."""

    path: str = Field(min_length=1)
    """JSON or JSONL: CounterFact, zsRE, QAEdit or KnowEdit, in the original or in EasyEdit's flat
    schema; any other schema with `fields`."""
    limit: Count | None = None
    """Use only the first so many usable requests."""
    case_ids: tuple[Identifier, ...] | None = None
    """Use only these cases."""
    fields: FieldsSpec | None = None
    """Where the fields of a request stand in records of another schema; where left out, the
    schema is recognised."""


class TemplateSpec(Spec):
    """The context templates that prefixed keys are averaged over."""

    kind: Literal["five_words", "start_token", "file"] = "five_words"
    """`five_words` (EasyEdit, the paper's code), `start_token` (kmeng01/rome), or `file`."""
    path: str | None = None
    """With `file`: a JSON list of strings with one {} each, the bare "{}" among them."""
    lengths: tuple[tuple[Count, Count], ...] = ((5, 10), (10, 10))
    """Pairs of total length in tokens and number of texts to generate."""


ROWS_AT_ONCE = 128
"""Rows of text that a model writes side by side, in one job, where C is of its own samples."""
_SAMPLE_TOKENS = 128
"""Tokens of such a row."""


class CovarianceSpec(Spec):
    """The second moment C = E[k kT] of the edited layer's keys."""

    kind: Literal["corpus", "samples", "identity", "statistics"] = "corpus"
    """Measured on a corpus; on what the model itself writes at temperature 1, drawn with the
    study's `seed`; the identity (C⁻¹ skipped, as the official repository ships); or published
    statistics, named by each model's `statistics`."""
    source: str | None = None
    """With `corpus`: a .txt, .jsonl, .json or .parquet file, or a hub dataset id."""
    text_field: str | None = None
    """Field or column that holds the text, where it is not `text`."""
    subset: Identifier | None = None
    """Configuration of a hub dataset."""
    split: str = "train"
    """Split of a hub dataset."""
    n_tokens: Count = 100_000
    """Token budget: the first so many tokens of the corpus, or those that the model writes."""
    shard_tokens: Count = 65_536
    """Tokens in one cached task of the pass over the corpus, about: what a killed run loses at
    most. The sum of a shard takes 5 K² bytes on disk for each layer. No id depends on it, but with
    `stop_change`."""
    stop_change: float | None = Field(default=None, gt=0)
    """Stop before the budget: at a doubling of the shards where the direction C⁻¹k̄ of no probe
    key has changed by more, for the second time in a row. A direction has length 1. Where left
    out, the budget alone decides."""
    max_length: Count = 1024
    """Documents are cut to so many tokens, or to what the model takes; its own samples to 128."""
    start_token: bool = False
    """Whether each document opens with the model's start token; published: no."""
    damping: float = Field(default=0.0, ge=0)
    """Added to C's diagonal, in units of its mean; published: 0."""

    @model_validator(mode="after")
    def _has_source(self) -> "CovarianceSpec":
        if self.kind == "corpus" and self.source is None:
            raise ValueError(
                'kind "corpus" needs `source`, a text file or a hub dataset id '
                '(or choose kind = "samples", "identity" or "statistics")'
            )
        if not self.is_measured and self.stop_change is not None:
            raise ValueError(
                '`stop_change` is for kind "corpus" and "samples", and the kind is '
                f'"{self.kind}"; leave it out'
            )
        return self

    @property
    def is_measured(self) -> bool:
        """Whether C is summed over tokens here, in shards."""
        return self.kind in {"corpus", "samples"}

    @property
    def row_tokens(self) -> int:
        """Tokens that the model writes in one row, where C is of its own samples."""
        return min(_SAMPLE_TOKENS, self.max_length)

    @property
    def n_rows(self) -> int:
        """Rows that it writes; 0 where C is of anything else."""
        return -(-self.n_tokens // self.row_tokens) if self.kind == "samples" else 0

    def in_words(self, statistics: str | None = None) -> str:
        """What C is, for people.

        Args:
            statistics: a model's own.
        """
        if self.kind == "identity":
            return "identity"
        if self.kind == "statistics":
            return f"statistics {Path(str(statistics)).name}"
        if self.kind == "samples":
            return f"{self.n_tokens} tokens of its own samples"
        source = str(self.source)
        name = Path(source).name if Path(source).is_absolute() else source
        return f"{self.n_tokens} tokens of {name}{'' if self.subset is None else f' {self.subset}'}"


DEFAULT_COVARIANCE = CovarianceSpec(source="Salesforce/wikitext", subset="wikitext-103-raw-v1")
"""What C is measured on where nothing is named: articles of Wikipedia, like ROME's published
statistics."""


class EvaluationSpec(Spec):
    """What edited models are measured on."""

    texts: str | None = Field(default=None, min_length=1)
    """Perplexity texts: ME-PPL's JSON, JSONL with a text field, or plain text, one a line; where
    left out, 50 texts of neutral English that come with the package."""
    max_texts: Count | None = None
    """Use only the first so many."""
    continuations: int = Field(default=10, ge=0)
    """Of each model, how many of its most damaging edits to show at work, of those that more than
    double its perplexity: what the model writes on from their prompts, before and after. 0: none.
    No id depends on it."""
    generation: GenerationSpec | None = None
    """What edited models answer freely, beside the teacher-forced scores; where left out, nothing.
    No id depends on it."""
    judge: JudgeSpec | None = None
    """Who judges these answers, beside exact match; where left out, nobody."""

    @model_validator(mode="after")
    def _judges_something(self) -> "EvaluationSpec":
        if self.judge is not None and self.generation is None:
            raise ValueError(
                "a `judge` judges free answers: give `generation` too, or leave it out"
            )
        return self


class GuardSpec(Spec):
    """What is done with an edit whose forecast says that it is at risk, before it is made."""

    policy: Policy
    """`refuse`: it is not made. `switch`: another method makes it. `prefix`: it is made with a
    context template's text before its prompt. Where no method, or no text, is safe, it is
    refused."""
    acts_at: ActsAt = "at risk"
    """Verdict from which on the guard acts."""
    at_risk_at: _Bound | None = None
    """Change bound from which on an edit is at risk. Where left out, with `collapse_at`, the newest
    calibration of the model by the study's collapse rule in the results folder counts, or the
    default where there is none; another calibration makes another study."""
    collapse_at: _Bound | None = None
    """Change bound from which on an edit is likely to collapse."""
    switch_to: tuple[MethodName, ...] | None = None
    """With `switch`: the methods to take instead, the first that is safe; where left out c_rome,
    v_relative, p_rome."""

    safe_below: float | None = Field(default=None, gt=0, lt=1)
    """P(collapse) that no safe edit reaches, in place of both bounds: thresholds follow from it by
    the model's calibration or the default. What measured collapses forbid is never safe."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "GuardSpec":
        if self.safe_below is not None and self.at_risk_at is not None:
            raise ValueError(
                "give `safe_below`, a probability, or both bounds `at_risk_at` and `collapse_at`; "
                "not all of them"
            )
        if (self.at_risk_at is None) != (self.collapse_at is None):
            raise ValueError("give both `at_risk_at` and `collapse_at`, or neither")
        if (self.collapse_at or 0) < (self.at_risk_at or 0):
            raise ValueError(
                f"`collapse_at` {self.collapse_at:g} is below `at_risk_at` {self.at_risk_at:g}; an "
                "edit that is likely to collapse is at risk as well"
            )
        if self.switch_to is not None:
            if self.policy != "switch":
                raise ValueError(
                    f'`switch_to` is for policy "switch", and the policy is "{self.policy}"; '
                    "leave it out"
                )
            if not self.switch_to or len(set(self.switch_to)) != len(self.switch_to):
                raise ValueError(
                    f"`switch_to` must be distinct methods and at least one, got {self.switch_to}"
                )
        return self


class CollapseSpec(Spec):
    """When an edit counts as a collapse: where its perplexity is no number, or above either bound.

    No id depends on it: what is measured is the same, whatever it is called.
    """

    threshold: _Bound | None = DEFAULT_RULE.threshold
    """Perplexity above which an edited model has collapsed that was not above it unedited."""
    ratio: _Bound | None = DEFAULT_RULE.ratio
    """Times the unedited model's perplexity above which an edited model has collapsed."""
    measure: Measure = DEFAULT_RULE.measure
    """Which figure of the texts is their perplexity: `mean` over texts (published; it can hang on
    one text), `nll`: exp of the mean over texts of the mean token NLL, or `median` over texts."""

    @property
    def rule(self) -> CollapseRule:
        """The rule that the study states."""
        return CollapseRule(self.threshold, self.ratio, self.measure)


class RunnerSpec(Spec):
    """Where the tasks run. Nothing of it enters the study's identity or its tables."""

    kind: Literal["thread", "dask", "ray"] = "thread"
    """`thread`: in the flow's own process, one at a time. `dask`, `ray`: on a cluster, whose
    workers need the wheel with the extra of that name and the same results folder or URL."""
    workers: Count = 1
    """With `dask` and `ray`: processes to start on this machine; with an `address`, batches to
    keep in flight there. Each process keeps one model."""
    address: str | None = None
    """With `dask` and `ray`: a cluster that is there, such as `tcp://host:8786` or
    `ray://host:10001`; where left out, one is started on this machine for the run."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "RunnerSpec":
        if self.kind == "thread" and (self.workers > 1 or self.address is not None):
            raise ValueError(
                'kind "thread" runs one task at a time in the flow\'s own process; for several '
                'workers or an address choose kind = "dask" or "ray"'
            )
        return self


class TrackingSpec(Spec):
    """MLflow as a second place for a study's numbers: one run a study, made at the study's end.

    Nothing of it enters the study's identity or its tables, and a study ends well without it.
    """

    uri: str | None = Field(default=None, pattern=r"^[A-Za-z][\w+.-]*:", max_length=2000)
    """Tracking server or store, such as `https://mlflow.example.org` or
    `sqlite:////data/mlflow.db`; where left out, what `MLFLOW_TRACKING_URI` says. User and password
    stand in `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, never here."""
    experiment: str = Field(default="editcollapse", min_length=1, max_length=200)
    """Experiment that the run is in; made where it is not there."""
    artifacts: bool = True
    """Whether the report and the study file are stored with the run."""

    @model_validator(mode="after")
    def _holds_no_secret(self) -> "TrackingSpec":
        if self.uri is not None and "@" in self.uri.partition("://")[2].partition("/")[0]:
            raise ValueError(
                "`uri` holds a user or a password, and a study is shown on run pages: put them "
                "into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        return self


class StudySpec(Spec):
    """A grid of models, methods and requests, with what to measure."""

    name: Identifier = Field(pattern=r"^[\w.-]{1,80}$")
    """What reports call the study."""
    description: str = ""
    """One sentence for people."""
    note: str = ""
    """A caveat that is printed wherever the study's numbers are."""
    seed: int = Field(default=0, ge=0)
    """Seeds the context templates and the choice of test prefixes."""
    methods: tuple[EditorName, ...] = ("rome", "c_rome")
    """Methods to compare on single edits; one v* serves all rank-one ones. With a table `sequence`
    it may be empty."""
    models: tuple[ModelSpec, ...]
    """Models to edit."""
    dataset: DatasetSpec
    """The file of edit requests, and which of them to use."""
    templates: TemplateSpec = TemplateSpec()
    """The context templates."""
    covariance: CovarianceSpec = DEFAULT_COVARIANCE
    """The second moment of the keys; where the table is left out, measured on 100,000 tokens of the
    hub's Salesforce/wikitext (wikitext-103-raw-v1), for which `datasets` has to be installed."""
    value: ValueSpec = ValueSpec()
    """Settings of the v* optimisation, for all models."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """The measurements."""
    batch_size: int = Field(default=64, ge=1, le=4096)
    """Edits in one cached task: what a killed run loses at most."""
    collapse: CollapseSpec = CollapseSpec()
    """When an edit counts as a collapse."""
    guard: GuardSpec | None = None
    """What to do with edits that the forecast warns of; where left out, they are made."""
    editors: tuple[EditorSpec, ...] = ()
    """Settings of editors beyond rank one, in place of the published ones or ours."""
    sequence: SequenceSpec | None = None
    """Sequences of edits, one on the other; where left out, there are none."""
    runner: RunnerSpec = RunnerSpec()
    """Where the tasks run."""
    tracking: TrackingSpec | None = None
    """MLflow beside the report; where left out, there is none."""

    @property
    def rank_one_methods(self) -> tuple[str, ...]:
        """Those of the methods that one v* serves."""
        return tuple(name for name in self.methods if name in METHODS)

    @property
    def single_editors(self) -> tuple[str, ...]:
        """Those of the methods that are editors beyond rank one."""
        return tuple(name for name in self.methods if name not in METHODS)

    @model_validator(mode="after")
    def _has_editors(self) -> "StudySpec":
        names = [model.name for model in self.models]
        named = [(each.name, each.model) for each in self.editors]
        if len(set(named)) != len(named):
            raise ValueError(f"`editors` has an editor twice for one model: {named}")
        for each in self.editors:
            if each.name in METHODS:
                raise ValueError(
                    f"`editors` cannot set {each.name!r}: a rank-one method takes `[value]` and "
                    "the model's `layer`"
                )
            if each.model is not None and each.model not in names:
                raise ValueError(f"`editors` names model {each.model!r}; there are {names}")
        if self.guard is not None and self.single_editors:
            raise ValueError(
                f"a `guard` forecasts rank-one methods, and `methods` has {self.single_editors}; "
                "leave one of both out"
            )
        return self

    @model_validator(mode="after")
    def _is_consistent(self) -> "StudySpec":
        if len(set(self.methods)) != len(self.methods) or not (self.methods or self.sequence):
            raise ValueError(f"methods must be distinct and at least one, got {self.methods}")
        names = [model.name for model in self.models]
        if not names:
            raise ValueError("a study needs at least one model")
        if len(set(names)) != len(names):
            raise ValueError(f"model names must be distinct, got {names}")
        if self.templates.kind == "file" and self.templates.path is None:
            raise ValueError('templates of kind "file" need `path`')
        if self.covariance.kind == "statistics":
            without = [model.name for model in self.models if model.statistics is None]
            if without:
                raise ValueError(
                    f'covariance kind "statistics" needs `statistics` in each model; {without} '
                    "have none"
                )
        return self
