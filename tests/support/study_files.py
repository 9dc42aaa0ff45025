"""A whole small study in a folder: model, requests, texts, corpus, templates and the study file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from editcollapse.config.spec import StudySpec
from editcollapse.config.study_file import read_study
from tests.support.cases import REQUESTS, TEMPLATES, TEXTS

CORPUS = "\n\n".join(
    f"{text} The {word} city stood here , near Oslo ." for word in ("red", "old") for text in TEXTS
)


def records() -> list[dict[str, Any]]:
    """Return the test requests in CounterFact's schema, and one that no tiny model can take."""
    rows = [
        {
            "case_id": index,
            "requested_rewrite": {
                "subject": request.subject,
                "prompt": request.prompt,
                "target_new": {"str": request.target_new},
                "target_true": {"str": request.target_true},
            },
            "paraphrase_prompts": list(request.paraphrase_prompts),
            "neighborhood_prompts": list(request.neighborhood_prompts),
        }
        for index, request in enumerate(REQUESTS)
    ]
    strange = json.loads(json.dumps(rows[0]))
    strange["case_id"] = 99
    strange["requested_rewrite"]["target_new"]["str"] = "Xyzzy"
    # Sorted by width these do not come in an order that is its own inverse.
    return [rows[0], rows[2], strange, rows[3], rows[1]]


def write_study(folder: Path, model: Path, **changes: Any) -> StudySpec:
    """Write a study and all that it names below a folder; return it as ``read_study`` does.

    Args:
        folder: made where it is not there.
        model: a model's folder, which is copied.
        changes: dotted names of settings, with ``__`` for the dot, and TOML values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(model, folder / "model", dirs_exist_ok=True)
    (folder / "requests.json").write_text(json.dumps(records()))
    (folder / "texts.json").write_text(json.dumps(TEXTS))
    (folder / "templates.json").write_text(json.dumps(TEMPLATES))
    (folder / "corpus.txt").write_text(CORPUS)
    settings = {
        "name": "'tiny'",
        "methods": "['rome', 'c_rome', 'r_rome', 'p_rome']",
        "batch_size": "2",
        "dataset.path": "'requests.json'",
        "templates.kind": "'file'",
        "templates.path": "'templates.json'",
        "covariance.source": "'corpus.txt'",
        "covariance.n_tokens": "150",
        "covariance.damping": "0.01",
        "value.steps": "3",
        "evaluation.texts": "'texts.json'",
    }
    settings |= {name.replace("__", "."): str(value) for name, value in changes.items()}
    model_settings = {"name": "'tiny'", "source": "'model'", "layer": "1", "dtype": "'float64'"}
    model_settings |= {
        name.removeprefix("model."): settings.pop(name)
        for name in list(settings)
        if name.startswith("model.")
    }
    lines = [f"{name} = {value}" for name, value in settings.items()]
    lines += ["[[models]]", *(f"{name} = {value}" for name, value in model_settings.items())]
    (folder / "study.toml").write_text("\n".join(lines))
    return read_study(folder / "study.toml")
