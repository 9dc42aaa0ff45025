"""One model ready to be measured by both sides: loaded twice, its data, its C and C⁻¹.

Everything here is prepared outside the timed parts. C, C⁻¹ and the context templates are kept in
the workspace, so that a child process that measures memory does not make them again.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks import reference_measures
from benchmarks.choices import DEMO_MODEL, Asked, is_demo
from benchmarks.inputs import DEMO, Inputs, demo_inputs, random_inputs, real_inputs
from benchmarks.models import SHAPES, words_of, write_model
from benchmarks.published import Published
from editcollapse.catalog.presets import ValueSettings, preset_for
from editcollapse.config.spec import ModelSpec
from editcollapse.covariance.second_moment import SecondMoment, put_moment
from editcollapse.errors import StudyError, nearest_first
from editcollapse.evaluation.perplexity import EncodedTexts, encode_texts
from editcollapse.models.files import digest_model, locate_model
from editcollapse.models.loading import LoadedModel, whole_model
from editcollapse.models.tokenization import Encoder
from editcollapse.rome.templates import generate_templates
from editcollapse.runtime.devices import best_device
from editcollapse.runtime.settings import settings
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.jobs import ModelSetup
from editcollapse.units.prepare import load

Sides = Literal["both", "reference", "ours"]
MODELS = (DEMO_MODEL, *SHAPES)
_DEMO_FOLDER = DEMO / "models" / "gpt2-induced"
_TEMPLATE_LENGTHS = ((5, 10), (10, 10))
_TOKENS_PER_KEY = 4
_LONGEST = 1024
"""Tokens of a document: a pretrained model may take a hundred thousand."""
_LEAST_TOKENS = 16_384
"""C is measured on four tokens for each of its K rows, and on so many at least: of full rank."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A model with all that both sides need."""

    name: str
    loaded: LoadedModel
    """Ours, resident in this process."""
    published: Published
    """The reference's own copy, as transformers loads it."""
    setup: ModelSetup
    inputs: Inputs
    texts: EncodedTexts
    inverse: Tensor
    """C⁻¹, (K, K) float32 on the model's device."""
    moment: ArtifactRef
    """C, (K, K) float64."""
    results: Path

    @property
    def layer(self) -> int:
        """The edited block."""
        return self.setup.layer

    def with_values(self, values: ValueSettings) -> "Case":
        """Return the same case with other settings of the v* optimisation."""
        return dataclasses.replace(self, setup=self.setup.model_copy(update={"values": values}))

    @property
    def store(self) -> ArtifactStore:
        """Where our units leave their files."""
        return ArtifactStore(self.results)


def check_models(names: Sequence[str]) -> None:
    """Raise StudyError where one of some models is neither known nor a folder or file."""
    for name in names:
        if name not in MODELS and not Path(name).exists():
            raise StudyError(
                f"--models {name}: known are {nearest_first(name, MODELS)}, and the path of a "
                "pretrained model."
            )


def open_case(name: str, asked: Asked, sides: Sides = "both") -> Case:
    """Return a model ready to be measured.

    Args:
        name: one of ``MODELS``, or the path of a pretrained model.
        asked: what the run was asked for.
        sides: with ``both`` the model is loaded twice, so that the reference runs on transformers'
            model as it is; with one side alone, once.

    Raises:
        ModelError: the tokenizer does not fit it.
    """
    setup = _job(name, asked)
    loaded = _plain(setup) if sides == "reference" else load(setup)
    model = _plain(setup).model if sides == "both" else loaded.model
    row = loaded.architecture
    path = row.down_projection_in_model(setup.layer)
    published = Published(
        model=model,
        projection=model.get_submodule(path),
        transposed=row.transposed,
        n_positions=loaded.encoder.max_length,
    )
    folder = asked.folder("prepared", name)
    inputs = _inputs(name, loaded, asked, folder)
    prepared = folder / "moment.safetensors"
    if not prepared.is_file():
        moment = _moment(loaded, published, inputs)
        # Inverted beforehand, as the public code keeps it.
        inverse = torch.linalg.inv(moment).contiguous()  # noqa: TID251  the published code inverts
        save_file({"moment": moment, "inverse": inverse}, prepared)
    tensors = load_file(prepared)
    results = asked.folder("results", name)
    return Case(
        name=name,
        loaded=loaded,
        published=published,
        setup=setup,
        inputs=inputs,
        texts=encode_texts(loaded.encoder, inputs.texts[: asked.n_texts]),
        inverse=tensors["inverse"].to(loaded.device),
        moment=put_moment(
            ArtifactStore(results), SecondMoment(tensors["moment"], moment_tokens(loaded), 0)
        ),
        results=results,
    )


