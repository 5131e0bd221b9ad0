"""Who works: the relay incarnations, the lanes that they own, and how far each lane has come. For people."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row

from outbox.event import Lane, RelayId

FIND_RELAYS: LiteralString = """
select
  r.id, r.name, r.version,
  case
    when r.retired_at is not null then 'retired'
    when r.leased_until <= clock_timestamp() then 'expired'
    when r.leaving_at is not null then 'leaving'
    else 'working'
  end as state,
  (select count(*) from outbox.lanes as l where l.relay_id = r.id) as lane_count,
  r.retired_at is null and coalesce(r.awake_until > clock_timestamp(), false) as is_awake,
  r.started_at, r.leased_until, r.retired_at
from outbox.relays as r
where r.retired_at is null or r.retired_at >= %(retired_since)s
order by r.id desc
limit %(limit)s
"""

COUNT_UNOWNED_LANES: LiteralString = """
select count(*) from outbox.lanes as l
where not exists (
  select from outbox.relays as r
  where r.id = l.relay_id and r.retired_at is null and r.leased_until > clock_timestamp()
)
"""

FIND_LANES: LiteralString = """
with cursors as materialized (
  select
    c.seen::text as seen, c."window"::text as "window", c.position, array_agg(c.lane) as lanes
  from outbox.cursors as c
  group by 1, 2, 3
),
looked_at as materialized (
  select c.seen, c."window", c.position, c.lanes, e.id, e.xid, e.lane, e.created_at
  from cursors as c
  cross join lateral (
    (
      select s.id, s.xid, s.lane, s.created_at from outbox.events as s
      where s.xid = any (array(select pg_snapshot_xip(c.seen::pg_snapshot)))
      order by s.xid
      limit %(count_max)s
    )
    union all
    (
      select n.id, n.xid, n.lane, n.created_at from outbox.events as n
      where n.xid >= pg_snapshot_xmax(c.seen::pg_snapshot)
      order by n.xid
      limit %(count_max)s
    )
  ) as e
),
complete as (
  select c.lanes, count(l.id) < %(count_max)s as is_complete
  from cursors as c
  left join looked_at as l on l.lanes = c.lanes
  group by c.lanes
),
unsettled as (
  select e.lane, count(*) as unsettled_count, min(e.created_at) as oldest_at
  from looked_at as e
  where e.lane = any (e.lanes)
    and not (e.id <= e.position and pg_visible_in_snapshot(e.xid, e."window"::pg_snapshot))
    and (select r.event_id from outbox.receipts as r where r.event_id = e.id) is null
    and (select w.event_id from outbox.waiting as w where w.event_id = e.id) is null
  group by e.lane
)
select
  l.lane, l.relay_id, r.name as relay,
  coalesce(u.unsettled_count, 0) as unsettled_count,
  a.is_complete,
  u.oldest_at,
  extract(epoch from clock_timestamp() - u.oldest_at)::float8 as oldest_seconds,
  c.saved_at
from outbox.lanes as l
join outbox.cursors as c on c.lane = l.lane
join complete as a on l.lane = any (a.lanes)
left join outbox.relays as r on r.id = l.relay_id
left join unsettled as u on u.lane = l.lane
order by l.lane
"""
"""Looks at so many events behind each distinct cursor and no further: nearly all lanes of a relay share one. Where the
cursor stands, there is the oldest event that is not settled."""

LOOKED_AT_MAX = 10_000


@dataclass(frozen=True, slots=True)
class RelayRow:
    """An incarnation.

    It is `leaving` while it drains its lanes and takes none, and `expired` until another relay retires it: it may write
    nothing more, nor own lanes long. `is_awake`: it polls, and has asked writers not to ring.
    """

    id: RelayId
    name: str
    version: str
    state: Literal["working", "leaving", "expired", "retired"]
    lane_count: int
    is_awake: bool
    started_at: datetime
    leased_until: datetime
    retired_at: datetime | None


@dataclass(frozen=True, slots=True)
class LaneRow:
    """A lane, its owner, and what is behind its cursor.

    Attributes:
        lane: 0 to 63.
        relay_id: The owner; None where nobody owns it.
        relay: The owner's name.
        unsettled_count: Events behind the saved cursor that have neither a receipt nor a waiting row.
        is_complete: All events behind the cursor were looked at; else there may be more.
        oldest_at: When the oldest of them was emitted.
        oldest_seconds: How long that is ago, by the database's clock.
        saved_at: When the cursor was saved.
    """

    lane: Lane
    relay_id: RelayId | None
    relay: str | None
    unsettled_count: int
    is_complete: bool
    oldest_at: datetime | None
    oldest_seconds: float | None
    saved_at: datetime


async def find_relays(
    connection: AsyncConnection[TupleRow], *, retired_since: datetime, limit: int = 1000
) -> list[RelayRow]:
    """Return the incarnations that are not retired, or were since then, the newest first."""
    async with connection.cursor(row_factory=class_row(RelayRow)) as cursor:
        arguments = {"retired_since": retired_since, "limit": limit}
        return await (await cursor.execute(FIND_RELAYS, arguments)).fetchall()


async def find_lanes(connection: AsyncConnection[TupleRow], *, count_max: int = LOOKED_AT_MAX) -> list[LaneRow]:
    """Return all lanes, having looked at no more than so many events behind each distinct cursor."""
    async with connection.cursor(row_factory=class_row(LaneRow)) as cursor:
        return await (await cursor.execute(FIND_LANES, {"count_max": count_max})).fetchall()


async def count_unowned_lanes(connection: AsyncConnection[TupleRow]) -> int:
    """Return how many lanes belong to no relay whose lease is in force: nobody reads their events."""
    row = await (await connection.execute(COUNT_UNOWNED_LANES)).fetchone()
    assert row is not None
    count: int = row[0]
    return count
