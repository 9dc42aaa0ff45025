"""Stored edits measured on other texts: nothing is edited again, and nothing old is lost."""

import json

import pytest

from editcollapse.config.spec import EvaluationSpec
from editcollapse.config.study_file import read_study
from editcollapse.errors import ResultsError
from editcollapse.study.locks import MANIFESTS, cached_manifest
from flows.__main__ import USER_ERROR, main
from storage.ask import ask
from tests.support.flow_runs import manifests, tables, units_computed
from tests.support.small_study import N_BATCHES, N_EDITS, write_toml


@pytest.fixture(scope="module")
def other_texts(tmp_path_factory):
    """Return a text set that the small study does not know."""
    path = tmp_path_factory.mktemp("texts") / "other.json"
    path.write_text(json.dumps(["The old river is near the place .", "It was said that one plays"]))
    return path


@pytest.fixture
def again(backend, study, other_texts, results):
    """Measure a finished study's edits on the other texts; return its folder and the new id."""
    from flows.reevaluation import reevaluate

    before = manifests(results)
    study_id = reevaluate(read_study(study), EvaluationSpec(texts=str(other_texts)), str(results))
    return results, before, study_id


def test_nothing_is_edited_again(again, first_run):
    """Old records stay as they were; the new ones are measurements and the report."""
    results, before, study_id = again
    after = manifests(results)
    assert {name: after[name] for name in before} == before
    new = sorted(name.partition("-")[0] for name in after if name not in before)
    assert new == [*["evaluation"] * N_BATCHES, "report", "study", "unedited"]
    assert set(units_computed(results).values()) == {1}
    assert study_id != first_run.study_id


def test_both_measurements_are_published(again, first_run):
    """Every edit is measured twice, and each evaluation has its own texts and perplexities."""
    results, _, study_id = again
    assert ask(results, "from edits").height == N_EDITS
    found = ask(
        results,
        "select study_id, evaluation_id, count(*) as n, max(n_texts) as n_texts, "
        "count(distinct perplexity_before) as n_before from edit_outcomes group by all",
    )
    kinds = dict(ask(results, "select study_id, kind from studies").iter_rows())
    assert kinds == {first_run.study_id: "study", study_id: "reevaluation"}
    assert set(ask(results, "from collapse_incidence")["study_id"]) == {first_run.study_id}
    by_study = {row["study_id"]: row for row in found.iter_rows(named=True)}
    assert by_study.keys() == {first_run.study_id, study_id}
    assert {row["n"] for row in by_study.values()} == {N_EDITS}
    assert by_study[study_id]["n_texts"] == 2
    assert by_study[first_run.study_id]["n_texts"] == 3
    assert len({row["evaluation_id"] for row in by_study.values()}) == 2
    assert {row["n_before"] for row in by_study.values()} == {1}


@pytest.mark.slow
def test_measurements_are_those_of_a_study_on_these_texts(again, other_texts, study, run_study):
    """A study that has the other texts from the start finds all its units in the same folder.

    But for what its own worst edits write: a re-evaluation lets nothing be written.
    """
    results, _, study_id = again
    spec = study.with_name("other_texts.toml")
    write_toml(spec, **{"evaluation.texts": str(other_texts), "evaluation.continuations": 0})
    before, numbers = manifests(results), tables(results)
    run = run_study(spec, results)
    assert run.study_id == study_id
    assert run.computed() == run.computed("record ") + run.computed("report ")
    assert before.items() <= manifests(results).items()
    kinds = "select study_id, kind from studies order by first_run_at"
    assert set(ask(results, kinds)["kind"]) == {"study"}  # and no re-evaluation any more
    after = tables(results)
    assert [name for name in numbers if not after[name].equals(numbers[name])] == []


def test_edits_that_are_not_stored_are_counted(backend, study, other_texts, results):
    """One batch that left none: the refusal counts it, names the command, and writes nothing."""
    from flows.reevaluation import reevaluate

    lost = min(manifests(results, "edits-"))
    (results / MANIFESTS / f"{lost}.json").unlink()
    before = manifests(results)
    with pytest.raises(
        ResultsError, match=f"1 of {N_BATCHES} edit batches of study 'small'"
    ) as raised:
        reevaluate(read_study(study), EvaluationSpec(texts=str(other_texts)), str(results))
    assert "never edits again" in str(raised.value)
    assert f"editcollapse run STUDY.toml --results {results}" in str(raised.value)
    assert manifests(results) == before


def test_damaged_update_is_not_made_again(backend, study, other_texts, results):
    """Updates whose file is cut count as missing: they are not computed behind the user's back."""
    from flows.reevaluation import reevaluate

    _cut_an_update(results)
    evaluation = EvaluationSpec(texts=str(other_texts))
    with pytest.raises(ResultsError, match=f"1 of {N_BATCHES} edit batches"):
        reevaluate(read_study(study), evaluation, str(results))


def test_update_damaged_after_the_plan_is_not_made_again(study, other_texts, results):
    """Also where a file is damaged while the re-evaluation runs, its batch is refused."""
    from flows.reevaluation import StoredEditsRun, plan_reevaluation
    from tasks.editing import apply_edits

    plan = plan_reevaluation(read_study(study), EvaluationSpec(texts=str(other_texts)), results)
    (model,) = plan.models
    templates, moment = cached_manifest(model.templates), cached_manifest(model.moment)
    jobs = list(plan.edit_jobs(model, templates, moment))
    run = StoredEditsRun(plan)
    assert len(run.compute_all(apply_edits, jobs)) == N_BATCHES
    _cut_an_update(results)
    with pytest.raises(ResultsError, match="never edits again"):
        run.compute_all(apply_edits, jobs)


def _cut_an_update(results):
    update = min((results / "artifacts" / "updates").iterdir())
    update.write_bytes(update.read_bytes()[:-8])


def test_command_refuses_before_a_server_starts(study, other_texts, tmp_path, capsys):
    """Without stored edits, the command is one sentence and leaves no results."""
    arguments = ["reevaluate", str(study), "--texts", str(other_texts)]
    assert main([*arguments, "--results", str(tmp_path / "none")]) == USER_ERROR
    err = capsys.readouterr().err
    assert err.startswith(f"error: {N_BATCHES} of {N_BATCHES} edit batches")
    assert main([*arguments, "--max-texts", "0"]) == USER_ERROR
    assert "--max-texts 0: Input should be greater than or equal to 1" in capsys.readouterr().err
