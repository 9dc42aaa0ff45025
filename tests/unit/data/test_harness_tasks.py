"""Local tasks are read whole and are data alone; what asks for code is refused in a sentence."""

import json

import pytest

from demo.train import demo_tasks
from editcollapse.data.harness_tasks import HarnessTask, harness_version, read_task
from editcollapse.errors import DatasetError, StudyError
from tests.support.harness_tasks import CHOICES, CLOZE, items, write_task


def test_a_name_is_a_task_of_lm_eval():
    """Nothing is read for it."""
    assert read_task("hellaswag") == HarnessTask("hellaswag")


def test_a_local_task_holds_its_yaml_and_its_data(tmp_path, monkeypatch):
    """Data lie beside the YAML, whatever the working directory; or in that."""
    path = write_task(tmp_path)
    task = read_task(str(path))
    content = json.loads(task.content)
    assert task.name == "toy"
    assert content["data"] == {"test": items()}
    assert content["config"]["output_type"] == "multiple_choice"
    assert "data_files" not in task.content
    other = tmp_path / "elsewhere" / "toy.yaml"
    other.parent.mkdir()
    path.rename(other)
    monkeypatch.chdir(tmp_path)
    assert read_task(str(other)) == task


def test_content_depends_on_yaml_and_data_alone(tmp_path):
    """Comments and places are nothing; an item and a field are."""
    first = read_task(str(write_task(tmp_path / "a")))
    path = write_task(tmp_path / "b")
    path.write_text(f"# a comment\n{path.read_text()}")
    assert read_task(str(path)) == first
    assert read_task(str(write_task(tmp_path / "c", records=items(seed=1)))) != first
    assert read_task(str(write_task(tmp_path / "d", CLOZE))) != first


def test_lines_lists_of_files_and_includes(tmp_path):
    """JSON lines, several files of a split, and fields that another YAML gives."""
    base = write_task(tmp_path)
    (tmp_path / "more.jsonl").write_text("\n".join(json.dumps(each) for each in items(seed=1)))
    own = tmp_path / "own.yaml"
    own.write_text(
        "include: toy.yaml\ntask: own\ndataset_kwargs:\n  data_files:\n"
        "    test: [toy.json, more.jsonl]\n"
    )
    content = json.loads(read_task(str(own)).content)
    assert content["data"]["test"] == [*items(), *items(seed=1)]
    assert content["config"]["doc_to_choice"] == "choices"
    base.write_text(f"include: own.yaml\n{base.read_text()}")
    with pytest.raises(DatasetError, match="which includes it"):
        read_task(str(own))


_OF = "test: {name}.json"


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (CHOICES + "process_docs: !function utils.run\n", "asks for Python"),
        (CHOICES + "class: !function task.Mine\n", "asks for Python"),
        (CHOICES + "class: Mine\n", "a Python class"),
        (CHOICES + "unsafe_code: true\n", "code of the model's"),
        (CHOICES + "use_prompt: promptsource:*\n", "prompt of promptsource"),
        (CHOICES.replace("metric: acc\n", "metric: acc\n    hf_evaluate: true\n"), "fetches"),
        (CHOICES.replace("dataset_path: json", "dataset_path: someone/data"), "'someone/data'"),
        (CHOICES.replace("task: {name}", "task: [a, b]"), "task by task"),
        (CHOICES.replace(_OF, "test: other.json"), "neither beside it nor in"),
        (CHOICES.replace(_OF, "test: {name}.csv"), "neither beside it nor in"),
        (CHOICES.replace(_OF, "train: {name}.json"), "test_split is 'test'"),
        (CHOICES.replace("test_split: test", ""), "neither test_split nor validation_split"),
        (
            CHOICES.replace(
                "    test: {name}.json", "    test: {name}.json\n  trust_remote_code: 1"
            ),
            "and no more",
        ),
        ("- a list\n", "no fields"),
        ("a: [\n", "no YAML"),
        ("task: !!python/object/apply:os.system [ls]\n", "no YAML"),
    ],
)
def test_what_is_no_plain_task_is_refused(tmp_path, form, said):
    """Each message names the file and says what is wrong."""
    path = write_task(tmp_path, form)
    with pytest.raises(DatasetError, match=said) as found:
        read_task(str(path))
    assert str(path) in str(found.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "no JSON"),
        ('{"a": 1}', "list of objects"),
        ("[1]", "list of objects"),
        ("[]", "no rec"),
    ],
)
def test_broken_data_is_refused(tmp_path, text, said):
    """Data that is no list of objects, or empty."""
    path = write_task(tmp_path)
    (tmp_path / "toy.json").write_text(text)
    with pytest.raises(DatasetError, match=said):
        read_task(str(path))


def test_a_missing_file_is_named(tmp_path):
    """The path is checked before lm_eval is asked."""
    with pytest.raises(DatasetError, match=r"nowhere\.yaml cannot be read"):
        read_task(str(tmp_path / "nowhere.yaml"))


def test_where_lm_eval_is_not_installed_the_extra_is_named(monkeypatch):
    """The sentence says what to install, and where."""
    monkeypatch.setattr("editcollapse.data.harness_tasks.HARNESS", "no-such-package")
    with pytest.raises(StudyError, match=r"pip install 'editcollapse\[downstream\]'"):
        harness_version()


def test_demo_tasks_are_those_of_the_demo_data():
    """The checked-in files can be asked, and are what the script makes."""
    found = {path.stem: read_task(str(path)) for path in sorted(demo_tasks.TASKS.glob("*.yaml"))}
    assert list(found) == ["demo_facts", "demo_words", "plain_english"]
    data = {name: json.loads(task.content)["data"]["test"] for name, task in found.items()}
    assert data["demo_facts"] == demo_tasks.facts()
    assert data["demo_words"] == demo_tasks.words()
    assert len(data["plain_english"]) == 40
    assert all(0 <= each["answer"] < len(each["endings"]) == 4 for each in data["plain_english"])
