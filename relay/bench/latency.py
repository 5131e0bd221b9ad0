"""`outbox bench latency`: from just before a commit to the handler, at a steady rate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Final, LiteralString

from psycopg import Connection
from psycopg.rows import TupleRow

from outbox.emit import emit
from relay.bench.progress import Tell, keep_silent
from relay.bench.readings import Cost, changes, read
from relay.bench.relay_process import EVENT_TYPE, Order, running
from schema.server import connect

PAYLOAD: Final = {"filler": "x" * 336}
WARM_UP: Final = 20
"""Events before those that count: plans, caches and connections are warm in a service that runs."""

READ_MUTED: LiteralString = """
select coalesce(bool_or(awake_until > clock_timestamp()), false) from outbox.relays where retired_at is null
"""


@dataclass(frozen=True, slots=True)
class Spread:
    """How long something took, in milliseconds."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Latency:
    """What events at a steady rate showed, of one emitter, an event a transaction.

    Attributes:
        cost: Of the emitter's transactions and the relay's work together, the warm-up and our looks at the bell (four
            a second) included.
        rate_per_second: How many were emitted a second; less than was asked for where commits take longer.
        handler: From just before the commit is sent to the first line of the handler: the commit's fsync is in it.
        commit: From just before the commit is sent to its answer, as the emitter sees it.
        muted_share: In what part of the looks, one a quarter of a second, the bell was muted and the relay polled.
    """

    cost: Cost
    rate_per_second: float
    handler: Spread
    commit: Spread
    muted_share: float


@dataclass(frozen=True, slots=True)
class _Commit:
    """One transaction of the emitter, by `time.monotonic()`."""

    event_id: int
    began_at: float
    ended_at: float


def latency(dsn: str, rate: float, seconds: float, tell: Tell) -> Latency:
    """Emit at a rate for some seconds, with the relay in a process of its own on the same machine and clock."""
    count = max(2, round(rate * seconds))
    before = read(dsn)
    with running(Order(dsn, count + WARM_UP, notes_dispatches=True)) as relay:
        relay.await_ready()
        with connect(dsn) as connection, connect(dsn) as looking:
            connection.autocommit = False
            _emit_at(connection, looking, rate, WARM_UP, keep_silent)
            began_at = time.monotonic()
            commits, muted = _emit_at(connection, looking, rate, count, tell)
            took_seconds = time.monotonic() - began_at
        relay.await_work(tell)
        dispatched_at = relay.stop()
    after = read(dsn)
    work = relay.work
    statements = (after.statements - before.statements) / work.count
    cost = Cost(work.count, work.seconds, work.cpu_microseconds, work.wal_bytes, statements, changes(before, after))
    return Latency(
        cost,
        count / took_seconds,
        _spread([dispatched_at[commit.event_id] - commit.began_at for commit in commits]),
        _spread([commit.ended_at - commit.began_at for commit in commits]),
        sum(muted) / len(muted),
    )


def _emit_at(
    connection: Connection[TupleRow], looking: Connection[TupleRow], rate: float, count: int, tell: Tell
) -> tuple[list[_Commit], list[bool]]:
    """Emit so many events at their times; one that is late is emitted at once, and the next one is not."""
    commits, muted = [], []
    began_at = look_at = time.monotonic()
    for number in range(count):
        now = time.monotonic()
        if now >= look_at:
            look_at = now + 0.25
            row = looking.execute(READ_MUTED).fetchone()
            muted.append(bool(row is not None and row[0]))
            tell("emitted", number, count)
        time.sleep(max(0.0, began_at + number / rate - time.monotonic()))
        event_id = emit(connection, EVENT_TYPE, PAYLOAD, key=f"account:{number % 1000}")
        at = time.monotonic()
        connection.commit()
        commits.append(_Commit(event_id, at, time.monotonic()))
    return commits, muted


def _spread(seconds: Sequence[float]) -> Spread:
    milliseconds = [each * 1000 for each in seconds]
    p99 = quantiles(milliseconds, n=100, method="inclusive")[98]
    return Spread(median(milliseconds), p99, max(milliseconds))
