"""Ask the published results: anyone's SQL, what there is to ask, and what a study has found."""

import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import duckdb
import polars as pl

from editcollapse.errors import ResultsError, StudyError, nearest_first
from editcollapse.rows.collapse_rule import DAMAGE_RATIO, DEFAULT_RULE, CollapseRule
from storage.database import literal, message_of, open_snapshot
from storage.schema import SQL

QUERIES = SQL / "queries"


def ask(results: Path, sql: str) -> pl.DataFrame:
    """Return the answer to a query of the published results; empty for SQL without an answer.

    Nothing can be written: the snapshot is open read-only and no other file can be reached.

    Args:
        results: the results folder.
        sql: of several statements the last one's answer counts.

    Raises:
        ResultsError: there are no results yet, nothing is asked, or DuckDB refuses the query.
    """
    return ask_each(results, sql)[-1].frame


def ask_each(results: Path, sql: str) -> list["Answer"]:
    """Return the answers to the statements of a query, one after the other, as ``ask`` does.

    Raises:
        ResultsError: as ``ask``.
    """
    with open_snapshot(results) as connection:
        return [
            Answer(statement.query.strip(), _frame(connection, statement))
            for statement in _statements(sql)
        ]


def incidence(
    results: Path, study_id: str | None = None, rule: CollapseRule = DEFAULT_RULE
) -> pl.DataFrame:
    """Return the collapse incidence of one study, or of all.

    Args:
        results: the results folder.
        study_id: an id of table ``studies``; all studies where left out.
        rule: when an edit counts as a collapse.

    Returns:
        The columns of view ``collapse_incidence``.

    Raises:
        ResultsError: there are no results yet.
    """
    with open_snapshot(results) as connection:
        frame: pl.DataFrame = connection.sql(
            query_text("incidence"), params={"study_id": study_id} | dataclasses.asdict(rule)
        ).pl()
        return frame


def describe_tables(results: Path) -> pl.DataFrame:
    """Return the tables, views and macros that queries can use, with the columns of each.

    Returns:
        Columns kind (table, view or macro), name, column, type, comment and n_rows. A relation has
        a row of its own, with ``column`` null and for tables ``n_rows``, then one for each column.
        A macro's ``type`` lists its arguments.

    Raises:
        ResultsError: there are no results yet.
    """
    with open_snapshot(results) as connection:
        return describe(connection)


