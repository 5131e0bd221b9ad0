"""A whole relay on a database of the test's own, with a handler that the test commands."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, LiteralString

import aiohttp
import anyio
from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from outbox.event import Event, EventId
from outbox.handler import Handler, HandlerFactory, Runtime
from outbox.ledger import Ledger
from outbox.outcome import Outcome, Published
from relay.app import serve
from relay.settings import RelaySettings

Store = AsyncConnection[TupleRow]

PROMPT_SECONDS = 25.0
"""Much for a busy machine, and less than any look that such a relay makes unasked: those come after 30 s and more."""

ALL_SECONDS = 50.0
"""The same for many events, and less than `poll_seconds`."""

STATE: LiteralString = "select state from outbox.status(%s)"
REASON: LiteralString = "select state || ':' || coalesce(reason, '') from outbox.status(%s)"
EMIT: LiteralString = """
select outbox.emit(
  't', %(payload)s, key => %(key)s, sequence => %(sequence)s,
  publish_at => clock_timestamp() + %(publish_in)s * interval '1 second',
  expires_at => clock_timestamp() + %(expires_in)s * interval '1 second'
)
"""

TERMINATE: LiteralString = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and application_name like 'outbox-%' and application_name <> 'outbox-test'
"""
"""Ends every connection of the relay; returns how many there were."""


def settings(dsn: str, **changes: Any) -> RelaySettings:
    """Settings of a relay that is quick about everything but to lose its lease, as a busy machine might have it.

    Polls are slow, so that what is prompt was not polled.
    """
    quick = {
        "metrics_port": 0,
        "lease_seconds": 15.0,
        "poll_seconds": 60.0,
        "cursor_seconds": 0.1,
        "gauge_seconds": 0.5,
        "shutdown_seconds": 5.0,
        "backoff_base_seconds": 0.01,
        "backoff_cap_seconds": 0.02,
        "attempts_max": 3,
        "short_deferral_seconds": 1.0,
        "unknown_seconds": 0.1,
    }
    return RelaySettings(dsn=SecretStr(dsn), **{**quick, **changes})


