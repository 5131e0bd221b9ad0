"""What a relay does first about lanes that it has just taken: what the one before left in doubt comes first.

A relay that dies, or gives a lane up before a handler has ended, may leave an intent without an answer: of an event of
which nothing but its steps tells, or whose waiting row still says why it waited before. Each such event of a key is
found before anything of the lane is read or brought back, and waits as unknown, due before all else of its lane.

    found among    what the lanes' cursors have not passed, and what is due    nearly always few rows
                   all steps there are, a piece at a time                      where those are too many for a statement

What is parked behind nothing, for its relay ended before it could promote it, is made due.

What is written is fenced as all that a relay writes, see `outbox.settle`; its one writer runs these statements too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.encode import encode_numbers
from outbox.errors import LeaseLost
from outbox.event import EventId, Lane, RelayId
from outbox.low_water import Cursor
from outbox.pooled import execute_numbered
from outbox.settle import FENCE

ROWS_MAX = 50_000
"""Rows that one statement looks through."""

_IN_DOUBT: LiteralString = """
where exists (
    select from outbox.steps as s
    where s.event_id = c.event_id and s.state = 'intent' and not exists (
      select from outbox.steps as answer
      where answer.event_id = s.event_id and answer.name = s.name and answer.position > s.position
    )
    offset 0
  )
  and not exists (select from outbox.receipts as r where r.event_id = c.event_id offset 0)
  and not exists (
    select from outbox.waiting as w where w.event_id = c.event_id and w.due_at > statement_timestamp() offset 0
  )
  and exists (
    select from outbox.events as e
    where e.id = c.event_id and e.lane = any (%(lanes)s::smallint[]) and e.key is not null
    offset 0
  )
"""
"""Which candidates have an open intent and no end, and do not wait for a later instant.

`offset 0` keeps the planner from reading whole tables to join a few rows."""

FIND_DOUBTS: LiteralString = (
    """
