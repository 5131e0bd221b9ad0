"""The server's queue of notifications: who listens and does not read fills it, for all databases of the cluster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from psycopg import AsyncConnection

from schema.embedded import EmbeddedPostgres
from schema.migrate import migrate
from tests.relay.running import Script, eventually, get, settings, working

pytestmark = pytest.mark.anyio

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
