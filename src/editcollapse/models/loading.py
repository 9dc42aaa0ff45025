"""Load a model with its tokenizer; a process keeps one."""

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import activations

from editcollapse.catalog.architectures import Architecture, InputNorm, TextPart, Widths, widths_of
from editcollapse.errors import ModelError, first_line
from editcollapse.models.files import (
    ModelDigests,
    ModelFiles,
    PlainFolder,
    digest_model,
    locate_model,
)
from editcollapse.models.gguf_header import CAPS
from editcollapse.models.gguf_header import SUFFIX as GGUF_SUFFIX
from editcollapse.models.packed_linear import absorb_activation_, pack_products_
from editcollapse.models.tokenization import Encoder
from editcollapse.runtime.devices import (
    best_device,
    check_dtype,
    device_memory_error,
    is_out_of_memory,
    release,
)
from editcollapse.runtime.environment import Report, host_bytes, tell
from editcollapse.runtime.memory import ModelSize, packed_bytes

if TYPE_CHECKING:
    from editcollapse.config.spec import ModelSpec

logger = logging.getLogger(__name__)


_SPELLED_OUT = (activations.NewGELUActivation, activations.FastGELUActivation)
"""transformers' classes of the tanh-approximated GELU that are not one kernel."""


def fuse_activations_(model: nn.Module) -> int:
    """Put the fused kernel in the place of every spelled-out GELU; return how many there were.

    Weights and their names stay as they are: activations have none.
    """
    fused = 0
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _SPELLED_OUT):
                setattr(parent, name, nn.GELU(approximate="tanh"))
                fused += 1
    return fused


