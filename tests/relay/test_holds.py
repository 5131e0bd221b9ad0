"""An operator's hold, under a relay that runs: what is held waits, all else flows on, and nothing is left behind."""

from __future__ import annotations

from functools import partial
from typing import LiteralString

import pytest

from outbox.event import Event, EventId
from outbox.ledger import Ledger
from outbox.outcome import Hold, Outcome, Published, Unknown
from tests.relay.running import (
    TERMINATE,
    Gate,
    Script,
    Store,
    emit,
    eventually,
    ready,
    rows,
    settings,
    state_is,
    value,
    working,
)

pytestmark = pytest.mark.anyio

HOLD = "select outbox.hold(%s, 'infinity', 'an incident')"
HOLD_FOR = "select outbox.hold(%s, clock_timestamp() + %s * interval '1 second', 'a look')"
RELEASE = "select outbox.release(%s)"
STEPS = "select state from outbox.steps order by position"
END_SOON: LiteralString = """
with soon as (update outbox.holds set held_until = clock_timestamp() + interval '1 second' returning held_until),
due as (update outbox.waiting as w set due_at = soon.held_until from soon)
select pg_notify('outbox', 'waiting')
"""
DUE_AT_THE_END = "select bool_and(w.due_at = h.held_until) from outbox.waiting as w, outbox.holds as h"


async def held(store: Store, key: str | None) -> list[EventId]:
    """Return once an event of the key is held, with all that were emitted to find out; sooner than a relay looks."""
    probes: list[EventId] = []

    async def waits() -> bool:
        probes.append(await emit(store, "probe", key=key))
        await eventually(lambda: value(store, "select state <> 'new' from outbox.status(%s)", [probes[-1]]))
        return await value(store, "select reason = 'held' from outbox.status(%s)", [probes[-1]]) is True

    await eventually(waits)
    return probes


async def test_events_of_a_held_key_wait_and_go_on_in_order(database: str, store: Store, script: Script) -> None:
    """From the hold on, of which the relay is told, until its release; other keys never notice."""
    async with working(settings(database), script):
        await store.execute(HOLD, ["k"])
        await held(store, "k")
        names = [f"held {number}" for number in range(25)]
        waiting = [await emit(store, name, key="k") for name in names]
        for event_id in waiting:
            await state_is(store, event_id, "waiting:held")
        await state_is(store, await emit(store, "flows", key="l"), "published")
        assert not set(names) & set(script.calls)
        await store.execute(RELEASE, ["k"])
        for event_id in waiting:
            await state_is(store, event_id, "published")
    assert [name for name in script.calls if name in names] == names
    assert await rows(store, "select distinct attempts from outbox.receipts") == [(0,)]


async def test_a_hold_ends_by_itself(database: str, store: Store, script: Script) -> None:
    """What waits for it is due at its end, to the instant, and goes on in order."""
    async with working(settings(database), script):
        await store.execute(HOLD_FOR, ["k", 3600])
        await held(store, "k")
        names = [f"held {number}" for number in range(5)]
        waiting = []
        for name in names:  # each parked by a statement of its own
            waiting.append(await emit(store, name, key="k"))
            await state_is(store, waiting[-1], "waiting:held")
        assert await value(store, DUE_AT_THE_END) is True
        await store.execute(END_SOON)
        for event_id in waiting:
            await state_is(store, event_id, "published")
        assert await value(store, "select held_until <= clock_timestamp() from outbox.holds") is True
    assert [name for name in script.calls if name in names] == names


async def test_a_hold_on_the_app_holds_every_key(database: str, store: Store, script: Script) -> None:
    """Events without a key too; a sequence stays in order, the later ones parked behind the first."""
    async with working(settings(database), script):
        await store.execute(HOLD, [None])
        await held(store, "l")
        keyless = await emit(store, "keyless")
        first = await emit(store, "first", key="k", sequence="s")
        second = await emit(store, "second", key="k", sequence="s")
        await state_is(store, keyless, "waiting:held")
        await state_is(store, first, "waiting:held")
        await state_is(store, second, "waiting:parked")
        await store.execute(RELEASE, [None])
        for event_id in (keyless, first, second):
            await state_is(store, event_id, "published")
    assert [name for name in script.calls if name in ("first", "second")] == ["first", "second"]


