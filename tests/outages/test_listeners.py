"""The listener that no longer hears, without any error: it finds out by itself, and listens anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import pytest
from psycopg import AsyncConnection
from pydantic import SecretStr
from structlog.testing import capture_logs

from tests.proxy import Mode, Proxy, open_proxy
from tests.relay.running import Script, Store, all_settled, emit, eventually, get, ready, settings, working

pytestmark = pytest.mark.anyio

LONG_SECONDS = 120.0


async def polls(url: str) -> bool:
    """Whether a relay works without the bell."""
    status, text = await get(f"{url}/readyz")
    return status == 200 and '"polling"' in text


async def listens(url: str) -> bool:
    """Whether a relay hears the bell."""
    return "outbox_listener_connected 1.0" in (await get(f"{url}/metrics"))[1]


async def is_deaf(url: str) -> bool:
    """Whether a relay has counted that its listener heard nothing."""
    return "outbox_listener_deaf_total 1.0" in (await get(f"{url}/metrics"))[1]


@dataclass(frozen=True, slots=True)
class Past:
    """A relay that listens past a proxy, and reaches its database without."""

    url: str
    proxy: Proxy
    store: Store


@asynccontextmanager
async def past_a_proxy(database: str, script: Script, **changed: float) -> AsyncIterator[Past]:
    """Run such a relay, which looks twice a second whether it hears."""
    async with (
        open_proxy(database) as proxy,
        await AsyncConnection.connect(database, autocommit=True) as store,
    ):
        listen_dsn = SecretStr(proxy.dsn(database))
        given = settings(database, listen_dsn=listen_dsn, listen_check_seconds=0.5, **changed)
        async with working(given, script) as url:
            yield Past(url, proxy, store)


async def test_a_listener_in_a_black_hole(database: str, script: Script) -> None:
    """Its socket is open and silent: the relay polls meanwhile, and hears again when it can."""
    with capture_logs() as logs:
        async with past_a_proxy(database, script, lease_seconds=6) as relay:
            await relay.proxy.use(Mode.BLACK_HOLE)
            await eventually(partial(is_deaf, relay.url), seconds=LONG_SECONDS)
            await eventually(partial(polls, relay.url), seconds=LONG_SECONDS)
            await emit(relay.store, "meanwhile")
            await all_settled(relay.store, 1)
            await relay.proxy.use(Mode.PASS)
            await eventually(partial(ready, relay.url), seconds=LONG_SECONDS)
            await emit(relay.store, "afterwards")
            await all_settled(relay.store, 2)
    warnings = [line["event"] for line in logs if line["log_level"] in ("warning", "error")]
    assert warnings.count("listener.deaf") == 1
    assert "incarnation.ended" not in warnings


async def test_a_listener_that_falls_behind(database: str, script: Script) -> None:
    """What it hears comes late: the relay polls, on the same connection, until it hears in time."""
    with capture_logs() as logs:
        # No poll of a relay that listens would bring the event before the test ends.
        async with past_a_proxy(database, script, poll_seconds=60, lease_seconds=60) as relay:
            await eventually(partial(ready, relay.url), seconds=LONG_SECONDS)
            connected_count = relay.proxy.accepted_count
            await relay.proxy.use(Mode.LATENCY, latency_seconds=1)
            await eventually(partial(polls, relay.url), seconds=LONG_SECONDS)
            await emit(relay.store, "meanwhile")
            await all_settled(relay.store, 1)
            await relay.proxy.use(Mode.PASS)
            await eventually(partial(listens, relay.url), seconds=LONG_SECONDS)
            await emit(relay.store, "afterwards")
            await all_settled(relay.store, 2)
            assert relay.proxy.accepted_count == connected_count
    told = [line["event"] for line in logs]
    assert told.count("listener.behind") == 1
    assert "listener.deaf" not in told
