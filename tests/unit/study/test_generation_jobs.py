"""Which edits are let write on: the most damaging ones, whatever batches they came in."""

import math
import typing

import pytest

from editcollapse.catalog.presets import ValueSettings
from editcollapse.config.spec import ModelSpec
from editcollapse.data.requests import EditRequest
from editcollapse.errors import ArtifactError
from editcollapse.rows.study import BasePerplexityRow, EditRow, MeasurementRow
from editcollapse.study.artifacts import ArtifactRef, ArtifactStore
from editcollapse.study.generation_jobs import MostDamaging
from editcollapse.study.jobs import EditJob, Manifest, ModelSetup

METHODS = ("rome", "c_rome", "r_rome")
NAN, INF = math.nan, math.inf
_FILLING = {str: "x", int: 1, float: 1.0, bool: True}
MODEL = ModelSetup(
    spec=ModelSpec(name="tiny", source="tiny"),
    model_id="m",
    layer=1,
    layer_source="study file",
    values=ValueSettings(),
)


def a_row(kind, **values):
    """Return a row of a type with some values; other columns are filled, or None where they may."""
    hints = typing.get_type_hints(kind)
    return kind(**{name: values.get(name, _FILLING.get(hint)) for name, hint in hints.items()})


@pytest.fixture
def store(tmp_path):
    """Return an empty store."""
    return ArtifactStore(tmp_path)


@pytest.fixture
def batch(store):
    """Return a function that leaves a batch by method and perplexities, a request each."""

    def make(index, perplexities):
        """Return job, edits and measurements; ids are ``<method> <batch>.<row>``."""
        requests = tuple(
            EditRequest(f"S{index}{row}", "{} is", "new", None)
            for row in range(len(next(iter(perplexities.values()))))
        )
        job = EditJob(
            results=str(store.here),
            model=MODEL,
            methods=METHODS,
            templates=("{}",),
            template_set_id="t",
            covariance_id="c",
            damping=0.0,
            moment=None,
            requests=requests,
            batch_index=index,
            batch_label="",
        )
        made, found = [], []
        for method, values in perplexities.items():
            for row, perplexity in enumerate(values):
                edit_id = f"{method} {index}.{row}"
                made.append(
                    a_row(
                        EditRow,
                        edit_id=edit_id,
                        request_id=requests[row].request_id,
                        method=method,
                        update_row=row,
                    )
                )
                found.append(a_row(MeasurementRow, edit_id=edit_id, perplexity=perplexity))
        updates = ArtifactRef(digest=f"d{index}", path=f"artifacts/updates/{index}", n_bytes=1)
        edits = Manifest(
            unit_id="e", summary="", rows=(store.put_rows("edits", made),), tensors=updates
        )
        measured = Manifest(
            unit_id="v", summary="", rows=(store.put_rows("measurements", found[::-1]),)
        )
        return job, edits, measured

    return make


def unedited(store, perplexity):
    """Return what a job of the unedited model leaves."""
    row = a_row(BasePerplexityRow, perplexity=perplexity)
    return Manifest(unit_id="u", summary="", rows=(store.put_rows("base_perplexities", [row]),))


def chosen(store, batches, n_edits, base=0.25):
    """Return the job of the worst edits of some batches."""
    worst = MostDamaging(store, n_edits, unedited(store, base))
    for each in batches:
        worst.add(*each)
    return worst.job(str(store.here), MODEL)


def test_nan_and_infinity_come_before_numbers(store, batch):
    """nan, inf, then the larger number; equal ones by their ids."""
    first = batch(0, {"rome": [3.0, INF, 9.0], "c_rome": [2.0, 9.0, NAN]})
    second = batch(1, {"rome": [NAN, 9.5, 1.0]})
    found = chosen(store, [first, second], 7)
    assert [edit.edit_id for edit in found.edits] == [
        "c_rome 0.2",
        "rome 1.0",
        "rome 0.1",
        "rome 1.1",
        "c_rome 0.1",
        "rome 0.2",
        "rome 0.0",
    ]


def test_edits_without_damage_are_left_out(store, batch):
    """Only what is above twice the unedited perplexity, nan and inf; where nothing is, no unit."""
    found = chosen(store, [batch(0, {"rome": [8.0, 8.1, NAN], "c_rome": [4.0, INF, 7.9]})], 9, 4.0)
    assert [edit.edit_id for edit in found.edits] == ["rome 0.2", "c_rome 0.1", "rome 0.1"]
    assert chosen(store, [batch(1, {"rome": [4.0, 8.0, 3.0]})], 9, 4.0) is None


def test_choice_does_not_depend_on_batches(store, batch):
    """Batches in another order give the same unit."""
    batches = [batch(i, {"rome": [4.0, NAN, 4.0], "c_rome": [INF, 4.0, 2.0]}) for i in range(3)]
    one, other = (chosen(store, job, 5) for job in (batches, batches[::-1]))
    assert one.key == other.key
    assert len(one.edits) == 5


def test_edit_is_found_where_it_is_stored(store, batch):
    """Prompt, file and row are the edit's; r_rome's update is stored as c_rome's, which it is."""
    job, edits, measured = batch(4, {"rome": [1.0, 2.0], "r_rome": [1.0, 8.0]})
    (found,) = chosen(store, [(job, edits, measured)], 1).edits
    assert (found.edit_id, found.method, found.update_row) == ("r_rome 4.1", "c_rome", 1)
    assert found.prompt == "S41 is"
    assert found.updates == edits.tensors


def test_no_edit_is_no_unit(store, batch):
    """Without edits, or where none is asked for, there is nothing to do; no file is looked at."""
    assert chosen(store, [batch(0, {"rome": []})], 3) is None
    assert chosen(store, [], 3) is None
    job, edits, _ = batch(1, {"rome": [1.0]})
    lost = Manifest(unit_id="v", summary="")
    assert chosen(store, [(job, edits, lost)], 0) is None


def test_lost_rows_are_told(store, batch):
    """A batch without measurements or updates is refused by its unit's name."""
    job, edits, measured = batch(0, {"rome": [1.0]})
    worst = MostDamaging(store, 2, unedited(store, 1.0))
    with pytest.raises(ArtifactError, match="v9 left no measurements"):
        worst.add(job, edits, Manifest(unit_id="v9", summary=""))
    with pytest.raises(ArtifactError, match="e left no updates"):
        worst.add(job, edits.model_copy(update={"tensors": None}), measured)
