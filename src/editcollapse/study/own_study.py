"""A study of one's own model and edit requests, from what is named in a command's words.

``own_study`` checks the inputs and makes the study; ``study_file_text`` writes it as a file that
says the same, so that ids are the same with the file and without.
"""

import dataclasses
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from editcollapse.catalog.editors import editor_of
from editcollapse.catalog.presets import UNPUBLISHED, preset_for
from editcollapse.config.spec import (
    DEFAULT_COVARIANCE,
    CovarianceSpec,
    DatasetSpec,
    DtypeName,
    EvaluationSpec,
    ModelSpec,
    StartTokenName,
    StudySpec,
)
from editcollapse.config.study_file import with_absolute_paths
from editcollapse.data.corpora import CovarianceSource
from editcollapse.data.datasets import read_requests, select
from editcollapse.data.requests import RequestFile
from editcollapse.data.texts import TextSet, read_texts, texts_file
from editcollapse.errors import ModelError, StudyError
from editcollapse.models.files import ModelFiles, locate_model, name_of

_NOT_IN_NAMES = re.compile(r"[^\w.-]")
_LONGEST_NAME = 80
_COMMENT_AT = 36
"""Column at which comments begin, where there is room."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OwnInputs:
    """What a user names: a model, its edit requests, and what may be left out."""

    model: str
    """A folder, a GGUF file or a hub id."""
    dataset: str
    """A file of edit requests."""
    layer: int | None = None
    """None for the preset's: published, or by depth."""
    limit: int | None = None
    """Only the first so many usable requests."""
    methods: tuple[str, ...] = ()
    """Empty for the study file's default."""
    covariance: str | None = None
    """As ``CovarianceSource.of`` takes it; None for the default corpus."""
    tokens: int = DEFAULT_COVARIANCE.n_tokens
    damping: float = 0.0
    texts: str | None = None
    """File of perplexity texts; None for those of the package."""
    revision: str | None = None
    dtype: DtypeName = "float32"
    start_token: StartTokenName = "tokenizer"
    chat_template: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class OwnStudy:
    """A study of one model, and what its inputs were found to be."""

    study: StudySpec
    """With absolute paths."""
    files: ModelFiles
    layer_source: str
    """Where the layer stands: a published file, ``unpublished`` where it is by depth, or
    ``asked for``."""
    requests: RequestFile
    """Those that the study uses."""
    texts: TextSet


def own_study(asked: OwnInputs) -> OwnStudy:
    """Check what is named and make a study of it; no weight is read.

    Relative paths are looked up in the working directory.

    Raises:
        StudyError: a number is out of range, or a name is none.
        ModelError: the model's files or its family cannot be used, or it has no such layer.
        DatasetError: the dataset, the texts or the corpus cannot be used.
        MomentError: statistics are missing, or C of so few tokens would be singular.
    """
    for method in asked.methods:
        editor_of(method)
    files = locate_model(asked.model, asked.revision)
    preset = preset_for(None, files.architecture.family, files.widths)
    layer, layer_source = preset.layer_of(asked.layer, "asked for")
    if not 0 <= layer < files.widths.n_layers:
        raise ModelError(
            f"`layer` {layer}: {files.source} has layers 0 to {files.widths.n_layers - 1}. Give "
            "one of them."
        )
    requests = select(read_requests(_path(asked.dataset)), limit=asked.limit)
    source = CovarianceSource.of(asked.covariance, asked.tokens, asked.damping, files.widths.d_key)
    covariance, statistics = source.spec, None
    if source.statistics is not None:  # which a study names by model
        statistics = str(source.statistics)
        covariance = CovarianceSpec(kind="statistics", damping=asked.damping)
    is_here = _path(asked.model).exists()
    name = name_of(str(_path(asked.model)) if is_here else asked.model) or "model"
    study = StudySpec.model_validate(
        {
            "name": _name(f"{name}-{requests.name}"),
            **({"methods": asked.methods} if asked.methods else {}),
            "models": (
                ModelSpec(
                    name=name,
                    source=asked.model,
                    revision=asked.revision,
                    layer=layer,
                    dtype=asked.dtype,
                    start_token=asked.start_token,
                    chat_template=asked.chat_template,
                    statistics=statistics,
                ),
            ),
            "dataset": DatasetSpec(path=asked.dataset, limit=asked.limit),
            "covariance": covariance,
            "evaluation": EvaluationSpec(texts=asked.texts),
        }
    )
    study = with_absolute_paths(study, Path.cwd())
    texts = read_texts(texts_file(study.evaluation))
    return OwnStudy(study, files, layer_source, requests, texts)


def study_file_text(own: OwnStudy, folder: Path) -> str:
    """Return the study as the text of a TOML file with comments.

    Args:
        own: the study.
        folder: where the file will lie; paths near it become relative to it.

    Raises:
        StudyError: read from there the file would say something else.
    """
    folder = folder.resolve()
    text = "\n".join(_lines(own, folder)) + "\n"
    again = with_absolute_paths(StudySpec.model_validate(tomllib.loads(text)), folder)
    if again != own.study:
        raise StudyError(
            f"a study file in {folder} would not find what was named: the hub id "
            f"{own.study.models[0].source} is also the path of something there. Write it to "
            "another folder."
        )
    return text


def _lines(own: OwnStudy, folder: Path) -> Iterator[str]:
    """Yield the lines of the study file."""
    study, files = own.study, own.files
    (model,) = study.models
    layers = f"of 0 to {files.widths.n_layers - 1}"
    chosen = {
        UNPUBLISHED: f"{layers}; by depth, as none is published",
        "asked for": layers,
    }.get(own.layer_source, f"{layers}; as in {own.layer_source}")
    yield "# One model, one file of facts. docs/studies.md lists every field and its default."
    yield f"name = {_quoted(study.name)}"
    methods = ", ".join(map(_quoted, study.methods))
    yield _with_comment(f"methods = [{methods}]", "also r_rome, p_rome, v_relative")
    yield "\n[[models]]"
    yield f"name = {_quoted(model.name)}"
    yield _with_comment(f"source = {_near(model.source, folder)}", files.architecture.family)
    if model.revision is not None:
        yield f"revision = {_quoted(model.revision)}"
    yield _with_comment(f"layer = {model.layer}", chosen)
    if model.dtype != "float32":
        yield f"dtype = {_quoted(model.dtype)}"
    if model.start_token != "tokenizer":
        yield f"start_token = {_quoted(model.start_token)}"
    if model.chat_template:
        yield _with_comment("chat_template = true", "prompts are the user's message")
    if model.statistics is not None:
        yield f"statistics = {_near(model.statistics, folder)}"
    yield "\n[dataset]"
    n_requests = len(own.requests.records)
    yield _with_comment(
        f"path = {_near(study.dataset.path, folder)}",
        f"{own.requests.schema}, {n_requests} usable requests",
    )
    limit = study.dataset.limit
    yield f"limit = {limit}" if limit else f"# limit = {n_requests}"
    yield "\n[covariance]"
    yield from _covariance_lines(study.covariance, folder)
    yield "\n[evaluation]"
    on = study.evaluation.texts
    yield (
        f"texts = {_near(on, folder)}"
        if on is not None
        else _with_comment('# texts = "FILE"', "left out: 50 texts of neutral English")
    )


def _covariance_lines(spec: CovarianceSpec, folder: Path) -> Iterator[str]:
    """Yield the lines of the table of the second moment."""
    yield _with_comment(f"kind = {_quoted(spec.kind)}", "C = E[k kT] of the layer's keys")
    if spec.kind == "corpus":
        yield f"source = {_near(str(spec.source), folder)}"
        if spec.subset is not None:
            yield f"subset = {_quoted(spec.subset)}"
        yield _with_comment(f"n_tokens = {spec.n_tokens}", "the first so many")
    if spec.kind == "samples":
        yield _with_comment(f"n_tokens = {spec.n_tokens}", "written by the model itself")
    if spec.damping:
        yield f"damping = {spec.damping!r}"


def _path(text: str) -> Path:
    """Return a path without links and dots."""
    return Path(text).expanduser().resolve()


def _name(text: str) -> str:
    """Return a text as the name of a study."""
    return _NOT_IN_NAMES.sub("_", text)[:_LONGEST_NAME]


def _quoted(text: str) -> str:
    """Return a TOML string: JSON's, but for a sign that TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _near(text: str, folder: Path) -> str:
    """Return a path as a TOML string: relative where it is in the folder or beside it."""
    path = Path(text)
    if path.is_absolute() and any(path.is_relative_to(near) for near in _around(folder)):
        return _quoted(Path(os.path.relpath(path, folder)).as_posix())
    return _quoted(text)


def _around(folder: Path) -> tuple[Path, ...]:
    """Return a folder and the one that it is in, unless that is the root."""
    parent = folder.parent
    return (folder,) if parent == Path(parent.anchor) else (folder, parent)


def _with_comment(line: str, comment: str) -> str:
    return (
        f"{line:<{_COMMENT_AT}}# {comment}" if len(line) < _COMMENT_AT else f"{line}  # {comment}"
    )
