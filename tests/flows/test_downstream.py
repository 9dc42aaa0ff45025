"""Downstream tasks as a flow and a command: asked once, of stored edits, beside perplexity."""

import json
import shutil

import pytest

from editcollapse.config.downstream import DownstreamSpec
from editcollapse.config.study_file import read_study
from editcollapse.data import harness_tasks
from editcollapse.errors import ResultsError, StudyError
from flows.__main__ import USER_ERROR, main
from storage.ask import ask
from tests.support.flow_runs import manifests, units_computed
from tests.support.harness_tasks import CLOZE, items, write_task
from tests.support.small_study import write_model, write_toml

_WORDS = ("The", "city", "of", "river", "colour", "red", "blue", "green", "Oslo", "Mira", "tennis")
_WORST, _SAMPLE = 2, 4
_MODELS = 1 + _WORST + _SAMPLE


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Return the YAML files of two tasks in the small study's words."""
    folder = tmp_path_factory.mktemp("tasks")
    records = items(_WORDS)
    return (
        str(write_task(folder, name="choices", records=records)),
        str(write_task(folder, CLOZE, name="cloze", records=records)),
    )


@pytest.fixture(scope="module")
def judged(backend, study, first_run, tasks, tmp_path_factory):
    """Return a finished study's results with the tasks asked of it, and the state of that run."""
    from flows.downstream import judge_downstream

    results = tmp_path_factory.mktemp("judged") / "results"
    shutil.copytree(first_run.results, results, copy_function=shutil.copy2)
    spec = DownstreamSpec(tasks=tasks, worst=_WORST, sample=_SAMPLE)
    state = judge_downstream(read_study(study), spec, str(results), return_state=True)
    assert state.result() == first_run.study_id
    return results, spec, state.message


@pytest.fixture
def copied(judged, tmp_path):
    """Return a copy of the results, to be added to, and what was asked of them."""
    results, spec, _ = judged
    copy = shutil.copytree(results, tmp_path / "copied", copy_function=shutil.copy2)
    return copy, spec


def test_each_task_is_asked_of_the_unedited_and_of_chosen_models(judged):
    """A row a metric; and what the run says stands in its state."""
    results, _, message = judged
    found = ask(
        results, "select task, metric, kind, count(*) as n from downstream_scores group by all"
    )
    counts = {(task, metric, kind): n for task, metric, kind, n in found.iter_rows()}
    metrics = (
        ("choices", "acc"),
        ("choices", "acc_norm"),
        ("cloze", "acc"),
        ("cloze", "perplexity"),
    )
    assert counts == {
        (*metric, kind): n
        for metric in metrics
        for kind, n in (("unedited", 1), ("edit", _WORST + _SAMPLE))
    }
    assert "tiny, choices acc: " in message
    assert f"All {2 * _MODELS} jobs were computed." in message
    kinds = ask(results, "select kind, count(*) as n from provenance group by kind")
    assert ("downstream", 2 * _MODELS) in kinds.rows()


def test_scores_stand_beside_perplexity(judged):
    """Each edit has its ratio, its change on text and the score before; with the worst."""
    results, _, _ = judged
    rows = ask(results, "from downstream_outcomes where task = 'cloze' and metric = 'acc'")
    edits = [row for row in rows.to_dicts() if row["kind"] == "edit"]
    assert len(edits) == _WORST + _SAMPLE
    assert None not in {row[name] for row in edits for name in ("perplexity_ratio", "text_change")}
    assert len({row["score_before"] for row in edits}) == 1
    query = f"from edit_outcomes order by perplexity_ratio desc limit {_WORST}"
    assert set(ask(results, query)["perplexity_ratio"]) <= {r["perplexity_ratio"] for r in edits}
    found = ask(results, "from downstream_correlation").to_dicts()
    assert {row["n_edits"] for row in found} == {_WORST + _SAMPLE}
    assert {row["surrogate"] for row in found} == {"perplexity_ratio", "text_change"}
    assert any(row["spearman_low"] is not None for row in found)


@pytest.mark.slow
def test_second_run_asks_nothing(copied, study):
    """All is cached; a longer sample asks only what is new."""
    from flows.downstream import judge_downstream

    results, spec = copied
    before = units_computed(results)
    again = judge_downstream(read_study(study), spec, str(results), return_state=True)
    assert "Nothing had to be computed" in again.message
    assert units_computed(results) == before
    more = spec.model_copy(update={"sample": _SAMPLE + 1, "tasks": spec.tasks[:1]})
    judge_downstream(read_study(study), more, str(results))
    new = units_computed(results).keys() - before.keys()
    assert len(new) == 1
    assert min(new).startswith("downstream-")


@pytest.mark.slow
def test_another_task_of_the_same_name_is_asked_anew(copied, study, tmp_path):
    """What counts is its YAML and data; an edit by the beginning of its id, and no other."""
    from flows.downstream import judge_downstream

    results, _ = copied
    path = str(write_task(tmp_path, name="choices", records=items(_WORDS, seed=1)))
    (edit_id,) = ask(results, "select min(edit_id) from edits").row(0)
    spec = DownstreamSpec(tasks=(path,), worst=0, sample=0, edits=(edit_id[:12],))
    before = manifests(results, "downstream-")
    judge_downstream(read_study(study), spec, str(results))
    assert len(manifests(results, "downstream-").keys() - before.keys()) == 2
    found = ask(
        results, "select count(distinct task_digest) from downstream_scores where task = 'choices'"
    )
    assert found.item() == 2


