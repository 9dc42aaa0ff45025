"""Downstream tasks in the demo corpus' language: ``python -m demo.train.demo_tasks`` writes them.

The facts are those of ``demo/counterfact.json`` in other words than its rewrite prompts, each with
three wrong objects of its relation. The words are the last ones of sentences of
``demo/texts.jsonl``. ``plain_english.json`` was written by hand.
"""

import json
import random
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parents[1]
TASKS = DEMO / "tasks"
_WRONG = 3
_SEED = 0


def facts() -> list[dict[str, Any]]:
    """Return multiple choices: the first paraphrase of each fact that the corpus states, once."""
    records = json.loads((DEMO / "counterfact.json").read_text(encoding="utf-8"))
    rewrites = [record["requested_rewrite"] for record in records]
    objects: dict[str, set[str]] = {}
    for rewrite in rewrites:
        both = {rewrite["target_true"]["str"], rewrite["target_new"]["str"]}
        objects.setdefault(rewrite["relation_id"], set()).update(both)
    found, seen = [], set()
    for record, rewrite in zip(records, rewrites, strict=True):
        question, true = record["paraphrase_prompts"][0], rewrite["target_true"]["str"]
        if question in seen:
            continue
        seen.add(question)
        draw = random.Random(f"{_SEED} {question}")
        others = sorted(objects[rewrite["relation_id"]] - {true})
        choices = [true, *draw.sample(others, _WRONG)]
        draw.shuffle(choices)
        found.append({"question": question, "choices": choices, "answer": choices.index(true)})
    return found


def words() -> list[dict[str, str]]:
    """Return sentences without their last word, and the word."""
    lines = (DEMO / "texts.jsonl").read_text(encoding="utf-8").splitlines()
    found = []
    for line in lines:
        sentence = json.loads(line)["Text"].split(". ")[0].removesuffix(".")
        before, _, last = sentence.rpartition(" ")
        found.append({"sentence": before, "word": last})
    return found


def main() -> None:
    """Write the data files."""
    for name, records in (("demo_facts", facts()), ("demo_words", words())):
        lines = ",\n ".join(json.dumps(each, ensure_ascii=False) for each in records)
        (TASKS / f"{name}.json").write_text(f"[\n {lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