_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_NO_LIMIT = 1 << 20
_SHOWN = 3


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A causal LM in evaluation mode, its tokenizer and its place in the architecture table.

    Nothing in this package writes to its weights.
    """

    model: nn.Module
    encoder: Encoder
    architecture: Architecture
    widths: Widths
    digests: ModelDigests
    source: str
    quantization: str | None = None
    """What the weights were dequantised from, such as Q4_1; None where they were plain numbers."""

    @property
    def name(self) -> str:
        """For people: the last part of the source."""
        return _name_of(self.source)

    @property
    def model_id(self) -> str:
        """Id of the model as a study uses it."""
        return self.digests.model_id

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.model.parameters()).dtype

    @property
    def decoder(self) -> nn.Module:
        """The model without its head."""
        return self.model.get_submodule(self.architecture.decoder)

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder's blocks."""
        blocks = self.decoder.get_submodule(self.architecture.blocks)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    @property
    def is_parallel(self) -> bool:
        """Whether attention and MLP read the same residual stream."""
        field = self.architecture.parallel
        return field == "always" or bool(getattr(self.model.config, field, False))

    @property
    def input_norms(self) -> tuple[InputNorm, ...]:
        """All that reads a block's input in this model."""
        found = []
        for each in self.architecture.input_norms:
            if each.optional and getattr(self.blocks[0], str(each.norm), None) is None:
                continue
            more = each.parallel_projections if self.is_parallel else ()
            if each.projections or more:
                found.append(InputNorm(each.norm, each.projections + more))
        return tuple(found)

    @property
    def value_multiplier(self) -> float:
        """What the value is multiplied by on its way to the residual stream."""
        return self._number(self.architecture.value_multiplier)

    @property
    def has_plain_attention(self) -> bool:
        """Whether transformers' plain attention, which alone gives weights, is this model's."""
        field = self.architecture.eager_differs
        return field is None or not getattr(self.model.config, field)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end a text: the model's own, and the tokenizer's."""
        settings = getattr(self.model, "generation_config", None)
        own = getattr(settings, "eos_token_id", None)
        ids = [own] if isinstance(own, int) else list(own or ())
        end = self.encoder.tokenizer.eos_token_id
        return tuple(dict.fromkeys([*ids, *([] if end is None else [int(end)])]))

    @property
    def n_parameters(self) -> int:
        """Number of parameters; tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def size(self, layer: int) -> ModelSize:
        """Return the sizes that memory depends on, with one layer edited."""
        return ModelSize(self.architecture.family, self.widths, layer, self.digests.dtype)

    def down_projection(self, layer: int) -> nn.Module:
        """Return the second MLP projection of a block.

        Raises:
            ModelError: there is no such block.
        """
        check_layer(layer, self.widths, self.source)
        return self.blocks[layer].get_submodule(self.architecture.down_projection)

    def weight(self, layer: int) -> Tensor:
        """Return W of a block's down projection as (D, K), whichever way it is stored."""
        stored = self.down_projection(layer).weight
        assert isinstance(stored, Tensor)
        return stored.T if self.architecture.transposed else stored

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the head's logits for states after the final norm.

        Args:
            hidden: (..., D), dtype of the weights.

        Returns:
            (..., V) in the head's dtype, scaled or soft-capped where the family does so.
        """
        head = self.model.get_output_embeddings()  # type: ignore[operator]
        logits: Tensor = head(hidden)
        row = self.architecture
        if row.logit_multiplier is not None:
            logits = logits * self._number(row.logit_multiplier)
        if row.logit_divisor is not None:
            logits = logits / self._number(row.logit_divisor)
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def _number(self, field: str | None) -> float:
        """Return a number of the configuration; 1 where the family has no such field."""
        return 1.0 if field is None else float(getattr(self.model.config, field))


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor as float32 or better: half types are widened, float64 stays."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def check_layer(layer: int, widths: Widths, source: str) -> None:
    """Raise ModelError where a model has no such layer."""
    if not 0 <= layer < widths.n_layers:
        raise ModelError(
            f"layer {layer} of {source}: it has layers 0 to {widths.n_layers - 1}. "
            "Correct `layer` in the study file."
        )


def whole_model(
    loader: Any, files: PlainFolder, text_part: TextPart | None = None, **settings: Any
) -> tuple[Any, Any]:
    """Return a model, without gradients, and its tokenizer; safetensors or GGUF only.

    Args:
        loader: class of ``transformers`` that has ``from_pretrained``.
        files: the model's.
        text_part: what to load of a multimodal checkpoint.
        settings: more of ``from_pretrained``'s.

    Raises:
        ModelError: it cannot be loaded, or lacks weights.
    """
    from transformers import AutoTokenizer

    model = whole_weights(loader, files, text_part, **settings)
    try:
        tokenizer = AutoTokenizer.from_pretrained(files.folder, **_plain_reading(files))
    except Exception as error:  # transformers has no one error for a tokenizer that is no good
        raise _not_loaded(files.source, error) from error
    return model, tokenizer


def whole_weights(
    loader: Any, files: PlainFolder, text_part: TextPart | None = None, **settings: Any
) -> Any:
    """Return a model, without gradients, as ``whole_model``; a tokenizer need not be there.

    Raises:
        ModelError: it cannot be loaded, or lacks weights.
    """
    from transformers import AutoConfig

    source, plain = files.source, _plain_reading(files)
    try:
        if text_part is not None:
            whole = AutoConfig.from_pretrained(files.folder, **plain)
            settings["config"] = whole.get_text_config()
            settings["key_mapping"] = text_part.renamed
        model, report = loader.from_pretrained(
            files.folder, output_loading_info=True, use_safetensors=True, **plain, **settings
        )
    except Exception as error:  # transformers has no one error for a configuration that is no good
        raise _not_loaded(source, error) from error
    if report["missing_keys"]:
        # transformers fills them at random and goes on.
        lacking = ", ".join(sorted(report["missing_keys"])[:3])
        raise ModelError(
            f"{source} lacks {len(report['missing_keys'])} weights of its own configuration "
            f"({lacking}): copy or download it again."
        )
    return model.eval().requires_grad_(False)


def _plain_reading(files: PlainFolder) -> dict[str, Any]:
    """Return how transformers reads a folder: no code of it, nothing that is elsewhere."""
    reading: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    if files.gguf is not None:
        reading["gguf_file"] = files.weight_files[0].name
    return reading


def load_model(spec: "ModelSpec", device: str, files: ModelFiles | None = None) -> LoadedModel:
    """Return a model in evaluation mode, without gradients for its weights.

    Args:
        spec: source, revision, dtype, start-token policy and whether prompts are chats.
        device: a torch device; ``auto`` takes the best that is there.
        files: the model's files, where they are known already.

    Raises:
        ModelError: the files are missing, foreign or not whole, a weight is NaN or infinite, or the
            tokenizer does not fit.
        StudyError: there is no such device, or it has no numbers of this dtype.
        DeviceMemoryError: the weights do not fit on the device.
    """
    from transformers import AutoModelForCausalLM

    target = best_device(device)
    check_dtype(target, _DTYPES[spec.dtype], spec.source)
    files = files or locate_model(spec.source, spec.revision)
    tell(Report(f"{_name_of(files.source)}: loading"))
    digests = digest_model(files, spec)
    model, tokenizer = whole_model(
        AutoModelForCausalLM, files, files.text_part, **_settings_of(files, spec.dtype)
    )
    model = _ready(model, files, spec.dtype, target)
    positions = getattr(model.config, "max_position_embeddings", None)
    loaded = LoadedModel(
        model=model,
        encoder=_encoder(tokenizer, spec, positions, files.source),
        architecture=files.architecture,
        widths=files.widths,
        digests=digests,
        source=files.source,
        quantization=files.quantization,
    )
    return _packed_where_it_fits(loaded, spec.dtype, target)


def load_with_encoder(
    files: ModelFiles, encoder: Encoder, digests: ModelDigests, device: str
) -> LoadedModel:
    """Return another checkpoint of a model, with the tokenizer of that model.

    Args:
        files: the checkpoint's; a tokenizer need not be among them.
        encoder: the model's tokenizer.
        digests: the model's, for the type of the weights; they do not tell this checkpoint.
        device: a torch device; ``auto`` takes the best that is there.

    Raises:
        ModelError: as ``load_model``.
        DeviceMemoryError: the weights do not fit on the device.
    """
    from transformers import AutoModelForCausalLM

    target = best_device(device)
    tell(Report(f"{_name_of(files.source)}: loading"))
    settings = _settings_of(files, digests.dtype)
    model = whole_weights(AutoModelForCausalLM, files, files.text_part, **settings)
    loaded = LoadedModel(
        model=_ready(model, files, digests.dtype, target),
        encoder=encoder,
        architecture=files.architecture,
        widths=files.widths,
        digests=digests,
        source=files.source,
        quantization=files.quantization,
    )
    return _packed_where_it_fits(loaded, digests.dtype, target)


def load_plain_weights(files: ModelFiles) -> nn.Module:
    """Return a model in float32 on the CPU, as transformers makes it: to look at its weights.

    Raises:
        ModelError: it cannot be loaded, or lacks weights.
    """
    from transformers import AutoModelForCausalLM

    settings = _settings_of(files, "float32")
    model: nn.Module = whole_weights(AutoModelForCausalLM, files, files.text_part, **settings)
    if files.gguf is not None:
        _check_read_as_said(model.config, files)
    return model


def _settings_of(files: ModelFiles, dtype: str) -> dict[str, Any]:
    """Return what transformers has to be told to load a model."""
    settings: dict[str, Any] = {"dtype": _DTYPES[dtype]}
    if files.config.get("attn_logit_softcapping") is not None:
        # Some releases (5.17) take torch's SDPA for such models, which leaves the cap out.
        settings["attn_implementation"] = "eager"
    if files.config.get(str(files.architecture.eager_differs)):
        settings["attn_implementation"] = "sdpa"
    return settings


def _ready(model: Any, files: ModelFiles, dtype: str, target: torch.device) -> nn.Module:
    """Return a model that has been loaded on its device, its weights looked at.

    Raises:
        ModelError: a weight is NaN or infinite, or a GGUF was read otherwise than it says.
        DeviceMemoryError: the weights do not fit on the device.
    """
    if files.gguf is not None:
        _check_read_as_said(model.config, files)
    _check_finite(model, files, dtype)
    fuse_activations_(model)
    return _moved(model, target, files.source)


def _packed_where_it_fits(loaded: LoadedModel, dtype: str, target: torch.device) -> LoadedModel:
    """Return the model, its products packed where the memory allows that."""
    if packed_bytes(_weight_bytes(loaded.model), dtype, target.type, host_bytes()):
        _pack(loaded)
    return loaded


def read_encoder(files: ModelFiles, spec: "ModelSpec") -> Encoder:
    """Return a model's tokenizer as it reads prompts, from its files alone: no weight is read.

    Raises:
        ModelError: the tokenizer cannot be loaded, or does not fit the model's settings.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(files.folder, **_plain_reading(files))
    except Exception as error:  # transformers has no one error for a tokenizer that is no good
        raise _not_loaded(f"the tokenizer of {files.source}", error) from error
    positions = files.config.get("max_position_embeddings") or files.config.get("n_positions")
    return _encoder(tokenizer, spec, positions, files.source)


