"""`outbox bench recovery`: a drain whose relay is killed again and again, and one whose database is killed.

The server is an embedded one of its own, for it is restarted. Each call of the handler is appended to a file as it
begins, so that what a killed relay did is counted too. An event that is handled twice was in hand when its relay died;
one that is handled after its receipt would be a fault.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, LiteralString

from outbox.errors import OutboxError
from relay.bench.drain import fill
from relay.bench.progress import Tell
from relay.bench.relay_process import CALL, Order, RelayProcess, running
from schema.embedded import EmbeddedPostgres
from schema.server import connect

PATIENCE_SECONDS: Final = 300.0
CALLS_POLL_SECONDS: Final = 0.002
RECEIPTS_POLL_SECONDS: Final = 0.1

COUNT_UNSETTLED: LiteralString = """
select count(*) from outbox.events as e where not exists (select from outbox.receipts as r where r.event_id = e.id)
"""
READ_RECEIPTS: LiteralString = "select event_id, extract(epoch from settled_at)::float8 from outbox.receipts"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a drain with deaths showed.

    Attributes:
        events: How many there were.
        seconds: From the start of the first relay to the last receipt.
        deaths: How often the relay, or the server, was killed.
        handled_count: Events of which the handler was called.
        handled_again_count: Calls of the handler beyond the first of each event.
        handled_after_receipt_count: Those of them that began after the event had a receipt.
        relay_lives: Whether the relay that ran at the end was alive, and stopped in order when asked to.
    """

    events: int
    seconds: float
    deaths: int
    handled_count: int
    handled_again_count: int
    handled_after_receipt_count: int
    relay_lives: bool


def kill_relays(dsn: str, count: int, calls: Path, tell: Tell, *, kills: int, lease_seconds: float) -> Recovered:
    """Drain with one relay at a time, each killed once its share is handled, and another one started at once."""
    fill(dsn, count, tell)
    order = Order(dsn, lease_seconds=lease_seconds, calls=str(calls))
    began_at = time.monotonic()
    for number in range(1, kills + 1):
        with running(order) as relay:
            _await_calls(calls, count * number // (kills + 1), relay)
            relay.kill()
        tell("kills", number, kills)
    with running(order) as relay:
        _await(lambda: _unsettled_count(dsn) == 0, relay, RECEIPTS_POLL_SECONDS)
        seconds = time.monotonic() - began_at
        relay.stop()
        return _recovered(dsn, count, seconds, kills, calls, relay_lives=True)


def kill_server(postgres: EmbeddedPostgres, dsn: str, count: int, calls: Path, tell: Tell) -> Recovered:
    """Drain with one relay that is left alone while the server dies amid the drain and starts again."""
    fill(dsn, count, tell)
    began_at = time.monotonic()
    with running(Order(dsn, calls=str(calls))) as relay:
        _await_calls(calls, count // 3, relay)
        postgres.restart("immediate")
        _await(lambda: _unsettled_count(dsn) == 0, relay, RECEIPTS_POLL_SECONDS)
        seconds = time.monotonic() - began_at
        relay_lives = relay.lives
        if relay_lives:
            relay.stop()
        return _recovered(dsn, count, seconds, 1, calls, relay_lives=relay_lives)


def _await_calls(calls: Path, count: int, relay: RelayProcess) -> None:
    _await(lambda: _call_count(calls) >= count, relay, CALLS_POLL_SECONDS)


def _await(condition: Callable[[], bool], relay: RelayProcess, poll_seconds: float) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if not relay.lives:
            raise OutboxError("expected the relay to run, found that it ended by itself")
        if time.monotonic() > deadline:
            raise OutboxError(
                f"expected the relay to handle everything within {PATIENCE_SECONDS:g} s, found it has not"
            )
        time.sleep(poll_seconds)


def _call_count(calls: Path) -> int:
    return calls.stat().st_size // CALL.size if calls.exists() else 0


def _unsettled_count(dsn: str) -> int:
    with connect(dsn) as connection:
        row = connection.execute(COUNT_UNSETTLED).fetchone()
    assert row is not None
    count: int = row[0]
    return count


def _recovered(dsn: str, count: int, seconds: float, deaths: int, calls: Path, *, relay_lives: bool) -> Recovered:
    handled: defaultdict[int, list[float]] = defaultdict(list)
    for event_id, at in _read(calls):
        handled[event_id].append(at)
    with connect(dsn) as connection:
        settled_at: Mapping[int, float] = dict(connection.execute(READ_RECEIPTS).fetchall())
    return Recovered(
        events=count,
        seconds=seconds,
        deaths=deaths,
        handled_count=len(handled),
        handled_again_count=sum(len(instants) - 1 for instants in handled.values()),
        handled_after_receipt_count=sum(
            at > settled_at[event_id] for event_id, instants in handled.items() for at in instants
        ),
        relay_lives=relay_lives,
    )


def _read(calls: Path) -> Iterator[tuple[int, float]]:
    content = calls.read_bytes()
    yield from CALL.iter_unpack(content[: len(content) // CALL.size * CALL.size])
