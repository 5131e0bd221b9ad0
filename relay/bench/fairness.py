"""`outbox bench fairness`: what others wait beside a key with far more events than its handler can take."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Final, LiteralString

from relay.bench.latency import WARM_UP, Commit, Spread, emitters, spread_of
from relay.bench.progress import Tell, keep_silent
from relay.bench.relay_process import SLOW_EVENT_TYPE, Order, running
from schema.server import connect

FIRST_SECONDS: Final = 4.0

EMIT_HOT: LiteralString = """
select count(outbox.emit(%(type)s, '{}', 'hot')) from generate_series(1, %(count)s)
"""


class Phase(Enum):
    """When the others' events were emitted."""

    WITHOUT = "without a hot key"
    EMITTING = "while its events are emitted"
    FIRST = "the first 4 s after"
    AFTER = "later"


@dataclass(frozen=True, slots=True)
class Fairness:
    """What others waited.

    Attributes:
        emitting_seconds: How long the transaction took that emitted all events of the hot key.
        counts, handler: How many events of others there were in each phase, and how long each took from just before
            its commit to the first line of its handler. None where there were fewer than two.
    """

    emitting_seconds: float
    counts: Mapping[Phase, int]
    handler: Mapping[Phase, Spread | None]


def fairness(dsn: str, hot_count: int, rate: float, seconds: float, tell: Tell) -> Fairness:
    """Emit at a rate for some seconds, then for as long beside a key that gets so many events in one transaction.

    Its handler takes 50 ms, one event at a time: it would take hours. The relay is a process of its own.
    """
    count = max(2, round(rate * seconds))
    with running(Order(dsn, 2 * count + WARM_UP, notes_dispatches=True)) as relay:
        relay.await_ready()
        with emitters(dsn, rate) as emit_at, ThreadPoolExecutor(1) as threads:
            emit_at(WARM_UP, keep_silent)
            without, _ = emit_at(count, tell)
            began_at = time.monotonic()
            emitted = threads.submit(_emit_hot, dsn, hot_count)
            beside, _ = emit_at(count, tell)
            ended_at = emitted.result()
        relay.await_work(tell)
        dispatched_at = relay.stop()
    bounds = (
        (Phase.WITHOUT, without, -math.inf, began_at),
        (Phase.EMITTING, beside, began_at, ended_at),
        (Phase.FIRST, beside, ended_at, ended_at + FIRST_SECONDS),
        (Phase.AFTER, beside, ended_at + FIRST_SECONDS, math.inf),
    )
    waits = {phase: list(_waits(commits, dispatched_at, *between)) for phase, commits, *between in bounds}
    return Fairness(
        ended_at - began_at,
        {phase: len(each) for phase, each in waits.items()},
        {phase: spread_of(each) if len(each) > 1 else None for phase, each in waits.items()},
    )


def _emit_hot(dsn: str, count: int) -> float:
    with connect(dsn) as connection:
        connection.execute(EMIT_HOT, {"type": SLOW_EVENT_TYPE, "count": count})
        return time.monotonic()


def _waits(commits: Sequence[Commit], dispatched_at: Mapping[int, float], begin: float, end: float) -> Iterable[float]:
    for commit in commits:
        if begin <= commit.began_at < end:
            yield dispatched_at[commit.event_id] - commit.began_at
