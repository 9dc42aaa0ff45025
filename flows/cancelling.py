"""Cancellation of a run that no Prefect worker watches over.

A worker ends the process of a run that is cancelled in the UI. A run from the command line has
none: it has to look itself, before each unit of work.
"""

import logging
import time
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Cancelled

logger = logging.getLogger(__name__)

_EVERY_S = 2.0
"""Seconds between two questions to the server, at least."""
MESSAGE = "Cancelled between two units of work; a run of the same study goes on from there."


class RunCancelled(Exception):  # noqa: N818  no error: what the user asked for
    """The run was cancelled while it ran."""


class CancellationWatch:
    """Looks now and then whether a flow run has been cancelled. To be made inside that run."""

    def __init__(self) -> None:
        context = FlowRunContext.get()
        self._run_id: UUID | None = None
        if context is not None and context.flow_run is not None:
            self._run_id = context.flow_run.id
        self._asked = time.monotonic()

    def check(self) -> None:
        """Raise RunCancelled if the run has been cancelled; asks the server every few seconds.

        A server that does not answer stops no run: it goes on, and asks again.
        """
        if self._run_id is None or time.monotonic() - self._asked < _EVERY_S:
            return
        self._asked = time.monotonic()
        try:
            with get_client(sync_client=True) as client:
                state = client.read_flow_run(self._run_id).state
        except Exception as error:  # noqa: BLE001  whatever keeps the server from answering
            logger.warning("could not ask whether the run is cancelled: %s", error)
            return
        if state is not None and (state.is_cancelling() or state.is_cancelled()):
            raise RunCancelled(MESSAGE)


def cancelled_state() -> State[Any]:
    """Return the state that a cancelled run ends in."""
    return Cancelled(message=MESSAGE)
