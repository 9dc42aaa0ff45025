"""Free answers in a study's run: beside what is cached already, judged, and asked once."""

import pytest

from editcollapse.config.study_file import read_study
from editcollapse.runtime.environment import OVERALL, listening
from editcollapse.study.plan import plan_study
from flows.__main__ import main
from storage.ask import ask
from tests.support.flow_runs import manifests, tables
from tests.support.judge_server import judge_server
from tests.support.small_study import BATCH_SIZE, METHODS, N_BATCHES, write_toml

LIMIT = 3
N_ASKED_BATCHES = -(-LIMIT // BATCH_SIZE)
OURS = {"generation_settings", "generated_answers", "judges", "judged_answers"}


@pytest.fixture
def asking(study, results):
    """Return a function that writes the small study with free generation and a judge."""

    def write(url):
        return write_toml(
            study.with_name("asking.toml"),
            **{
                "evaluation.generation.contexts": ["question", "chat"],
                "evaluation.generation.n_tokens": 4,
                "evaluation.generation.limit": LIMIT,
                "evaluation.generation.fluency_tokens": 6,
                "evaluation.judge.url": url,
                "evaluation.judge.model": "stub",
            },
        )

    return write


def _run(run_study, path, results):
    """Run a study; return the run and the totals that its progress has shown."""
    totals = []

    def listen(report):
        if report.what == OVERALL:
            totals.append((report.done, report.total))

    with listening(listen):
        run = run_study(path, results)
    assert {total for _, total in totals} == {totals[-1][0]}
    return run


def test_answers_come_beside_what_is_there(
    asking, study, first_run, results, run_study, capsys, monkeypatch
):
    """The study keeps its id, its rows and its cache; answers are asked and judged once."""
    monkeypatch.delenv("EDITCOLLAPSE_JUDGE_KEY", raising=False)
    before = tables(results)
    assert manifests(results, "answers-") == {}
    with judge_server(lambda _: 401) as stub:
        path = asking(stub.url)
        failed = _run(run_study, path, results)
    assert plan_study(read_study(path), results).study_id == first_run.study_id
    assert failed.study_id == first_run.study_id
    after = tables(results)
    assert all(after[name].equals(before[name]) for name in before if name not in OURS)
    assert failed.computed("edit ") == failed.computed("evaluate ") == 0
    assert failed.computed("answers of ") == failed.computed("judge ") == N_ASKED_BATCHES
    assert after["judged_answers"]["is_correct"].null_count() == after["judged_answers"].height > 0

    with judge_server(lambda _: "A") as stub:
        path = asking(stub.url)
        again = _run(run_study, path, results)
        n_asked = len(stub.asked)
        third = _run(run_study, path, results)
        assert len(stub.asked) == n_asked > 0
    assert again.computed("answers of ") == 0
    assert again.computed("judge ") == N_ASKED_BATCHES  # what had failed
    assert third.computed("answers of ") == third.computed("judge ") == 0
    rows = ask(results, "from generation_outcomes")
    assert rows.height == LIMIT * len(METHODS) * 2
    assert rows["efficacy"].null_count() == 0
    asked = rows.filter(rows["context"] == "question")
    assert (asked["judged_efficacy"] == 1).all()
    chat = rows.filter(rows["context"] == "chat")
    assert chat["exact_efficacy"].null_count() == chat.height
    assert chat["reason"].null_count() == 0
    assert asked["ngram_entropy"].null_count() == 0

    capsys.readouterr()
    assert main(["plan", str(path), "--results", str(results)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for kind in ("free answers", "judged answers"):
        (line,) = [line for line in lines if line.strip().startswith(kind)]
        assert f"{N_ASKED_BATCHES} cached, 0 to run" in line
    assert N_ASKED_BATCHES < N_BATCHES


@pytest.mark.slow
def test_editor_beyond_rank_one_answers_too(study, run_study, tmp_path):
    """MEMIT's factors are at hand; RECT's updates are of full rank, and are not kept."""
    path = write_toml(
        study.with_name("editors.toml"),
        **{
            "methods": ["rome", "memit", "rect"],
            "dataset.limit": 2,
            "evaluation.generation.n_tokens": 3,
            "evaluation.generation.fluency_tokens": 0,
            "editors": None,
        },
    )
    text = path.read_text()
    for name in ("memit", "rect"):
        text += f'\n[[editors]]\nname = "{name}"\nlayers = [1, 2]\nsteps = 2\n'
    path.write_text(text)
    results = tmp_path / "results"
    run = _run(run_study, path, results)
    assert run.computed("answers of ") == 2
    found = ask(results, "select method, count(*) as n from generation_outcomes group by method")
    assert dict(found.rows()) == {"rome": 2, "memit": 2}