async def test_what_is_dispatched_goes_on_under_a_hold(database: str, store: Store, script: Script) -> None:
    """A hold cuts nothing off: what is behind it in its key waits."""
    gate = Gate()
    script.acts["a"] = [gate]
    async with working(settings(database), script):
        in_flight = await emit(store, "a", key="k")
        await gate.entered.wait()
        behind = await emit(store, "b", key="k")
        await store.execute(HOLD, ["k"])
        await store.execute(HOLD, ["l"])
        await held(store, "l")
        gate.opened.set()
        await state_is(store, in_flight, "published")
        await state_is(store, behind, "waiting:held")
    assert "b" not in script.calls


async def call_once_more(event: Event, ledger: Ledger) -> Outcome:
    """Find that the call before took no effect, and make it again at once."""
    if ledger.open_intent() is not None:
        await ledger.refused("publish", {"verified": "absent"})
    await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=1)
    await ledger.done("publish", {"remote_id": "1"})
    return Published()


async def call_in_vain(event: Event, ledger: Ledger, *, answer: Gate) -> Outcome:
    """Make a call, and wait for its answer."""
    await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=1)
    return await answer(event, ledger)


def lost_answer() -> Gate:
    """What keeps a call waiting for an answer that never comes; it is looked for soon after."""
    return Gate(outcome=Unknown("no answer", 0.5))


@pytest.mark.parametrize("key", ["k", None], ids=["key", "app"])
async def test_no_call_is_made_once_more_under_a_hold(
    database: str, store: Store, script: Script, key: str | None
) -> None:
    """What became of the first one is found out under the hold; that it took no effect is no leave to repeat it."""
    answer = lost_answer()
    script.acts["a"] = [partial(call_in_vain, answer=answer), call_once_more]
    async with working(settings(database), script):
        event_id = await emit(store, "a", key="k")
        await answer.entered.wait()
        await store.execute(HOLD, [key])
        answer.opened.set()
        await state_is(store, event_id, "waiting:held")
        assert script.calls == ["a", "a"]
        assert await rows(store, STEPS) == [("intent",), ("refused",)]
        await store.execute(RELEASE, [key])
        await state_is(store, event_id, "published")
    assert await rows(store, STEPS) == [("intent",), ("refused",), ("intent",), ("done",)]
    assert await value(store, "select attempts from outbox.receipts") == 0


async def test_a_call_is_made_once_more_under_the_hold_of_its_own_doubt(
    database: str, store: Store, script: Script
) -> None:
    """That one holds others of the key, until the event is done with."""
    answer = lost_answer()
    answer.opened.set()
    script.acts["a"] = [partial(call_in_vain, answer=answer), call_once_more]
    async with working(settings(database), script):
        await state_is(store, await emit(store, "a", key="k"), "published")
    assert script.calls == ["a", "a"]


async def test_a_longer_hold_of_a_person_outlasts_that_of_a_limit(database: str, store: Store, script: Script) -> None:
    """What waited for the shorter one waits on when that would have ended."""
    gate = Gate(outcome=Hold(0.5, "rate_limited", "quota used up"))
    script.acts["a"] = [gate, Published()]
    async with working(settings(database), script):
        limited = await emit(store, "a", key="k")
        await gate.entered.wait()
        await store.execute(HOLD, ["k"])
        gate.opened.set()
        await state_is(store, limited, "waiting:held")
        assert script.calls == ["a"]
        await store.execute(RELEASE, ["k"])
        await state_is(store, limited, "published")


async def test_a_hold_outlives_the_relay(database: str, store: Store, script: Script) -> None:
    """It is in the database: the next incarnation, and the next relay, begin with it."""
    await store.execute(HOLD, ["k"])
    first = await emit(store, "a", key="k")
    async with working(settings(database), script) as url:
        await state_is(store, first, "waiting:held")
        assert await value(store, TERMINATE) > 0
        await eventually(lambda: value(store, "select count(*) = 2 from outbox.relays"))
        await eventually(lambda: ready(url))
        second = await emit(store, "b", key="k")
        await state_is(store, second, "waiting:held")
    assert script.calls == []
    await store.execute(RELEASE, ["k"])
    async with working(settings(database), script):
        await state_is(store, second, "published")
    assert script.calls == ["a", "b"]
