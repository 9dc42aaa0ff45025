"""Sequences as a flow: chunks cached and resumed, longer ones, guards, single edits beside them."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch

from editcollapse.config.study_file import read_study
from editcollapse.errors import StudyError
from editcollapse.rows.collapse_rule import DEFAULT_RULE as RULE
from editcollapse.study.artifacts import ArtifactStore
from editcollapse.study.model_editors import ModelEditors
from editcollapse.study.plan import plan_study
from editcollapse.study.results_folder import results_at
from flows.cli.output.next_step import SEQUENCES as SEQUENCES_ASKED
from flows.cli.output.next_step import after_run
from flows.cli.output.sequences import print_sequences
from storage.ask import ask
from storage.ask import incidence as asked_incidence
from storage.readers import editor_sequences
from tests.support.flow_runs import manifests, tables, units_computed
from tests.support.small_study import N_REQUESTS, fact, write_toml

EDITORS = ["rome", "memit_seq", "rect", "nas", "ft_m"]
SEQUENCES = {
    "models.source": "model",
    "name": "many",
    "batch_size": 8,
    "methods": ["rome", "memit", "rect", "ft_l"],
    "sequence.editors": EDITORS,
    "sequence.orders": 2,
    "sequence.n_edits": 6,
    "sequence.chunk_steps": 3,
    "sequence.checkpoints": [1, 3],
    "covariance.damping": 0.01,
    "editors": [
        *({"name": name, "steps": 4} for name in ("memit", "memit_seq", "rect", "nas")),
        *({"name": name, "epochs": 4} for name in ("ft_l", "ft_m")),
    ],
}


@pytest.fixture(scope="module")
def many(study):
    """Return a study with sequences, beside the small one."""
    return write_toml(study.parent / "many.toml", **SEQUENCES)


@pytest.fixture(scope="module")
def whole(many, run_sequences, tmp_path_factory):
    """Return an uninterrupted run of it; not to be changed."""
    folder = tmp_path_factory.mktemp("whole") / "results"
    return run_sequences(many, folder), folder


@pytest.fixture(scope="module")
def longer(many, run_sequences, tmp_path_factory):
    """Return a study of longer sequences of some, and an uninterrupted run; not to be changed."""
    changes = {"sequence.n_edits": 8, "sequence.editors": ["memit_seq", "ft_m"], "methods": []}
    file = write_toml(many.parent / "longer.toml", **(SEQUENCES | changes))
    folder = tmp_path_factory.mktemp("longer") / "results"
    run_sequences(file, folder)
    return file, folder


@pytest.fixture(scope="module")
def run_sequences(backend):
    """Return a function that runs a study file with its single edits, and returns its id."""

    def run(study: Path, results: Path) -> str:
        from flows.study import collapse_study

        return collapse_study(read_study(study), str(results))

    return run


def chunks(results):
    """Return what provenance says of the chunks, one row each."""
    return ask(results, "from provenance where kind = 'sequence' order by unit_id")


def test_every_editor_has_its_sequences(whole):
    """Two orders an editor, six steps each, measured after 1, 3 and 6 edits."""
    study_id, results = whole
    steps = ask(
        results,
        "select editor, order_seed, count(*) as n, bool_and(decision = 'applied') as all_made "
        "from sequence_steps join sequences using (sequence_id) group by all",
    )
    assert sorted(steps.select("editor", "order_seed").rows()) == sorted(
        (name, order) for name in EDITORS for order in (0, 1)
    )
    assert set(steps["n"]) == {6}
    assert steps["all_made"].all()
    measured = ask(results, "select distinct n_edits from sequence_checkpoints order by 1")
    assert measured["n_edits"].to_list() == [1, 3, 6]
    rows = editor_sequences(results, study_id)
    assert [row.method for row in rows] == EDITORS
    assert {row.n_orders for row in rows} == {2}


def test_scores_are_of_all_edits_so_far(whole):
    """Each edit is measured after its own step, and again at every later checkpoint."""
    _, results = whole
    scores = ask(results, "from sequence_scores join sequences using (sequence_id)")
    one = scores.filter((pl.col("editor") == "memit_seq") & (pl.col("order_seed") == 0))
    immediate = one.filter(pl.col("moment") == "immediate")
    assert immediate["step"].to_list() == immediate["edited_at"].to_list()
    assert sorted(immediate["step"]) == [1, 2, 3, 4, 5, 6]
    final = one.filter(pl.col("moment") == "final").group_by("step").len().sort("step")
    assert final.rows() == [(1, 1), (3, 3), (6, 6)]
    assert len(set(one["request_id"])) == 6


def test_single_edits_stand_in_one_incidence_table(whole):
    """Rank-one methods, joint editors and fine-tuning are counted on the same requests."""
    _, results = whole
    found = ask(
        results,
        "select method, sum(n_edits)::bigint as n from collapse_incidence group by 1 order by 1",
    )
    assert found.rows() == [(name, N_REQUESTS) for name in sorted(SEQUENCES["methods"])]
    norms = ask(results, "select update_norm, text_change, denominator, method from edits")
    assert norms["update_norm"].is_finite().all()
    assert norms["text_change"].is_finite().all()
    has_denominator = norms.filter(pl.col("denominator").is_not_null())
    assert set(has_denominator["method"]) == {"rome"}


def test_the_first_step_of_a_sequence_is_the_single_edit(whole):
    """A sequence of one edit writes what the single edit of that request writes."""
    _, results = whole
    found = ask(
        results,
        "select e.update_norm as single, s.update_norm as step "
        "from sequence_steps s join sequences q using (sequence_id) "
        "join sequence_scores r on r.sequence_id = q.sequence_id and r.step = 1 "
        "and r.moment = 'immediate' "
        "join edits e on e.method = q.editor and e.request_id = r.request_id "
        "where s.step = 1 and q.editor in ('rome', 'rect')",
    )
    assert len(found) == 4
    assert found["single"].to_list() == pytest.approx(found["step"].to_list(), rel=1e-4)


def test_second_run_computes_nothing(many, run_sequences, whole):
    """Every chunk is there: no manifest changes, no number does."""
    _, results = whole
    before, known = manifests(results), tables(results)
    run_sequences(many, results)
    assert manifests(results) == before
    assert all(known[name].equals(frame) for name, frame in tables(results).items())


@pytest.mark.slow
def test_longer_sequences_begin_with_the_shorter_ones(whole, longer, run_sequences, tmp_path):
    """Eight edits after six: chunks up to the sixth edit are not computed again."""
    study, fresh = longer
    copy = shutil.copytree(whole[1], tmp_path / "copy", copy_function=shutil.copy2)
    before = set(chunks(copy)["unit_id"])
    run_sequences(study, copy)
    assert before < set(chunks(copy)["unit_id"])
    assert set(units_computed(copy).values()) == {1}
    assert_same_steps(copy, fresh)


def assert_same_steps(found, expected):
    """Check that two folders say the same of every step of the second, to the last bit."""
    query = "from sequence_steps order by sequence_id, step"
    left, right = ask(found, query), ask(expected, query)
    known = right["sequence_id"].unique().to_list()
    assert left.filter(pl.col("sequence_id").is_in(known)).equals(right)


@pytest.mark.slow
def test_lost_states_are_made_again(many, whole, longer, run_sequences, tmp_path):
    """Where states are gone, a longer sequence computes what it needs anew, to the same bits."""
    study, fresh = longer
    copy = shutil.copytree(whole[1], tmp_path / "copy", copy_function=shutil.copy2)
    for file in (copy / "artifacts/sequence_states").glob("*.safetensors"):
        file.unlink()
    run_sequences(many, copy)  # nothing is needed
    assert set(units_computed(copy).values()) == {1}
    run_sequences(study, copy)
    assert max(units_computed(copy).values()) == 2
    assert_same_steps(copy, fresh)


@pytest.mark.slow
def test_whole_states_are_thinned(longer):
    """Of fine-tuning's whole states those at checkpoints are left, and the last."""
    study, folder = longer
    plan = plan_study(read_study(study), folder)
    store = ArtifactStore(folder)
    editors = ModelEditors(plan, plan.models[0])
    for inputs in editors.known_inputs():
        for sequence in editors.sequences(inputs):
            there = [
                all(store.is_whole(ref) for ref in done.states)
                for _, done in sequence.cached_chunks()
            ]
            kept = [chunk.is_checkpoint for chunk in sequence.chunks]
            # Chunks end at 1, 3, 6 (none is measured there) and 8 edits.
            assert kept == [True, True, False, True]
            assert there == (kept if inputs.editor.is_dense else [True] * 4)


