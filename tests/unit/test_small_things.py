"""Digests, presets, rows as frames, settings from the environment: small, and relied on."""

import math
from pathlib import Path

import polars as pl
import pytest

from editcollapse.catalog.architectures import Widths
from editcollapse.catalog.methods import METHODS, distinct_rules, method_of
from editcollapse.catalog.presets import PRESETS, ValueSettings, preset_for
from editcollapse.data.requests import EditRequest
from editcollapse.errors import StudyError, nearest_first
from editcollapse.fingerprints import canonical, digest, unit_key
from editcollapse.forward.rewrites import build_rewrites
from editcollapse.rows.frames import frame_of, rows_of, schema_of
from editcollapse.rows.study import ROW_TYPES, TemplateRow
from editcollapse.runtime.environment import AskedFor, ProvenanceClock
from editcollapse.runtime.settings import settings


def test_digest_is_of_content():
    """Order of keys, kind of sequence and the way in do not matter; any content does."""
    assert digest({"a": 1, "b": (2, 3)}) == digest({"b": [2, 3], "a": 1})
    assert digest("ab", "c") != digest("a", "bc")
    assert digest(1) != digest("1")
    assert digest(0.1 + 0.2) != digest(0.3)
    assert len(digest()) == 32
    assert canonical(math.inf) == "float:inf"
    assert unit_key("edits", 1).startswith("edits-")
    assert unit_key("edits", 1) != unit_key("edits", 2)


@pytest.mark.parametrize("value", [{1, 2}, Path("x"), object(), b"x"])
def test_digest_refuses_what_is_not_stable(value):
    """A set has no order and a path belongs to a machine."""
    with pytest.raises(TypeError, match="no stable digest"):
        digest(value)


def test_digest_is_known():
    """Ids in old results stay valid: the way to a digest may not change unnoticed."""
    assert digest("x", 1, 0.5, None, ["ä"]) == "1d4def8c892fed2896e2ae052f20220a"
    request = EditRequest("s", "{} is", "a", "b")
    assert request.request_id == "ea2015f8f4f7527ed06b4c3b720c27f1"


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_recognised_by_sizes(name):
    """A published model is recognised by its sizes, wherever its folder is."""
    preset = PRESETS[name]
    widths = Widths(*preset.widths, n_vocabulary=0)
    assert preset_for(None, preset.family, widths) == preset
    assert preset_for(name, preset.family, widths) == preset


def test_preset_of_an_unknown_model_is_marked():
    """A model without published settings gets a layer by depth, marked as unpublished."""
    found = preset_for(None, "gpt2", Widths(12, 768, 3072, 0))
    assert (found.layer, found.source) == (4, "unpublished")
    assert found.values == ValueSettings()
    other = preset_for(None, "llama", Widths(12, 768, 3072, 0))
    assert other.layer == 2
    assert other.values.weight_decay == 1e-3
    assert preset_for(None, "gpt2", Widths(1, 8, 32, 0)).layer == 0


def test_preset_that_does_not_fit():
    """A wrong name, or a name of another model, is refused."""
    widths = Widths(12, 768, 3072, 0)
    with pytest.raises(StudyError, match=r"no preset 'gpt2-x'\. Known: gpt2-xl"):
        preset_for("gpt2-x", "gpt2", widths)
    with pytest.raises(StudyError, match=r"'gpt2-xl' is for gpt2 .*Leave `preset` out"):
        preset_for("gpt2-xl", "gpt2", widths)


def test_methods_with_one_rule():
    """Methods that write the same update are computed once, under the first name asked for."""
    assert distinct_rules(("r_rome", "rome", "c_rome")) == {
        "r_rome": "r_rome",
        "rome": "rome",
        "c_rome": "r_rome",
    }
    assert method_of("rome") is METHODS["rome"]
    with pytest.raises(StudyError, match=r"no method 'rom'\. Known: rome"):
        method_of("rom")


def test_rows_and_frames():
    """Rows become a frame with the table's types and come back equal; other rows are refused."""
    rows = [TemplateRow("t", 0, "{}", [], "file", None), TemplateRow("t", 1, "a {}", [3], "x", 1)]
    frame = frame_of("templates", rows)
    assert frame.schema["token_ids"] == pl.List(pl.Int64)
    assert list(rows_of("templates", frame)) == rows
    with pytest.raises(TypeError, match="table edits holds EditRow, got TemplateRow"):
        frame_of("edits", rows)
    assert all(schema_of(table) for table in ROW_TYPES)


def test_environment(monkeypatch):
    """The device comes from the environment; without it, the best one is taken."""
    monkeypatch.delenv("EDITCOLLAPSE_DEVICE", raising=False)
    assert settings().device == "auto"
    monkeypatch.setenv("EDITCOLLAPSE_DEVICE", "cpu")
    assert settings().device == "cpu"


def test_provenance_says_how_and_when():
    """A unit's row names versions, machine, device and how long it took."""
    row = ProvenanceClock("unit", "edits", 7).row("done", 3, "cpu")
    assert (row.unit_id, row.kind, row.seed, row.n_items) == ("unit", "edits", 7, 3)
    assert row.duration_s >= 0
    assert row.started_at.endswith("+00:00")
    assert row.torch_version[0].isdigit()
    assert (row.study, row.model_id) == (None, None)
    asked_for = AskedFor("demo", "s", "gpt2-induced", "m")
    row = ProvenanceClock("unit", "edits", asked_for=asked_for).row("done", 3, "cpu")
    assert (row.study, row.study_id, row.model, row.model_id) == ("demo", "s", "gpt2-induced", "m")


def test_nearest_first():
    """What was probably meant comes first, the rest in order."""
    assert nearest_first("llam", ["gpt2", "llama", "phi"]) == "llama, gpt2, phi"


def test_rewrites_split_usable_from_unusable(tiny_model):
    """A batch keeps its usable requests in order and says why the others are not."""
    encoder = tiny_model("gpt2").encoder
    requests = [
        EditRequest("Lumo", "{} is", "red", None),
        EditRequest("Lumo", "{} is", "Xyzzy", None),
        EditRequest("Lumo", "{} is" + " red" * 90, "red", None),
        EditRequest("Bram", "{} is", "New Port", None),
    ]
    rewrites, unusable = build_rewrites(encoder, ["{}", "red . {}"], requests)
    assert [rewrite.request.subject for rewrite in rewrites] == ["Lumo", "Bram"]
    assert [found.request for found in unusable] == requests[1:3]
    assert "has 92 tokens; gpt2 takes 80" in unusable[1].reason
    assert len(rewrites[1].rows) == 3
    assert rewrites[1].suffix_widths == [3, 3]
    assert (rewrites[1].subject_last, rewrites[1].n_suffix) == ([0, 2, 0], 7)
    assert [len(row) for row in rewrites[1].rows] == [3, 5, 1]
