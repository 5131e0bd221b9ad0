"""The waiting events: which of them are due, which sequences they block, and how many there are.

`outbox.waiting` has a row for an event that could not end at first touch, and for no other; it may have a million.
What is due is the head of an index for each lane; for a key of which more is due than a relay takes in hand, the head
of an index by key. No statement reads what is not due yet, nor what is another relay's. Due rows are compared with
`statement_timestamp()`, because an index can't be searched for the volatile `clock_timestamp()`; `offset 0` keeps the
planner from reading a whole table to join a few rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.event import Event, EventId, Lane
from outbox.outcome import Reason

_DUE_OF_LANES: LiteralString = """
with due as materialized (
  select d.event_id, d.due_at
  from unnest(%(lanes)s::smallint[]) as l (lane)
  cross join lateral (
    select w.event_id, w.due_at from outbox.waiting as w
    where w.lane = l.lane and w.due_at <= statement_timestamp()
      and w.due_at >= coalesce(statement_timestamp() - %(within_seconds)s::float8 * interval '1 second', '-infinity')
      and w.event_id <> all (%(in_hand)s::bigint[]) and (w.key = any (%(busy)s::text[])) is not true
    order by w.due_at, w.event_id
    limit %(limit)s
  ) as d
  order by d.due_at, d.event_id
  limit %(limit)s
)
"""

_DUE_OF_KEYS: LiteralString = """
with due as materialized (
  select d.event_id, d.due_at
  from unnest(%(keys)s::text[]) as k (key)
  cross join lateral (
    select w.event_id, w.due_at from outbox.waiting as w
    where w.key = k.key and w.due_at <= statement_timestamp() and w.event_id <> all (%(in_hand)s::bigint[])
    order by w.due_at, w.event_id
    limit %(limit)s
  ) as d
)
"""

_DUE_ROWS: LiteralString = """
select
  w.reason, w.attempts, w.deferrals,
  w.sequence is not null and exists (
    select from outbox.waiting as earlier
    where earlier.key = w.key and earlier.sequence = w.sequence and earlier.event_id < w.event_id
  ) as blocked,
  coalesce(e.expires_at <= statement_timestamp(), false) as expired,
  exists (select from outbox.cancellations as c where c.event_id = w.event_id) as cancelled,
  extract(epoch from statement_timestamp() - w.due_at)::float8 as overdue_seconds,
  e.id, e.lane, e.key, e.sequence, e.type, e.payload, e.headers, e.publish_at, e.expires_at, e.replay_of, e.created_at
from due
cross join lateral (select * from outbox.waiting as p where p.event_id = due.event_id offset 0) as w
cross join lateral (select * from outbox.events as l where l.id = due.event_id offset 0) as e
order by due.due_at, due.event_id
"""

LOAD_DUE: LiteralString = _DUE_OF_LANES + _DUE_ROWS

LOAD_DUE_OF_KEYS: LiteralString = _DUE_OF_KEYS + _DUE_ROWS

NEXT_DUE: LiteralString = """
select extract(epoch from min(d.due_at) - clock_timestamp())::float8
from unnest(%(lanes)s::smallint[]) as l (lane)
cross join lateral (
  select w.due_at from outbox.waiting as w
  where w.lane = l.lane and w.due_at < 'infinity'
    and w.due_at >= coalesce(statement_timestamp() - %(within_seconds)s::float8 * interval '1 second', '-infinity')
    and w.event_id <> all (%(in_hand)s::bigint[]) and (w.key = any (%(busy)s::text[])) is not true
  order by w.due_at
  limit 1
) as d
"""

LOAD_BLOCKED_SEQUENCES: LiteralString = """
select distinct s.key, s.sequence
from unnest(%(lanes)s::smallint[]) as l (lane)
cross join lateral (
  select w.key, w.sequence from outbox.waiting as w where w.lane = l.lane and w.sequence is not null offset 0
) as s
"""

COUNT_BY_REASON: LiteralString = """
select r.reason, c.waiting_count, extract(epoch from clock_timestamp() - c.owed_since)::float8
from unnest(%(reasons)s::text[]) as r (reason)
cross join lateral (
  select
    (select count(*) from (select from outbox.waiting as w where w.reason = r.reason limit %(count_max)s) as counted)
      as waiting_count,
    (select w.owed_since from outbox.waiting as w where w.reason = r.reason order by w.owed_since limit 1) as owed_since
) as c
"""
"""For each reason the head of an index, and so many of its entries: a million rows cost what the bound costs."""

COUNT_OFTEN_DEFERRED: LiteralString = """
select count(*) from (select from outbox.waiting as w where w.deferrals >= 25 limit %(count_max)s) as counted
"""
"""By the index that holds no other rows: its condition is this one, constant and all."""

ESTIMATE_COUNT: LiteralString = "select greatest(reltuples, 0) from pg_class where oid = 'outbox.waiting'::regclass"
"""What the last vacuum or analyze of the table found."""


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
        overdue_seconds: How long its time has come.
    """

    event: Event
    reason: Reason
    attempts: int
    deferrals: int
    blocked: bool
    expired: bool
    cancelled: bool
    overdue_seconds: float


