"""The flow that trains the demo models, for a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from editcollapse.errors import StudyError


@pytest.mark.slow
def test_pretrain_writes_data_and_models(backend: None, tmp_path: Path) -> None:
    """A trial of three steps leaves the data and one loadable model of the recipe's size."""
    from transformers import AutoModelForCausalLM

    from demo.train.flow import pretrain_demo_models

    folders = pretrain_demo_models(str(tmp_path), names=["gpt2-control"], steps=3)
    assert folders == [str(tmp_path / "models" / "gpt2-control")]
    names = {path.name for path in tmp_path.iterdir()}
    requests = {"counterfact.json", "sequence.json", "sequence_long.json"}
    assert names == {*requests, "texts.jsonl", "corpus.txt", "models"}
    model = AutoModelForCausalLM.from_pretrained(folders[0])
    assert model.config.n_inner == 256


def test_pretrain_names_the_models_that_exist(backend: None, tmp_path: Path) -> None:
    """An unknown name is refused before anything is written, and the known ones are listed."""
    from demo.train.flow import pretrain_demo_models

    with pytest.raises(StudyError, match=r"no demo model 'gpt2-inducd'.*Known: gpt2-induced"):
        pretrain_demo_models(str(tmp_path), names=["gpt2-inducd"], steps=3)
    assert not list(tmp_path.iterdir())
