"""Runs that died without a word: marked Crashed, so that they hold nobody up.

A worker reports a flow process that is killed under it. Where the worker dies as well, or a run was
started by hand, nobody does, and the run would stay Running for ever. And a worker that dies
between taking a run and starting its process leaves it Pending for ever, in the pool's only slot.
"""

from collections.abc import Iterator
from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from flows.deployment_files import PoolSpec

SILENT_NAME = "crashed where heartbeats stop"
UNSTARTED_NAME = "crashed where no process starts"
_BEAT = "prefect.flow-run.heartbeat"
_SILENT = timedelta(seconds=90)
"""Three heartbeats of 30 s: Python code that holds the interpreter's lock delays one."""
_TAKEN = ("Pending", "Submitting", "InfrastructurePending")
"""States of a run that a worker has taken and whose process is to come."""
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
_BACK = ("Running", "Scheduled", "Late", "AwaitingConcurrencySlot", "Cancelling", "Retrying")
"""States that a taken run goes on to, beside its ends."""


def register_zombie_rules(client: SyncPrefectClient, pool: PoolSpec) -> Iterator[str]:
    """Make the server's automations that end dead runs what they have to be; yield their names.

    However often it is called there is one of each; whether one is switched on stays as it was.
    """
    for wanted in (silent_rule(), unstarted_rule(pool)):
        known = client.read_automations_by_name(wanted.name)
        if not known:
            client.create_automation(wanted)
        for each in known:
            wanted.enabled = each.enabled
            client.update_automation(each.id, wanted)
        yield wanted.name


def silent_rule() -> AutomationCore:
    """Return the automation: after a heartbeat another one, or an end, within the time allowed."""
    return AutomationCore(
        name=SILENT_NAME,
        description="Ends runs whose process is gone: no heartbeat for 90 seconds.",
        trigger=EventTrigger(
            after={_BEAT},
            expect={_BEAT, *_events(_ENDS)},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=_SILENT,
        ),
        actions=[
            _crashed(
                "No heartbeat for 90 seconds: the process is gone. "
                "What it finished is kept; run the study again."
            )
        ],
    )


def unstarted_rule(pool: PoolSpec) -> AutomationCore:
    """Return the automation: a run that a worker has taken runs or ends in the pool's time."""
    seconds = pool.start_within_s
    return AutomationCore(
        name=f"{UNSTARTED_NAME} ({pool.name})",
        description=f"Ends runs that were taken and have not started within {seconds} seconds.",
        trigger=EventTrigger(
            after=_events(_TAKEN),
            expect=_events((*_BACK, *_ENDS)),
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            match_related={
                "prefect.resource.role": "work-pool",
                "prefect.resource.name": pool.name,
            },
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=seconds),
        ),
        actions=[
            _crashed(
                f"No process within {seconds} seconds: the worker that took the run is gone, or "
                "its image does not come. Start the run again."
            )
        ],
    )


def _events(states: tuple[str, ...]) -> set[str]:
    return {f"prefect.flow-run.{state}" for state in states}


def _crashed(message: str) -> ChangeFlowRunState:
    return ChangeFlowRunState(state=StateType.CRASHED, message=message)
