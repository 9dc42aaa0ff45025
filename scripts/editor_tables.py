"""Tables of docs/editors.md: the rows of the catalog of editors, and their published settings."""

from collections.abc import Iterator

from editcollapse.catalog.editor_presets import PUBLISHED, GradientSettings, JointSettings
from editcollapse.catalog.editors import EDITORS, GradientEditor, JointEditor
from editcollapse.catalog.presets import PRESETS
from scripts.markdown import cell, table

_TARGETS = {
    "plain": "MEMIT's",
    "until predicted": "stops once predicted (MPES)",
    "length of the mean": "scaled to the mean length",
}
_OBJECTIVES = {
    "last prompt token": "all target tokens at the prompt's last token",
    "teacher forced": "each target token behind those before it",
}


def joint_editors() -> str:
    """Return a row for each editor of the normal equation."""
    head = ("name", "editor", "A", "z*", "afterwards", "source")
    return table(
        head,
        (
            (
                f"`{editor.name}`",
                editor.title,
                _terms(editor),
                _TARGETS[editor.target],
                _afterwards(editor),
                editor.source,
            )
            for editor in EDITORS.values()
            if isinstance(editor, JointEditor)
        ),
    )


def gradient_editors() -> str:
    """Return a row for each editor that fine-tunes."""
    head = ("name", "editor", "loss", "bound on every entry", "order of a step's facts", "source")
    return table(
        head,
        (
            (
                f"`{editor.name}`",
                editor.title,
                _OBJECTIVES[editor.objective],
                "yes" if editor.bounded else "no",
                "shuffled each epoch" if editor.shuffled else "as given",
                editor.source,
            )
            for editor in EDITORS.values()
            if isinstance(editor, GradientEditor)
        ),
    )


def joint_settings() -> str:
    """Return the published settings of joint editors, a line a model; equal ones share it."""
    head = (
        *("editor", "model", "layers", "steps", "rate", "decay", "clamp"),
        *("lambda", "further", "source"),
    )
    sharing: dict[tuple[str, ...], list[str]] = {}
    for name, model, found in _published():
        if isinstance(found, JointSettings):
            line = (
                model,
                _layers(found.layers),
                *map(cell, _values(found)),
                f"{found.second_moment_weight:,.0f}" if found.second_moment_weight else "-",
                _further(EDITORS[name], found),
                found.source,
            )
            sharing.setdefault(line, []).append(EDITORS[name].title)
    return table(head, ((", ".join(titles), *line) for line, titles in sharing.items()))


def gradient_settings() -> str:
    """Return the published settings of fine-tuning, a line an editor and model."""
    head = ("editor", "model", "layer", "epochs", "rate", "bound", "mini-batch", "source")
    return table(
        head,
        (
            (
                EDITORS[name].title,
                model,
                _layers(found.layers),
                str(found.epochs),
                cell(found.learning_rate),
                "-" if found.norm_bound is None else cell(found.norm_bound),
                str(found.batch_size),
                found.source,
            )
            for name, model, found in _published()
            if isinstance(found, GradientSettings)
        ),
    )


def _terms(editor: JointEditor) -> str:
    """Return A of an editor as text."""
    own = [
        "λC" if editor.second_moment else "",
        "λₙI" if editor.identity else "",
        "S" if editor.past != "none" else "",
        "K Kᵀ",
    ]
    inner = " + ".join(term for term in own if term)
    if editor.equality:
        return "none: Xᵀ = (Kᵀ C'⁻¹ K)⁻¹ Kᵀ C'⁻¹"
    return f"P ({inner}) + L2 I" if editor.projected else inner


def _afterwards(editor: JointEditor) -> str:
    """Return what is done once all layers are written."""
    if editor.masked:
        return "entries of small relative change are put back"
    return "" if editor.restraint == "none" else f"spectrum restrained ({editor.restraint})"


def _published() -> Iterator[tuple[str, str, JointSettings | GradientSettings]]:
    """Yield editor, model and settings, in the catalog's order."""
    names = {(each.family, *each.widths): name for name, each in PRESETS.items()}
    for editor, by_sizes in PUBLISHED.items():
        for sizes, found in by_sizes.items():
            yield editor, names[sizes], found


def _layers(layers: tuple[int, ...]) -> str:
    """Return adjoining layers as text, such as 4-8."""
    return str(layers[0]) if len(layers) == 1 else f"{layers[0]}-{layers[-1]}"


def _values(found: JointSettings) -> tuple[float, ...]:
    own = found.values
    return own.steps, own.learning_rate, own.weight_decay, own.clamp_factor


def _further(editor: JointEditor | GradientEditor, found: JointSettings) -> str:
    """Return the settings that only some editors have."""
    assert isinstance(editor, JointEditor)
    said = []
    if editor.identity:
        said.append(f"λₙ {cell(found.identity_weight)}")
    if editor.target == "until predicted":
        said.append(f"{found.predicted_passes} passes")
    if editor.projected:
        said += [f"threshold {cell(found.nullspace_threshold)}", f"L2 {cell(found.ridge)}"]
    if editor.equality:
        said.append(f"ridge {cell(found.constraint_ridge)} from two facts on")
    return ", ".join(said)