@dataclass(frozen=True, slots=True)
class WaitingCount:
    """The events that wait for one reason.

    Attributes:
        count: How many; the bound of the count where there are as many or more.
        oldest_seconds: How long ago the first of them should have ended; negative while it is scheduled.
    """

    count: int
    oldest_seconds: float | None


async def load_due(
    connection: AsyncConnection[TupleRow],
    lanes: Sequence[Lane],
    *,
    in_hand: Sequence[EventId],
    limit: int,
    busy: Sequence[str] = (),
    within_seconds: float | None = None,
) -> list[Due]:
    """Return due events that are not in hand and of no busy key, the longest due first, at most `limit`.

    `within_seconds` passes over what was due earlier than that: it is in hand, or of a busy key.
    """
    arguments = {
        "lanes": list(lanes),
        "in_hand": list(in_hand),
        "busy": list(busy),
        "limit": limit,
        "within_seconds": within_seconds,
    }
    return _due(await (await connection.execute(LOAD_DUE, arguments)).fetchall())


async def load_due_of_keys(
    connection: AsyncConnection[TupleRow], keys: Sequence[str], *, in_hand: Sequence[EventId], limit: int
) -> list[Due]:
    """Return due events of busy keys that are not in hand, the longest due first, at most `limit` of each key."""
    arguments = {"keys": list(keys), "in_hand": list(in_hand), "limit": limit}
    return _due(await (await connection.execute(LOAD_DUE_OF_KEYS, arguments)).fetchall())


def _due(rows: list[Any]) -> list[Due]:
    return [Due(Event(*row[7:]), Reason(row[0]), *row[1:7]) for row in rows]


async def seconds_to_next_due(
    connection: AsyncConnection[TupleRow],
    lanes: Sequence[Lane],
    *,
    in_hand: Sequence[EventId],
    busy: Sequence[str] = (),
    within_seconds: float | None = None,
) -> float | None:
    """Return in how many seconds the next such event is due (negative: overdue); None where none ever is."""
    arguments = {
        "lanes": list(lanes),
        "in_hand": list(in_hand),
        "busy": list(busy),
        "within_seconds": within_seconds,
    }
    row = await (await connection.execute(NEXT_DUE, arguments)).fetchone()
    return None if row is None else row[0]


async def load_blocked_sequences(connection: AsyncConnection[TupleRow], lanes: Sequence[Lane]) -> list[tuple[str, str]]:
    """Return each (key, sequence) of which an event waits."""
    rows: list[Any] = await (await connection.execute(LOAD_BLOCKED_SEQUENCES, {"lanes": list(lanes)})).fetchall()
    return [(key, sequence) for key, sequence in rows]


async def count_waiting(connection: AsyncConnection[TupleRow], *, count_max: int) -> dict[Reason, WaitingCount]:
    """Return for each reason how many events wait, counted up to `count_max`, and how late the first of them is."""
    arguments = {"reasons": list(Reason), "count_max": count_max}
    rows = await (await connection.execute(COUNT_BY_REASON, arguments)).fetchall()
    return {Reason(reason): WaitingCount(count, seconds) for reason, count, seconds in rows}


async def estimate_waiting_count(connection: AsyncConnection[TupleRow]) -> float:
    """Return how many events wait as far as the server's statistics know; reads no row of them."""
    row = await (await connection.execute(ESTIMATE_COUNT)).fetchone()
    assert row is not None
    estimate: float = row[0]
    return estimate


async def count_often_deferred(connection: AsyncConnection[TupleRow], *, count_max: int) -> int:
    """Return how many waiting events were put off 25 times or more, counted up to `count_max`."""
    row = await (await connection.execute(COUNT_OFTEN_DEFERRED, {"count_max": count_max})).fetchone()
    assert row is not None
    count: int = row[0]
    return count
