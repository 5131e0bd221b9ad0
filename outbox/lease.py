"""Leases: which relay incarnation owns which lanes, by the database's clock.

Joining inserts a row with a new id, the fencing token of all that the relay writes. A relay whose `leased_until` has
passed is retired by whoever comes first; only then are its lanes taken. Retiring updates the row, which every fenced
write locks `for share`: one of the two waits for the other. A relay that lives gives up its lanes itself, and nobody
else does: see `outbox.settle.release`.

Whoever changes what others may own (joins, leaves, releases, retires) notifies `outbox` with the payload `lanes`. All
databases of a cluster share the queue of notifications, and who notifies fails where it is full: then the others find
out at their next look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.errors import LeaseLost
from outbox.event import LANE_COUNT, Lane, RelayId

JOIN: LiteralString = """
with joined as (
  insert into outbox.relays (name, version, leased_until)
  values (%(name)s, %(version)s, clock_timestamp() + %(lease_seconds)s * interval '1 second')
  returning id
)
select id, outbox.notify('lanes') from joined
"""

RENEW: LiteralString = """
update outbox.relays set leased_until = clock_timestamp() + %(lease_seconds)s * interval '1 second'
where id = %(relay_id)s and retired_at is null
returning extract(epoch from clock_timestamp())::float8
"""

RETIRE: LiteralString = """
update outbox.relays set retired_at = clock_timestamp() where id = %(relay_id)s and retired_at is null
"""

RETIRE_DEAD: LiteralString = """
with retired as (
  update outbox.relays as r set retired_at = clock_timestamp()
  where r.id in (
    select d.id from outbox.relays as d
    where d.retired_at is null and d.leased_until < clock_timestamp()
    for update skip locked
  )
  returning r.id, r.name
)
select id, name, outbox.notify('lanes') from retired
"""
"""A relay whose row is locked is writing, or another one retires it: the next look finds what became of it."""

SURVEY: LiteralString = """
select
  array(select r.id from outbox.relays as r where r.retired_at is null and r.leaving_at is null order by r.id),
  (
    select extract(epoch from min(r.leased_until) - clock_timestamp())::float8
    from outbox.relays as r where r.retired_at is null and r.id <> %(relay_id)s
  ),
  (
    select count(*) from outbox.lanes as l
    where not exists (select from outbox.relays as r where r.id = l.relay_id and r.retired_at is null)
  )
"""

TAKE_LANES: LiteralString = """
with free as (
  select l.lane from outbox.lanes as l
  where l.relay_id is null
    or exists (select from outbox.relays as owner where owner.id = l.relay_id and owner.retired_at is not null)
  order by l.lane
  limit %(count_max)s
  for update of l
)
update outbox.lanes as l set relay_id = r.id
from free, outbox.relays as r
where l.lane = free.lane and r.id = %(relay_id)s and r.retired_at is null
returning l.lane
"""
"""Two that take at once wait for one another at the first lane that both want, and then take different ones."""

BEGIN_LEAVING: LiteralString = """
with leaving as (
  update outbox.relays set leaving_at = clock_timestamp() where id = %(relay_id)s and retired_at is null
)
select outbox.notify('lanes')
"""

LEAVE: LiteralString = """
with released as (
  update outbox.lanes set relay_id = null where relay_id = %(relay_id)s returning lane
),
retired as (
  update outbox.relays set retired_at = clock_timestamp() where id = %(relay_id)s and retired_at is null
)
select count(*), outbox.notify('lanes') from released
"""

MUTE: LiteralString = """
update outbox.relays set awake_until = clock_timestamp() + %(seconds)s * interval '1 second'
where id = %(relay_id)s and retired_at is null
returning id
"""
"""Zero seconds let the bell ring again, and tell until when it was muted."""

NOTIFY: LiteralString = "select pg_notify('outbox', %(payload)s)"

TAKE_HORIZON: LiteralString = """
select pg_current_xact_id()::text
where %(is_forgotten)s or not exists (
  select from outbox.relays as r where r.awake_until > clock_timestamp() - interval '1 minute'
)
"""
"""Sessions remember a muted bell for a second or two: after a minute, also where it was unmuted by a slow commit, or by
a relay that died before its time was over, none does."""

NOTIFICATION_QUEUE_USAGE: LiteralString = "select pg_notification_queue_usage()"

HORIZON_PASSED: LiteralString = "select pg_snapshot_xmin(pg_current_snapshot()) > %(horizon)s::xid8"


@dataclass(frozen=True, slots=True)
class Survey:
    """Who shares the lanes.

    Attributes:
        relay_ids: The relays that are neither retired nor leaving, the oldest first.
        seconds_to_next_end: In how many seconds the first lease of the others ends (negative: it has ended); None where
            there are no others.
        free_count: Lanes that nobody owns, or a relay that is retired.
    """

    relay_ids: Sequence[RelayId]
    seconds_to_next_end: float | None
    free_count: int


@dataclass(frozen=True, slots=True)
class DeadRelay:
    """A relay whose lease ran out."""

    id: RelayId
    name: str


async def join(connection: AsyncConnection[TupleRow], *, name: str, version: str, lease_seconds: float) -> RelayId:
    """Join as a new incarnation, which owns no lane yet, and tell the other relays."""
    arguments = {"name": name, "version": version, "lease_seconds": lease_seconds}
    row = await (await connection.execute(JOIN, arguments)).fetchone()
    assert row is not None
    return RelayId(row[0])


async def renew(connection: AsyncConnection[TupleRow], relay_id: RelayId, *, lease_seconds: float) -> float:
    """Renew the lease and return the database's clock, in seconds of the epoch. Raises LeaseLost."""
    row = await (await connection.execute(RENEW, {"relay_id": relay_id, "lease_seconds": lease_seconds})).fetchone()
    if row is None:
        raise LeaseLost(f"relay {relay_id} was retired: its lease ran out, and another relay may own its lanes")
    now: float = row[0]
    return now


