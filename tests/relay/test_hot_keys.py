"""One key with far more events than its handler can take: others go on, and it goes on in its order."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import LiteralString

import pytest

from outbox.outcome import Published
from schema.embedded import EmbeddedPostgres
from tests.relay.running import Gate, Script, Store, all_settled, emit, get, settings, state_is, value, working
from tests.relay.statements import FETCH, LIST, LOOK, counting

pytestmark = pytest.mark.anyio

KEPT_COUNT = 25
"""Events of a hot key that stay in hand, where there is room for 100."""

LANE: LiteralString = "select hashtextextended(%s, 0) & 63"
ASIDE: LiteralString = "select pid from pg_stat_activity where application_name = 'outbox-reader-aside'"
EMITTED = 'outbox_events_emitted_total{type="t"} 1003.0'


@pytest.mark.parametrize("sequence", [None, "s"])
async def test_a_hot_key_keeps_nobody_from_being_read(
    database: str, store: Store, script: Script, sequence: str | None
) -> None:
    """With far more of it queued than the relay has room for, others are handled; then it goes on, in its order."""
    gate = Gate()
    script.acts["hot"] = [gate]
    many = "select count(outbox.emit('t', '{\"name\": \"hot\"}', 'k', sequence => %s)) from generate_series(1, 1000)"
    async with working(settings(database, in_hand_max=40, slice_count=20), script):
        await store.execute(many, [sequence])
        await gate.entered.wait()
        for number in range(3):
            await state_is(store, await emit(store, f"other{number}", key=f"l{number}"), "published")
        assert await value(store, "select count(*) from outbox.receipts") == 3
        assert await value(store, "select count(*) from outbox.waiting") == 0
        gate.opened.set()
        await all_settled(store, 1003, seconds=60)
    handled = [ledger.event.id for name, ledger in script.handled if name == "hot"]
    assert handled == sorted(set(handled))


async def test_what_is_spilled_of_a_hot_key_is_found_by_the_next_relay(
    database: str, store: Store, script: Script
) -> None:
    """Nothing is written of it: it is in the log, behind the cursor that was saved."""
    gate = Gate()
    script.acts["hot"] = [gate, Published()]
    many = "select count(outbox.emit('t', '{\"name\": \"hot\"}', 'k', sequence => 's')) from generate_series(1, 500)"
    async with working(settings(database, in_hand_max=40, slice_count=20, shutdown_seconds=0.1), script):
        await store.execute(many)
        await gate.entered.wait()
        await state_is(store, await emit(store, "other", key="l"), "published")
    async with working(settings(database, in_hand_max=40, slice_count=20), script):
        await all_settled(store, 501, seconds=60)
    handled = [ledger.event.id for name, ledger in script.handled if name == "hot"][1:]
    assert handled == sorted(set(handled))
    assert len(handled) == 500


@pytest.mark.parametrize("is_backlog", [False, True])
@pytest.mark.parametrize("sequence", [None, "s"])
async def test_a_hot_keys_backlog_is_not_read_before_what_others_emit_after_it(
    own_server: Callable[..., EmbeddedPostgres], script: Script, is_backlog: bool, sequence: str | None
) -> None:
    """It is listed once, for itself, and of its 1,000 events only those are read that stay in hand."""
    gate = Gate()
    script.acts["hot"] = [gate]
    many = "select count(outbox.emit('t', '{\"name\": \"hot\"}', 'k', sequence => %s)) from generate_series(1, 1000)"
    async with counting(own_server) as counted:
        store = counted.store
        if is_backlog:
            await store.execute(many, [sequence])
        lists_before = 1  # of what a predecessor had seen: nothing
        async with working(settings(counted.dsn, in_hand_max=100, slice_count=20), script) as url:
            if not is_backlog:
                lists_before = await counted.quiet(LIST)
                await store.execute(many, [sequence])
            await gate.entered.wait()
            for number in range(3):
                await state_is(store, await emit(store, f"other{number}", key=f"l{number}"), "published")
            assert await counted.returned(FETCH) <= KEPT_COUNT
            # What was there at the start is listed of the others, too: some of it may have been settled.
            assert await counted.calls(LIST) == lists_before + 1 + is_backlog
            assert await value(store, "select count(*) from outbox.receipts") == 3
            assert EMITTED in (await get(f"{url}/metrics"))[1].splitlines()
            gate.opened.set()
            await all_settled(store, 1003, seconds=60)
    handled = [ledger.event.id for name, ledger in script.handled if name == "hot"]
    assert handled == sorted(set(handled))


@pytest.mark.parametrize("hot_count", [1, 5])
async def test_nobody_waits_while_the_events_of_hot_keys_are_listed(
    own_server: Callable[..., EmbeddedPostgres], script: Script, hot_count: int
) -> None:
    """Their lanes are read aside: the server may take its time for that. Afterwards one look is for all again."""
    many = "select count(outbox.emit('t', '{\"name\": \"hot\"}', 'k' || n %% %s)) from generate_series(1, 500) as n"
    async with counting(own_server) as counted:
        store = counted.store
        hot_lanes = [await value(store, LANE, [f"k{number}"]) for number in range(hot_count)]
        others = [key for key in "abcdefgh" if await value(store, LANE, [key]) not in hot_lanes][:3]
        async with working(settings(counted.dsn, in_hand_max=100, slice_count=20), script):
            lists_for_ever = await value(store, ASIDE)
            os.kill(lists_for_ever, signal.SIGSTOP)
            try:
                await store.execute(many, [hot_count])
                for key in others:
                    await state_is(store, await emit(store, key, key=key), "published")
                assert "hot" not in script.calls
            finally:
                os.kill(lists_for_ever, signal.SIGCONT)
            await all_settled(store, 503, seconds=60)
            looks_before = await counted.quiet(LOOK)
            await state_is(store, await emit(store, "last", key="k0"), "published")
            assert await counted.quiet(LOOK) == looks_before + 1
    for hot in range(hot_count):
        handled = [ledger.event.id for _, ledger in script.handled if ledger.event.key == f"k{hot}"]
        assert handled == sorted(set(handled))
