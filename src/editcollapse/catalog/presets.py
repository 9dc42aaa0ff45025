"""Published edit settings, each with its source; for other models a marked guess by depth.

A preset is recognised by the model's sizes, so a local folder needs no particular name.
"""

import dataclasses

from editcollapse.catalog.architectures import Widths
from editcollapse.errors import StudyError, nearest_first

_ROME = "kmeng01/rome hparams/ROME"
_MEMIT = "kmeng01/memit hparams/ROME"
_EASYEDIT = "zjunlp/EasyEdit hparams/ROME"
_GPT_DEPTH = 0.35
_OTHER_DEPTH = 0.18
_GPT_FAMILIES = ("gpt2", "gpt_neo", "gpt_neox")


@dataclasses.dataclass(frozen=True, slots=True)
class ValueSettings:
    """Settings of the v* optimisation (ROME, arXiv 2202.05262, sec. 3 and its released code)."""

    steps: int = 20
    """Forward passes at most; the last one takes no step."""
    learning_rate: float = 0.5
    """Adam's."""
    weight_decay: float = 0.5
    """Weight of ‖delta‖ / ‖v0‖²."""
    kl_factor: float = 0.0625
    """Weight of KL(now ‖ before) at the subject's last token of "{subject} is a"."""
    clamp_factor: float = 4.0
    """‖delta‖ stays at or below this times ‖v0‖."""
    stop_loss: float = 0.05
    """An edit stops as soon as its loss is below."""


@dataclasses.dataclass(frozen=True, slots=True)
class Preset:
    """Layer and v* settings of one model."""

    name: str
    layer: int
    values: ValueSettings
    source: str
    """Where the figures stand, or ``unpublished``."""
    family: str = ""
    widths: tuple[int, int, int] = (0, 0, 0)
    """Blocks, D and K that identify the model."""

    def layer_of(self, asked: int | None, by: str) -> tuple[int, str]:
        """Choose the layer to edit: the one that is asked for, else the preset's.

        Args:
            asked: zero-based block.
            by: who asks, for a layer that is not the preset's.

        Returns:
            The layer, and who chose it.
        """
        layer = self.layer if asked is None else asked
        return layer, self.source if layer == self.layer else by


_GPT_VALUES = ValueSettings()
_LLAMA_VALUES = ValueSettings(steps=25, weight_decay=1e-3)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "gpt2-medium",
            8,
            ValueSettings(clamp_factor=3.0),
            _ROME,
            "gpt2",
            (24, 1024, 4096),
        ),
        Preset("gpt2-large", 12, _GPT_VALUES, _ROME, "gpt2", (36, 1280, 5120)),
        Preset("gpt2-xl", 17, _GPT_VALUES, _ROME, "gpt2", (48, 1600, 6400)),
        Preset("gpt-j-6b", 5, _GPT_VALUES, _ROME, "gptj", (28, 4096, 16384)),
        Preset("gpt-neox-20b", 15, _GPT_VALUES, _MEMIT, "gpt_neox", (44, 6144, 24576)),
        Preset("llama2-7b", 5, _LLAMA_VALUES, _EASYEDIT, "llama", (32, 4096, 11008)),
        Preset("llama3-8b", 5, _LLAMA_VALUES, _EASYEDIT, "llama", (32, 4096, 14336)),
        Preset("llama3.2-3b", 5, _LLAMA_VALUES, _EASYEDIT, "llama", (28, 3072, 8192)),
        Preset("mistral-7b", 5, _LLAMA_VALUES, _EASYEDIT, "mistral", (32, 4096, 14336)),
        Preset("qwen2-7b", 5, _LLAMA_VALUES, _EASYEDIT, "qwen2", (28, 3584, 18944)),
    )
}
"""Qwen2.5-7B has the sizes and the settings of Qwen2-7B."""

UNPUBLISHED = "unpublished"


def preset_for(name: str | None, family: str, widths: Widths) -> Preset:
    """Return the preset of a model: the named one, the one with its sizes, or a guess by depth.

    Args:
        name: a key of ``PRESETS``, or None to recognise the model by family and sizes.
        family: the model's ``model_type``.
        widths: its sizes.

    Raises:
        StudyError: the named preset does not exist or is of a model with other sizes.
    """
    sizes = (widths.n_layers, widths.d_model, widths.d_key)
    if name is not None:
        named = PRESETS.get(name)
        if named is None:
            raise StudyError(f"no preset {name!r}. Known: {nearest_first(name, PRESETS)}.")
        if (named.family, named.widths) != (family, sizes):
            raise StudyError(
                f"preset {name!r} is for {named.family} with blocks, D, K = {named.widths}; "
                f"this model is {family} with {sizes}. Leave `preset` out or correct `source`."
            )
        return named
    for preset in PRESETS.values():
        if (preset.family, preset.widths) == (family, sizes):
            return preset
    gpt = family in _GPT_FAMILIES
    depth = _GPT_DEPTH if gpt else _OTHER_DEPTH
    layer = min(max(1, int(depth * widths.n_layers)), widths.n_layers - 1)
    values = _GPT_VALUES if gpt or family == "gptj" else _LLAMA_VALUES
    return Preset(UNPUBLISHED, layer, values, UNPUBLISHED, family, sizes)
