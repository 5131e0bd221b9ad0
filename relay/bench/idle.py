"""`outbox bench idle`: what a relay costs that has nothing to do."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, LiteralString

from psycopg import Connection
from psycopg.rows import TupleRow

from outbox.emit import emit
from relay.bench.progress import Tell
from relay.bench.readings import READ_STATEMENTS, Cost, changes, read
from relay.bench.relay_process import EVENT_TYPE, Order, running
from schema.server import connect

VACUUM: LiteralString = "vacuum (analyze)"
"""What autovacuum would come for amid the measurement, to tables that are all new: its transactions count, too."""

SETTLING_SECONDS: Final = 12.0
"""A relay that has just begun, or has just had an event, looks more often for a while; and an idle backend reports the
transactions that it has made within 10 seconds."""


@dataclass(frozen=True, slots=True)
class Idle:
    """What a relay without events showed.

    Attributes:
        cost: Of the two events that frame the measurement, and all between them.
        transactions_per_second: In the scratch database while nothing was emitted; our first look is among them, and
            what autovacuum does, which comes by once a minute as a rule.
        core_share: The CPU of its process as a share of one core, from the first event to the second.
    """

    cost: Cost
    transactions_per_second: float
    core_share: float


def idle(dsn: str, seconds: float, tell: Tell) -> Idle:
    """Run a relay between two events, so many seconds apart, and count what it does meanwhile."""
    with connect(dsn) as connection:
        connection.execute(VACUUM)
    before = read(dsn)
    with running(Order(dsn, 2)) as relay:
        relay.await_ready()
        with connect(dsn) as connection:
            emit(connection, EVENT_TYPE, {})
            time.sleep(SETTLING_SECONDS)
            began_at, began = time.monotonic(), _transactions(connection)
            while (passed := time.monotonic() - began_at) < seconds:
                tell("seconds", int(passed), int(seconds))
                time.sleep(min(1.0, seconds - passed))
            ended_at, ended = time.monotonic(), _transactions(connection)
            emit(connection, EVENT_TYPE, {})
        work = relay.await_work(tell)
        relay.stop()
    after = read(dsn)
    statements = (after.statements - before.statements) / work.count
    cost = Cost(work.count, work.seconds, work.cpu_microseconds, work.wal_bytes, statements, changes(before, after))
    core_share = (work.ended.cpu_seconds - work.began.cpu_seconds) / work.seconds
    return Idle(cost, max(0, ended - began) / (ended_at - began_at), core_share)


def _transactions(connection: Connection[TupleRow]) -> int:
    row = connection.execute(READ_STATEMENTS).fetchone()
    assert row is not None
    count: int = row[0]
    return count