@dataclass
class Script:
    """A handler that does what the test says for each event's name, publishes otherwise, and remembers its calls.

    Attributes:
        acts: By the payload's `name`: what to do at the first call, the second one, and so on; the last one repeats.
        calls: The names of the events, in the order of the calls.
        handled: The ledger of each call.
    """

    acts: dict[str, list[Callable[[Event, Ledger], Awaitable[Outcome]] | Outcome]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    handled: list[tuple[str, Ledger]] = field(default_factory=list)

    async def handle(self, event: Event, ledger: Ledger) -> Outcome:
        """Handle an event as told."""
        name = str(event.payload.get("name"))
        done = self.calls.count(name)
        self.calls.append(name)
        self.handled.append((name, ledger))
        acts = self.acts.get(name, [Published()])
        act = acts[min(done, len(acts) - 1)]
        return await act(event, ledger) if callable(act) else act

    @asynccontextmanager
    async def open(self, runtime: Runtime) -> AsyncIterator[Handler]:
        """Open the handler: a `HandlerFactory`."""
        yield self.handle

    @property
    def factories(self) -> Mapping[str, HandlerFactory]:
        """What the relay is started with."""
        return {"t": self.open}


@dataclass
class Gate:
    """Holds a handler in the middle of its work, until the test opens it."""

    entered: anyio.Event = field(default_factory=anyio.Event)
    opened: anyio.Event = field(default_factory=anyio.Event)
    outcome: Outcome = field(default_factory=Published)

    async def __call__(self, event: Event, ledger: Ledger) -> Outcome:
        """Stand in the gate."""
        self.entered.set()
        await self.opened.wait()
        return self.outcome


@asynccontextmanager
async def relay(settings: RelaySettings, script: Script) -> AsyncIterator[str]:
    """Run a relay beside the block and stop it cleanly at its end; gives the URL of its HTTP server."""
    stop = anyio.Event()
    with anyio.fail_after(120):
        async with serve(settings, stop, factories=script.factories) as url:
            try:
                yield url
            finally:
                stop.set()


@asynccontextmanager
async def working(settings: RelaySettings, script: Script) -> AsyncIterator[str]:
    """As `relay`, with a block that begins when the relay owns its lanes and listens."""
    async with relay(settings, script) as url:
        await eventually(lambda: ready(url))
        yield url


@asynccontextmanager
async def closed(dsn: str) -> AsyncIterator[None]:
    """Refuse new connections to a database for the block; those that are there go on."""
    name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    elsewhere = make_conninfo(dsn, dbname="postgres")
    async with await AsyncConnection.connect(elsewhere, autocommit=True) as connection:
        await connection.execute(sql.SQL("alter database {} with allow_connections false").format(name))
        try:
            yield
        finally:
            await connection.execute(sql.SQL("alter database {} with allow_connections true").format(name))


async def emit(
    store: Store,
    name: str,
    *,
    key: str | None = None,
    sequence: str | None = None,
    publish_in: float | None = None,
    expires_in: float | None = None,
) -> EventId:
    """Emit an event that the script knows by its name; seconds are from now, by the database's clock."""
    return EventId(
        await value(
            store,
            EMIT,
            {
                "payload": Jsonb({"name": name}),
                "key": key,
                "sequence": sequence,
                "publish_in": publish_in,
                "expires_in": expires_in,
            },
        )
    )


async def rows(store: Store, query: LiteralString, arguments: Any = None) -> list[TupleRow]:
    """All rows of a query."""
    return await (await store.execute(query, arguments)).fetchall()


async def end_waits(store: Store) -> None:
    """End all holds and have all that waits for a time be due; the relay looks at once."""
    async with store.transaction():
        await store.execute("update outbox.holds set held_until = clock_timestamp() where held_until > now()")
        await store.execute("update outbox.waiting set due_at = clock_timestamp() where due_at < 'infinity'")
        await store.execute("notify outbox, 'waiting'")


async def let_expire(store: Store, event_id: EventId) -> None:
    """Have the deadline of an event pass, and what waits for it be due; the relay looks at once."""
    passed = "update outbox.events set expires_at = clock_timestamp() where id = %s and expires_at is not null"
    async with store.transaction():
        assert (await store.execute(passed, [event_id])).rowcount == 1
        await store.execute("update outbox.waiting set due_at = clock_timestamp() where event_id = %s", [event_id])
        await store.execute("notify outbox, 'waiting'")


async def value(store: Store, query: LiteralString, arguments: Any = None) -> Any:
    """The one value of a query."""
    [(found,)] = await rows(store, query, arguments)
    return found


async def eventually(condition: Callable[[], Awaitable[object]], *, seconds: float = PROMPT_SECONDS) -> None:
    """Poll until a condition holds; a test that waits longer fails here."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await anyio.sleep(0.005)


async def state_is(store: Store, event_id: EventId, state: str, *, seconds: float = PROMPT_SECONDS) -> None:
    """Return once an event is in a state: `published`, or `waiting:held` with the reason."""
    query = REASON if ":" in state else STATE
    deadline = time.monotonic() + seconds
    while (found := await value(store, query, [event_id])) != state:
        assert time.monotonic() < deadline, f"expected event {event_id} to be {state} within {seconds} s, it is {found}"
        await anyio.sleep(0.005)


async def all_settled(store: Store, count: int, *, seconds: float = ALL_SECONDS) -> None:
    """Return once so many events have a receipt."""

    async def settled() -> bool:
        return bool(await value(store, "select count(*) from outbox.receipts") >= count)

    await eventually(settled, seconds=seconds)


async def get(url: str) -> tuple[int, str]:
    """Status and text of a page."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def ready(url: str) -> bool:
    """Whether the relay owns its lanes and hears the bell."""
    status, text = await get(f"{url}/readyz")
    return status == 200 and '"connected"' in text
