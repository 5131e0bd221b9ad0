"""How it goes, in numbers that cost little: what waits, what ended lately, who works, how fast. For people.

Nothing here counts a whole table: what waits is counted by index up to a bound, what ended lately among the newest
events, and rates come from the counters that PostgreSQL keeps of each table's inserts anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.holds import HoldInForce, find_holds
from outbox.ownership import LaneRow, RelayRow, find_lanes, find_relays
from outbox.waiting import count_waiting

COUNT_MAX = 10_000
"""Waiting events of a reason, and events behind a cursor, are counted up to here."""

RECENT_MAX = 100_000
"""Endings are counted among so many of the newest events."""

ENDED: LiteralString = """
select coalesce(r.outcome, 'not ended'), r.reason, count(*)
from (
  select e.id, e.created_at from outbox.events as e order by e.id desc limit %(count_max)s
) as n
left join outbox.receipts as r on r.event_id = n.id
where n.created_at >= %(since)s
group by 1, 2
order by 3 desc, 1, 2
"""

INSERTED: LiteralString = """
select
  clock_timestamp(), extract(epoch from clock_timestamp())::float8,
  coalesce(max(s.n_tup_ins) filter (where s.relname = 'events'), 0)::bigint,
  coalesce(max(s.n_tup_ins) filter (where s.relname = 'receipts'), 0)::bigint,
  coalesce(max(s.n_tup_ins) filter (where s.relname = 'attempts'), 0)::bigint
from pg_stat_all_tables as s
where s.schemaname = 'outbox'
"""


@dataclass(frozen=True, slots=True)
class Inserted:
    """How many rows each table has got since its counters began, and when that was read."""

    at_seconds: float
    events: int
    receipts: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened a second, between two looks; PostgreSQL's counters lag by up to a second."""

    emitted: float
    ended: float
    tries_failed: float


@dataclass(frozen=True, slots=True)
class WaitingReason:
    """What waits for one reason; `count` is exact below `COUNT_MAX`; `oldest_seconds` since the oldest was owed."""

    reason: str
    count: int
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How so many events ended; of those that have not, the outcome is `not ended`."""

    outcome: str
    reason: str | None
    count: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """How it goes at an instant.

    Attributes:
        at: By the database's clock.
        since: Of which events the endings are: emitted then or later, as far as was looked.
        waiting: By reason, those of which something waits.
        endings: The most frequent first.
        relays: Those whose lease is in force: at work, or leaving with lanes that are still theirs.
        lanes: All 64.
        holds: Those in force.
        inserted: For rates: see `rates`.
    """

    at: datetime
    since: datetime
    waiting: list[WaitingReason]
    endings: list[Ending]
    relays: list[RelayRow]
    lanes: list[LaneRow]
    holds: list[HoldInForce]
    inserted: Inserted

    @property
    def unowned_count(self) -> int:
        """How many lanes belong to no relay whose lease is in force."""
        living = {relay.id for relay in self.relays}
        return sum(lane.relay_id not in living for lane in self.lanes)

    @property
    def backlog_count(self) -> int:
        """How many events are new or in flight: behind the cursors, as far as was looked."""
        return sum(lane.unsettled_count for lane in self.lanes)

    @property
    def backlog_seconds(self) -> float:
        """How old the oldest of them is."""
        return max((lane.oldest_seconds or 0.0 for lane in self.lanes), default=0.0)


async def load_statistics(
    connection: AsyncConnection[TupleRow], since: datetime, *, recent_max: int = RECENT_MAX
) -> Statistics:
    """Look how it goes; what ended, among `recent_max` of the newest events."""
    row = await (await connection.execute(INSERTED)).fetchone()
    assert row is not None
    at, *inserted = row
    waiting = await count_waiting(connection, count_max=COUNT_MAX)
    arguments = {"since": since, "count_max": recent_max}
    endings = await (await connection.execute(ENDED, arguments)).fetchall()
    relays = await find_relays(connection, retired_since=at)
    return Statistics(
        at=at,
        since=since,
        waiting=[
            WaitingReason(reason.value, each.count, each.oldest_seconds)
            for reason, each in waiting.items()
            if each.count
        ],
        endings=[Ending(*ending) for ending in endings],
        relays=[relay for relay in relays if relay.state in ("working", "leaving")],
        lanes=await find_lanes(connection, count_max=COUNT_MAX),
        holds=await find_holds(connection),
        inserted=Inserted(*inserted),
    )


def rates(before: Inserted, after: Inserted) -> Rates | None:
    """Return what happened a second between two looks; None where no time has passed, or the counters began anew."""
    seconds = after.at_seconds - before.at_seconds
    if seconds <= 0 or after.events < before.events or after.receipts < before.receipts:
        return None
    return Rates(
        (after.events - before.events) / seconds,
        (after.receipts - before.receipts) / seconds,
        (after.attempts - before.attempts) / seconds,
    )
