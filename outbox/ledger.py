"""The ledger of a saga's steps: an intent is durable before its irreversible call is made.

    container  done                         reversible: only its answer is worth keeping
    publish    intent  -> call -> done      it happened
                               -> refused   it certainly did not happen; another intent may follow
                               -> (nothing) unknown: whoever comes next finds the open intent and reconciles

Every write is fenced by the relay's lease and durable when the call returns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import LiteralString, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.encode import encode_numbers
from outbox.event import Event, EventId, JsonObject

LOAD_STEPS: LiteralString = """
select s.event_id, s.position, s.name, s.state, s.detail, s.fingerprint, s.created_at
from outbox.steps as s
where s.event_id = any (%(event_ids)s::bigint[])
order by s.event_id, s.position
"""


class StepState(StrEnum):
    """The values of `outbox.steps.state`."""

    INTENT = "intent"
    DONE = "done"
    REFUSED = "refused"


class Step(NamedTuple):
    """One row of `outbox.steps`; `created_at` is None until the row has been read back."""

    position: int
    name: str
    state: StepState
    detail: JsonObject
    fingerprint: str | None = None
    created_at: datetime | None = None


WriteStep = Callable[[Event, Step, float | None], Awaitable[datetime]]
"""Makes a step durable and returns its `created_at`.

The last argument is for an intent alone: the seconds that the lease must outlive the call.
Raises LeaseLost, LeaseTooShort, EventCancelled, EventResolved, DeadlinePassed, EventHeld, Unwritable.
"""


@dataclass(slots=True)
class Ledger:
    """The steps of one event in the hands of one handler. Not for concurrent use.

    Attributes:
        event: The event.
        steps: All steps so far, oldest first; also one whose write was broken off, for it may be durable.
        attempts: Tries of the event that failed so far.
        deferrals: Waits of the event so far that were no failure.
    """

    event: Event
    write: WriteStep
    steps: list[Step] = field(default_factory=list)
    attempts: int = 0
    deferrals: int = 0

    async def intent(self, name: str, *, fingerprint: str, detail: JsonObject, call_seconds: float) -> Step:
        """Record that an irreversible call is about to be made, with what reconciling it will need.

        Args:
            name: The step.
            fingerprint: A digest of the request.
            detail: What reconciling needs: handles, the ids that are live before the call.
            call_seconds: The call's time-out; the intent is refused where the lease would not outlive it.

        Raises:
            LeaseLost: This relay may write no more. Do not call.
            LeaseTooShort: The relay's lease, `OUTBOX_LEASE_SECONDS`, would not outlive the call. Do not call.
            EventCancelled: An operator cancelled the event. Do not call.
            EventResolved: A person says that an earlier call took effect. Do not call.
            DeadlinePassed: `expires_at` has passed. Do not call.
            EventHeld: The call was made before, and the key or the app is held: it waits for the hold. Do not call.
            Unwritable: The detail is none that PostgreSQL takes. Do not call.
        """
        return await self._append(name, StepState.INTENT, detail, fingerprint, call_seconds)

    async def done(self, name: str, detail: JsonObject) -> Step:
        """Record that the step happened; `detail["remote_id"]` names what went live. Raises LeaseLost."""
        return await self._append(name, StepState.DONE, detail)

    async def refused(self, name: str, detail: JsonObject) -> Step:
        """Record that the step certainly did not happen: by a definite answer, or verified absent. Raises LeaseLost."""
        return await self._append(name, StepState.REFUSED, detail)

    def open_intent(self) -> Step | None:
        """Return the intent that has neither happened nor been refused, as far as anybody knows."""
        return open_intent(self.steps)

    def last(self, name: str) -> Step | None:
        """Return the newest row of a step."""
        return next((step for step in reversed(self.steps) if step.name == name), None)

    def answer(self, name: str) -> JsonObject | None:
        """Return the detail of a step that is done, if its newest row says so."""
        step = self.last(name)
        return step.detail if step is not None and step.state is StepState.DONE else None

    async def _append(
        self,
        name: str,
        state: StepState,
        detail: JsonObject,
        fingerprint: str | None = None,
        call_seconds: float | None = None,
    ) -> Step:
        position = self.steps[-1].position + 1 if self.steps else 1
        step = Step(position, name, state, detail, fingerprint)
        try:
            created_at = await self.write(self.event, step, call_seconds)
        except BaseException as raised:
            if not isinstance(raised, Exception):  # a cancellation: it may be written yet
                self.steps.append(step)
            raise
        step = Step(position, name, state, detail, fingerprint, created_at)
        self.steps.append(step)
        return step


async def load_steps(connection: AsyncConnection[TupleRow], event_ids: Sequence[EventId]) -> dict[EventId, list[Step]]:
    """Return the steps of events that have some, oldest first."""
    steps: dict[EventId, list[Step]] = {}
    rows = await (await connection.execute(LOAD_STEPS, {"event_ids": encode_numbers(event_ids)})).fetchall()
    for event_id, position, name, state, detail, fingerprint, created_at in rows:
        step = Step(position, name, StepState(state), detail, fingerprint, created_at)
        steps.setdefault(event_id, []).append(step)
    return steps


def open_intent(steps: Sequence[Step]) -> Step | None:
    """Return the newest intent of which nobody knows what became: no later row of its step answers it."""
    answered: set[str] = set()
    for step in reversed(steps):
        if step.state is StepState.INTENT and step.name not in answered:
            return step
        answered.add(step.name)
    return None


def live_step(steps: Sequence[Step]) -> Step | None:
    """Return the newest answer that an irreversible call took effect, which nothing has refused since."""
    refused: set[str] = set()
    intents = {step.name for step in steps if step.state is StepState.INTENT}
    for step in reversed(steps):
        if step.state is StepState.REFUSED:
            refused.add(step.name)
        elif step.state is StepState.DONE and step.name in intents and step.name not in refused:
            return step
    return None


def may_be_live(steps: Sequence[Step]) -> bool:
    """Return whether something went live, or an intent stands that was not refused: as the SQL function of that name.

    What recovery finds live is done without an intent before it.
    """
    refused: set[str] = set()
    for step in reversed(steps):
        if step.state is StepState.DONE and "remote_id" in step.detail:
            return True
        if step.state is StepState.REFUSED:
            refused.add(step.name)
        elif step.state is StepState.INTENT and step.name not in refused:
            return True
    return False