def test_weights_are_put_back(many, whole):
    """After a run the resident model is the unedited one, bit by bit."""
    from editcollapse.models.loading import load_model, resident_model
    from editcollapse.runtime.settings import settings

    study_id, results = whole
    assert study_id
    plan = plan_study(read_study(many), results)
    setup = plan.models[0].setup
    resident = resident_model(setup.spec, setup.model_id, settings().device)
    fresh = load_model(setup.spec, "cpu")
    for layer in range(resident.widths.n_layers):
        assert torch.equal(resident.weight(layer), fresh.weight(layer))


@pytest.mark.parametrize(
    "policy",
    ["roll back", *(pytest.param(each, marks=pytest.mark.slow) for each in ("stop", "skip"))],
)
def test_guards_decide_on_every_step(study, run_sequences, tmp_path, policy):
    """A step that would change text by more than the bound is undone; each decision is a row."""
    guarded = write_toml(
        study.parent / f"guard_{policy[:4]}.toml",
        **(
            SEQUENCES
            | {
                "methods": [],
                "sequence.editors": ["rome", "rect"],
                "sequence.orders": 1,
                "sequence.guard.policy": policy,
                "sequence.guard.text_change": 0.5,
            }
        ),
    )
    results = tmp_path / "results"
    run_sequences(guarded, results)
    rows = ask(
        results,
        "select editor, step, decision, text_change from sequence_steps "
        "join sequences using (sequence_id) order by editor, step",
    )
    assert rows["text_change"].max() <= 0.5
    refused = rows.filter(pl.col("decision") != "applied")
    word = {"stop": "stopped", "skip": "skipped", "roll back": "rolled back"}[policy]
    assert set(refused["decision"]) == {word}
    if policy == "stop":
        last = rows.group_by("editor").agg(pl.col("step").max(), pl.col("decision").last())
        assert set(last.filter(pl.col("step") < 6)["decision"]) <= {"stopped"}
    else:
        assert set(rows.group_by("editor").len()["len"]) == {6}


