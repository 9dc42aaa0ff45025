"""Verdicts by layer: counted by hand, with the requests and set-ups that are asked for."""

import math
from types import SimpleNamespace

import pytest

from editcollapse.forecast.verdicts import LayerVerdicts, safe_layers
from editcollapse.study.jobs import template_set_id_of
from storage.ask import ask, query_text
from storage.readers import sweep_rows

_BOUNDS = {0: (1.0, 2.0, 6.0), 1: (30.0, math.inf, 2.0)}
"""Layer to the bounds of three requests; at risk from 2.5 on, will collapse from 17 on."""
_TEMPLATES = ("{}",)


@pytest.fixture
def results(folder, make_row):
    """Publish two layers of a model: two first-token requests and one inside."""
    folder.write("models", make_row("models", source="model"))
    limits = make_row("forecast_calibrations", model_id="model-1", at_risk_at=2.5, collapse_at=17.0)
    folder.write("forecast_calibrations", limits)
    positions = ("first_token", "first_token", "inside")
    for index, position in enumerate(positions):
        where = {"request_id": f"request-{index}", "subject_position": position}
        folder.write("positions", make_row("positions", **where))
    for layer, bounds in _BOUNDS.items():
        rows = [
            make_row(
                "forecasts",
                edit_id=f"{layer}-{index}",
                request_id=f"request-{index}",
                method="rome",
                layer=layer,
                covariance_id=f"covariance-{layer}",
                template_set_id=template_set_id_of("model-1", _TEMPLATES),
                denominator=(-1.0) ** index * (index + 1),
                text_change_bound=bound,
            )
            for index, bound in enumerate(bounds)
        ]
        folder.write("forecasts", *rows)
    folder.publish()
    return folder.results


def sweep_of(layers, requests=3):
    """Return what ``sweep_rows`` reads of a model's sweep."""
    job = SimpleNamespace(
        model_id="model-1", settings_id="settings-1", spec=SimpleNamespace(name="tiny")
    )
    records = [
        SimpleNamespace(request=SimpleNamespace(request_id=f"request-{index}"))
        for index in range(requests)
    ]
    return SimpleNamespace(
        layers=[
            SimpleNamespace(setup=job, moment=SimpleNamespace(covariance_id=f"covariance-{layer}"))
            for layer in layers
        ],
        study=SimpleNamespace(requests=SimpleNamespace(records=records)),
    )


def test_verdicts_are_counted_by_layer_and_position(results):
    """Counts, median without signs, and the largest bound, an infinite one included."""
    query = """
        select layer, subject_position, n_requests, n_safe, n_at_risk, n_will_collapse,
            median_denominator, median_bound, largest_bound
        from forecast_by_layer
    """
    assert ask(results, query).rows() == [
        (0, "first_token", 2, 2, 0, 0, 1.5, 1.5, 2.0),
        (0, "inside", 1, 0, 1, 0, 3.0, 6.0, 6.0),
        (1, "first_token", 2, 0, 0, 2, 1.5, math.inf, math.inf),
        (1, "inside", 1, 1, 0, 0, 3.0, 2.0, 2.0),
    ]


def test_some_requests_alone_are_counted(results):
    """The macro takes a list of requests; an empty one counts none."""
    query = "select sum(n_requests) from forecast_by_layer(request_ids := {})"
    assert ask(results, query.format("['request-0', 'request-2']")).item() == 4
    assert ask(results, query.format("[]::varchar[]")).item() is None
    assert ask(results, query.format("null")).item() == 6


def test_sweep_reads_its_own_requests_and_set_ups(results, folder, make_row):
    """Forecasts of other requests, layers or settings are not the sweep's."""
    other = make_row(
        "forecasts",
        edit_id="other",
        request_id="request-0",
        method="rome",
        layer=0,
        covariance_id="covariance-0",
        template_set_id=template_set_id_of("model-1", _TEMPLATES),
        settings_id="settings-2",
    )
    folder.write("forecasts", other)
    folder.publish()
    rows = sweep_rows(results, sweep_of([0], requests=2), _TEMPLATES)
    assert rows == [
        LayerVerdicts("tiny", 0, "rome", "first_token", 2, 2, 0, 0, 1.5, 1.5, 2.0, 0),
    ]
    assert sweep_rows(results, sweep_of([0]), ("another {}",)) == []
    assert [row.layer for row in sweep_rows(results, sweep_of([0, 1]), _TEMPLATES)] == [0, 0, 1, 1]


def test_layers_of_a_study_have_its_names(results, folder, make_row):
    """A model that a study edits at two layers is told once."""
    folder.write(
        "study_models",
        make_row("study_models", layer=0, name="early"),
        make_row("study_models", layer=1, name="late"),
    )
    folder.publish()
    found = ask(results, query_text("layers").replace("$study_id", "'study-1'"))
    assert (found.height, set(found["model"])) == (4, {"early"})


def test_layer_is_safe_where_every_position_is():
    """One request at risk is enough against a layer; without any, the nearest layer is told."""

    def row(layer, position, safe, largest, model="m"):
        return LayerVerdicts(model, layer, "rome", position, 2, safe, 2 - safe, 0, 1, 1, largest, 0)

    rows = [
        row(0, "first_token", 2, 1.0),
        row(0, "inside", 1, 7.0),
        row(1, "first_token", 2, 4.0),
        row(1, "inside", 2, 3.0),
        row(0, "inside", 1, 9.0, "n"),
        row(2, "inside", 0, 8.0, "n"),
    ]
    first, second = safe_layers(rows)
    assert (first.model, first.layers, first.safest_layer, first.largest_bound) == ("m", (1,), 1, 4)
    assert (second.layers, second.safest_layer) == ((), 2)
