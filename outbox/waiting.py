"""The waiting events: which of them are due, and what holds them back.

`outbox.waiting` has a row for an event that could not end at first touch, and for no other. What is due is found by
the index on `due_at`, whatever the number of rows: compared with `statement_timestamp()`, because an index can't be
searched for the volatile `clock_timestamp()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.event import Event, EventId, Lane
from outbox.ledger import Step, StepState
from outbox.outcome import Reason

LOAD_DUE: LiteralString = """
select
  w.reason, w.attempts, w.deferrals,
  w.sequence is not null and exists (
    select from outbox.waiting as earlier
    where earlier.key = w.key and earlier.sequence = w.sequence and earlier.event_id < w.event_id
  ) as blocked,
  coalesce(e.expires_at <= statement_timestamp(), false) as expired,
  exists (select from outbox.cancellations as c where c.event_id = w.event_id) as cancelled,
  e.id, e.lane, e.key, e.sequence, e.type, e.payload, e.headers, e.publish_at, e.expires_at, e.replay_of, e.created_at
from (
  select * from outbox.waiting as d
  where d.due_at <= statement_timestamp() and d.lane = any (%(lanes)s::smallint[])
    and d.event_id <> all (%(in_hand)s::bigint[]) and (d.key = any (%(busy)s::text[])) is not true
  order by d.due_at, d.event_id
  limit %(limit)s
) as w
join outbox.events as e on e.id = w.event_id
order by w.due_at, w.event_id
"""

NEXT_DUE: LiteralString = """
select extract(epoch from w.due_at - clock_timestamp())::float8
from outbox.waiting as w
where w.lane = any (%(lanes)s::smallint[]) and w.due_at < 'infinity'
  and w.event_id <> all (%(in_hand)s::bigint[]) and (w.key = any (%(busy)s::text[])) is not true
order by w.due_at
limit 1
"""

LOAD_STEPS: LiteralString = """
select s.event_id, s.position, s.name, s.state, s.detail, s.fingerprint, s.created_at
from outbox.steps as s
where s.event_id = any (%(event_ids)s::bigint[])
order by s.event_id, s.position
"""

LOAD_HOLDS: LiteralString = """
select h.scope, h.key,
  case when h.held_until = 'infinity' then 'Infinity'::float8
  else extract(epoch from h.held_until - clock_timestamp())::float8 end
from outbox.holds as h
where h.held_until > clock_timestamp()
"""

LOAD_BLOCKED_SEQUENCES: LiteralString = """
select distinct w.key, w.sequence
from outbox.waiting as w
where w.sequence is not null and w.lane = any (%(lanes)s::smallint[])
"""

COUNT_BY_REASON: LiteralString = "select w.reason, count(*) from outbox.waiting as w group by w.reason"

OLDEST_AGE: LiteralString = """
select coalesce(extract(epoch from max(clock_timestamp() - greatest(e.created_at, e.publish_at)))::float8, 0)
from outbox.waiting as w
join outbox.events as e on e.id = w.event_id
where w.reason <> 'scheduled'
"""


@dataclass(frozen=True, slots=True)
class Due:
    """A waiting event whose time has come.

    Attributes:
        event: The event.
        reason: Why it waited.
        attempts: Tries that failed so far.
        deferrals: Waits so far that were no failure.
        blocked: An earlier event of its sequence waits: it must wait behind that one.
        expired: Its deadline has passed.
        cancelled: An operator asked to cancel it.
    """

    event: Event
    reason: Reason
    attempts: int
    deferrals: int
    blocked: bool
    expired: bool
    cancelled: bool


@dataclass(frozen=True, slots=True)
class HeldFor:
    """A hold: `key` is None for the whole app; `seconds` may be infinite."""

    key: str | None
    seconds: float


async def load_due(
    connection: AsyncConnection[TupleRow],
    lanes: Sequence[Lane],
    *,
    in_hand: Sequence[EventId],
    limit: int,
    busy: Sequence[str] = (),
) -> list[Due]:
    """Return due events that are not in hand and of no busy key, the longest due first, at most `limit`."""
    arguments = {"lanes": list(lanes), "in_hand": list(in_hand), "busy": list(busy), "limit": limit}
    rows = await (await connection.execute(LOAD_DUE, arguments)).fetchall()
    return [Due(Event(*row[6:]), Reason(row[0]), *row[1:6]) for row in rows]


async def seconds_to_next_due(
    connection: AsyncConnection[TupleRow],
    lanes: Sequence[Lane],
    *,
    in_hand: Sequence[EventId],
    busy: Sequence[str] = (),
) -> float | None:
    """Return in how many seconds the next such event is due (negative: overdue); None where none ever is."""
    arguments = {"lanes": list(lanes), "in_hand": list(in_hand), "busy": list(busy)}
    row = await (await connection.execute(NEXT_DUE, arguments)).fetchone()
    return None if row is None else row[0]


async def load_steps(connection: AsyncConnection[TupleRow], event_ids: Sequence[EventId]) -> dict[EventId, list[Step]]:
    """Return the steps of events that have some, oldest first."""
    steps: dict[EventId, list[Step]] = {}
    rows = await (await connection.execute(LOAD_STEPS, {"event_ids": list(event_ids)})).fetchall()
    for event_id, position, name, state, detail, fingerprint, created_at in rows:
        step = Step(position, name, StepState(state), detail, fingerprint, created_at)
        steps.setdefault(event_id, []).append(step)
    return steps


async def load_holds(connection: AsyncConnection[TupleRow]) -> list[HeldFor]:
    """Return the holds that are in force."""
    rows = await (await connection.execute(LOAD_HOLDS)).fetchall()
    return [HeldFor(key if scope == "key" else None, seconds) for scope, key, seconds in rows]


async def load_blocked_sequences(connection: AsyncConnection[TupleRow], lanes: Sequence[Lane]) -> list[tuple[str, str]]:
    """Return each (key, sequence) of which an event waits."""
    rows: list[Any] = await (await connection.execute(LOAD_BLOCKED_SEQUENCES, {"lanes": list(lanes)})).fetchall()
    return [(key, sequence) for key, sequence in rows]


async def count_by_reason(connection: AsyncConnection[TupleRow]) -> dict[Reason, int]:
    """Return how many events wait, by reason; reads the whole table."""
    rows = await (await connection.execute(COUNT_BY_REASON)).fetchall()
    return {Reason(reason): count for reason, count in rows}


async def oldest_waiting_seconds(connection: AsyncConnection[TupleRow]) -> float:
    """Return the age of the oldest waiting event that is past its time; 0 where none is."""
    row = await (await connection.execute(OLDEST_AGE)).fetchone()
    assert row is not None
    seconds: float = row[0]
    return seconds
