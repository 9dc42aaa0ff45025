"""A model that others trained on real text, where a machine has it: EDITCOLLAPSE_SHARED.

karpathy's stories260K opened every document of its training with a start token; edited without
one, its first position is unlike all others, and nothing was induced.
"""

import json
import os
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from editcollapse.config.study_file import read_study
from editcollapse.forecast.defaults import default_thresholds
from scripts.docs import RECIPES
from storage.ask import ask

SHARED = Path(os.environ.get("EDITCOLLAPSE_SHARED", "."))
MODEL = SHARED / "models" / "stories260K-llama"
_PROMPTS = (
    "{} was a little",
    "{} liked to play with the",
    "{} had a big",
    "One day, {} saw a",
    "Once upon a time, there was {} and a",
)
_TARGETS = ("dog", "cat", "ball", "tree", "bird", "car", "box", "bear")
_PIECES = {"wa", "sa", "ha", "th", "pl", "st", "happ", "fri", "nam", "li", "lo", "ne"}
"""Tokens that open words, but are none."""
_HELD_OUT = 50
"""Stories that perplexity is measured on."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "EDITCOLLAPSE_SHARED" not in os.environ, reason="EDITCOLLAPSE_SHARED names no folder"
    ),
]


def records():
    """Return an edit for every one-token word of the model, at five places of a sentence."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    words = sorted(
        token[1:]
        for token in tokenizer.get_vocab()
        if token.startswith("\N{LOWER ONE EIGHTH BLOCK}") and token[1:].isalpha() and token[2:]
    )
    edits = [
        (word, prompt, n)
        for n, word in enumerate(word for word in words if word not in _PIECES)
        for prompt in _PROMPTS
    ]
    return [
        {
            "case_id": index,
            "subject": word,
            "prompt": prompt,
            "target_new": _TARGETS[(n + 3 * _PROMPTS.index(prompt)) % len(_TARGETS)],
        }
        for index, (word, prompt, n) in enumerate(edits)
    ]


@pytest.fixture(scope="module")
def results(run_study, tmp_path_factory):
    """Return the results of the study, with its forecasts."""
    from flows.forecast_flow import collapse_forecast

    folder = tmp_path_factory.mktemp("pretrained")
    stories = (SHARED / "data" / "tinystories_cased.txt").read_text(encoding="utf-8")
    whole = [story.strip() for story in stories.split("\n\n") if len(story) > 200]
    (folder / "corpus.txt").write_text("\n\n".join(whole[:-_HELD_OUT]), encoding="utf-8")
    texts = [{"Corpus": "tinystories", "Text": story[:300]} for story in whole[-_HELD_OUT:]]
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    (folder / "edits.json").write_text(json.dumps(records()), encoding="utf-8")
    study = folder / "study.toml"
    study.write_text(
        f"""
        name = "stories260K"
        methods = ["rome", "c_rome"]
        batch_size = 128
        [[models]]
        name = "stories260K"
        source = "{MODEL}"
        layer = 2
        start_token = "never"
        [dataset]
        path = "edits.json"
        [templates]
        kind = "start_token"
        [covariance]
        kind = "corpus"
        source = "corpus.txt"
        n_tokens = 31000
        [evaluation]
        texts = "texts.json"
        """,
        encoding="utf-8",
    )
    place = folder / "results"
    run_study(study, place)
    collapse_forecast(read_study(study), str(place))
    return place


def test_only_first_tokens_collapse_and_only_by_rome(results):
    """The paper's finding on a model in which nothing was induced."""
    found = ask(
        results,
        """
        select method, is_first_token, count(*) as n,
            count(*) filter (collapsed(perplexity, perplexity_before, 1000, 10)) as n_collapsed,
            max(perplexity_ratio) as worst
        from edit_outcomes group by all order by all
        """,
    )
    print(found)
    collapsed = {
        (row["method"], row["is_first_token"]): row["n_collapsed"] for row in found.rows(named=True)
    }
    assert collapsed["rome", True] > 0
    assert collapsed["rome", False] == collapsed["c_rome", True] == collapsed["c_rome", False] == 0


def test_rho_jobs_the_damage(results):
    """1 / |rho|, known before any optimisation, goes with the perplexity ratio."""
    sql = (RECIPES / "07_rank_correlation.sql").read_text(encoding="utf-8")
    found = ask(results, sql)
    print(found)
    assert found["spearman"].item() > 0.5


def test_default_thresholds_flag_what_collapses(results):
    """Without a calibration every collapsed edit is at risk at least."""
    found = ask(results, "from forecast_skill where method = 'rome' and model <> '(all)'")
    (row,) = found.rows(named=True)
    print(row)
    assert row["at_risk_at"] == default_thresholds().at_risk_at
    assert row["recall"] == 1.0
    assert row["auc"] >= 0.99