def describe(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Return ``describe_tables`` of an open database."""
    relations: pl.DataFrame = connection.sql(query_text("relations")).pl()
    whole = relations.filter((pl.col("kind") == "table") & pl.col("column").is_null())
    counts = [
        connection.execute(f'select count(*) from "{name}"').fetchall()[0][0]  # noqa: S608 - ours
        for name in whole["name"]
    ]
    sizes = pl.DataFrame(
        {"name": whole["name"], "n_rows": counts},
        schema={"name": pl.String, "n_rows": pl.Int64},
    )
    own = pl.col("column").is_null() & (pl.col("kind") == "table")
    return relations.join(sizes, on="name", how="left", maintain_order="left").with_columns(
        pl.when(own).then("n_rows").alias("n_rows")
    )


def _statements(sql: str) -> list[duckdb.Statement]:
    """Return a query's statements. Raises ResultsError for none, and for those that run procedures.

    Procedures change the process (logging to files, checkpoints); one ends it where the file may
    not be written. Functions are asked with from.
    """
    try:
        found = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise _refused(error) from error
    if not found:
        raise ResultsError(
            "nothing is asked: the query is empty, or a comment. Write one, such as "
            '"from collapse_incidence"; editcollapse tables lists what can be asked.'
        )
    if any(each.type == duckdb.StatementType.CALL for each in found):
        raise ResultsError(
            "CALL runs a procedure, and here questions are answered: results are read-only. "
            "Ask with select or from; editcollapse tables lists what can be asked."
        )
    return found


def _frame(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> pl.DataFrame:
    """Return a statement's answer. Raises ResultsError with DuckDB's own words."""
    try:
        # DuckDB gives None for SQL without an answer, which its type hints do not say.
        relation = cast("duckdb.DuckDBPyRelation | None", connection.sql(statement))
        frame: pl.DataFrame = pl.DataFrame() if relation is None else relation.pl()
    except duckdb.Error as error:
        raise _refused(error) from error
    except pl.exceptions.PolarsError as error:
        raise ResultsError(
            f"the answer has a column of a type that has no place in a frame: {error}. "
            "Cast it in the query, for instance to varchar."
        ) from error
    return frame


def _refused(error: duckdb.Error) -> ResultsError:
    return ResultsError(
        f"DuckDB refuses this query: {message_of(error)}\n"
        "editcollapse tables lists what can be asked; results are read-only."
    )


def query_text(name: str) -> str:
    """Return the SQL of a named query."""
    return (QUERIES / f"{name}.sql").read_text(encoding="utf-8")


def ask_named(results: Path, query: str, asked: dict[str, Any]) -> pl.DataFrame:
    """Return the answer to a named query.

    Args:
        results: the results folder.
        query: its name: a file of ``sql/queries``.
        asked: its parameters.

    Raises:
        ResultsError: there are no results yet.
    """
    with open_snapshot(results) as snapshot:
        frame: pl.DataFrame = snapshot.sql(query_text(query), params=asked).pl()
    return frame


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A query of one study and what it gave."""

    sql: str
    """Runs as it stands: the study's id and the rule of collapse are written out."""
    frame: pl.DataFrame


@dataclasses.dataclass(frozen=True, slots=True)
class StudyFindings:
    """One study as it is published. All texts are as the study and its files gave them."""

    study_id: str
    rule: CollapseRule
    """When an edit counted as a collapse, in all that follows."""
    name: str
    description: str
    note: str
    methods: tuple[str, ...]
    templates: str
    """Kind of the context templates."""
    seed: int
    numerics: int
    dataset: str
    schema: str
    n_records: int
    n_rejected: int
    text_set: str
    n_texts: int
    n_requests: int
    """Requests with at least one edit."""
    n_edits: int
    n_measured: int
    settings: Answer
    """Query ``study``."""
    models: Answer
    """Query ``study_models``."""
    incidence: Answer
    """Query ``incidence_by_method``."""
    positions: Answer
    """Query ``incidence_by_position``."""
    last_tokens: Answer
    """Query ``last_tokens``: models under which subjects end with another token in a context."""
    denominators: Answer
    """Query ``denominators_by_outcome``."""
    worst: Answer
    """Query ``worst_edits``: those that did damage."""
    comparison: Answer
    """Query ``compare_in_study``; empty with one method and one model."""
    guard: Answer
    """Query ``guard_in_study``; empty where the study has no guard."""
    editing: Answer
    """Query ``editing_by_position``: what edits do to their fact, beside collapses."""
    sequences: Answer
    """Query ``sequences_in_study``; empty where the study has no sequences, as the next two."""
    sequence_success: Answer
    """Query ``sequence_success_in_study``: what later edits undo."""
    sequence_forecast: Answer
    """Query ``sequence_forecast_in_study``: whether the change on text tells the collapse."""
    downstream: Answer
    """Query ``downstream_in_study``; empty where no downstream task was asked of its models."""
    answers: Answer
    """Query ``answers_in_study``; empty where no edit has answered freely."""
    runs: Answer
    """Query ``study_runs``: a row, or none where provenance names no such study."""


def study_rule(results: Path, study_id: str) -> CollapseRule:
    """Return the collapse rule that a study states, as last published.

    Args:
        results: the results folder.
        study_id: an id of table ``studies``.

    Raises:
        ResultsError: there are no results yet, or they do not hold this study.
    """
    with open_snapshot(results) as connection:
        return _stated_rule(connection, results, study_id)


def common_rule(results: Path) -> CollapseRule:
    """Return the collapse rule that all studies of a results folder state.

    Raises:
        ResultsError: there are no results yet, or the studies state different rules.
    """
    with open_snapshot(results) as connection:
        rows = connection.sql("select name, settings from studies order by name").fetchall()
    stated: dict[CollapseRule, list[str]] = {}
    for name, settings in rows:
        stated.setdefault(_rule_in(json.loads(settings)), []).append(name)
    if len(stated) > 1:
        listed = "; ".join(
            f"{', '.join(dict.fromkeys(names))}: {rule.sentence()}"
            for rule, names in stated.items()
        )
        raise ResultsError(
            f"the studies in {results} state different collapse rules ({listed}). Name one with "
            "--threshold, --ratio and --measure."
        )
    return next(iter(stated), DEFAULT_RULE)


def _stated_rule(
    connection: duckdb.DuckDBPyConnection, results: Path, study_id: str
) -> CollapseRule:
    """Return the rule of a study's settings. Raises ResultsError where there is no such study."""
    found = connection.execute(
        "select settings from studies where study_id = $study_id", {"study_id": study_id}
    ).fetchone()
    if found is None:
        raise _no_study(results, study_id)
    return _rule_in(json.loads(found[0]))


def _rule_in(settings: dict[str, Any]) -> CollapseRule:
    """Return the rule of ``studies.settings``, which have none where it is the default."""
    return CollapseRule(**settings["collapse"]) if "collapse" in settings else DEFAULT_RULE


def _no_study(results: Path, study_id: str) -> ResultsError:
    return ResultsError(
        f"{results} holds no study with the id {study_id}. "
        'editcollapse sql "from studies" lists them.'
    )


def findings(results: Path, study_id: str, rule: CollapseRule | None = None) -> StudyFindings:
    """Return a study's findings, as last published.

    Args:
        results: the results folder.
        study_id: an id of table ``studies``.
        rule: when an edit counts as a collapse; None: as the study states it.

    Raises:
        ResultsError: there are no results yet, or they do not hold this study.
    """
    with open_snapshot(results) as connection:
        rule = rule or _stated_rule(connection, results, study_id)
        study = answer_for(connection, "study", study_id, rule)
        if study.frame.is_empty():
            raise _no_study(results, study_id)
        row = study.frame.row(0, named=True)
        settings: dict[str, Any] = json.loads(row["settings"])
        return StudyFindings(
            study_id=study_id,
            rule=rule,
            name=row["name"],
            description=row["description"],
            note=settings["note"],
            methods=tuple(settings["methods"]),
            templates=settings["templates"]["kind"],
            seed=row["seed"],
            numerics=row["numerics"],
            dataset=row["dataset"],
            schema=row["schema_name"],
            n_records=row["n_records"],
            n_rejected=row["n_rejected"],
            text_set=row["text_set"],
            n_texts=row["n_texts"],
            n_requests=row["n_requests"],
            n_edits=row["n_edits"],
            n_measured=row["n_measured"],
            settings=study,
            models=answer_for(connection, "study_models", study_id, rule),
            incidence=answer_for(connection, "incidence_by_method", study_id, rule),
            positions=answer_for(connection, "incidence_by_position", study_id, rule),
            last_tokens=answer_for(connection, "last_tokens", study_id, rule),
            denominators=answer_for(connection, "denominators_by_outcome", study_id, rule),
            worst=answer_for(connection, "worst_edits", study_id, rule),
            comparison=answer_for(connection, "compare_in_study", study_id, rule),
            guard=answer_for(connection, "guard_in_study", study_id, rule),
            editing=answer_for(connection, "editing_by_position", study_id, rule),
            sequences=answer_for(connection, "sequences_in_study", study_id, rule),
            sequence_success=answer_for(connection, "sequence_success_in_study", study_id, rule),
            sequence_forecast=answer_for(connection, "sequence_forecast_in_study", study_id, rule),
            downstream=answer_for(connection, "downstream_in_study", study_id, rule),
            answers=answer_for(connection, "answers_in_study", study_id, rule),
            runs=answer_for(connection, "study_runs", study_id, rule),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study that was asked for."""

    study_id: str
    name: str
    n_others: int
    """Older studies that were meant as well: of that name, or all where none was named."""


def find_study(results: Path, wanted: str = "") -> str:
    """Return the id of the study that ``look_up_study`` finds.

    Raises:
        ResultsError: as there.
        StudyError: as there.
    """
    return look_up_study(results, wanted).study_id


def look_up_study(results: Path, wanted: str = "") -> FoundStudy:
    """Return the study of a name or id; the newest of several, and of all where none is named.

    Raises:
        ResultsError: there are no results yet, or no study in them.
        StudyError: no study has such a name or id.
    """
    known = known_studies(results)
    if known.is_empty():
        raise ResultsError(f"no study is recorded in {results} yet. Run one: editcollapse run")
    is_asked = (pl.col("name") == wanted) | (pl.col("study_id") == wanted)
    found = known.filter(is_asked) if wanted else known
    if found.is_empty():
        names = nearest_first(wanted, known["name"].unique().to_list())
        raise StudyError(f"no study {wanted!r} in {results}. Known: {names}.")
    newest = found.row(0, named=True)
    return FoundStudy(newest["study_id"], newest["name"], found.height - 1)


def known_studies(results: Path) -> pl.DataFrame:
    """Return the studies of a results folder, the newest first.

    Returns:
        Columns study_id, name and n_edits.

    Raises:
        ResultsError: there are no results yet.
    """
    with open_snapshot(results) as connection:
        frame: pl.DataFrame = connection.sql(query_text("studies")).pl()
    return frame


def answer_for(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    study_id: str,
    rule: CollapseRule = DEFAULT_RULE,
) -> Answer:
    """Return a named query's answer for one study, by a rule of collapse where it asks for one."""
    text = query_text(name)
    known: dict[str, Any] = {
        "study_id": study_id,
        "damage_ratio": DAMAGE_RATIO,
        **dataclasses.asdict(rule),
    }
    asked = {each: value for each, value in known.items() if f"${each}" in text}
    frame: pl.DataFrame = connection.sql(text, params=asked).pl()
    for each, value in asked.items():
        text = text.replace(f"${each}", _written(value))
    return Answer(text.strip(), frame)


def _written(value: str | float | None) -> str:
    """Return a parameter as SQL."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return literal(value)
    return str(int(value)) if float(value).is_integer() else repr(value)


@dataclasses.dataclass(frozen=True, slots=True)
class StudyFigures:
    """Answers about one study; where a study has nothing to one, its frame is empty."""

    rule: CollapseRule
    """When an edit counted as a collapse."""
    edits: Answer
    """Query ``figure_edits``: an edit a row, of a large study a sample."""
    perplexities: Answer
    """Query ``perplexity_by_method``."""
    skill: Answer
    """Query ``figure_skill``: precision and recall of the forecast."""
    roc: Answer
    """Query ``figure_roc``."""
    calibration: Answer
    """Query ``figure_calibration``: P(collapse) beside how often it came true."""
    layers: Answer
    """Query ``figure_layers``: verdicts by layer, where several have a forecast."""
    keys: Answer
    """Query ``figure_keys``: keys in two dimensions."""
    anatomy: Answer
    """Query ``figure_anatomy``: findings of the root-cause study."""
    profiles: Answer
    """Query ``figure_profiles``: norms and attention by position and layer."""
    published: Answer
    """Query ``published_in_study``."""
    survival: Answer
    """Query ``figure_survival``: sequences that leave the model alive."""
    sequence_perplexity: Answer
    """Query ``figure_sequence_perplexity``: ratios of perplexities over the edits of sequences."""
    drift: Answer
    """Query ``figure_drift``: how far the weights move over the edits of sequences."""
    downstream: Answer
    """Query ``figure_downstream``: scores of edited models beside their perplexity."""


def study_figures(results: Path, study_id: str, rule: CollapseRule | None = None) -> StudyFigures:
    """Return the data of a study's figures, as last published.

    Args:
        results: the results folder.
        study_id: an id of table ``studies``.
        rule: when an edit counts as a collapse; None: as the study states it.

    Raises:
        ResultsError: there are no results yet, or they do not hold this study.
    """
    with open_snapshot(results) as connection:
        rule = rule or _stated_rule(connection, results, study_id)
        return StudyFigures(
            rule=rule,
            edits=answer_for(connection, "figure_edits", study_id, rule),
            perplexities=answer_for(connection, "perplexity_by_method", study_id, rule),
            skill=answer_for(connection, "figure_skill", study_id, rule),
            roc=answer_for(connection, "figure_roc", study_id, rule),
            calibration=answer_for(connection, "figure_calibration", study_id, rule),
            layers=answer_for(connection, "figure_layers", study_id, rule),
            keys=answer_for(connection, "figure_keys", study_id, rule),
            anatomy=answer_for(connection, "figure_anatomy", study_id, rule),
            profiles=answer_for(connection, "figure_profiles", study_id, rule),
            published=answer_for(connection, "published_in_study", study_id, rule),
            survival=answer_for(connection, "figure_survival", study_id, rule),
            sequence_perplexity=answer_for(
                connection, "figure_sequence_perplexity", study_id, rule
            ),
            drift=answer_for(connection, "figure_drift", study_id, rule),
            downstream=answer_for(connection, "figure_downstream", study_id, rule),
        )
