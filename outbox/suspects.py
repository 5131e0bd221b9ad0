"""Which events may have killed a relay.

A handler that takes its process down leaves nothing behind that says which event it had: on the happy path nothing is
written before a dispatch. So what a dead relay may have left behind is suspect when it is dispatched again, and only
then a row of `outbox.dispatches` says so, before its handler is called. The row goes with the outcome. Where the relay
dies first, the row stays: one crash, and the event's next dispatch is alone in its relay, so that no other event can
be taken for it, or die with it.

A relay died if its lease ran out before it was retired. One that left in order, or lost its database for less than its
lease, killed nobody, and its rows do not count. Where the process lived on without its database and joins again, it
acquits what it had in hand; not where it had stood still itself, because a handler may have blocked it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.encode import encode_numbers
from outbox.event import EventId, RelayId

LOAD_SUSPICION: LiteralString = """
select
  exists (
    select from outbox.relays as r
    where r.retired_at >= r.leased_until and r.retired_at > clock_timestamp() - interval '1 hour'
  ),
  array(
    select array[d.event_id, count(*)]
    from outbox.dispatches as d
    join outbox.relays as r on r.id = d.relay_id
    where d.event_id = any (%(event_ids)s::bigint[]) and r.retired_at >= r.leased_until
    group by d.event_id
  )
"""

ACQUIT: LiteralString = "delete from outbox.dispatches where relay_id = %(relay_id)s"


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What is known of relays that died.

    Attributes:
        relay_died: A relay died within the last hour: what it may have left behind is suspect.
        crashes: For events that are known to have been dispatched when a relay died: how often.
    """

    relay_died: bool = False
    crashes: Mapping[EventId, int] = field(default_factory=dict)


async def load_suspicion(connection: AsyncConnection[TupleRow], event_ids: Sequence[EventId]) -> Suspicion:
    """Return what is known against some events."""
    row = await (await connection.execute(LOAD_SUSPICION, {"event_ids": encode_numbers(event_ids)})).fetchone()
    assert row is not None
    relay_died, crashes = row
    return Suspicion(relay_died, {EventId(event_id): count for event_id, count in crashes})


async def acquit(connection: AsyncConnection[TupleRow], relay_id: RelayId) -> None:
    """Take back what is on record against the events of an incarnation of our own, which is retired: we live."""
    await connection.execute(ACQUIT, {"relay_id": relay_id})