def _job(name: str, asked: Asked) -> ModelSetup:
    """Return the model as our units name it; writes a random model once."""
    folder = _DEMO_FOLDER if name == DEMO_MODEL else Path(name)
    if name in SHAPES:
        folder = asked.folder("models", name)
        if not folder.is_dir():
            write_model(SHAPES[name], folder, asked.tokenizer)
    spec = ModelSpec(name=Path(name).name, source=str(folder))
    files = locate_model(spec.source)
    preset = preset_for(None, files.architecture.family, files.widths)
    values = preset.values
    if asked.steps is not None:
        values = dataclasses.replace(values, steps=asked.steps)
    return ModelSetup(
        spec=spec,
        model_id=digest_model(files, spec).model_id,
        layer=1 if is_demo(name) else preset.layer,  # as studies/demo.toml
        layer_source=preset.source,
        values=values,
    )


def _plain(setup: ModelSetup) -> LoadedModel:
    """Return the model as transformers loads it, without any change of ours."""
    files = locate_model(setup.spec.source)
    device = best_device(settings().device)
    model, tokenizer = whole_model(
        AutoModelForCausalLM, files, files.text_part, dtype=torch.float32
    )
    n_positions = int(model.config.max_position_embeddings)
    return LoadedModel(
        model=model.to(device),
        encoder=Encoder(tokenizer, setup.spec.start_token, n_positions, files.source),
        architecture=files.architecture,
        widths=files.widths,
        digests=digest_model(files, setup.spec),
        source=files.source,
    )


def _inputs(name: str, loaded: LoadedModel, asked: Asked, folder: Path) -> Inputs:
    folder.mkdir(parents=True, exist_ok=True)
    if is_demo(name):
        kept = folder / "templates.json"
        if not kept.is_file():
            drawn = generate_templates(loaded, "start_token", _TEMPLATE_LENGTHS, seed=0)
            kept.write_text(json.dumps(drawn.templates), encoding="utf-8")
        templates = json.loads(kept.read_text(encoding="utf-8"))
        return demo_inputs(templates, asked.n_more_texts, asked.n_requests)
    inputs = random_inputs(
        words_of(loaded.encoder.tokenizer),
        n_requests=asked.n_requests,
        n_texts=asked.n_texts,
        n_more_texts=asked.n_more_texts,
        n_corpus_tokens=max(asked.n_corpus_tokens, moment_tokens(loaded)),
        longest=min(loaded.encoder.max_length, _LONGEST),
    )
    return inputs if name in SHAPES else real_inputs(inputs, asked.n_more_texts, asked.n_requests)


def _moment(loaded: LoadedModel, published: Published, inputs: Inputs) -> Tensor:
    """Return C of the edited layer as the reference measures it, (K, K) float64 on the CPU."""
    rows = reference_measures.tokenised(
        loaded.encoder.encode,
        inputs.documents,
        loaded.encoder.max_length,
        moment_tokens(loaded),
    )
    return reference_measures.second_moment(published, rows)[0].double().cpu()


def moment_tokens(loaded: LoadedModel) -> int:
    """Return the tokens that C is measured on."""
    return max(_TOKENS_PER_KEY * loaded.widths.d_key, _LEAST_TOKENS)
