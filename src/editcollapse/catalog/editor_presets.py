"""Published settings of the editors beyond rank one; for other models settings of ours, so marked.

A row is found by editor and by the model's sizes, as ``presets`` finds ROME's. What nobody has
published follows rules that do not depend on the scale of a model's keys:

- lambda is K: a key of mean size over C's own tokens (kᵀ C⁻¹ k = K) is then written by half. The
  published ones are 3.1 K (gpt2-xl), 0.92 K (gpt-j) and 1.05 K (Llama-3-8B, Mistral);
- AlphaEdit keeps the 70 % of directions with the smallest eigenvalues, about the share that its
  threshold keeps of Llama-3-8B (jianghoucheng/AlphaEdit issue 12), and its L2 is tr(P C): again
  half of a mean key;
- ENCORE's lambda_n is 0.01 of lambda C's mean diagonal;
- the list of layers ends at the layer that the study edits, and has five where there are so many.
"""

import dataclasses

from editcollapse.catalog.architectures import Widths
from editcollapse.catalog.editors import EDITORS, GradientEditor, JointEditor
from editcollapse.catalog.presets import UNPUBLISHED, ValueSettings
from editcollapse.errors import StudyError

_MEMIT = "kmeng01/memit 80426fd hparams/MEMIT"
_ALPHAEDIT = "jianghoucheng/AlphaEdit f5248d3 hparams"
_ENCORE = "knowledge-editing-regularization 6e3ba9a hparams"
_EASYEDIT = "zjunlp/EasyEdit 14cea82 hparams"
_UNIFIED = "unified-model-editing 23d72b5 hparams"
_NAS = "SasyaTitech/NAS 5acab48"
_FT = "kmeng01/memit 80426fd hparams/FT"
_LOCFT = "arXiv 2509.22072"
_N_LAYERS = 5
"""Layers of a list, as published for every model but one."""
KEPT_SHARE = 0.7
"""Share of C's directions that P keeps where no threshold is published."""
IDENTITY_SHARE = 0.01
"""lambda_n in units of lambda C's mean diagonal where it is not published."""


@dataclasses.dataclass(frozen=True, slots=True)
class JointSettings:
    """Settings of a joint editor on one model; None is worked out from C, as the module says."""

    layers: tuple[int, ...]
    """Zero-based blocks in ascending order; z* is found at the last."""
    values: ValueSettings
    """Of the optimisation of z*."""
    second_moment_weight: float
    """lambda."""
    identity_weight: float | None = None
    """lambda_n."""
    nullspace_threshold: float | None = None
    """Eigenvalues of C below it are kept by P; it depends on the scale of the keys."""
    ridge: float | None = None
    """L2."""
    constraint_ridge: float = 0.1
    """Added to EMMET's Kᵀ C'⁻¹ K where there are several facts."""
    mask_share: float = 0.4
    """Share of the entries that RECT keeps."""
    predicted_passes: int = 3
    """Passes with a predicted target after which ENCORE stops."""
    norm_records: int = 1000
    """Facts at most whose target values NAS takes the mean length of, on the unedited model."""
    norm_quantile: float = 0.95
    """Longer ones than this quantile are left out of the mean."""
    source: str = UNPUBLISHED
    """Where the figures stand."""


@dataclasses.dataclass(frozen=True, slots=True)
class GradientSettings:
    """Settings of fine-tuning one layer's down projection on one model."""

    layers: tuple[int, ...]
    """One zero-based block."""
    epochs: int = 25
    learning_rate: float = 5e-4
    """Adam's."""
    stop_loss: float = 1e-2
    """Mini-batches below take no step; fine-tuning ends with an epoch whose mean is below."""
    norm_bound: float | None = None
    """No entry goes further than this from the unedited one; None for free."""
    batch_size: int = 1
    """Facts of a mini-batch."""
    seed: int = 0
    """Of the shuffles."""
    source: str = UNPUBLISHED
    """Where the figures stand."""


EditorSettings = JointSettings | GradientSettings

_GPT_VALUES = ValueSettings(steps=20, clamp_factor=0.75)
_GPTJ_VALUES = ValueSettings(steps=25, clamp_factor=0.75)
_SLOW_VALUES = ValueSettings(steps=25, learning_rate=0.1, clamp_factor=0.75)
_EASY_VALUES = ValueSettings(steps=25, weight_decay=1e-3, clamp_factor=4.0)

_GPT2_XL = ("gpt2", 48, 1600, 6400)
_GPT_J = ("gptj", 28, 4096, 16384)
_LLAMA2_7B = ("llama", 32, 4096, 11008)
_LLAMA3_8B = ("llama", 32, 4096, 14336)
_MISTRAL_7B = ("mistral", 32, 4096, 14336)
_QWEN2_7B = ("qwen2", 28, 3584, 18944)
_GPT2_MEDIUM = ("gpt2", 24, 1024, 4096)
_GPT2_LARGE = ("gpt2", 36, 1280, 5120)

_LIST = tuple(range(4, 9))
_XL_LIST = tuple(range(13, 18))
_J_LIST = tuple(range(3, 9))


def _memit(
    layers: tuple[int, ...], values: ValueSettings, weight: float, source: str
) -> JointSettings:
    return JointSettings(layers, values, weight, source=source)


def _projected(layers: tuple[int, ...], values: ValueSettings, source: str) -> JointSettings:
    return JointSettings(layers, values, 0.0, nullspace_threshold=2e-2, ridge=10.0, source=source)


