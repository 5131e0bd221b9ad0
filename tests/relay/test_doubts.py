"""While nobody knows what became of an event's call, nothing else of its key is begun, whoever has its lane.

What appears on the account meanwhile would be another event's, and only a person could tell them apart.
"""

from __future__ import annotations

from functools import partial

import pytest

from outbox.event import Event
from outbox.ledger import Ledger
from outbox.outcome import Defer, Outcome, Published, Reason, Retry, Unknown
from tests.relay.running import Gate, Script, Store, emit, eventually, settings, state_is, value, working

pytestmark = pytest.mark.anyio


async def begin(event: Event, ledger: Ledger, *, then: Gate) -> Outcome:
    """Write an intent, and go through a gate."""
    await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=0.1)
    return await then(event, ledger)


async def test_a_doubt_is_looked_at_first_although_its_hold_has_ended(
    database: str, store: Store, script: Script
) -> None:
    """No relay was there for longer than the hold; what was emitted meanwhile waits for the look."""
    gate = Gate(outcome=Unknown("no answer", 60))
    gate.opened.set()
    script.acts["doubt"] = [partial(begin, then=gate), Published()]
    async with working(settings(database), script):
        doubt = await emit(store, "doubt", key="k")
        await state_is(store, doubt, "waiting:unknown")
    await store.execute("update outbox.holds set held_until = clock_timestamp()")
    await store.execute("update outbox.waiting set due_at = clock_timestamp() + interval '2 seconds'")
    other = await emit(store, "other", key="k")
    async with working(settings(database), script):
        await state_is(store, other, "published", seconds=30)
    assert script.calls == ["doubt", "doubt", "other"]


@pytest.mark.parametrize("slice_count", [1000, 1])
async def test_a_doubt_of_a_relay_that_died_is_looked_at_before_what_was_paused(
    database: str, store: Store, script: Script, slice_count: int
) -> None:
    """The one that was paused is the older one, and neither has a waiting row: both are read once more."""
    gate = Gate()
    script.acts["doubt"] = [partial(begin, then=gate), Published()]
    script.acts["paused"] = [Defer(0.9, Reason.PROCESSING), Published()]

    async def is_paused() -> bool:
        return script.calls == ["paused"]

    async with working(settings(database, slice_count=slice_count), script):
        paused = await emit(store, "paused", key="k")
        await eventually(is_paused)
        await emit(store, "doubt", key="k")
        await gate.entered.wait()
        assert script.calls == ["paused", "doubt"]
        assert await value(store, "select count(*) from outbox.waiting") == 0
        await store.execute("update outbox.relays set retired_at = clock_timestamp()")
        await state_is(store, paused, "published", seconds=30)
    assert script.calls == ["paused", "doubt", "doubt", "paused"]


async def test_a_doubt_of_a_relay_that_died_is_looked_at_before_what_is_due(
    database: str, store: Store, script: Script
) -> None:
    """Much is read before the one in doubt would be; the other one is due, and brought back at once."""
    gate, crowd = Gate(), Gate()
    script.acts["doubt"] = [partial(begin, then=gate), Published()]
    script.acts["failed"] = [Retry("not yet", after_seconds=60), Published()]
    script.acts["crowd"] = [crowd]

    async def has_begun() -> bool:
        return script.calls.count("crowd") == 40

    async with working(settings(database, slice_count=1), script):
        failed = await emit(store, "failed", key="k")
        await state_is(store, failed, "waiting:retry")
        for _ in range(40):
            await emit(store, "crowd")
        await emit(store, "doubt", key="k")
        await eventually(has_begun)
        await gate.entered.wait()
        await store.execute("update outbox.waiting set due_at = clock_timestamp() - interval '1 minute'")
        await store.execute("update outbox.relays set retired_at = clock_timestamp()")
        crowd.opened.set()
        await state_is(store, failed, "published", seconds=30)
    assert [name for name in script.calls if name != "crowd"] == ["failed", "doubt", "doubt", "failed"]
