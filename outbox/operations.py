"""A person's side: find events, show one's whole life, replay, cancel, release.

What changes something is a SQL function that psql or any driver can call too; here its refusals become `Refused`.
Instants that are infinite in the database are None here: what they wait for is another event or a person.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, LiteralString, TypeAlias, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row, scalar_row

from outbox.errors import Refused
from outbox.event import EventId, JsonObject, RelayId

FIND: LiteralString = """
select
  s.id, s.type, s.key, s.sequence, s.state, s.reason, s.attempts, s.deferrals, s.error,
  nullif(s.due_at, 'infinity') as due_at, nullif(s.publish_at, 'infinity') as publish_at,
  nullif(s.expires_at, 'infinity') as expires_at, s.replay_of, s.created_at, s.settled_at
from outbox.event_states as s
where (%(id)s::bigint is null or s.id = %(id)s)
  and (%(states)s::text[] is null or s.state = any (%(states)s))
  and (%(type)s::text is null or s.type = %(type)s)
  and (%(key)s::text is null or s.key = %(key)s)
  and (%(reason)s::text is null or s.reason = %(reason)s)
  and (%(since)s::timestamptz is null or coalesce(s.settled_at, s.created_at) >= %(since)s)
  and (%(before)s::bigint is null or s.id < %(before)s)
order by s.id desc
limit %(limit)s
"""

FIND_REPLAYABLE: LiteralString = """
select s.id
from outbox.event_states as s
where s.state = any (%(states)s::text[])
  and (%(type)s::text is null or s.type = %(type)s)
  and (%(key)s::text is null or s.key = %(key)s)
  and (%(reason)s::text is null or s.reason = %(reason)s)
  and (%(since)s::timestamptz is null or coalesce(s.settled_at, s.created_at) >= %(since)s)
  and not exists (select from outbox.events as replay where replay.replay_of = s.id)
order by s.id
limit %(limit)s
"""

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

REPLAY: LiteralString = "select outbox.replay(%(id)s, %(force)s)"
IS_OF_THIS_TRANSACTION: LiteralString = (
    "select e.xid = pg_current_xact_id_if_assigned() from outbox.events as e where e.id = %(id)s"
)
CANCEL: LiteralString = "select outbox.cancel(%(id)s, %(reason)s)"
RELEASE: LiteralString = "select outbox.release(%(key)s)"
NOW: LiteralString = "select clock_timestamp()"

State: TypeAlias = Literal["new", "waiting", "published", "dead", "cancelled", "expired"]

_Row = TypeVar("_Row")

_REFUSALS = "OB"
"""How the sqlstates of the functions' own refusals begin."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events; None and an empty sequence mean any.

    Attributes:
        states: As in `outbox.event_states`.
        type: The event's.
        key: The event's.
        reason: Why it waits, or why it is dead.
        since: It ended then or later; where it has not ended, it was emitted then or later.
    """

    states: Sequence[State] = ()
    type: str | None = None
    key: str | None = None
    reason: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """An event and how it stands; `due_at` is None unless it waits for an instant."""

    id: EventId
    type: str
    key: str | None
    sequence: str | None
    state: State
    reason: str | None
    attempts: int
    deferrals: int
    error: str | None
    due_at: datetime | None
    publish_at: datetime | None
    expires_at: datetime | None
    replay_of: EventId | None
    created_at: datetime
    settled_at: datetime | None


async def find_events(
    connection: AsyncConnection[TupleRow], which: EventFilter, *, limit: int, before: EventId | None = None
) -> list[FoundEvent]:
    """Return events, newest first; `before` continues where a page ended."""
    return await _find(connection, which, limit=limit, before=before, event_id=None)


async def find_replayable(connection: AsyncConnection[TupleRow], which: EventFilter, *, limit: int) -> list[EventId]:
    """Return events that ended and were never replayed, oldest first; `which.states` says how they ended."""
    arguments = {**_arguments(which), "states": list(which.states), "limit": limit}
    async with connection.cursor(row_factory=scalar_row) as cursor:
        return [EventId(each) for each in await (await cursor.execute(FIND_REPLAYABLE, arguments)).fetchall()]


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
class Dispatched:
    """The dispatch to the handler that ended it; earlier ones show as attempts and steps."""

    what: Literal["dispatched"] = field(default="dispatched", init=False)
    at: datetime
    relay_id: RelayId
    relay: str | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try that did not end it; `reason` says what it waited for then."""

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
class Receipt:
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
class Replayed:
    """It was emitted once more."""

    what: Literal["replayed"] = field(default="replayed", init=False)
    at: datetime
    replay_id: EventId


Moment: TypeAlias = Emitted | CancellationAsked | Dispatched | Attempt | StepWritten | Receipt | Replayed


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why it waits now; `due_at` is None where another event or a person must act first."""

    waiting_since: datetime
    reason: str
    due_at: datetime | None
    attempts: int
    deferrals: int
    error: str | None


@dataclass(frozen=True, slots=True)
class HoldInForce:
    """What pauses its key or the app now; `held_until` is None where a person must release it."""

    scope: Literal["key", "app"]
    key: str
    held_until: datetime | None
    reason: str
    held_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Life:
    """All that the database knows of an event.

    Attributes:
        event: How it stands.
        payload: What its handler needs.
        headers: About the event.
        dedupe_key: Unique when given.
        lane: 0 to 63.
        result: What its handler brought back.
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
    waiting: Waiting | None
    holds: list[HoldInForce]


