"""NOTIFY is a hint: whatever the bell does, what was committed is read, and promptly."""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import LiteralString

import psycopg
import pytest

from outbox.outcome import Published
from relay import doorbell
from relay.doorbell import Rate, seconds_to_next_look
from tests.relay.running import (
    PROMPT_SECONDS,
    Gate,
    Script,
    Store,
    all_settled,
    closed,
    emit,
    eventually,
    get,
    ready,
    settings,
    state_is,
    value,
    working,
)

pytestmark = pytest.mark.anyio

IS_MUTED = "select coalesce(bool_or(awake_until > clock_timestamp()), false) from outbox.relays"
FORGET: LiteralString = "select set_config('outbox.muted_lanes_known_in', '', false)"
LISTENER: LiteralString = (
    "select count(pg_terminate_backend(pid)) from pg_stat_activity "
    "where datname = current_database() and application_name = %s"
)


def judged(counts: list[tuple[float, int]]) -> list[bool]:
    """Whether the rate is above 50 a second after each count."""
    rate = Rate(50)
    found = []
    for now, number in counts:
        rate.count(now, number)
        found.append(rate.high)
    return found


def test_a_rate_is_high_when_the_last_second_was() -> None:
    """It is judged once the second is over, by its own length."""
    assert judged([(10.0, 30), (10.01, 30), (11.0, 0), (12.0, 0)]) == [False, False, True, False]


def test_a_rate_is_high_as_soon_as_that_is_certain() -> None:
    """Where there were enough for a whole second, nobody has to wait for the rest of it."""
    assert judged([(10.0, 30), (10.2, 30), (10.4, 0), (11.0, 0), (12.0, 0)]) == [False, True, True, True, False]


def test_a_burst_is_no_rate() -> None:
    """What is over within a moment, as the rings of a bulk commit are, does not have the relay poll for seconds."""
    assert judged([(10.0, 64), (10.09, 64), (13.0, 0)]) == [False, False, False]


def test_a_rate_that_is_forgotten_is_counted_anew() -> None:
    """Rings from before the bell was muted do not mute it once more."""
    rate = Rate(50)
    for now in (10.0, 10.2):
        rate.count(now, 40)
    rate.forget()
    assert not rate.high
    rate.count(10.4, 40)
    assert not rate.high


def test_a_muted_relay_that_finds_much_looks_less_often() -> None:
    """A look costs little more for hundreds of events than for one."""
    assert [seconds_to_next_look(0.01, found) for found in (0, 99, 100, 1000)] == [0.01, 0.01, 0.02, 0.02]
    assert seconds_to_next_look(0.5, 1000) == 0.5


def test_a_rate_below_the_threshold_is_not_high() -> None:
    """A long pause does not make few events many."""
    assert judged([(10.0, 49), (11.0, 60), (13.0, 0)]) == [False, False, False]


async def test_a_ring_is_heard_at_once(database: str, store: Store, script: Script) -> None:
    """Nothing waits for the poll, a minute away."""
    async with working(settings(database), script) as url:
        await state_is(store, await emit(store, "a"), "published")
        assert "outbox_rings_total 1.0" in (await get(f"{url}/metrics"))[1]


@pytest.mark.parametrize(
    "payload", ["\u00b2", "9" * 5000, "-1", "64", ""], ids=["superscript", "long", "-1", "64", "none"]
)
async def test_what_others_notify_ends_no_relay(database: str, store: Store, script: Script, payload: str) -> None:
    """Whoever can connect can notify, without any privilege."""
    async with working(settings(database), script):
        await store.execute("select pg_notify('outbox', %s)", [payload])
        await state_is(store, await emit(store, "a"), "published")
        assert await value(store, "select count(*) from outbox.relays") == 1


async def test_what_does_not_ring_is_polled(database: str, store: Store, script: Script) -> None:
    """A prepared transaction has no bell, and is delivered all the same."""
    async with working(settings(database, poll_seconds=0.2), script):
        async with store.transaction():
            await store.execute("set local outbox.ring = 'off'")
            event_id = await emit(store, "a")
        await state_is(store, event_id, "published")


async def emit_until_muted(store: Store) -> int:
    """Emit until a relay with a threshold of 20 rings a second has had its bell muted; return how many there were."""
    emitted = 0
    while not await value(store, IS_MUTED):
        for _ in range(10):
            await emit(store, "a")
        emitted += 10
        assert emitted < 20_000
    return emitted


