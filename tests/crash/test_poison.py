"""An event that kills its relay ends dead after a bounded number of crashes, and takes nobody with it."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from functools import partial

import pytest
from psycopg.types.json import Jsonb

from outbox import database as connections
from outbox.event import EventId
from outbox.outcome import Published
from tests.processes import poll, program, read_line
from tests.relay.running import (
    TERMINATE,
    Gate,
    Script,
    Store,
    closed,
    eventually,
    rows,
    state_is,
    value,
    working,
)
from tests.relay.running import emit as emit_named
from tests.relay.running import settings as relay_settings

pytestmark = pytest.mark.anyio

OUTAGES = 4
ALL_LEASES_ENDED = "select bool_and(leased_until < clock_timestamp()) from outbox.relays where retired_at is null"

RELAY = """
import os, signal, sys, time
from contextlib import asynccontextmanager
import anyio, relay.app, relay.logs
from outbox.outcome import Published
from relay.settings import RelaySettings

async def handle(event, ledger):
    match event.payload["act"]:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "begin and kill":
            if ledger.open_intent() is None:
                await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang" if os.environ["HANG"] == "yes":
            print("hangs", flush=True)
            await anyio.sleep_forever()
        case "block":
            time.sleep(event.payload["seconds"])
    return Published()

@asynccontextmanager
async def open_handler(runtime):
    yield handle

async def main():
    relay.logs.configure("json", "error")
    settings = RelaySettings(
        dsn=sys.argv[1], metrics_port=0, lease_seconds=float(sys.argv[2]), concurrency=8, shutdown_seconds=1
    )
    async with relay.app.serve(settings, anyio.Event(), factories={"t": open_handler}):
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """A connection to look at what the relays do."""
    async with await connections.connect(database, application_name="outbox-test") as connection:
        yield connection


async def emit(store: Store, act: str, count: int = 1, **payload: object) -> list[EventId]:
    """Emit events whose handler does something; each has a key of its own."""
    emitted = "select outbox.emit('t', %s, key => 'k' || gen_random_uuid()) from generate_series(1, %s)"
    return [EventId(event_id) for (event_id,) in await rows(store, emitted, [Jsonb({"act": act, **payload}), count])]


async def _has(calls: list[str], count: int) -> bool:
    return len(calls) >= count


def running(dsn: str, *, lease_seconds: float = 1, hang: bool = False) -> AbstractContextManager[subprocess.Popen[str]]:
    """Run a relay for the block; killed at the end if it lives."""
    return program(RELAY, dsn, str(lease_seconds), environment={"HANG": "yes" if hang else "no"})


def live_and_die(dsn: str) -> None:
    """Run a relay until an event kills it."""
    with running(dsn) as process:
        assert poll(lambda: process.poll() is not None, seconds=180), "nothing killed the relay"


@pytest.mark.parametrize("act", ["kill", "exit"])
async def test_a_poison_event_is_dead_after_a_bounded_number_of_crashes(database: str, store: Store, act: str) -> None:
    """One relay dies before anything is known, three with the event on record; all others are published."""
    innocents = [*await emit(store, "publish", 20)]
    [poison] = await emit(store, act)
    innocents += await emit(store, "publish", 20)
    for _ in range(4):
        live_and_die(database)
    with running(database):
        await state_is(store, poison, "dead", seconds=180)
        for innocent in innocents:
            await state_is(store, innocent, "published", seconds=180)
        [later] = await emit(store, "publish")
        await state_is(store, later, "published", seconds=180)
    assert await rows(store, "select reason, error from outbox.receipts where outcome = 'dead'") == [
        ("crashed_relay", "3 relays died while they handled it")
    ]
    assert await value(store, "select count(*) from outbox.dispatches") == 0


async def test_what_may_be_live_is_never_dead_for_the_relays_that_it_killed(database: str, store: Store) -> None:
    """An irreversible call was begun: it waits for a person, and the crash loop ends all the same."""
    [poison] = await emit(store, "begin and kill")
    for _ in range(4):
        live_and_die(database)
    with running(database):
        await eventually(lambda: value(store, "select due_at = 'infinity' from outbox.waiting"), seconds=180)
        await state_is(store, poison, "waiting:unknown")


async def test_a_relay_that_is_killed_makes_nobody_guilty(database: str, store: Store) -> None:
    """Whatever was in its hands, twice in a row, is published by the next one."""
    events = await emit(store, "hang", 12)
    for in_hand_count in (8, 8, 1):
        with running(database, hang=True) as process:
            assert [read_line(process) for _ in range(in_hand_count)] == ["hangs"] * in_hand_count
    assert await value(store, "select count(*) from outbox.dispatches") == 9
    with running(database):
        for event_id in events:
            await state_is(store, event_id, "published", seconds=180)
    assert await value(store, "select count(*) from outbox.dispatches") == 0


async def test_a_relay_that_lives_through_outages_makes_nobody_guilty(database: str, store: Store) -> None:
    """Its database is away for longer than its lease, four times with the same event in hand: the process lives."""
    script = Script({"patient": [*(Gate() for _ in range(OUTAGES)), Published()]})
    settings = relay_settings(database, lease_seconds=1.0, poll_seconds=0.5)
    async with working(settings, script):
        patient = await emit_named(store, "patient")
        for number in range(OUTAGES):
            await eventually(partial(_has, script.calls, number + 1))
            async with closed(database):
                await value(store, TERMINATE)
                await eventually(lambda: value(store, ALL_LEASES_ENDED), seconds=180)
        await state_is(store, patient, "published", seconds=180)
    assert await value(store, "select count(*) from outbox.dispatches") == 0


async def test_a_handler_that_blocks_everything_for_less_than_the_lease_costs_nothing(
    database: str, store: Store
) -> None:
    """The lease survives, and all goes on."""
    [blocking] = await emit(store, "block", seconds=2)
    with running(database, lease_seconds=10):
        await state_is(store, blocking, "published", seconds=180)
        [later] = await emit(store, "publish")
        await state_is(store, later, "published", seconds=180)
    assert await value(store, "select count(*) from outbox.relays") == 1


async def test_a_handler_that_blocks_for_longer_than_the_lease_ends_dead(database: str, store: Store) -> None:
    """Its relay is fenced as if it had died, and the next one: that counts, and others are published."""
    [blocking] = await emit(store, "block", seconds=3)
    [other] = await emit(store, "publish")
    with running(database), running(database):
        await state_is(store, blocking, "dead", seconds=180)
        await state_is(store, other, "published", seconds=180)
    assert await value(store, "select reason from outbox.receipts where outcome = 'dead'") == "crashed_relay"
    assert await value(store, "select count(*) from outbox.relays") <= 12
