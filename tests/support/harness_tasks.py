"""Small local tasks for lm-evaluation-harness, in the words of the toy tokenizers."""

import json
import random

from tests.support.toy_tokenizers import WORDS

N_ITEMS = 20
CHOICES = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {name}.json
test_split: test
fewshot_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.5
"""
CLOZE = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {name}.json
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{question}}}}"
doc_to_target: " {{{{choices[answer]}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: perplexity
    aggregation: perplexity
    higher_is_better: false
"""
WRITES = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {name}.json
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs:
  until: ["."]
  max_gen_toks: 4
  do_sample: false
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


def items(words=tuple(WORDS), n=N_ITEMS, seed=0):
    """Return questions of five words with three choices, one of one word each."""
    draw = random.Random(seed)
    names = [word for word in words if word.isalpha()]
    return [
        {
            "question": " ".join(draw.sample(names, 5)),
            "choices": draw.sample(names, 3),
            "answer": draw.randrange(3),
        }
        for _ in range(n)
    ]


def write_task(folder, form=CHOICES, name="toy", records=None):
    """Write a task and its data; return the YAML file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(items() if records is None else records))
    path = folder / f"{name}.yaml"
    path.write_text(form.format(name=name))
    return path