def test_a_restraint_is_on_what_is_measured(study, run_sequences, tmp_path):
    """Any editor's sum can be restrained: edits go on as without, the measured model differs."""
    file = write_toml(
        study.parent / "restrained.toml",
        **(
            SEQUENCES
            | {
                "methods": [],
                "sequence.editors": ["rome"],
                "sequence.n_edits": 3,
                "sequence.orders": 1,
                "sequence.restraints": ["none", "log2"],
            }
        ),
    )
    results = tmp_path / "results"
    study_id = run_sequences(file, results)
    rows = ask(
        results,
        """
        select
            study_sequences.editor, sequences.restraint, step, update_norm,
            steps.text_change, relative_spectral_norm, perplexity
        from study_sequences
        join sequences using (sequence_id)
        join sequence_steps as steps using (sequence_id)
        join sequence_layers as layers using (sequence_id, step)
        join sequence_checkpoints using (sequence_id, step)
        order by step
        """,
    )
    free = rows.filter(pl.col("editor") == "rome")
    drawn = rows.filter(pl.col("editor") == "rome, restraint log2")
    assert set(free["restraint"]) == {None}
    assert set(drawn["restraint"]) == {"log2"}
    assert free["update_norm"].to_list() == drawn["update_norm"].to_list()
    above = free["relative_spectral_norm"] > 1
    assert above.any()
    assert (drawn["relative_spectral_norm"] < free["relative_spectral_norm"]).filter(above).all()
    assert (drawn["text_change"] < free["text_change"]).filter(above).all()
    assert (drawn["perplexity"] != free["perplexity"]).filter(above).all()
    incidence = asked_incidence(results, study_id)
    follows = after_run("x", read_study(file), results_at(results), study_id, RULE, incidence)
    assert follows == f'sql "{SEQUENCES_ASKED}"'
    assert len(ask(results, SEQUENCES_ASKED)) == len(rows)


def test_a_fact_that_the_model_cannot_take_is_no_edit(study, run_sequences, tmp_path, capsys):
    """Its step is called unusable, nothing is written or scored of it, and the reason is a row."""
    facts = [fact(index) for index in range(4)]
    too_long = facts[1]["requested_rewrite"]
    too_long["prompt"] = "north " * 80 + too_long["prompt"]
    (study.parent / "long_facts.json").write_text(json.dumps(facts))
    changes = {
        "dataset.path": "long_facts.json",
        "methods": [],
        "sequence.editors": ["rome", "memit_seq"],
        "sequence.orders": 1,
        "sequence.n_edits": 4,
        "sequence.chunk_steps": 1,
    }
    results = tmp_path / "results"
    file = write_toml(study.parent / "too_long.toml", **(SEQUENCES | changes))
    study_id = run_sequences(file, results)
    steps = ask(results, "from sequence_steps join sequences using (sequence_id)")
    left_out = steps.filter(pl.col("decision") == "unusable")
    assert sorted(left_out["editor"]) == ["memit_seq", "rome"]
    assert set(left_out["update_norm"]) == {0.0}
    assert set(steps.filter(pl.col("decision") != "unusable")["decision"]) == {"applied"}
    scored = ask(results, "select distinct request_id from sequence_scores")
    known = ask(results, "select request_id from requests where length(prompt) < 200")
    assert set(scored["request_id"]) == set(known["request_id"])
    (rejected,) = ask(results, "from rejections").iter_rows(named=True)
    assert rejected["record_index"] == 1
    rows = editor_sequences(results, study_id)
    assert {row.n_unusable for row in rows} == {1}
    assert {row.n_guarded for row in rows} == {0}
    print_sequences(rows, RULE)
    assert "of the requests 1 cannot be taken" in capsys.readouterr().out