with ahead as materialized (
  select e.id, e.lane
  from (
    (
      select s.id, s.lane from outbox.events as s
      where s.xid = any (array(select x from pg_snapshot_xip(%(seen)s::pg_snapshot) as x))
      offset 0
    )
    union all
    (select n.id, n.lane from outbox.events as n where n.xid >= pg_snapshot_xmax(%(seen)s::pg_snapshot) offset 0)
  ) as e
  limit %(limit)s
),
due as materialized (
  select d.event_id
  from unnest(%(lanes)s::smallint[]) as l (lane)
  cross join lateral (
    select w.event_id from outbox.waiting as w
    where w.lane = l.lane and w.due_at <= statement_timestamp()
    order by w.due_at, w.event_id
    limit %(limit)s
  ) as d
  limit %(limit)s
),
candidates as (
  select a.id as event_id from ahead as a where a.lane = any (%(lanes)s::smallint[])
  union
  select d.event_id from due as d
)
select
  greatest((select count(*) from ahead), (select count(*) from due)),
  array(select c.event_id from candidates as c"""
    + _IN_DOUBT
    + ")"
)
"""How many rows were looked through, and what of them is in doubt: not all that is, where the limit was reached."""

FIND_DOUBTS_BY_STEPS: LiteralString = (
    """
with piece as materialized (
  select s.event_id, s.position, s.state from outbox.steps as s
  where (s.event_id, s.position) > (%(event_id)s::bigint, %(position)s::integer)
  order by s.event_id, s.position
  limit %(limit)s
),
candidates as (select distinct p.event_id from piece as p where p.state = 'intent')
select
  (select array[p.event_id, p.position] from piece as p order by p.event_id desc, p.position desc limit 1),
  array(select c.event_id from candidates as c"""
    + _IN_DOUBT
    + ")"
)
"""Up to which step they were looked through, and what of that is in doubt."""

PUT_DOUBTS_FIRST: LiteralString = (
    FENCE
    + """,
earliest as materialized (
  select min(d.due_at) as due_at
  from unnest($2::smallint[]) as l (lane)
  cross join lateral (
    select w.due_at from outbox.waiting as w where w.lane = l.lane order by w.due_at, w.event_id limit 1
  ) as d
),
doubts as materialized (
  select
    e.id, e.lane, e.key, e.sequence, greatest(e.created_at, e.publish_at) as owed_since,
    least(
      (select min(s.created_at) from outbox.steps as s where s.event_id = e.id),
      earliest.due_at - interval '1 millisecond'
    ) as due_at
  from fence, earliest, outbox.events as e
  where e.id = any ($3::bigint[])
),
waits as (
  insert into outbox.waiting as w (
    event_id, lane, key, sequence, reason, due_at, attempts, deferrals, error, owed_since
  )
  select d.id, d.lane, d.key, d.sequence, 'unknown', d.due_at, 0, 0, $4, d.owed_since
  from doubts as d
  order by d.id
  on conflict (event_id) do update set reason = excluded.reason, due_at = excluded.due_at, error = excluded.error
  returning w.event_id, w.lane, w.key
),
tries as (
  insert into outbox.attempts (event_id, reason, error, relay_id)
  select d.id, 'unknown', $4, fence.id from fence, doubts as d
)
select waits.event_id, waits.lane, waits.key from fence left join waits on true
"""
)

_ERROR = "its relay left no answer to its call: it may have gone through"

HOLD_DOUBTS: LiteralString = (
    FENCE
    + """,
doubts as materialized (
  select w.key, clock_timestamp() + $3::float8 * interval '1 second' as held_until
  from outbox.waiting as w
  where w.reason = 'unknown' and w.lane = any ($2::smallint[]) and w.key is not null
    and w.due_at < clock_timestamp() + $3::float8 * interval '1 second'
  group by w.key
),
held as (
  insert into outbox.holds as h (scope, key, held_until, reason, held_by)
  select 'key', d.key, d.held_until, 'unknown', fence.name from fence, doubts as d
  on conflict (scope, key) do update set
    held_until = excluded.held_until, reason = excluded.reason, held_by = excluded.held_by,
    created_at = excluded.created_at
    where excluded.held_until > h.held_until
)
select id from fence
"""
)
"""Where nobody worked for long, the hold of an unknown outcome has ended before it was looked at. What waits for a
person, or for longer than that, is not looked at next."""

PROMOTE_ORPHANS: LiteralString = (
    FENCE
    + """,
firsts as materialized (
  select w.key, w.sequence, min(w.event_id) as event_id from fence, outbox.waiting as w
  where w.lane = any ($2::smallint[]) and w.reason = 'parked'
  group by w.key, w.sequence
),
locked as materialized (
  select w.event_id from firsts as f, outbox.waiting as w
  where w.event_id = f.event_id and w.due_at > clock_timestamp()
    and not exists (
      select from outbox.waiting as earlier
      where earlier.key = f.key and earlier.sequence = f.sequence and earlier.event_id < f.event_id
      offset 0
    )
  order by w.event_id
  for update of w
),
promoted as (
  update outbox.waiting as w set due_at = clock_timestamp() from locked where w.event_id = locked.event_id
)
select id from fence
"""
)
"""What is parked behind nothing: its relay died between the receipt of the event before and the promotion.

Each sequence's first one is looked at, and no pair of events is compared: any number may be parked in one sequence, and
until this has ended in time no relay can take their lane. `offset 0` keeps the planner from joining all with all."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """An event whose irreversible call may have gone through: to be looked at before all else of its key."""

    event_id: EventId
    lane: Lane
    key: str


async def find_doubts(
    connection: AsyncConnection[TupleRow],
    cursors: Sequence[tuple[Cursor, Sequence[Lane]]],
    *,
    rows_max: int = ROWS_MAX,
) -> list[EventId]:
    """Return the events of keys, in lanes that were just taken, of which an intent is open and whose turn it is.

    Args:
        connection: In autocommit, with the planner settings of `outbox.database.PLANNER_SETTINGS`.
        cursors: The lanes' saved cursors.
        rows_max: The most rows that one statement looks through.
    """
    found: set[EventId] = set()
    for cursor, lanes in cursors:
        given = {"seen": cursor.seen, "lanes": encode_numbers(lanes), "limit": rows_max}
        count, doubts = await _row(connection, FIND_DOUBTS, given)
        if count == rows_max:
            return await _find_by_steps(connection, [lane for _, lanes in cursors for lane in lanes], rows_max)
        found.update(doubts)
    return sorted(found)


async def _find_by_steps(connection: AsyncConnection[TupleRow], lanes: Sequence[Lane], rows_max: int) -> list[EventId]:
    found: set[EventId] = set()
    event_id = position = 0
    while True:
        given = {"event_id": event_id, "position": position, "lanes": encode_numbers(lanes), "limit": rows_max}
        last, doubts = await _row(connection, FIND_DOUBTS_BY_STEPS, given)
        if last is None:
            return sorted(found)
        found.update(doubts)
        event_id, position = last


async def _row(connection: AsyncConnection[TupleRow], statement: LiteralString, given: dict[str, Any]) -> TupleRow:
    row = await (await connection.execute(statement, given)).fetchone()
    assert row is not None
    return row


async def put_doubts_first(
    connection: AsyncConnection[TupleRow], relay_id: RelayId, lanes: Sequence[Lane], event_ids: Sequence[EventId]
) -> list[Doubt]:
    """Have events in doubt wait as unknown, due before all else of the lanes, which were just taken.

    Raises:
        LeaseLost: This incarnation is retired or does not own the lanes; nothing was written.
    """
    rows = await execute_numbered(connection, PUT_DOUBTS_FIRST, relay_id, list(lanes), list(event_ids), _ERROR)
    if not rows:
        raise LeaseLost(f"relay {relay_id} is retired, or a lane that it took is another's")
    return [Doubt(event_id, lane, key) for event_id, lane, key in rows if event_id is not None]


async def hold_doubts(
    connection: AsyncConnection[TupleRow], relay_id: RelayId, lanes: Sequence[Lane], seconds: float
) -> None:
    """Hold, for some seconds more, the keys in lanes that were just taken of which an outcome is to be looked at.

    Raises:
        LeaseLost: This incarnation is retired or does not own the lanes; nothing was written.
    """
    if not await execute_numbered(connection, HOLD_DOUBTS, relay_id, list(lanes), seconds):
        raise LeaseLost(f"relay {relay_id} is retired, or a lane that it took is another's")


async def promote_orphans(connection: AsyncConnection[TupleRow], relay_id: RelayId, lanes: Sequence[Lane]) -> None:
    """Make due what is parked in lanes that were just taken, where nothing is before it. Raises LeaseLost."""
    if not await execute_numbered(connection, PROMOTE_ORPHANS, relay_id, list(lanes)):
        raise LeaseLost(f"relay {relay_id} is retired, or a lane that it took is another's")
