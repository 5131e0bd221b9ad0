"""The clock of the relay's machine is an hour off: events go by the database's."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import LiteralString

import pytest
from psycopg import AsyncConnection

from tests.processes import program, read_line
from tests.relay.running import Store, emit, eventually, state_is, value

FAKETIME = shutil.which("faketime")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(FAKETIME is None, reason="needs faketime: apt-get install faketime"),
]

LONG_SECONDS = 120.0
HOUR_SECONDS = 3600
SOON_SECONDS = 1.0

RELAY = """
import os, sys, time
from contextlib import asynccontextmanager
import anyio
from pydantic import SecretStr
from outbox.outcome import Defer, Published, Reason
from relay import app, logs
from relay.settings import RelaySettings

@asynccontextmanager
async def open_handler(runtime):
    async def handle(event, ledger):
        if event.payload["name"] == "not yet":
            return Defer(120, Reason.PROCESSING)
        # Refused where the lease does not outlive the call.
        await ledger.intent("call", fingerprint="f", detail={}, call_seconds=1)
        await ledger.done("call", {})
        return Published()
    yield handle

app.installed_factories = lambda: {"t": open_handler}
logs.configure("json", "info")
print(os.getpid(), time.time(), flush=True)
settings = {"dsn": SecretStr(sys.stdin.readline().strip()), "metrics_port": 0, "lease_seconds": 5, "gauge_seconds": 0.5}
anyio.run(app.run, RelaySettings.model_validate(settings))
"""

EARLY: LiteralString = """
select count(*) from outbox.receipts as r join outbox.events as e on e.id = r.event_id
where r.dispatched_at < e.publish_at
"""
RELAYS: LiteralString = """
select count(*) from outbox.relays
where leased_until - clock_timestamp() > interval '1 minute' or abs(extract(epoch from started_at - now())) > 600
"""


async def lanes_are_taken(store: Store) -> bool:
    """Whether a relay works."""
    return bool(await value(store, "select count(*) from outbox.lanes where relay_id is not null") == 64)


@pytest.mark.parametrize("offset", ["+1h", "-1h"])
async def test_an_hour_changes_nothing(database: str, offset: str) -> None:
    """What is due is not early, not late, and not expired; what expires does so in time; the lease is a lease."""
    assert FAKETIME is not None
    fake = (FAKETIME, "-m", "-f", offset)
    environment = {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    async with await AsyncConnection.connect(database, autocommit=True) as store:
        with program(RELAY, prefix=fake, environment=environment) as process, ExitStack() as stack:
            pid, its_time = read_line(process).split()
            stack.callback(os.kill, int(pid), signal.SIGKILL)  # faketime, killed, leaves it behind
            apart_seconds = float(its_time) - datetime.now(UTC).timestamp()
            assert abs(abs(apart_seconds) - HOUR_SECONDS) < 600
            assert process.stdin is not None
            process.stdin.write(f"{database}\n")
            process.stdin.flush()
            await eventually(partial(lanes_are_taken, store), seconds=LONG_SECONDS)
            at_once = await emit(store, "at once", expires_in=1800)
            soon = await emit(store, "soon", publish_in=SOON_SECONDS, expires_in=1800)
            in_half_an_hour = await emit(store, "in half an hour", publish_in=1800, expires_in=5400)
            expired = await emit(store, "expired", expires_in=-1)
            expires = await emit(store, "not yet", expires_in=1.5)
            await state_is(store, at_once, "published", seconds=LONG_SECONDS)
            await state_is(store, soon, "published", seconds=LONG_SECONDS)
            await state_is(store, expired, "expired", seconds=LONG_SECONDS)
            await state_is(store, expires, "expired", seconds=LONG_SECONDS)
            await state_is(store, in_half_an_hour, "waiting:scheduled", seconds=LONG_SECONDS)
            assert await value(store, EARLY) == 0
            assert await value(store, RELAYS) == 0
            assert process.poll() is None
