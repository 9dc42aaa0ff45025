"""The batches of a study behind a guard: each is foreseen, decided on, and split into its edits."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from editcollapse.forecast_orders import ForecastOrder
from editcollapse.guard_rows import decision_rows, prefixed_dataset_rows, prefixed_request_rows
from editcollapse.guarded_batches import (
    NOTHING,
    decisions_on,
    order_to_try,
    orders_of,
    read_foreseen,
    requests_to_try,
)
from editcollapse.guarding import Guard
from editcollapse.orders import EditOrder, Manifest
from editcollapse.planning import ModelPlan
from tasks.forecasting import forecast_edits

if TYPE_CHECKING:
    from flows.study_run import StudyRun


def guarded_orders(
    run: "StudyRun", guard: Guard, model: ModelPlan, templates: Manifest, moment: Manifest
) -> Iterator[EditOrder]:
    """Yield the orders of the edits of one model that the guard lets be made.

    As many batches are foreseen ahead as the runner has workers. Forecasts, decisions and the
    requests that were tried behind texts are handed to the database on the way.

    Args:
        run: the pass through the study's plan.
        guard: the model's.
        model: one of the study's models.
        templates: what its templates unit returned.
        moment: what its covariance unit returned.
    """
    run.expect(run.plan.n_batches)
    batches = run.plan.edit_orders(model, templates, moment)
    asked = ((batch, ForecastOrder.of(batch)) for batch in batches)
    for batch, done in run.in_order(forecast_edits, asked):
        yield from _orders(run, guard, model, batch, done)


def _orders(
    run: "StudyRun", guard: Guard, model: ModelPlan, batch: EditOrder, done: Manifest
) -> tuple[EditOrder, ...]:
    """Decide on a batch that has been foreseen; hand over its rows, return its orders."""
    foreseen, behind = read_foreseen(run.store, done), NOTHING
    run.add_foreseen(model, batch, done)
    tried = requests_to_try(guard, batch, foreseen)
    if tried:
        run.expect(1)
        found = run.compute(forecast_edits, order_to_try(batch, tried))
        behind = read_foreseen(run.store, found)
        rows = [
            *found.rows,
            run.store.put_rows("datasets", prefixed_dataset_rows(run.plan, tried)),
            run.store.put_rows(
                "requests", prefixed_request_rows(run.plan, batch.batch_index, tried)
            ),
        ]
        run.rows.add(rows)
    decisions = decisions_on(guard, batch, foreseen, tried, behind)
    made = decision_rows(run.plan, guard, decisions)
    run.rows.add([run.store.put_rows("guard_decisions", made)])
    orders = orders_of(batch, decisions)
    run.expect(run.units_per_batch * (len(orders) - 1))
    return orders