async def retire(connection: AsyncConnection[TupleRow], relay_id: RelayId) -> None:
    """Retire an incarnation of our own, which writes nothing any more; waits for what it is writing."""
    await connection.execute(RETIRE, {"relay_id": relay_id})


async def retire_dead(connection: AsyncConnection[TupleRow]) -> list[DeadRelay]:
    """Retire the relays whose lease ran out, and tell the other relays."""
    rows = await (await connection.execute(RETIRE_DEAD)).fetchall()
    return [DeadRelay(relay_id, name) for relay_id, name, _ in rows]


async def survey(connection: AsyncConnection[TupleRow], relay_id: RelayId) -> Survey:
    """Return who shares the lanes with a relay, and what is free."""
    row = await (await connection.execute(SURVEY, {"relay_id": relay_id})).fetchone()
    assert row is not None
    return Survey(*row)


async def take_lanes(
    connection: AsyncConnection[TupleRow], relay_id: RelayId, count_max: int = LANE_COUNT
) -> list[Lane]:
    """Take some of the lanes that nobody owns or whose owner is retired, and return them."""
    arguments = {"relay_id": relay_id, "count_max": count_max}
    rows = await (await connection.execute(TAKE_LANES, arguments)).fetchall()
    return sorted(lane for (lane,) in rows)


async def begin_leaving(connection: AsyncConnection[TupleRow], relay_id: RelayId) -> None:
    """Give up our share of the lanes, though not yet the lanes themselves, and tell the other relays."""
    await connection.execute(BEGIN_LEAVING, {"relay_id": relay_id})


async def leave(connection: AsyncConnection[TupleRow], relay_id: RelayId) -> None:
    """Give the lanes back, retire, and tell the other relays."""
    await connection.execute(LEAVE, {"relay_id": relay_id})


async def mute(connection: AsyncConnection[TupleRow], relay_id: RelayId, seconds: float) -> None:
    """Ask writers not to ring for some seconds, or, with 0, to ring again. Raises LeaseLost."""
    row = await (await connection.execute(MUTE, {"relay_id": relay_id, "seconds": seconds})).fetchone()
    if row is None:
        raise LeaseLost(f"relay {relay_id} was retired: its lease ran out, and another relay may own its lanes")


async def notification_queue_usage(connection: AsyncConnection[TupleRow]) -> float:
    """Return how full the server's queue of notifications is, 0 to 1: what all listeners have read is removed."""
    row = await (await connection.execute(NOTIFICATION_QUEUE_USAGE)).fetchone()
    assert row is not None
    usage: float = row[0]
    return usage


async def notify(connection: AsyncConnection[TupleRow], payload: str) -> None:
    """Notify all that listen, ourselves too."""
    await connection.execute(NOTIFY, {"payload": payload})


async def take_horizon(connection: AsyncConnection[TupleRow], *, is_forgotten: bool) -> str | None:
    """Return a transaction id that is above those of all transactions that run now.

    Args:
        connection: In autocommit.
        is_forgotten: No session remembers that the bell of our lanes was muted. If that is not known, and some relay's
            bell was muted lately, there is no horizon yet: None.
    """
    row = await (await connection.execute(TAKE_HORIZON, {"is_forgotten": is_forgotten})).fetchone()
    horizon: str | None = None if row is None else row[0]
    return horizon


async def horizon_passed(connection: AsyncConnection[TupleRow], horizon: str) -> bool:
    """Tell whether every transaction that ran when the horizon was taken has ended."""
    row = await (await connection.execute(HORIZON_PASSED, {"horizon": horizon})).fetchone()
    assert row is not None
    passed: bool = row[0]
    return passed
