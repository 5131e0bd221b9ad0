"""`outbox bench emit`: what emitting costs the writers.

A transaction that issued NOTIFY holds a lock of the whole cluster through its commit, so a trigger that always notifies
lets one writer commit at a time. The doorbell rings only while the relay sleeps.

Machines drift, so figures are compared that were taken side by side: each variant runs once in each of some rounds, and
has a baseline among the others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median
from typing import Final, LiteralString, assert_never

from psycopg import Connection
from psycopg.rows import TupleRow

from outbox.errors import OutboxError
from relay.bench.progress import Tell
from relay.bench.readings import READ_WAL, Cost, Reading, changes, read, total_changes
from relay.bench.relay_process import Order, running
from relay.bench.writers import Writers, Written
from schema.server import connect

WARM_UP_SECONDS: Final = 2.0
CATCH_UP_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.01

CREATE: Final[Sequence[LiteralString]] = (
    "create schema bench",
    "create table bench.orders (id bigint generated always as identity primary key, account text, total integer)",
    """
    create table bench.log (
      id bigint generated always as identity primary key, type text not null, payload jsonb not null, key text,
      created_at timestamptz not null default clock_timestamp()
    )
    """,
    """
    create function bench.notify() returns trigger language plpgsql as $$
    begin
      perform pg_notify('bench', new.id::text);
      return null;
    end
    $$
    """,
)
ADD_TRIGGER: LiteralString = (
    "create trigger notify after insert on bench.log for each row execute function bench.notify()"
)

_PAYLOAD: Final = f'{{"filler": "{"x" * 336}"}}'

# One statement a transaction, so that round trips of the client are not what is measured. A random key spreads over
# the lanes.
_ORDER: Final = """
with placed as (
  insert into bench.orders (account, total) values ('account:' || floor(random() * 1000), 7) returning account
)
"""
INSERT: Final = (
    f"{_ORDER} insert into bench.log (type, payload, key) select 'bench', '{_PAYLOAD}', account from placed;"  # noqa: S608 (constants)
)
EMIT: Final = f"{_ORDER} select outbox.emit('bench', '{_PAYLOAD}', account) from placed;"  # noqa: S608 (constants)

DROP_TRIGGER: LiteralString = "drop trigger if exists notify on bench.log"

JOIN: LiteralString = """
with joined as (
  insert into outbox.relays (name, version, leased_until, awake_until)
  values ('bench', 'bench', 'infinity', case when %(is_muted)s then timestamptz 'infinity' end)
  returning id
)
update outbox.lanes set relay_id = joined.id from joined
"""
"""A relay that is none: it owns all lanes, and either wants to be rung for or does not."""

DISABLE_RING: LiteralString = "alter table outbox.events disable trigger ring"
ENABLE_RING: LiteralString = "alter table outbox.events enable trigger ring"
RETIRE: LiteralString = "update outbox.relays set retired_at = clock_timestamp() where retired_at is null"
FREE_LANES: LiteralString = "update outbox.lanes set relay_id = null"
TRUNCATE: LiteralString = "truncate bench.orders, bench.log, outbox.events, outbox.receipts"

COUNT_UNSETTLED: LiteralString = "select (select count(*) from outbox.events) - (select count(*) from outbox.receipts)"


class Variant(StrEnum):
    """What writers do beside writing a row of their own."""

    LOG_ONLY = "plain insert, no bell"
    NOTIFYING = "plain insert, NOTIFY always"
    SILENT = "outbox.emit, no bell"
    RINGING = "outbox.emit, bell rings"
    MUTED = "outbox.emit, bell muted"
    RELAYED = "outbox.emit, relay at work"

    @property
    def baseline(self) -> Variant:
        """What it is compared with: the bell alone with the same inserts, all else with a table that nobody reads."""
        match self:
            case Variant.RINGING | Variant.MUTED:
                return Variant.SILENT
            case Variant.LOG_ONLY | Variant.NOTIFYING | Variant.SILENT | Variant.RELAYED:
                return Variant.LOG_ONLY
            case _:
                assert_never(self)


@dataclass(frozen=True, slots=True)
class Emitted:
    """What writers managed in one variant, over all rounds.

    Attributes:
        variant: Which.
        cost: An event is one transaction of one statement: a row of the application's, and the event. Events and
            seconds are the writers' alone. Where a relay runs, all else is theirs and its together until it has caught
            up, the two seconds before included in which it finds that it should mute its bell.
        share: Its rate as a share of its baseline's, the median of the rounds.
        unsettled: Events without a receipt when the writers stopped, the most of the rounds; None where no relay ran.
    """

    variant: Variant
    cost: Cost
    share: float
    unsettled: int | None


@dataclass(frozen=True, slots=True)
class _Round:
    """What writers managed in one variant in one round."""

    cost: Cost
    unsettled: int | None = None


def emit(dsn: str, writers: Writers, seconds: float, rounds: int, tell: Tell) -> Sequence[Emitted]:
    """Measure the variants one after another, in so many rounds, each on empty tables."""
    with connect(dsn) as connection:
        for statement in CREATE:
            connection.execute(statement)
    found: dict[Variant, list[_Round]] = {variant: [] for variant in Variant}
    for number, variant in enumerate(list(Variant) * rounds):
        tell("variants", number, len(Variant) * rounds)
        with _prepared(dsn, variant):
            relayed = variant is Variant.RELAYED
            found[variant].append(
                _relayed(dsn, writers, seconds) if relayed else _alone(dsn, writers, seconds, variant)
            )
    return [_summed(variant, found[variant], found[variant.baseline]) for variant in Variant]


@contextmanager
def _prepared(dsn: str, variant: Variant) -> Iterator[None]:
    with connect(dsn) as connection:
        connection.execute(TRUNCATE)
        match variant:
            case Variant.LOG_ONLY | Variant.RELAYED:
                pass
            case Variant.NOTIFYING:
                connection.execute(ADD_TRIGGER)
            case Variant.SILENT:
                connection.execute(DISABLE_RING)
            case Variant.RINGING | Variant.MUTED:
                connection.execute(JOIN, {"is_muted": variant is Variant.MUTED})
            case _:
                assert_never(variant)
    yield
    with connect(dsn) as connection:
        for statement in (DROP_TRIGGER, ENABLE_RING, RETIRE, FREE_LANES):
            connection.execute(statement)


def _summed(variant: Variant, rounds: Sequence[_Round], baseline: Sequence[_Round]) -> Emitted:
    """Bring the rounds together; what is counted an event weighs as many as there were."""
    costs = [each.cost for each in rounds]
    events = sum(cost.events for cost in costs)

    def mean(values: Sequence[float]) -> float:
        return sum(value * cost.events for value, cost in zip(values, costs, strict=True)) / events

    cpu = [cost.cpu_microseconds for cost in costs if cost.cpu_microseconds is not None]
    cost = Cost(
        events,
        sum(cost.seconds for cost in costs),
        mean(cpu) if cpu else None,
        mean([cost.wal_bytes for cost in costs]),
        mean([cost.statements for cost in costs]),
        total_changes([cost.tables for cost in costs]),
    )
    rates = [
        (each.cost.events_per_second, base.cost.events_per_second) for each, base in zip(rounds, baseline, strict=True)
    ]
    unsettled = [each.unsettled for each in rounds if each.unsettled is not None]
    return Emitted(variant, cost, median(rate / base for rate, base in rates), max(unsettled, default=None))


def _alone(dsn: str, writers: Writers, seconds: float, variant: Variant) -> _Round:
    """Write while nobody reads."""
    before = read(dsn)
    began_at = _wal_bytes(dsn)
    written = writers.write(INSERT if variant in (Variant.LOG_ONLY, Variant.NOTIFYING) else EMIT, seconds)
    ended_at = _wal_bytes(dsn)
    return _Round(_cost(written, written.count, before, read(dsn), ended_at - began_at))


def _relayed(dsn: str, writers: Writers, seconds: float) -> _Round:
    """Write while a relay delivers to a handler that does nothing."""
    before = read(dsn)
    with running(Order(dsn)) as relay:
        relay.await_ready()
        began_at = _wal_bytes(dsn)
        warm_up = writers.write(EMIT, min(WARM_UP_SECONDS, seconds))
        written = writers.write(EMIT, seconds)
        unsettled = _await_settled(dsn)
        ended_at = _wal_bytes(dsn)
        relay.stop()
    cost = _cost(written, warm_up.count + written.count, before, read(dsn), ended_at - began_at)
    return _Round(replace(cost, cpu_microseconds=relay.work.cpu_microseconds), unsettled)


def _await_settled(dsn: str) -> int:
    """Return how many events have no receipt now, and wait until all have one."""
    with connect(dsn) as connection:
        unsettled = left = _count(connection, COUNT_UNSETTLED)
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while left:
            if time.monotonic() > deadline:
                raise OutboxError(f"expected the relay to catch up, found {left} events without a receipt")
            time.sleep(POLL_SECONDS)
            left = _count(connection, COUNT_UNSETTLED)
        return unsettled


def _cost(written: Written, count: int, before: Reading, after: Reading, wal_bytes: int) -> Cost:
    return Cost(
        events=written.count,
        seconds=written.seconds,
        cpu_microseconds=None,
        wal_bytes=wal_bytes / count,
        statements=(after.statements - before.statements) / count,
        tables=changes(before, after),
    )


def _wal_bytes(dsn: str) -> int:
    with connect(dsn) as connection:
        return _count(connection, READ_WAL)


def _count(connection: Connection[TupleRow], statement: LiteralString) -> int:
    row = connection.execute(statement).fetchone()
    assert row is not None
    count: int = row[0]
    return count
