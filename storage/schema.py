"""The schema of ``results.duckdb``: tables, views and macros of ``sql/``, with column comments."""

import functools
from pathlib import Path
from string import Template

import duckdb

from editcollapse.catalog.editors import EDITORS
from editcollapse.catalog.methods import METHODS
from editcollapse.fingerprints import digest
from editcollapse.forecast.defaults import default_thresholds
from editcollapse.rows.collapse_rule import DEFAULT_RULE, CollapseRule
from editcollapse.rows.study import POSITIONS
from storage.database import literal

SQL = Path(__file__).parent / "sql"
TABLES = SQL / "schema"
"""Files that make the tables."""
VIEWS = SQL / "views"
"""Views and macros; the numbers before their names are the order of dependency."""


_WRITTEN_IN = ("10_collapsed.sql", "13_reading_order.sql", "40_forecast_verdicts.sql")
"""Files with places for the default rule, the methods and positions in their order, or the default
thresholds."""
_OTHERS = (
    "published",
    "measured_edits",
    "guard_decisions",
    "continuations",
    "anatomies",
    "key_points",
    "anatomy_findings",
    "position_profiles",
    "tuning_facts",
    "tuning_trials",
    "editor_settings",
    "sequences",
    "study_sequences",
    "sequence_steps",
    "sequence_layers",
    "sequence_checkpoints",
    "sequence_scores",
    "generation_settings",
    "generated_answers",
    "judges",
    "judged_answers",
    "checks",
    "check_names",
    "check_tensors",
    "check_scores",
    "downstream_scores",
    "row_files",
    "schema_version",
)
"""Tables whose comments no view takes over: their columns share names with others of ours."""


def make_schema(connection: duckdb.DuckDBPyConnection, rule: CollapseRule = DEFAULT_RULE) -> None:
    """Make all tables, views and macros in an empty database.

    Args:
        connection: to the database.
        rule: what macro ``collapse_rule`` gives.
    """
    for text in _texts(rule):
        connection.execute(text)
    inherited = (SQL / "queries" / "inherited_comments.sql").read_text(encoding="utf-8")
    comments = connection.execute(inherited, {"others": list(_OTHERS)}).fetchall()
    for view, column, comment in comments:
        connection.execute(f'comment on column "{view}"."{column}" is {literal(comment)}')
    connection.execute("insert into schema_version values ($digest)", {"digest": schema_digest()})


@functools.cache
def schema_digest() -> str:
    """Return the digest of this version's schema, over all its SQL."""
    return digest("schema", *_texts(DEFAULT_RULE))


def _texts(rule: CollapseRule) -> list[str]:
    """Return the SQL of tables, then of views, in order."""
    written = {
        name: "null" if bound is None else repr(float(bound))
        for name, bound in (("threshold", rule.threshold), ("ratio", rule.ratio))
    }
    written["measure"] = literal(rule.measure)
    limits = default_thresholds()
    assert limits.curve is not None
    bounds = {
        "at_risk_at": limits.at_risk_at,
        "collapse_at": limits.collapse_at,
        "never_safe_from": limits.never_safe_from,
        "intercept": limits.curve.intercept,
        "slope": limits.curve.slope,
    }
    drawn = {"intercepts": limits.curve.intercepts, "slopes": limits.curve.slopes}
    written["default_thresholds"] = ", ".join(
        [
            *(f"'{name}': '{value!r}'::double" for name, value in bounds.items()),
            *(f"'{name}': {list(values)!r}::double[]" for name, values in drawn.items()),
        ]
    )
    written["methods"] = ", ".join(map(literal, (*METHODS, *EDITORS)))
    written["positions"] = ", ".join(map(literal, POSITIONS))
    files = [*sorted(TABLES.glob("*.sql")), *sorted(VIEWS.glob("*.sql"))]
    texts = ((file.name, file.read_text(encoding="utf-8")) for file in files)
    return [
        Template(text).substitute(written) if name in _WRITTEN_IN else text for name, text in texts
    ]
