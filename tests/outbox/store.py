"""What the tests of the store share: connections, an incarnation that owns lanes, events."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, LiteralString, Unpack

import anyio
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox import database, lease
from outbox.batch import Receipt, Wait
from outbox.emit import Options, emit
from outbox.event import LANE_COUNT, Event, EventId, Lane, RelayId
from outbox.log import fetch
from outbox.outcome import Reason

Store = AsyncConnection[TupleRow]

LANES = [Lane(lane) for lane in range(LANE_COUNT)]

IS_BLOCKED: LiteralString = "select cardinality(pg_blocking_pids(%s)) > 0"


async def connect(dsn: str) -> Store:
    """A connection as the relay's own are; to be closed by the caller."""
    return await database.connect(dsn, application_name="outbox-test")


async def rows(store: Store, query: LiteralString, arguments: Any = None) -> list[TupleRow]:
    """All rows of a query."""
    return await (await store.execute(query, arguments)).fetchall()


async def value(store: Store, query: LiteralString, arguments: Any = None) -> Any:
    """The one value of a query."""
    [(found,)] = await rows(store, query, arguments)
    return found


async def incarnate(store: Store, *, lease_seconds: float = 60) -> RelayId:
    """A new incarnation that owns every lane that is free."""
    relay_id = await lease.join(store, name="test", version="0", lease_seconds=lease_seconds)
    await lease.take_lanes(store, relay_id)
    return relay_id


async def event(store: Store, **options: Unpack[Options]) -> Event:
    """An event that has just been emitted, as the relay reads it."""
    event_id = await emit(store, "t", {}, **options)
    [emitted] = await fetch(store, [event_id])
    return emitted


async def events(store: Store, count: int, **options: Unpack[Options]) -> list[Event]:
    """So many events, oldest first."""
    return [await event(store, **options) for _ in range(count)]


def receipt(of: Event, *, was_waiting: bool = False) -> Receipt:
    """A receipt of an event that was published at the first try."""
    return Receipt(of, "published", None, 0, 0, {"remote_id": "1"}, None, 0.1, was_waiting)


def wait(of: Event, reason: Reason = Reason.RETRY, delay_seconds: float = 60, error: str | None = None) -> Wait:
    """A waiting row."""
    return Wait(of, reason, delay_seconds, 1, 0, error)


def ids(of: Sequence[Event]) -> list[EventId]:
    """Their ids."""
    return [each.id for each in of]


async def eventually(condition: Callable[[], Awaitable[object]], *, seconds: float = 60) -> None:
    """Poll until a condition holds; a test that waits longer fails here."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await anyio.sleep(0.005)


async def blocked(observer: Store, connection: Store) -> None:
    """Return once a connection waits for a lock of another one."""

    async def is_blocked() -> bool:
        return bool(await value(observer, IS_BLOCKED, [connection.info.backend_pid]))

    await eventually(is_blocked)