def _encoder(tokenizer: Any, spec: "ModelSpec", positions: Any, source: str) -> Encoder:
    """Return a tokenizer with a model's policies and length; no limit where none is known."""
    length = positions if isinstance(positions, int) and positions > 0 else _NO_LIMIT
    return Encoder(tokenizer, spec.start_token, length, source, in_chat=spec.chat_template)


def _not_loaded(what: str, error: Exception) -> ModelError:
    """Return the error on what transformers could not load, with the first line of its reason."""
    return ModelError(f"{what} cannot be loaded: {first_line(error)}")


def _name_of(source: str) -> str:
    """Return the last part of a folder's path or of a hub id."""
    return PurePath(source).name or source


def _check_read_as_said(config: Any, files: ModelFiles) -> None:
    """Raise ModelError where transformers read a GGUF's settings as others than the file says."""
    read = config.to_dict()
    said = {name: files.config[name] for name in ("model_type", *CAPS) if name in files.config}
    wrong = [f"{name} {value!r}" for name, value in said.items() if read.get(name) != value]
    if not wrong and widths_of(read, files.source) != files.widths:
        wrong = [f"{name} {value}" for name, value in dataclasses.asdict(files.widths).items()]
    if wrong:
        raise ModelError(
            f"{files.source} says {', '.join(wrong)}, and transformers reads it otherwise, so that "
            "another model would run: give the model's safetensors instead."
        )