@pytest.mark.slow
def test_an_exported_model_is_asked_too(copied, study, tasks, tmp_path):
    """A folder that no study knows: a row of its own, and the study's model is whole again."""
    from flows.downstream import judge_downstream

    results, _ = copied
    folder = write_model(tmp_path / "edited model", seed=3)
    spec = DownstreamSpec(tasks=tasks[:1], worst=0, sample=0, exported=(str(folder),))
    judge_downstream(read_study(study), spec, str(results))
    rows = ask(results, "from downstream_outcomes where kind = 'exported' and metric = 'acc'")
    (row,) = rows.to_dicts()
    assert row["label"] == "exported as edited-model"
    assert (row["study"], row["perplexity_ratio"], row["score_before"]) == (None, None, None)
    assert 0 <= row["score"] <= 1


def test_command_prints_scores_and_correlations(judged, study, tasks, capsys, monkeypatch):
    """A table of each; with --json the rows themselves."""
    results, _, _ = judged
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    given = ["--worst", str(_WORST), "--sample", str(_SAMPLE), "--results", str(results)]
    asked = ["downstream", str(study), *(w for task in tasks for w in ("--tasks", task)), *given]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "downstream scores (perplexity above" in out
    assert "Spearman's correlation of the score with the damage" in out
    assert out.count("cloze") == 4
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["scores"]) == 4 * _MODELS
    assert {row["kind"] for row in found["scores"]} == {"unedited", "edit"}
    assert len(found["correlations"]) == 8


def test_mistakes_are_found_before_a_server_starts(study, results, tasks, tmp_path, capsys):
    """No study, no such edit, no such sequence, no such task, two tasks of one name."""

    def refused(*arguments, where=results):
        given = ["downstream", str(study), *arguments, "--results", str(where)]
        assert main(given) == USER_ERROR
        return capsys.readouterr().err

    task = ("--tasks", tasks[0])
    assert "Run it first" in refused(*task, where=_emptied(tmp_path, results))
    assert "no edit of study 'small' has an id" in refused(*task, "--edit", "zzz")
    assert "no sequence of this study" in refused(*task, "--sequence", "zzz")
    assert "behind the colon stands a step" in refused(*task, "--sequence", "a:b")
    assert "nowhere.yaml cannot be read" in refused("--tasks", "nowhere.yaml")
    assert "must be distinct" in refused(*task, *task)
    copy = str(write_task(tmp_path / "copy", name="choices"))
    assert "two tasks have one name: choices, choices" in refused(*task, "--tasks", copy)
    assert "--items 0" in refused(*task, "--items", "0")


def _emptied(tmp_path, results):
    """Return a results folder that holds another study's database."""
    folder = tmp_path / "other"
    folder.mkdir()
    shutil.copy2(results / "results.duckdb", folder / "results.duckdb")
    import duckdb

    with duckdb.connect(folder / "results.duckdb") as connection:
        connection.execute("update studies set study_id = 'another'")
        connection.execute("update study_edits set study_id = 'another'")
    return folder


def test_without_lm_eval_the_extra_is_named(study, results, tasks, monkeypatch):
    """Planning says it, before anything is loaded."""
    from flows.run.downstream_plan import plan_downstream

    monkeypatch.setattr(harness_tasks, "HARNESS", "no-such-package")
    with pytest.raises(StudyError, match=r"editcollapse\[downstream\]"):
        plan_downstream(read_study(study), DownstreamSpec(tasks=tasks), str(results))


def test_results_are_needed(study, tasks, tmp_path):
    """A folder in which nothing was run."""
    from flows.run.downstream_plan import plan_downstream

    with pytest.raises(ResultsError, match="run a study first"):
        plan_downstream(read_study(study), DownstreamSpec(tasks=tasks), str(tmp_path / "none"))


@pytest.mark.slow
def test_states_of_a_sequence_are_asked(backend, study, tasks, tmp_path):
    """After its last checkpoint and after a step; their perplexity stands beside them."""
    from flows.downstream import judge_downstream
    from flows.sequence import edit_sequence

    changes = {"sequence.editors": ["rome"], "sequence.n_edits": 4, "sequence.checkpoints": [2]}
    spec = read_study(
        write_toml(study.parent / "walks.toml", **({"models.source": "model"} | changes))
    )
    results = tmp_path / "results"
    edit_sequence(spec, results=str(results))
    (name,) = ask(results, "select min(sequence_id) from sequences").row(0)
    asked = DownstreamSpec(tasks=tasks[1:], sequences=(name[:12], f"{name}:2"))
    judge_downstream(spec, asked, str(results))
    query = "from downstream_outcomes where metric = 'perplexity' order by step nulls first"
    rows = ask(results, query).to_dicts()
    assert [(row["kind"], row["step"]) for row in rows] == [
        ("unedited", None),
        ("sequence", 2),
        ("sequence", 4),
    ]
    assert len({row["score"] for row in rows}) == 3
    measured = ask(results, "from sequence_checkpoints order by step").to_dicts()
    own = [each["perplexity"] for each in measured if each["sequence_id"] == name]
    assert [row["perplexity"] for row in rows[1:]] == own
    unknown = asked.model_copy(update={"sequences": (f"{name}:3",)})
    with pytest.raises(ResultsError, match="after step 3 is stored"):
        judge_downstream(spec, unknown, str(results))
