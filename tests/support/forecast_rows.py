"""A forecast and a place of a subject, for tests to vary."""

from editcollapse.rows.study import ForecastRow, PositionRow

ROW = ForecastRow(
    edit_id="e",
    model_id="m",
    request_id="r",
    method="rome",
    layer=1,
    layer_source="study file",
    covariance_id="c",
    template_set_id="t",
    settings_id="s",
    denominator=0.0125,
    rho=0.004,
    bare_key_norm=1.0,
    prefixed_key_norm=1.0,
    key_cosine=0.1,
    bare_key_dot=0.0125,
    prefixed_key_dot=3.0,
    bare_value_norm=1.0,
    numerator_bound=4.0,
    certified_bound=320.0,
    relative_bound=64.0,
    text_change_bound=50.0,
    n_tokens=10_000,
    tokens_per_d_key=100.0,
)
POSITION = PositionRow("m", "r", "first_token", 0, 0, 1, 4, True, True, "Lumo", 1)
