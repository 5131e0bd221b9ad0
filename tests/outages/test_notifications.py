"""The server's queue of notifications: who listens and does not read fills it, for all databases of the cluster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from psycopg import AsyncConnection, errors
from structlog.testing import capture_logs

from outbox.outcome import Hold, Published
from schema.binaries import find_binaries
from schema.embedded import EmbeddedPostgres
from schema.migrate import migrate
from tests.postgres import bindir
from tests.relay.running import (
    Script,
    Store,
    all_settled,
    emit,
    eventually,
    get,
    relay,
    settings,
    state_is,
    value,
    working,
)

pytestmark = pytest.mark.anyio

LONG_SECONDS = 120.0
SMALLEST_QUEUE = {"max_notify_queue_pages": "64"}
NOTIFY = "select pg_notify('filler', repeat('x', 7900))"
FILL = "select count(pg_notify('filler', repeat('x', 7000) || n)) from generate_series(1, 5000) as n"
USAGE = "outbox_notification_queue_usage_ratio "


async def usage_is_shown(url: str) -> bool:
    """Whether the relay shows that the queue is not empty."""
    _, text = await get(f"{url}/metrics")
    return any(float(line.split()[1]) > 0 for line in text.splitlines() if line.startswith(USAGE))


async def test_a_queue_that_fills_is_shown(own_server: Callable[..., EmbeddedPostgres], script: Script) -> None:
    """A session that listens inside a transaction reads nothing, and all that is notified stays in the queue."""
    server = own_server()
    dsn = server.create_database("app")
    migrate(dsn)
    async with (
        await AsyncConnection.connect(dsn, autocommit=True) as sleeper,
        await AsyncConnection.connect(dsn, autocommit=True) as writer,
        working(settings(dsn), script) as url,
    ):
        await sleeper.execute("listen filler")
        await sleeper.execute("begin")
        await writer.execute(FILL)
        await eventually(partial(usage_is_shown, url))


async def bell_is(url: str, muted: int) -> bool:
    """Whether writers are asked not to ring."""
    return f"outbox_bell_muted {muted}.0" in (await get(f"{url}/metrics"))[1]


async def notify_for_ever(store: Store) -> None:
    """Until the queue is full."""
    while True:
        await store.execute(NOTIFY)


async def test_events_are_emitted_though_the_queue_is_full(
    own_server: Callable[..., EmbeddedPostgres], script: Script
) -> None:
    """A relay that sees it fill mutes its bell in time: a ring would fail the application's transaction."""
    if find_binaries(bindir()).major < 17:
        pytest.skip("needs PostgreSQL 17, whose queue of notifications can be made small: max_notify_queue_pages")
    server = own_server(SMALLEST_QUEUE)
    dsn = server.create_database("app")
    migrate(dsn)
    with capture_logs() as logs:
        async with (
            await AsyncConnection.connect(dsn, autocommit=True) as sleeper,
            await AsyncConnection.connect(dsn, autocommit=True) as writer,
            working(settings(dsn, poll_unlistened_seconds=0.05), script) as url,
        ):
            await sleeper.execute("listen filler")
            await sleeper.execute("begin")
            while await value(writer, "select pg_notification_queue_usage()") < 0.6:
                await writer.execute(NOTIFY)
            await eventually(partial(bell_is, url, 1), seconds=LONG_SECONDS)
            with pytest.raises(errors.ProgramLimitExceeded):
                await notify_for_ever(writer)
            await emit(writer, "a")
            await all_settled(writer, 1)
            await sleeper.execute("commit")
            await eventually(partial(bell_is, url, 0), seconds=LONG_SECONDS)
            await emit(writer, "b")
            await all_settled(writer, 2)
    assert [line["event"] for line in logs if line["event"].startswith("notifications.")] == [
        "notifications.filling",
        "notifications.drained",
    ]


async def test_a_relay_joins_holds_and_leaves_though_the_queue_is_full(
    own_server: Callable[..., EmbeddedPostgres], script: Script
) -> None:
    """What it would tell the others they find at their next look; no event is dead for it."""
    if find_binaries(bindir()).major < 17:
        pytest.skip("needs PostgreSQL 17, whose queue of notifications can be made small: max_notify_queue_pages")
    dsn = own_server(SMALLEST_QUEUE).create_database("app")
    migrate(dsn)
    script.acts["a"] = [Hold(0.05, "rate_limited", "too many calls", scope="app"), Published()]
    async with (
        await AsyncConnection.connect(dsn, autocommit=True) as sleeper,
        await AsyncConnection.connect(dsn, autocommit=True) as writer,
    ):
        await sleeper.execute("listen filler")
        await sleeper.execute("begin")
        await writer.execute("set outbox.ring = 'off'")
        with pytest.raises(errors.ProgramLimitExceeded):
            await notify_for_ever(writer)
        for name in ("a", "b"):
            async with relay(settings(dsn, poll_unlistened_seconds=0.05), script) as url:
                await eventually(partial(owns_all_lanes, url))
                await state_is(writer, await emit(writer, name), "published")
        assert await value(writer, "select bool_and(retired_at < leased_until) from outbox.relays")
        await writer.execute("select outbox.hold('k', 'infinity', 'an incident'), outbox.release('k')")


async def owns_all_lanes(url: str) -> bool:
    """Whether the relay is ready, deaf or not."""
    status, text = await get(f"{url}/readyz")
    return status == 200 and '"lanes_owned": 64' in text
