"""An event's whole life, for people: what happened to it, in order of time, and what it waits for now.

Instants that are infinite in the database are None here: what they wait for is another event or a person. A deferral
that stayed in a relay's memory left no trace but the count in the receipt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, LiteralString, TypeAlias, TypeVar

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row

from outbox.errors import Refused
from outbox.event import EventId, JsonObject, RelayId
from outbox.holds import HoldInForce
from outbox.operations import FoundEvent, find_event

SAME_INSTANT: LiteralString = "set transaction isolation level repeatable read, read only"

LOAD_BODY: LiteralString = """
select e.payload, e.headers, e.dedupe_key, e.lane, r.result, outbox.may_be_live(e.id)
from outbox.events as e
left join outbox.receipts as r on r.event_id = e.id
where e.id = %(id)s
"""

LOAD_CANCELLATIONS: LiteralString = """
select c.requested_at as at, c.requested_by, c.reason from outbox.cancellations as c where c.event_id = %(id)s
"""

LOAD_RESOLUTIONS: LiteralString = """
select d.requested_at as at, d.position, d.name, d.published, d.remote_id, d.requested_by, d.reason
from outbox.resolutions as d
where d.event_id = %(id)s
order by d.position
"""

LOAD_ATTEMPTS: LiteralString = """
select a.created_at as at, a.reason, a.error, a.context, a.relay_id, r.name as relay
from outbox.attempts as a
left join outbox.relays as r on r.id = a.relay_id
where a.event_id = %(id)s
order by a.id
"""

LOAD_STEPS: LiteralString = """
select s.created_at as at, s.position, s.name, s.state, s.detail, s.fingerprint, s.relay_id, r.name as relay
from outbox.steps as s
left join outbox.relays as r on r.id = s.relay_id
where s.event_id = %(id)s
order by s.position
"""

LOAD_RECEIPT: LiteralString = """
select
  c.settled_at as at, c.outcome, c.reason, c.error, c.attempts, c.deferrals, c.result, c.dispatched_at, c.relay_id,
  r.name as relay
