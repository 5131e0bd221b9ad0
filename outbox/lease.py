"""Leases: which relay incarnation owns which lanes, by the database's clock.

Joining inserts a row with a new id, the fencing token of all that the relay writes. A relay whose `leased_until` has
passed is retired by whoever comes first; only then are its lanes taken. Retiring updates the row, which every fenced
write locks `for share`: one of the two waits for the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.errors import LeaseLost
from outbox.event import Lane, RelayId

JOIN: LiteralString = """
insert into outbox.relays (name, version, leased_until)
values (%(name)s, %(version)s, clock_timestamp() + %(lease_seconds)s * interval '1 second')
returning id
"""

RENEW: LiteralString = """
update outbox.relays set leased_until = clock_timestamp() + %(lease_seconds)s * interval '1 second'
where id = %(relay_id)s and retired_at is null
returning extract(epoch from clock_timestamp())::float8
"""

RETIRE_DEAD: LiteralString = """
update outbox.relays set retired_at = clock_timestamp()
where retired_at is null and (leased_until < clock_timestamp() or id = %(previous)s)
returning id, name
"""

TAKE_LANES: LiteralString = """
update outbox.lanes as l set relay_id = r.id
from outbox.relays as r
where r.id = %(relay_id)s and r.retired_at is null
  and (
    l.relay_id is null
    or exists (select from outbox.relays as owner where owner.id = l.relay_id and owner.retired_at is not null)
  )
returning l.lane
"""

LEAVE: LiteralString = """
with released as (
  update outbox.lanes set relay_id = null where relay_id = %(relay_id)s returning lane
),
retired as (
  update outbox.relays set retired_at = clock_timestamp() where id = %(relay_id)s and retired_at is null
)
select pg_notify('outbox', 'lanes'), count(*) from released
"""

MUTE: LiteralString = """
update outbox.relays set awake_until = clock_timestamp() + %(seconds)s * interval '1 second'
where id = %(relay_id)s and retired_at is null
returning id
"""
"""Null seconds let the bell ring again."""

TAKE_HORIZON: LiteralString = "select pg_current_xact_id()::text"

HORIZON_PASSED: LiteralString = "select pg_snapshot_xmin(pg_current_snapshot()) > %(horizon)s::xid8"


@dataclass(frozen=True, slots=True)
class DeadRelay:
    """A relay whose lease ran out."""

    id: RelayId
    name: str


async def join(connection: AsyncConnection[TupleRow], *, name: str, version: str, lease_seconds: float) -> RelayId:
    """Join as a new incarnation, which owns no lane yet."""
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


async def retire_dead(connection: AsyncConnection[TupleRow], *, previous: RelayId | None = None) -> list[DeadRelay]:
    """Retire the relays whose lease ran out, and our own previous incarnation, which writes nothing any more."""
    rows = await (await connection.execute(RETIRE_DEAD, {"previous": previous})).fetchall()
    return [DeadRelay(*row) for row in rows]


async def take_lanes(connection: AsyncConnection[TupleRow], relay_id: RelayId) -> list[Lane]:
    """Take the lanes that nobody owns or whose owner is retired, and return them."""
    rows = await (await connection.execute(TAKE_LANES, {"relay_id": relay_id})).fetchall()
    return sorted(lane for (lane,) in rows)


async def leave(connection: AsyncConnection[TupleRow], relay_id: RelayId) -> None:
    """Give the lanes back, retire, and tell the other relays."""
    await connection.execute(LEAVE, {"relay_id": relay_id})


async def mute(connection: AsyncConnection[TupleRow], relay_id: RelayId, seconds: float | None) -> None:
    """Ask writers not to ring for some seconds, or, with None, to ring again. Raises LeaseLost."""
    row = await (await connection.execute(MUTE, {"relay_id": relay_id, "seconds": seconds})).fetchone()
    if row is None:
        raise LeaseLost(f"relay {relay_id} was retired: its lease ran out, and another relay may own its lanes")


async def take_horizon(connection: AsyncConnection[TupleRow]) -> str:
    """Return a transaction id that is above those of all transactions that run now."""
    row = await (await connection.execute(TAKE_HORIZON)).fetchone()
    assert row is not None
    horizon: str = row[0]
    return horizon


async def horizon_passed(connection: AsyncConnection[TupleRow], horizon: str) -> bool:
    """Tell whether every transaction that ran when the horizon was taken has ended."""
    row = await (await connection.execute(HORIZON_PASSED, {"horizon": horizon})).fetchone()
    assert row is not None
    passed: bool = row[0]
    return passed