@pytest.mark.slow
def test_sequences_alone_are_a_flow(many, backend, tmp_path):
    """The flow edit_sequence makes no single edit; it takes a table of its own; needs one."""
    from flows.sequence import edit_sequence

    results = tmp_path / "results"
    asked = {"editors": ["memit"], "n_edits": 2, "orders": 1}
    spec = read_study(many)
    edit_sequence(spec.model_dump(mode="json"), asked, str(results))
    assert ask(results, "select count(*) from edits").item() == 0
    assert ask(results, "select editor, n_edits from study_sequences").rows() == [("memit", 2)]
    with pytest.raises(StudyError, match="has no table"):
        edit_sequence(spec.model_copy(update={"sequence": None}), None, str(results))


def test_states_are_factors_until_the_whole_is_smaller(many, whole):
    """Factors of each chunk's own steps; RECT's and fine-tuning's sums are whole."""
    _, results = whole
    plan = plan_study(read_study(many), results)
    store = ArtifactStore(results)
    editors = ModelEditors(plan, plan.models[0])
    for inputs in editors.known_inputs():
        for sequence in editors.sequences(inputs):
            *_, (job, done) = sequence.cached_chunks()
            names = set(store.tensors(done.states[-1]))
            is_whole = any(name.startswith("total.") for name in names)
            d_model, d_key = 16, 24
            rank = int(done.values[0])
            dense = inputs.editor.is_dense or rank * (d_model + d_key) >= d_model * d_key
            assert is_whole is dense
            assert job.last_step == 6


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sequence.editors": ["mimit"]}, "no method 'mimit'; known: memit"),
        ({"sequence.checkpoints": [5, 2]}, "must ascend"),
        ({"sequence.until_collapse": True}, "leave `n_edits` out"),
        ({"sequence.guard.text_change": 1.0}, "`sequence.guard.policy`: Field required"),
        ({"sequence.restraints": ["log3"]}, "`sequence.restraints.0`"),
        ({"sequence.editors": []}, "must be distinct and at least one"),
    ],
)
def test_mistakes_are_told_in_a_sentence(study, tmp_path, changes, said):
    """A mistake in the table names the field and what to do."""
    file = write_toml(tmp_path / "wrong.toml", **(SEQUENCES | changes))
    with pytest.raises(StudyError, match=said.replace("(", r"\(")):
        read_study(file)


def test_settings_of_an_editor_are_taken_from_the_study(study, tmp_path):
    """A table in `editors` overrides what is published or by rule; what is foreign is refused."""
    file = write_toml(study.parent / "own.toml", **(SEQUENCES | {"editors": ()}))
    text = file.read_text()
    file.write_text(
        text + '\n[[editors]]\nname = "memit"\nlayers = [0, 1, 2]\nsteps = 7\n'
        '\n[[editors]]\nname = "ft_m"\nepochs = 3\n'
    )
    plan = plan_study(read_study(file), tmp_path)
    setups = {each.name: each for each in ModelEditors(plan, plan.models[0]).setups}
    assert setups["memit"].joint.layers == (0, 1, 2)
    assert setups["memit"].joint.values.steps == 7
    assert setups["ft_m"].gradient.epochs == 3
    assert json.dumps(setups["memit"].source(plan.models[0].setup)).startswith('"the study file')
    file.write_text(text + '\n[[editors]]\nname = "ft_m"\nridge = 2.0\n')
    refused(plan_study(read_study(file), tmp_path), "FT-M has no ridge")
    file.write_text(text + '\n[[editors]]\nname = "memit"\nlayers = [9]\n')
    refused(plan_study(read_study(file), tmp_path), "layers 0 to 2")


def refused(plan, said):
    """Check that a plan's editors are refused in a sentence."""
    editors = ModelEditors(plan, plan.models[0])
    with pytest.raises(StudyError, match=said):
        _ = editors.setups
