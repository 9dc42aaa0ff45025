"""Prefect reads a record as the record says, pickles included: foreign ones never reach it."""

import base64
import json
import os
import pickle
from pathlib import Path

import pytest

from flows.records import RECORDS, remove_foreign_record
from tests.support.flow_runs import assert_equal_tables


class _Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def _pickled(record, canary):
    record["metadata"]["serializer"] = {"type": "pickle", "picklelib": "cloudpickle"}
    record["result"] = base64.encodebytes(pickle.dumps(_Canary(canary))).decode()


def _compressed(record, canary):
    inner = {"type": "pickle", "picklelib": "cloudpickle"}
    record["metadata"]["serializer"] = {"type": "compressed", "serializer": inner}


def _own_decoder(record, canary):
    record["metadata"]["serializer"]["object_decoder"] = "os.system"


def _own_library(record, canary):
    record["metadata"]["serializer"]["jsonlib"] = "antigravity"


def _other_class(record, canary):
    record["result"] = json.dumps({"__class__": "subprocess.Popen", "data": ["true"]})


def _nested_class(record, canary):
    result = json.loads(record["result"])
    result["data"]["summary"] = {"__class__": "antigravity.geohash", "data": 1}
    record["result"] = json.dumps(result)


def _exception(record, canary):
    record["result"] = json.dumps({"__exc_type__": "builtins.SystemExit", "message": "0"})


_ATTACKS = [
    _pickled,
    _compressed,
    _own_decoder,
    _own_library,
    _other_class,
    _nested_class,
    _exception,
]


def _records(results):
    return sorted((results / RECORDS).glob("edits-*"))


class _Order:
    """What has a key."""

    def __init__(self, key):
        self.key = key


@pytest.mark.parametrize("attack", _ATTACKS, ids=lambda attack: attack.__name__)
def test_foreign_record_is_removed(results, attack, caplog, tmp_path):
    """Whatever is not JSON of our own classes goes, with a warning; ours stay."""
    foreign, ours = _records(results)[:2]
    record = json.loads(foreign.read_text())
    attack(record, tmp_path / "canary")
    foreign.write_text(json.dumps(record))
    assert remove_foreign_record(results / RECORDS, _Order(foreign.name))
    assert not foreign.exists()
    assert "none of ours" in caplog.text
    assert not remove_foreign_record(results / RECORDS, _Order(ours.name))
    assert not remove_foreign_record(results / RECORDS, _Order("edits-missing"))


def test_record_with_a_pickle_runs_nothing(study, run_study, results, first_run, tmp_path):
    """A study over a folder with a poisoned record ends as if the record were missing."""
    canary = tmp_path / "canary"
    for path in _records(results)[:2]:
        record = json.loads(path.read_text())
        _pickled(record, canary)
        path.write_text(json.dumps(record))
    again = run_study(study, results)
    assert not canary.exists()
    assert again.computed("edit ") == 2  # looked up among the manifests: no unit ran
    assert_equal_tables(results, first_run.results)


def test_attack_works_without_the_look(results, backend, tmp_path):
    """The test above tests what it says: Prefect itself would run what the record holds."""
    from prefect.results import ResultRecord

    canary = tmp_path / "canary"
    record = json.loads(Path(_records(results)[0]).read_text())
    _pickled(record, canary)
    ResultRecord.deserialize(json.dumps(record).encode())
    assert canary.exists()
