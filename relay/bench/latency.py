"""`outbox bench latency`: from just before a commit to the handler, at a steady rate."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
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

RATE_MAX: Final = 250.0
"""Events a second that one emitter is asked for, a commit after another: a disk that syncs in 4 ms keeps up."""

_LOOK_SECONDS: Final = 0.25

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
    """What events at a steady rate showed, an event a transaction.

    Attributes:
        emitter_count: How many connections emitted in turns, so that the rate is reached.
        cost: Of the emitters' transactions and the relay's work together, the warm-up and our looks at the bell (four
            a second) included.
        rate_per_second: How many were emitted a second; less than was asked for where commits take longer.
        handler: From just before the commit is sent to the first line of the handler: the commit's fsync is in it.
        commit: From just before the commit is sent to its answer, as its emitter sees it.
        muted_share: In what part of the looks, one a quarter of a second, the bell was muted and the relay polled.
    """

    emitter_count: int
    cost: Cost
    rate_per_second: float
    handler: Spread
    commit: Spread
    muted_share: float


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction of an emitter, by `time.monotonic()`."""

    event_id: int
    began_at: float
    ended_at: float


def latency(dsn: str, rate: float, seconds: float, tell: Tell) -> Latency:
    """Emit at a rate for some seconds, with the relay in a process of its own on the same machine and clock."""
    count = max(2, round(rate * seconds))
    before = read(dsn)
    with running(Order(dsn, count + WARM_UP, notes_dispatches=True)) as relay:
        relay.await_ready()
        with emitters(dsn, rate) as emit_at:
            emit_at(WARM_UP, keep_silent)
            began_at = time.monotonic()
            commits, muted = emit_at(count, tell)
            took_seconds = time.monotonic() - began_at
        relay.await_work(tell)
        dispatched_at = relay.stop()
    after = read(dsn)
    work = relay.work
    statements = (after.statements - before.statements) / work.count
    cost = Cost(work.count, work.seconds, work.cpu_microseconds, work.wal_bytes, statements, changes(before, after))
    return Latency(
        emitter_count(rate),
        cost,
        count / took_seconds,
        spread_of([dispatched_at[commit.event_id] - commit.began_at for commit in commits]),
        spread_of([commit.ended_at - commit.began_at for commit in commits]),
        sum(muted) / len(muted),
    )


def emitter_count(rate: float) -> int:
    """Return how many connections emit at a rate."""
    return math.ceil(rate / RATE_MAX)


@contextmanager
def emitters(dsn: str, rate: float) -> Iterator[Callable[[int, Tell], tuple[list[Commit], list[bool]]]]:
    """Connect as many emitters as a rate takes; what is given emits so many events, see `latency`."""
    with ExitStack() as stack:
        looking = stack.enter_context(connect(dsn))
        connections = [stack.enter_context(connect(dsn)) for _ in range(emitter_count(rate))]
        for connection in connections:
            connection.autocommit = False
        yield partial(_emit_at, connections, looking, rate)


def _emit_at(
    emitters: Sequence[Connection[TupleRow]], looking: Connection[TupleRow], rate: float, count: int, tell: Tell
) -> tuple[list[Commit], list[bool]]:
    """Emit so many events at their times, each emitter in its turn, and look at the bell meanwhile."""
    schedule = _Schedule(rate)
    muted: list[bool] = []
    with ThreadPoolExecutor(len(emitters)) as threads:
        running: Collection[Future[None]] = [
            threads.submit(schedule.emit, emitter, range(first, count, len(emitters)))
            for first, emitter in enumerate(emitters)
        ]
        try:
            while running:
                row = looking.execute(READ_MUTED).fetchone()
                muted.append(bool(row is not None and row[0]))
                tell("emitted", len(schedule.commits), count)
                ended, running = wait(running, timeout=_LOOK_SECONDS, return_when=FIRST_EXCEPTION)
                for each in ended:
                    each.result()
        finally:
            schedule.stopped.set()
    return schedule.commits, muted


@dataclass(frozen=True, slots=True)
class _Schedule:
    """When each event is emitted; one that is late, at once."""

    rate: float
    began_at: float = field(default_factory=time.monotonic)
    commits: list[Commit] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def emit(self, connection: Connection[TupleRow], numbers: Iterable[int]) -> None:
        """Emit events of these numbers, a transaction each, until there are no more or it is stopped."""
        for number in numbers:
            if self.stopped.wait(max(0.0, self.began_at + number / self.rate - time.monotonic())):
                return
            event_id = emit(connection, EVENT_TYPE, PAYLOAD, key=f"account:{number % 1000}")
            at = time.monotonic()
            connection.commit()
            self.commits.append(Commit(event_id, at, time.monotonic()))


def spread_of(seconds: Sequence[float]) -> Spread:
    """Return how long something took, of at least two times that it did."""
    milliseconds = [each * 1000 for each in seconds]
    p99 = quantiles(milliseconds, n=100, method="inclusive")[98]
    return Spread(median(milliseconds), p99, max(milliseconds))