_MEMIT_ROWS = {
    _GPT2_XL: _memit(_XL_LIST, _GPT_VALUES, 20_000.0, _MEMIT),
    _GPT_J: _memit(_J_LIST, _GPTJ_VALUES, 15_000.0, _MEMIT),
    _LLAMA3_8B: _memit(_LIST, _SLOW_VALUES, 15_000.0, _ALPHAEDIT),
    _LLAMA2_7B: _memit(_LIST, _EASY_VALUES, 15_000.0, _EASYEDIT),
    _MISTRAL_7B: _memit(_LIST, _EASY_VALUES, 15_000.0, _EASYEDIT),
    _QWEN2_7B: _memit(_LIST, _EASY_VALUES, 15_000.0, _EASYEDIT),
}
_ALPHAEDIT_ROWS = {
    _GPT2_XL: _projected(_XL_LIST, _GPT_VALUES, _ALPHAEDIT),
    _GPT_J: _projected(_J_LIST, _GPTJ_VALUES, _ALPHAEDIT),
    _LLAMA3_8B: _projected(_LIST, _SLOW_VALUES, _ALPHAEDIT),
}
PUBLISHED: dict[str, dict[tuple[str, int, int, int], EditorSettings]] = {
    "memit": dict(_MEMIT_ROWS),
    "memit_seq": dict(_MEMIT_ROWS),
    "rect": dict(_MEMIT_ROWS),
    "prune": dict(_MEMIT_ROWS),
    "alphaedit": dict(_ALPHAEDIT_ROWS),
    "nas": {sizes: dataclasses.replace(row, source=_NAS) for sizes, row in _ALPHAEDIT_ROWS.items()},
    "emmet": {
        _GPT2_XL: JointSettings((17,), _GPT_VALUES, 10_000.0, 0.0, source=_EASYEDIT),
        _GPT_J: JointSettings((5,), _GPTJ_VALUES, 100_000.0, 0.0, source=_EASYEDIT),
        _LLAMA2_7B: JointSettings((5,), _EASY_VALUES, 100_000.0, 0.0, source=_EASYEDIT),
    },
    "encore": {
        _GPT2_XL: JointSettings(
            _XL_LIST, _GPT_VALUES, 20_000.0, 10.0, predicted_passes=4, source=_ENCORE
        ),
        _LLAMA2_7B: JointSettings(
            _LIST, _GPTJ_VALUES, 15_000.0, 10.0, predicted_passes=3, source=_ENCORE
        ),
        _LLAMA3_8B: JointSettings(
            _LIST, _GPTJ_VALUES, 15_000.0, 20.0, predicted_passes=2, source=_ENCORE
        ),
    },
    "ft": {
        _GPT2_XL: GradientSettings((1,), source=_FT),
        _GPT_J: GradientSettings((21,), source=_FT),
        _LLAMA3_8B: GradientSettings((21,), source=_ALPHAEDIT),
    },
    "ft_l": {
        _GPT2_MEDIUM: GradientSettings((0,), norm_bound=2e-3, source=_FT),
        _GPT2_LARGE: GradientSettings((0,), norm_bound=1e-3, source=_FT),
        _GPT2_XL: GradientSettings((0,), norm_bound=5e-4, source=_FT),
        _GPT_J: GradientSettings((0,), norm_bound=5e-5, source=_FT),
        _MISTRAL_7B: GradientSettings((21,), norm_bound=5e-5, source=_EASYEDIT),
    },
    "ft_m": {
        _LLAMA2_7B: GradientSettings((21,), source=_EASYEDIT),
        _LLAMA3_8B: GradientSettings((21,), source=_EASYEDIT),
        _QWEN2_7B: GradientSettings((27,), source=_EASYEDIT),
    },
    "locft_bf": {
        # Where it is known; epochs, rate and mini-batch are ours.
        _LLAMA3_8B: GradientSettings((22,), batch_size=8, source=f"layer: {_LOCFT}"),
        _QWEN2_7B: GradientSettings((6,), batch_size=8, source=f"layer: {_LOCFT}"),
    },
}
"""By editor, then by family, blocks, D and K of a model."""
_FREE_DEPTH = 0.66
"""Relative depth of the layer that free fine-tuning takes, as 21 of 32."""
_FT_L_BOUND = 5e-4


def editor_settings(name: str, family: str, widths: Widths, layer: int) -> EditorSettings:
    """Return the settings of an editor on a model: the published ones, or ours.

    Args:
        name: a key of ``EDITORS``.
        family: the model's ``model_type``.
        widths: its sizes.
        layer: that the study edits, at which an unpublished list of layers ends.

    Raises:
        StudyError: there is no such editor.
    """
    editor = EDITORS.get(name)
    if editor is None:
        raise StudyError(f"no settings of editor {name!r}: it is none of {', '.join(EDITORS)}.")
    sizes = (family, widths.n_layers, widths.d_model, widths.d_key)
    published = PUBLISHED[name].get(sizes)
    if published is not None:
        return published
    if isinstance(editor, GradientEditor):
        free = min(widths.n_layers - 1, int(_FREE_DEPTH * widths.n_layers))
        return GradientSettings(
            layers=(0 if editor.bounded else free,),
            norm_bound=_FT_L_BOUND if editor.bounded else None,
            batch_size=8 if editor.shuffled else 1,
        )
    return _unpublished(editor, family, widths, layer)


def _unpublished(editor: JointEditor, family: str, widths: Widths, layer: int) -> JointSettings:
    """Return the settings of a joint editor that nobody has published for a model."""
    gpt = family in {"gpt2", "gptj", "gpt_neo", "gpt_neox"}
    n_layers = 1 if editor.equality else _N_LAYERS
    return JointSettings(
        layers=tuple(range(max(0, layer + 1 - n_layers), layer + 1)),
        values=_GPTJ_VALUES if gpt or editor.identity else _EASY_VALUES,
        second_moment_weight=0.0 if editor.projected else float(widths.d_key),
        identity_weight=None if editor.identity else 0.0,
    )
