"""`outbox bench drain`: a backlog through a handler that does nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, LiteralString

from relay.bench.progress import Tell
from relay.bench.readings import Cost, changes, read
from relay.bench.relay_process import EVENT_TYPE, Order, Work, running
from schema.server import connect

PAYLOAD_BYTES: Final = 350
ACCOUNTS: Final = 1000
BATCH: Final = 5000

INSERT: LiteralString = """
insert into outbox.events (lane, key, type, payload, headers)
select hashtextextended(key, 0) & 63, key, %(type)s, jsonb_build_object('n', n, 'filler', repeat('x', %(filler)s)), '{}'
from generate_series(%(first)s::bigint, %(last)s::bigint) as n,
  lateral (select 'account:' || n %% %(accounts)s as key) as k
"""
"""As `outbox.emit()` writes them, one after another, in less than half the time."""

ANALYZE: LiteralString = "analyze"

_FILLER: Final = PAYLOAD_BYTES - len('{"n": 100000, "filler": ""}')


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drain showed.

    Attributes:
        cost: From the first dispatch to the last receipt.
        start_seconds: From the start of the relay, its imports excepted, to the first dispatch: it connects, takes its
            lanes and lists the backlog then.
        memory_bytes: The most memory that the relay had.
    """

    cost: Cost
    start_seconds: float
    memory_bytes: int


def drain(
    dsn: str,
    count: int,
    tell: Tell,
    *,
    is_analyzed: bool = False,
    in_bulk: bool = False,
    traces: Mapping[str, str] | None = None,
) -> Drained:
    """Emit a backlog, start a relay, and measure until the last event has a receipt.

    The handler does nothing and 200 of it run at once: this is the ceiling of the relay itself, of one process on one
    core. A handler that calls an API is slower by orders of magnitude. The planner knows nothing of the tables unless
    they are analyzed in between: they are new, and have just grown.
    """
    fill(dsn, count, tell, in_bulk=in_bulk)
    if is_analyzed:
        with connect(dsn) as connection:
            connection.execute(ANALYZE)
    before = read(dsn)
    work = work_off(dsn, count, tell, traces)
    after = read(dsn)
    statements = (after.statements - before.statements) / count
    cost = Cost(count, work.seconds, work.cpu_microseconds, work.wal_bytes, statements, changes(before, after))
    return Drained(cost, work.start_seconds, work.memory_bytes)


def fill(dsn: str, count: int, tell: Tell, *, in_bulk: bool = False) -> None:
    """Emit so many events of 350 bytes of payload, of a thousand accounts, thousands or all in a transaction."""
    batch = count if in_bulk else BATCH
    with connect(dsn) as connection:
        for first in range(1, count + 1, batch):
            last = min(count, first + batch - 1)
            connection.execute(
                INSERT, {"type": EVENT_TYPE, "accounts": ACCOUNTS, "first": first, "last": last, "filler": _FILLER}
            )
            tell("emitted", last, count)


def work_off(dsn: str, count: int, tell: Tell, traces: Mapping[str, str] | None = None) -> Work:
    """Run a relay until so many events have a receipt."""
    with running(Order(dsn, count, is_traced=traces is not None), traces) as relay:
        work = relay.await_work(tell)
        relay.stop()
    return work
