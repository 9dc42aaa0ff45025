"""Runs that died without a word: marked Crashed once their heartbeats stop.

A worker reports a flow process that is killed under it. Where the worker dies as well, or a run was
started by hand, nobody does, and the run would stay Running for ever.
"""

from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

NAME = "crashed where heartbeats stop"
_BEAT = "prefect.flow-run.heartbeat"
_SILENT = timedelta(seconds=90)
"""Three heartbeats of 30 s: Python code that holds the interpreter's lock delays one."""
_ENDS = (
    "Completed",
    "Failed",
    "Cancelled",
    "Crashed",
    "TimedOut",
    "Paused",
    "Suspended",
    "Rescheduled",
    "AwaitingRetry",
)
"""States after which no heartbeat has to come."""


def register_zombie_rule(client: SyncPrefectClient) -> None:
    """Make the server's automation that ends dead runs what it has to be; once, however often.

    Whether it is switched on stays as it was.
    """
    wanted = zombie_rule()
    known = client.read_automations_by_name(NAME)
    if not known:
        client.create_automation(wanted)
    for each in known:
        wanted.enabled = each.enabled
        client.update_automation(each.id, wanted)


def zombie_rule() -> AutomationCore:
    """Return the automation: after a heartbeat another one, or an end, within the time allowed."""
    return AutomationCore(
        name=NAME,
        description="Ends runs whose process is gone: no heartbeat for 90 seconds.",
        trigger=EventTrigger(
            after={_BEAT},
            expect={_BEAT, *(f"prefect.flow-run.{state}" for state in _ENDS)},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=_SILENT,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message="No heartbeat for 90 seconds: the process is gone. "
                "What it finished is kept; run the study again.",
            )
        ],
    )