async def test_under_load_the_bell_is_muted_and_rings_again_afterwards(
    database: str, store: Store, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that saw the muted bell, and ends after it rings again, is still read promptly."""
    quiet_seconds = doorbell._QUIET_SECONDS
    monkeypatch.setattr(doorbell, "_QUIET_SECONDS", math.inf)  # until all that is to find it muted has
    async with (
        working(settings(database, mute_rings_per_second=20), script) as url,
        listening(database) as listener,
    ):
        emitted = await emit_until_muted(store)
        assert "outbox_bell_muted 1.0" in (await get(f"{url}/metrics"))[1]
        await all_settled(store, emitted)
        await store.execute(FORGET)  # or what it knew just before the bell was muted has it ring for a moment more
        await lanes_rung(store, listener)
        for _ in range(10):
            await emit(store, "a")
        async with await psycopg.AsyncConnection.connect(database) as late:  # saw the muted bell, and takes its time
            await late.execute("select outbox.emit('t', '{\"name\": \"late\"}')")
            await all_settled(store, emitted + 10)
            monkeypatch.setattr(doorbell, "_QUIET_SECONDS", quiet_seconds)

            async def rings_again() -> bool:
                return not await value(store, IS_MUTED)

            await eventually(rings_again)
            await late.commit()
        await all_settled(store, emitted + 11, seconds=PROMPT_SECONDS)
        assert await lanes_rung(store, listener) == []  # none of the eleven rang
        await state_is(store, await emit(store, "b"), "published")
        assert len(await lanes_rung(store, listener)) == 1
    assert script.calls.count("late") == 1


async def test_a_relay_that_lingers_under_load_mutes_the_bell(database: str, store: Store, script: Script) -> None:
    """Lanes that are taken while much is emitted are not looked at without a pause until that ends."""
    async with await psycopg.AsyncConnection.connect(database) as open_since_before:
        await open_since_before.execute("select pg_current_xact_id()")  # until it ends, whoever takes lanes lingers
        async with working(settings(database, mute_rings_per_second=20), script):
            await store.execute("set outbox.ring = 'off'")  # or its rings would mute it, once it does not linger
            emitted = 0
            while not await value(store, IS_MUTED):
                await emit(store, "a")
                emitted += 1
                assert emitted < 5_000
            await all_settled(store, emitted)


EMIT_AS_IT_RINGS_AGAIN: LiteralString = """
do $$
declare
  looked_at timestamptz;
begin
  loop
    looked_at := clock_timestamp();
    exit when not exists (select from outbox.relays where awake_until > clock_timestamp());
    perform set_config('outbox.muted_lanes', '-1', false),
      set_config('outbox.muted_lanes_known_in', date_part('epoch', looked_at)::bigint::text, false),
      pg_sleep(0.001);
  end loop;
  perform outbox.emit('t', '{"name": "remembering"}');
end
$$
"""


async def test_a_session_that_remembers_a_muted_bell_is_read_promptly(
    database: str, store: Store, script: Script
) -> None:
    """It looked just before the bell was to ring again, and emits just after."""
    async with working(settings(database, mute_rings_per_second=20), script), listening(database) as listener:
        emitted = await emit_until_muted(store)
        await all_settled(store, emitted)
        await lanes_rung(store, listener)
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as remembering:
            await remembering.execute(EMIT_AS_IT_RINGS_AGAIN)
        await all_settled(store, emitted + 1)
        rung_count = len(await lanes_rung(store, listener))
        assert rung_count in (0, 1)  # one where the machine was so slow that it had forgotten
    assert script.calls.count("remembering") == 1


async def test_what_saw_the_muted_bell_of_a_lanes_former_owner_is_read_promptly(
    database: str, store: Store, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It commits when another relay owns the lane, whose bell rings, and which looks without it a minute later."""
    monkeypatch.setattr(doorbell, "_QUIET_SECONDS", math.inf)
    async with await psycopg.AsyncConnection.connect(database) as late:
        async with working(settings(database, mute_rings_per_second=20), script):
            emitted = await emit_until_muted(store)
            await late.execute("select outbox.emit('t', '{\"name\": \"late\"}')")
            await all_settled(store, emitted)
        async with working(settings(database), script) as url:
            await late.commit()
            await all_settled(store, emitted + 1)
            assert "outbox_rings_total 0.0" in (await get(f"{url}/metrics"))[1]
    assert script.calls.count("late") == 1


@asynccontextmanager
async def listening(database: str) -> AsyncIterator[Store]:
    """A session of ours that hears every bell."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as listener:
        await listener.execute("listen outbox")
        yield listener


async def lanes_rung(store: Store, listener: Store) -> list[str]:
    """What it has heard of the bell since it was asked last: notifications come in the order of their commits."""
    await store.execute("select pg_notify('outbox', 'so far')")
    heard: list[str] = []
    async for notification in listener.notifies(timeout=PROMPT_SECONDS):
        if notification.payload == "so far":
            return [payload for payload in heard if payload.isdigit()]
        heard.append(notification.payload)
    pytest.fail("a notification was not heard")


async def test_a_listener_that_is_killed_comes_back_and_meanwhile_polls(
    database: str, store: Store, script: Script
) -> None:
    """Nothing else of the relay suffers, and nothing waits for the poll of a minute."""
    script.acts["a"] = [Published()]
    async with working(settings(database, poll_unlistened_seconds=0.05), script) as url:
        for _ in range(3):
            assert await value(store, LISTENER, ["outbox-listener"]) == 1
            await state_is(store, await emit(store, "a"), "published")
            await eventually(lambda: ready(url))
        await state_is(store, await emit(store, "a"), "published")
        assert await value(store, "select count(*) from outbox.relays") == 1


async def test_without_a_listener_it_polls(database: str, store: Store, script: Script) -> None:
    """Where LISTEN is not to be had, as behind a transaction pooler, events are found by looking."""
    async with working(settings(database, poll_unlistened_seconds=0.05), script) as url, closed(database):
        assert await value(store, LISTENER, ["outbox-listener"]) == 1
        await eventually(lambda: polling(url))
        for _ in range(3):
            await state_is(store, await emit(store, "a"), "published")


async def polling(url: str) -> bool:
    """Whether the relay says that it polls."""
    return '"polling"' in (await get(f"{url}/readyz"))[1]


async def test_nobody_rings_for_a_relay_that_does_not_hear(database: str, store: Store, script: Script) -> None:
    """Its listener is gone and can't come back: writers are asked not to ring; once it hears, they ring again."""

    async def rings_again() -> bool:
        return await ready(url) and not await value(store, IS_MUTED)

    async with listening(database) as listener, working(settings(database), script) as url:
        async with closed(database):
            await value(store, LISTENER, ["outbox-listener"])
            await eventually(lambda: value(store, IS_MUTED), seconds=60)
            await lanes_rung(store, listener)
            await store.execute(FORGET)
            for _ in range(20):
                await emit(store, "unheard")
            await all_settled(store, 20)
            assert await lanes_rung(store, listener) == []
        await eventually(rings_again, seconds=60)
        await store.execute(FORGET)
        await emit(store, "heard")
        assert len(await lanes_rung(store, listener)) == 1
        await all_settled(store, 21)


async def test_a_muted_bell_stays_so_while_nothing_is_read(
    database: str, store: Store, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its room is full of an event that takes long, so that the reader does not come by; and it does not hear."""
    monkeypatch.setattr("relay.doorbell._RENEW_MUTE_SECONDS", 0.1)
    gate = Gate()
    script.acts["slow"] = [gate]
    longer: LiteralString = "select awake_until > %s from outbox.relays"

    async with working(settings(database, in_hand_max=1), script):
        async with closed(database):
            await emit(store, "slow")
            await gate.entered.wait()
            await value(store, LISTENER, ["outbox-listener"])
            await eventually(lambda: value(store, IS_MUTED), seconds=60)
            until = await value(store, "select awake_until from outbox.relays")
            await eventually(lambda: value(store, longer, [until]), seconds=60)
        gate.opened.set()
        await all_settled(store, 1)


async def test_a_listener_that_is_ended_leaves_no_connection_open(
    database: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a busy machine, where psycopg lets others run at each wait: at what it does to leave, too."""
    monkeypatch.setattr("psycopg.waiting.MAX_BUSY_TIME", -1.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        async with working(settings(database), script):
            pass
        gc.collect()
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == []
