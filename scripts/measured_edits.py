"""The measured edits that the package carries, taken from results databases.

``python -m scripts.measured_edits FOLDER...``: each folder holds studies that were run and forecast
(``editcollapse run STUDY.toml``, then ``editcollapse forecast STUDY.toml``). Their models take the
place of what the file had of them, at the same layer, with the same start token, in a study of the
same name; the others stay. Default thresholds, P(collapse) and the tables in docs/results.md follow
from the file: ``python -m scripts.docs`` afterwards. ``measured_models.toml`` gives the models'
names, origins and licences.
"""

import argparse
import dataclasses
import json
import math
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import scipy
import sklearn
import torch
import transformers
from pydantic import BaseModel, ConfigDict

from editcollapse import NUMERICS, __version__
from editcollapse.errors import EditCollapseError, ResultsError
from editcollapse.forecast import measured
from editcollapse.forecast.measured import (
    ADAPTER,
    MeasuredData,
    MeasuredEdits,
    MeasuredModel,
    outcomes,
)
from editcollapse.forecast.probability import fitted_curve
from storage.ask import query_text
from storage.database import open_snapshot

DATA = Path(measured.__file__).parent / measured.FILE
MODELS = Path(__file__).parent / "measured_models.toml"
_FIGURES = 5
"""Significant ones."""
_GROUP = ["source", "start_token", "layer", "study"]


class KnownModel(BaseModel):
    """An entry of ``measured_models.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    sources: tuple[str, ...]
    origin: str
    license: str


class KnownModels(BaseModel):
    """``measured_models.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    models: tuple[KnownModel, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file anew; return 1 where a folder cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.measured_edits",
        description="Take the measured edits of studies into the package's own data.",
        epilog="example: python -m scripts.measured_edits results && python -m scripts.docs",
    )
    parser.add_argument("folders", nargs="+", type=Path, help="results folders")
    parser.add_argument("--anew", action="store_true", help="drop all that the file has")
    options = parser.parse_args(arguments)
    try:
        found = [model for folder in options.folders for model in models_of(folder)]
        kept = () if options.anew else read(DATA).models
        data = merged(kept, found)
    except EditCollapseError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    DATA.write_text(written(data), encoding="utf-8")
    for each in data.models:
        is_new = any(each is one for one in found)
        sys.stdout.write(
            f"{'new ' if is_new else 'kept'} {each.model}"
            f"{' with start token' if each.start_token else ''}, layer {each.layer}, {each.study}: "
            f"{len(each.edits.method)} edits, {sum(each.collapsed)} collapsed\n"
        )
    return 0


def read(path: Path) -> MeasuredData:
    """Return a file's data."""
    return ADAPTER.validate_json(path.read_bytes())


def models_of(folder: Path) -> list[MeasuredModel]:
    """Return the models of a results folder, at each layer in each study.

    Of several runs of a study that was changed the one with the most edits counts.

    Raises:
        ResultsError: there are no results, no edit has a forecast and a measurement, or a model is
            not in ``measured_models.toml``.
    """
    with open_snapshot(folder) as snapshot:
        frame: pl.DataFrame = snapshot.sql(query_text("measured_models")).pl()
    if not frame.height:
        raise ResultsError(
            f"no edit in {folder} has a forecast and a measurement. Run a study there and forecast "
            "it: editcollapse forecast STUDY.toml"
        )
    return [_model(group) for group in frame.partition_by(_GROUP, maintain_order=True)]


def _model(group: pl.DataFrame) -> MeasuredModel:
    (study, _), *_ = sorted(
        group["study_id"].value_counts().rows(), key=lambda each: (-each[1], each[0])
    )
    group = group.filter(pl.col("study_id") == study)
    first: dict[str, Any] = group.row(0, named=True)
    known = _known(first["source"])
    columns = {
        field.name: tuple(map(_rounded, group[field.name].to_list()))
        for field in dataclasses.fields(MeasuredEdits)
    }
    return MeasuredModel(
        model=known.name,
        source=known.origin,
        license=known.license,
        study=first["study"],
        layer=first["layer"],
        n_layers=first["n_layers"],
        start_token=first["start_token"],
        d_key=first["d_key"],
        n_tokens=first["n_tokens"],
        base_ppl=_rounded(first["base_ppl"]),
        edits=MeasuredEdits(**columns),
    )


def _known(source: str) -> KnownModel:
    with MODELS.open("rb") as stream:
        known = KnownModels(**tomllib.load(stream)).models
    for each in known:
        if source in each.sources:
            return each
    raise ResultsError(
        f"{source} is none of the models of {MODELS.name}, which says where weights come from and "
        "under which licence. Add an entry, or its source to one."
    )


def _rounded(value: Any) -> Any:
    return float(f"{value:.{_FIGURES}g}") if isinstance(value, float) else value


def merged(kept: Sequence[MeasuredModel], found: Sequence[MeasuredModel]) -> MeasuredData:
    """Return old and new models in one order, new ones in the place of old, with their curve.

    Raises:
        ResultsError: none of all edits collapsed, or all did.
    """
    by_key = {_key(each): each for each in [*kept, *found]}
    models = tuple(by_key[key] for key in sorted(by_key))
    made = (
        "python -m scripts.measured_edits, from the results databases of studies that were run and "
        f"forecast; editcollapse {__version__}, numerics {NUMERICS}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, scikit-learn {sklearn.__version__}, scipy "
        f"{scipy.__version__} where it was written last"
    )
    curve = fitted_curve(outcomes(models))
    short = dataclasses.replace(
        curve,
        intercepts=tuple(map(_rounded, curve.intercepts)),
        slopes=tuple(map(_rounded, curve.slopes)),
    )
    return MeasuredData(made, short, models)


def _key(model: MeasuredModel) -> tuple[str, bool, int, str]:
    return (model.model, model.start_token, model.layer, model.study)


def written(data: MeasuredData) -> str:
    """Return the file's text: a line a column, so that changes can be read."""
    return _json(ADAPTER.dump_python(data, mode="json"), 0) + "\n"


def _json(value: Any, depth: int) -> str:
    """Return JSON with objects and lists of objects over lines, lists of values on one."""
    inner, outer = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, dict):
        items = [f"{json.dumps(name)}: {_json(each, depth + 1)}" for name, each in value.items()]
        return "{" + inner + f",{inner}".join(items) + outer + "}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return (
            "[" + inner + f",{inner}".join(_json(each, depth + 1) for each in value) + outer + "]"
        )
    if isinstance(value, list):
        return json.dumps([_plain(each) for each in value], separators=(",", ":"))
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Return a number that is none as JSON can have it."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