async def load_life(connection: AsyncConnection[TupleRow], event_id: EventId) -> Life:
    """Return the whole life of an event, as of one instant.

    Raises:
        Refused: There is no such event.
    """
    async with connection.transaction():
        await connection.execute(SAME_INSTANT)
        found = await _find(connection, EventFilter(), limit=1, before=None, event_id=event_id)
        body = await (await connection.execute(LOAD_BODY, {"id": event_id})).fetchone()
        if not found or body is None:
            raise Refused(f"event {event_id} does not exist")
        event = found[0]
        payload, headers, dedupe_key, lane, result, may_be_live = body
        moments = await _load_moments(connection, event)
        waiting = await _load(connection, Waiting, LOAD_WAITING, event)
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
class Replay:
    """An event that is emitted once more; `is_new` is false where an earlier replay stands already."""

    event_id: EventId
    replay_id: EventId
    is_new: bool


async def replay(
    connection: AsyncConnection[TupleRow], event_id: EventId, *, force: bool = False, dry_run: bool = False
) -> Replay:
    """Emit an ended event once more, in one transaction; replaying it again gives the same replay.

    Args:
        connection: Where.
        event_id: Which.
        force: Even where it may be live.
        dry_run: Do all that and roll it back: `replay_id` then names nothing where the replay is new.

    Raises:
        Refused: There is no such event, it has not ended, or it may be live.
    """
    async with _refusals(), connection.transaction(force_rollback=dry_run):
        row = await (await connection.execute(REPLAY, {"id": event_id, "force": force})).fetchone()
        assert row is not None
        replay_id = EventId(row[0])
        written = await (await connection.execute(IS_OF_THIS_TRANSACTION, {"id": replay_id})).fetchone()
        assert written is not None
    return Replay(event_id, replay_id, is_new=bool(written[0]))


async def cancel(connection: AsyncConnection[TupleRow], event_id: EventId, *, reason: str | None = None) -> None:
    """Ask for an event to be cancelled: no irreversible call of it begins from now on. Asking twice is no error.

    Raises:
        Refused: There is no such event, or it has ended.
    """
    async with _refusals():
        await connection.execute(CANCEL, {"id": event_id, "reason": reason})


async def release(connection: AsyncConnection[TupleRow], key: str | None) -> int:
    """End the hold on a key, on the app where it is None; return how many events go on at once."""
    row = await (await connection.execute(RELEASE, {"key": key})).fetchone()
    assert row is not None
    return int(row[0])


async def database_now(connection: AsyncConnection[TupleRow]) -> datetime:
    """Return the database's clock, the only one that counts."""
    row = await (await connection.execute(NOW)).fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


async def _find(
    connection: AsyncConnection[TupleRow],
    which: EventFilter,
    *,
    limit: int,
    before: EventId | None,
    event_id: EventId | None,
) -> list[FoundEvent]:
    arguments = {**_arguments(which), "limit": limit, "before": before, "id": event_id}
    async with connection.cursor(row_factory=class_row(FoundEvent)) as cursor:
        return await (await cursor.execute(FIND, arguments)).fetchall()


def _arguments(which: EventFilter) -> JsonObject:
    return {
        "states": list(which.states) or None,
        "type": which.type,
        "key": which.key,
        "reason": which.reason,
        "since": which.since,
    }


async def _load_moments(connection: AsyncConnection[TupleRow], event: FoundEvent) -> list[Moment]:
    moments: list[Moment] = [Emitted(event.created_at, event.replay_of)]
    moments += await _load(connection, CancellationAsked, LOAD_CANCELLATIONS, event)
    receipts = await _load(connection, Receipt, LOAD_RECEIPT, event)
    moments += [
        Dispatched(receipt.dispatched_at, receipt.relay_id, receipt.relay)
        for receipt in receipts
        if receipt.dispatched_at is not None
    ]
    moments += await _load(connection, Attempt, LOAD_ATTEMPTS, event)
    moments += await _load(connection, StepWritten, LOAD_STEPS, event)
    moments += receipts
    moments += await _load(connection, Replayed, LOAD_REPLAYS, event)
    # Stable: what happened at the same instant stays in the order above.
    return sorted(moments, key=lambda moment: moment.at)


async def _load(
    connection: AsyncConnection[TupleRow], row: type[_Row], query: LiteralString, event: FoundEvent
) -> list[_Row]:
    async with connection.cursor(row_factory=class_row(row)) as cursor:
        return await (await cursor.execute(query, {"id": event.id, "key": event.key})).fetchall()


@asynccontextmanager
async def _refusals() -> AsyncIterator[None]:
    """Raise Refused for what the functions refuse with a sqlstate of ours."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is None or not error.sqlstate.startswith(_REFUSALS):
            raise
        raise Refused(error.diag.message_primary or str(error)) from error
