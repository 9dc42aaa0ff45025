"""Editors beyond the rank-one methods, as rows: the joint family and the gradient family.

A joint editor of n facts adds ``dW_i = R_i Xᵀ`` to every layer i of a list, with ``A X = B`` (one
normal equation for the family):

    A = lambda C + lambda_n I + S + K Kᵀ,   B = K          (``projected`` False)
    A = P (S + K Kᵀ) + L2 I,                B = P K        (``projected`` True)
    Xᵀ = (Kᵀ C'⁻¹ K)⁻¹ Kᵀ C'⁻¹,  C' = lambda C + lambda_n I  (``equality``)

K (K, n) holds the mean keys of the facts, C the second moment, S the sum of K Kᵀ of earlier steps,
P the projection onto the directions of C's smallest eigenvalues; R_i is what is missing of the
target values at the last layer, spread over the layers that are left.

Sources: MEMIT (arXiv 2210.07229, kmeng01/memit 80426fd), EMMET (arXiv 2403.14236,
unified-model-editing 23d72b5), AlphaEdit (arXiv 2410.02355, jianghoucheng/AlphaEdit f5248d3), which
also holds MEMIT_seq and RECT's mask; ENCORE (arXiv 2502.01636,
knowledge-editing-regularization 6e3ba9a), NAS (arXiv 2602.02543, SasyaTitech/NAS 5acab48), PRUNE
(arXiv 2405.16821, mjy1111/PRUNE 046c2a6), FT and FT-L (kmeng01/memit baselines/ft), LocFT-BF (arXiv
2509.22072).
"""

import dataclasses
from typing import Literal

from editcollapse.catalog.methods import METHODS, Method, MethodName
from editcollapse.errors import StudyError, nearest_first

OtherEditorName = Literal[
    "memit",
    "memit_seq",
    "emmet",
    "alphaedit",
    "rect",
    "prune",
    "encore",
    "nas",
    "ft",
    "ft_l",
    "ft_m",
    "locft_bf",
]
"""The names of ``EDITORS``, for type checkers and options; a test compares them."""
EditorName = Literal[MethodName, OtherEditorName]
"""The names of ``METHODS`` and ``EDITORS``."""
TEMPLATE_KIND = "five_words"
TEMPLATE_LENGTHS = ((10, 5),)
"""Context templates of these editors: five texts of ten tokens that the model writes.

Source: kmeng01/memit get_context_templates.
"""
Past = Literal["none", "before the write", "after the write"]
"""Whether S counts, and on which weights the keys that are added to it are read."""
TargetRule = Literal["plain", "until predicted", "length of the mean"]
"""How z* is found: MEMIT's; ENCORE's early stop (MPES); NAS's rescaled value."""
Restraint = Literal["none", "linear", "log", "log2", "log1_5", "log1_2"]
"""What is made of singular values of the sum of updates that exceed the unedited matrix's largest:
PRUNE."""
Objective = Literal["last prompt token", "teacher forced"]


@dataclasses.dataclass(frozen=True, slots=True)
class JointEditor:
    """One row of the family of the normal equation."""

    name: str
    title: str
    """As its paper writes it."""
    source: str
    second_moment: bool = True
    """Whether lambda C stands in A."""
    identity: bool = False
    """Whether lambda_n I stands in A."""
    past: Past = "none"
    projected: bool = False
    """Whether P does, with L2 I."""
    equality: bool = False
    """Whether the facts are constraints, not terms of a sum."""
    target: TargetRule = "plain"
    masked: bool = False
    """Whether only the entries of largest relative change are written: RECT."""
    restraint: Restraint = "none"


@dataclasses.dataclass(frozen=True, slots=True)
class GradientEditor:
    """One row of the family of fine-tuning: Adam on the down projection of one layer."""

    name: str
    title: str
    """As its paper writes it."""
    source: str
    objective: Objective
    bounded: bool = False
    """Whether every entry stays within a distance of the unedited one."""
    shuffled: bool = False
    """Whether each epoch takes the facts of a step in another order, in mini-batches."""


Editor = Method | JointEditor | GradientEditor
"""Whatever edits: a rank-one method, a joint editor or fine-tuning."""

_ALPHAEDIT = "jianghoucheng/AlphaEdit f5248d3"
_MEMIT = "kmeng01/memit 80426fd"

EDITORS: dict[str, JointEditor | GradientEditor] = {
    editor.name: editor
    for editor in (
        JointEditor("memit", "MEMIT", f"arXiv 2210.07229, {_MEMIT}"),
        JointEditor("memit_seq", "MEMIT_seq", _ALPHAEDIT, past="before the write"),
        JointEditor(
            "emmet", "EMMET", "arXiv 2403.14236, unified-model-editing 23d72b5", equality=True
        ),
        JointEditor(
            "alphaedit",
            "AlphaEdit",
            f"arXiv 2410.02355, {_ALPHAEDIT}",
            second_moment=False,
            projected=True,
            past="after the write",
        ),
        JointEditor("rect", "RECT", f"arXiv 2401.04700, {_ALPHAEDIT}", masked=True),
        JointEditor("prune", "PRUNE", "arXiv 2405.16821, mjy1111/PRUNE 046c2a6", restraint="log"),
        JointEditor(
            "encore",
            "ENCORE",
            "arXiv 2502.01636, knowledge-editing-regularization 6e3ba9a",
            identity=True,
            past="before the write",
            target="until predicted",
        ),
        JointEditor(
            "nas",
            "NAS",
            "arXiv 2602.02543, SasyaTitech/NAS 5acab48",
            second_moment=False,
            projected=True,
            past="after the write",
            target="length of the mean",
        ),
        GradientEditor("ft", "FT", f"{_MEMIT} baselines/ft", "last prompt token"),
        GradientEditor("ft_l", "FT-L", f"{_MEMIT} baselines/ft", "last prompt token", bounded=True),
        GradientEditor("ft_m", "FT-M", "zjunlp/EasyEdit 14cea82", "teacher forced"),
        GradientEditor("locft_bf", "LocFT-BF", "arXiv 2509.22072", "teacher forced", shuffled=True),
    )
}


def editor_of(name: str) -> Editor:
    """Return an editor's row, a rank-one method's among them.

    Raises:
        StudyError: there is none; the message lists those that exist.
    """
    known: dict[str, Editor] = {**METHODS, **EDITORS}
    if name not in known:
        raise StudyError(f"no editor {name!r}. Known: {nearest_first(name, known)}.")
    return known[name]


def editor_title(name: str) -> str:
    """Return an editor's name as its paper writes it; one that the catalog lacks, as it is."""
    known: dict[str, Editor] = {**METHODS, **EDITORS}
    return known[name].title if name in known else name


def restraint_of(name: str, asked: Restraint | None) -> Restraint:
    """Return what the measured model of a sequence has of the sum of updates.

    Args:
        name: of the editor.
        asked: by the study; with None or ``none`` it is the editor's own.
    """
    if asked is not None and asked != "none":
        return asked
    editor = EDITORS.get(name)
    return editor.restraint if isinstance(editor, JointEditor) else "none"