def _check_finite(model: nn.Module, files: ModelFiles, dtype: str) -> None:
    """Raise ModelError where a weight is NaN or infinite, as stored or in the type asked for."""
    broken = [name for name, each in model.named_parameters() if not _is_finite(each)]
    if not broken:
        return
    stored = [found for path in files.weight_files for found in _not_finite_in(path)]
    if stored:
        raise ModelError(
            f"{files.source} holds weights that are NaN or infinite, so no number of it would "
            f"mean anything: {_first_few(stored)}. Copy or download it again, or train it anew."
        )
    raise ModelError(
        f'weights of {files.source} are infinite in dtype = "{dtype}" and finite in its files: '
        f'{_first_few(broken)}. Use "bfloat16" or "float32", which hold larger numbers.'
    )


def _is_finite(weight: Tensor) -> bool:
    """Return whether every number is finite; smallest and largest tell, in one pass."""
    if weight.numel() == 0:
        return True
    return all(bool(torch.isfinite(end)) for end in torch.aminmax(weight.detach()))


def _not_finite_in(path: Path) -> list[str]:
    """Return a sentence on each tensor of a file that holds NaN or infinity."""
    found = []
    for name, tensor in _tensors_in(path):
        if tensor.is_floating_point():
            count = int((~torch.isfinite(tensor)).sum())
            if count:
                found.append(f"{name} of {path.name} ({count} of {tensor.numel()} numbers)")
    return found


def _tensors_in(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield name and numbers of each tensor of a safetensors or GGUF file."""
    if path.suffix.lower() == GGUF_SUFFIX:
        from gguf import GGUFReader, dequantize

        for each in GGUFReader(path).tensors:
            yield each.name, torch.tensor(dequantize(each.data, each.tensor_type))
        return
    from safetensors import safe_open

    with safe_open(path, framework="pt") as stored:
        for name in stored.keys():  # noqa: SIM118  safetensors' file is no mapping
            yield name, stored.get_tensor(name)


def _first_few(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more tensors" if more > 0 else "")


def _pack(loaded: LoadedModel) -> None:
    """Pack a model's products, with the activations that may be applied to them."""
    pack_products_(loaded.model)
    activation = loaded.architecture.activation
    # What an edit's entry reads has to stay linear (``entry``).
    entered = {path for each in loaded.input_norms for path in each.projections}
    if activation is not None and activation[0] not in entered:
        for block in loaded.blocks:
            absorb_activation_(block, *activation)


def _moved(model: nn.Module, target: torch.device, source: str) -> nn.Module:
    """Return the model on a device.

    Raises:
        DeviceMemoryError: it does not fit.
    """
    try:
        return model.to(target)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    asked = f"{_weight_bytes(model) / (1 << 30):.2f} GiB"
    raise device_memory_error(f"the weights of {source}", asked, target)


def _weight_bytes(model: nn.Module) -> int:
    """Return the size of a model's parameters; tied ones count once."""
    return sum(each.numel() * each.element_size() for each in model.parameters())


_resident: dict[tuple[str, str, str], LoadedModel] = {}
_resident_lock = threading.RLock()


def resident_model(
    spec: "ModelSpec",
    model_id: str,
    device: str,
    load: "Callable[[ModelSpec, str], LoadedModel]" = load_model,
) -> LoadedModel:
    """Return the model of this process, loading it when another or none is resident.

    Raises:
        ModelError: as ``load_model``; or the files are no longer those that the study was planned
            with.
    """
    with _resident_lock:
        key = (model_id, spec.source, device)  # a row names where its model came from
        if key not in _resident:
            forget_models()
            loaded = load(spec, device)
            if loaded.model_id != model_id:
                raise ModelError(
                    f"the files of {Path(spec.source).name} changed while the study ran. "
                    "Start it again: finished work for the old files is kept under their own id."
                )
            _resident[key] = loaded
            logger.info("loaded %s on %s", loaded.source, loaded.device)
        return _resident[key]


def forget_models() -> None:
    """Drop the resident model and free its memory."""
    with _resident_lock:
        targets = {loaded.device for loaded in _resident.values()}
        _resident.clear()
        for target in targets:
            release(target)
