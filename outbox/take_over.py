"""What a relay writes first for lanes that it has just taken: what the one before left in doubt comes first.

Fenced as all that it writes, see `outbox.settle`; its one writer runs this statement too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.errors import LeaseLost
from outbox.event import Lane, RelayId
from outbox.pooled import execute_numbered
from outbox.settle import FENCE

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


async def hold_doubts(
    connection: AsyncConnection[TupleRow], relay_id: RelayId, lanes: Sequence[Lane], seconds: float
) -> None:
    """Hold, for some seconds more, the keys in lanes that were just taken of which an outcome is to be looked at.

    Raises:
        LeaseLost: This incarnation is retired or does not own the lanes; nothing was written.
    """
    if not await execute_numbered(connection, HOLD_DOUBTS, relay_id, list(lanes), seconds):
        raise LeaseLost(f"relay {relay_id} is retired, or a lane that it took is another's")
