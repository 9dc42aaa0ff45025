"""The rows of editors beyond rank one, and their published settings against the sources."""

from typing import get_args

import pytest

from editcollapse.catalog.architectures import Widths
from editcollapse.catalog.editor_presets import (
    GradientSettings,
    JointSettings,
    editor_settings,
)
from editcollapse.catalog.editors import EDITORS, EditorName, editor_of, editor_title
from editcollapse.catalog.methods import METHODS
from editcollapse.errors import StudyError

GPT2_XL = ("gpt2", Widths(48, 1600, 6400, 50257))
GPT_J = ("gptj", Widths(28, 4096, 16384, 50400))
LLAMA2 = ("llama", Widths(32, 4096, 11008, 32000))
LLAMA3 = ("llama", Widths(32, 4096, 14336, 128256))
MISTRAL = ("mistral", Widths(32, 4096, 14336, 32000))
QWEN2 = ("qwen2", Widths(28, 3584, 18944, 152064))


def found(name, model, layer=5):
    family, widths = model
    return editor_settings(name, family, widths, layer)


def test_names_are_those_of_the_study_file():
    """A study file knows every editor of the catalog, and no other."""
    assert get_args(EditorName) == (*METHODS, *EDITORS)


# layers, steps, learning rate, clamp, weight decay, KL, lambda: the table of MEMIT's hparams
# (kmeng01/memit, AlphaEdit's repository for Llama-3, EasyEdit for the others).
MEMIT = [
    (GPT2_XL, range(13, 18), 20, 0.5, 0.75, 0.5, 20_000),
    (GPT_J, range(3, 9), 25, 0.5, 0.75, 0.5, 15_000),
    (LLAMA3, range(4, 9), 25, 0.1, 0.75, 0.5, 15_000),
    (LLAMA2, range(4, 9), 25, 0.5, 4, 1e-3, 15_000),
    (MISTRAL, range(4, 9), 25, 0.5, 4, 1e-3, 15_000),
    (QWEN2, range(4, 9), 25, 0.5, 4, 1e-3, 15_000),
]


@pytest.mark.parametrize("name", ["memit", "memit_seq", "rect", "prune"])
@pytest.mark.parametrize("row", MEMIT)
def test_settings_of_memit_are_the_published_ones(name, row):
    """MEMIT, and what differs from it in other terms, have MEMIT's settings."""
    model, layers, steps, rate, clamp, decay, weight = row
    settings = found(name, model)
    assert isinstance(settings, JointSettings)
    values = settings.values
    assert settings.layers == tuple(layers)
    assert (values.steps, values.learning_rate, values.clamp_factor) == (steps, rate, clamp)
    assert (values.weight_decay, values.kl_factor) == (decay, 0.0625)
    assert settings.second_moment_weight == weight
    assert (values.stop_loss, settings.mask_share) == (0.05, 0.4)
    assert settings.source != "unpublished"


@pytest.mark.parametrize("name", ["alphaedit", "nas"])
@pytest.mark.parametrize("model", [GPT2_XL, GPT_J, LLAMA3])
def test_settings_of_alphaedit_are_the_published_ones(name, model):
    """Threshold 2e-2 and L2 10, z* as MEMIT's on the same model."""
    settings, memit = found(name, model), found("memit", model)
    assert (settings.nullspace_threshold, settings.ridge) == (2e-2, 10)
    assert (settings.layers, settings.values) == (memit.layers, memit.values)
    assert (settings.norm_records, settings.norm_quantile) == (1000, 0.95)


def test_settings_of_encore_and_emmet_are_the_published_ones():
    """ENCORE: lambda_n 10, 10, 20 and passes 4, 3, 2. EMMET: one layer, lambda by model."""
    encore = [found("encore", model) for model in (GPT2_XL, LLAMA2, LLAMA3)]
    assert [each.identity_weight for each in encore] == [10, 10, 20]
    assert [each.predicted_passes for each in encore] == [4, 3, 2]
    assert {(each.values.clamp_factor, each.values.learning_rate) for each in encore} == {
        (0.75, 0.5)
    }
    emmet = [found("emmet", model) for model in (GPT2_XL, GPT_J, LLAMA2)]
    assert [each.layers for each in emmet] == [(17,), (5,), (5,)]
    assert [each.second_moment_weight for each in emmet] == [10_000, 100_000, 100_000]
    assert {each.constraint_ridge for each in emmet} == {0.1}


def test_settings_of_fine_tuning_are_the_published_ones():
    """25 epochs at 5e-4; layers and bounds of kmeng01/memit, EasyEdit and LocFT-BF's paper."""
    medium = ("gpt2", Widths(24, 1024, 4096, 50257))
    large = ("gpt2", Widths(36, 1280, 5120, 50257))
    bounded = [found("ft_l", model) for model in (medium, large, GPT2_XL, GPT_J, MISTRAL)]
    assert [each.norm_bound for each in bounded] == [2e-3, 1e-3, 5e-4, 5e-5, 5e-5]
    assert [each.layers for each in bounded] == [(0,), (0,), (0,), (0,), (21,)]
    free = [found("ft", model) for model in (GPT2_XL, GPT_J, LLAMA3)]
    assert [each.layers for each in free] == [(1,), (21,), (21,)]
    assert {each.norm_bound for each in free} == {None}
    assert {(each.epochs, each.learning_rate, each.stop_loss) for each in (*bounded, *free)} == {
        (25, 5e-4, 1e-2)
    }
    assert [found("locft_bf", model).layers for model in (LLAMA3, QWEN2)] == [(22,), (6,)]


@pytest.mark.parametrize("name", EDITORS)
def test_other_models_have_settings_by_rule(name):
    """Lambda is K, lists end at the study's layer, and the source says that nobody published it."""
    settings = found(name, ("llama", Widths(30, 576, 1536, 49152)), layer=14)
    assert settings.source == "unpublished"
    if isinstance(settings, GradientSettings):
        assert settings.layers == ((0,) if name == "ft_l" else (19,))
        return
    assert settings.layers == ((14,) if name == "emmet" else (10, 11, 12, 13, 14))
    projected = name in {"alphaedit", "nas"}
    assert settings.second_moment_weight == (0.0 if projected else 1536.0)
    shallow = found(name, ("gpt2", Widths(4, 64, 256, 500)), layer=1)
    assert shallow.layers == ((1,) if name == "emmet" else (0, 1))


def test_unknown_editors_are_refused_with_the_nearest_names():
    """A name that is none is refused in a sentence; a title of one is the name itself."""
    with pytest.raises(StudyError, match=r"no editor 'memmit'\. Known: memit"):
        editor_of("memmit")
    with pytest.raises(StudyError, match="it is none of memit"):
        found("rome", GPT2_XL)
    assert (editor_title("encore"), editor_title("c_rome"), editor_title("own")) == (
        "ENCORE",
        "C-ROME",
        "own",
    )