from outbox.receipts as c
left join outbox.relays as r on r.id = c.relay_id
where c.event_id = %(id)s
"""

LOAD_FOUND: LiteralString = """
select f.found_at as at, f.remote_id, f.permalink from social.found_posts as f where f.event_id = %(id)s
"""

LOAD_REPLAYS: LiteralString = """
select e.created_at as at, e.id as replay_id from outbox.events as e where e.replay_of = %(id)s order by e.id
"""

LOAD_WAITING: LiteralString = """
select w.waiting_since, w.reason, nullif(w.due_at, 'infinity') as due_at, w.attempts, w.deferrals, w.error
from outbox.waiting as w
where w.event_id = %(id)s
"""

LOAD_HOLDS: LiteralString = """
select h.scope, h.key, nullif(h.held_until, 'infinity') as held_until, h.reason, h.held_by, h.created_at
from outbox.holds as h
where h.held_until > clock_timestamp() and (h.scope = 'app' or h.key = %(key)s)
order by h.scope
"""

_Row = TypeVar("_Row")


async def load_life(connection: AsyncConnection[TupleRow], event_id: EventId) -> Life:
    """Return the whole life of an event, as of one instant.

    Raises:
        Refused: There is no such event.
    """
    async with connection.transaction():
        await connection.execute(SAME_INSTANT)
        event = await find_event(connection, event_id)
        body = await (await connection.execute(LOAD_BODY, {"id": event_id})).fetchone()
        if event is None or body is None:
            raise Refused(f"event {event_id} does not exist")
        payload, headers, dedupe_key, lane, result, may_be_live = body
        moments = await _load_moments(connection, event)
        waiting = await _load(connection, WaitsNow, LOAD_WAITING, event)
        holds = await _load(connection, HoldInForce, LOAD_HOLDS, event) if event.settled_at is None else []
    return Life(
        event=event,
        payload=payload,
        headers=headers,
        dedupe_key=dedupe_key,
        lane=lane,
        result=result,
        may_be_live=may_be_live,
        moments=moments,
        waiting=waiting[0] if waiting else None,
        holds=holds,
    )


@dataclass(frozen=True, slots=True)
class Emitted:
    """The event was written."""

    what: Literal["emitted"] = field(default="emitted", init=False)
    at: datetime
    replay_of: EventId | None


@dataclass(frozen=True, slots=True)
class CancellationAsked:
    """Somebody asked for it to be cancelled."""

    what: Literal["cancellation_asked"] = field(default="cancellation_asked", init=False)
    at: datetime
    requested_by: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Resolved:
    """Somebody said what became of an irreversible call."""

    what: Literal["resolved"] = field(default="resolved", init=False)
    at: datetime
    position: int
    name: str
    published: bool
    remote_id: str | None
    requested_by: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Dispatched:
    """The first dispatch by the relay that ended it; other relays' show as attempts and steps."""

    what: Literal["dispatched"] = field(default="dispatched", init=False)
    at: datetime
    relay_id: RelayId
    relay: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try that failed or had it wait; `reason` says what for, or why it was dead after it."""

    what: Literal["attempt"] = field(default="attempt", init=False)
    at: datetime
    reason: str
    error: str
    context: JsonObject | None
    relay_id: RelayId
    relay: str | None


@dataclass(frozen=True, slots=True)
class StepWritten:
    """A step of its saga: about to be made, made, or certainly not made."""

    what: Literal["step"] = field(default="step", init=False)
    at: datetime
    position: int
    name: str
    state: str
    detail: JsonObject
    fingerprint: str | None
    relay_id: RelayId
    relay: str | None


@dataclass(frozen=True, slots=True)
class ReceiptWritten:
    """How it ended."""

    what: Literal["receipt"] = field(default="receipt", init=False)
    at: datetime
    outcome: str
    reason: str | None
    error: str | None
    attempts: int
    deferrals: int
    result: JsonObject | None
    dispatched_at: datetime | None
    relay_id: RelayId
    relay: str | None


@dataclass(frozen=True, slots=True)
class PostFound:
    """Which post it became was found out after it had ended; the receipt could not say."""

    what: Literal["post_found"] = field(default="post_found", init=False)
    at: datetime
    remote_id: str
    permalink: str | None


@dataclass(frozen=True, slots=True)
class EmittedAgain:
    """It was emitted once more."""

    what: Literal["replayed"] = field(default="replayed", init=False)
    at: datetime
    replay_id: EventId


Moment: TypeAlias = (
    Emitted
    | CancellationAsked
    | Resolved
    | Dispatched
    | Attempt
    | StepWritten
    | ReceiptWritten
    | PostFound
    | EmittedAgain
)


@dataclass(frozen=True, slots=True)
class WaitsNow:
    """Why it waits now; `due_at` is None where another event or a person must act first."""

    waiting_since: datetime
    reason: str
    due_at: datetime | None
    attempts: int
    deferrals: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Life:
    """All that the database knows of an event.

    Attributes:
        event: How it stands.
        payload: What its handler needs.
        headers: About the event.
        dedupe_key: Unique when given.
        lane: 0 to 63.
        result: What its handler brought back; what was found later is a moment.
        may_be_live: It was published, or an irreversible call was begun that nobody has shown to have failed.
        moments: What happened, in order of time.
        waiting: Why it waits now.
        holds: What holds it now; none where it has ended.
    """

    event: FoundEvent
    payload: JsonObject
    headers: JsonObject
    dedupe_key: str | None
    lane: int
    result: JsonObject | None
    may_be_live: bool
    moments: list[Moment]
    waiting: WaitsNow | None
    holds: list[HoldInForce]

    @property
    def waits_for_a_verdict(self) -> bool:
        """Whether an irreversible call of it is in doubt: a person may say what became of it."""
        return self.waiting is not None and self.waiting.reason == "unknown"


async def _load_moments(connection: AsyncConnection[TupleRow], event: FoundEvent) -> list[Moment]:
    moments: list[Moment] = [Emitted(event.created_at, event.replay_of)]
    moments += await _load(connection, CancellationAsked, LOAD_CANCELLATIONS, event)
    moments += await _load(connection, Resolved, LOAD_RESOLUTIONS, event)
    receipts = await _load(connection, ReceiptWritten, LOAD_RECEIPT, event)
    moments += [
        Dispatched(receipt.dispatched_at, receipt.relay_id, receipt.relay)
        for receipt in receipts
        if receipt.dispatched_at is not None
    ]
    moments += await _load(connection, Attempt, LOAD_ATTEMPTS, event)
    moments += await _load(connection, StepWritten, LOAD_STEPS, event)
    moments += receipts
    moments += await _load(connection, PostFound, LOAD_FOUND, event)
    moments += await _load(connection, EmittedAgain, LOAD_REPLAYS, event)
    # Stable: what happened at the same instant stays in the order above.
    return sorted(moments, key=lambda moment: moment.at)


async def _load(
    connection: AsyncConnection[TupleRow], row: type[_Row], query: LiteralString, event: FoundEvent
) -> list[_Row]:
    async with connection.cursor(row_factory=class_row(row)) as cursor:
        return await (await cursor.execute(query, {"id": event.id, "key": event.key})).fetchall()
