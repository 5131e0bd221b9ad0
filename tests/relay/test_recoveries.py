"""What a relay makes of what a recovery wrote: what is live has its receipt, whatever else is said of the event."""

from __future__ import annotations

from typing import LiteralString

import pytest

from outbox.event import Event, EventId
from outbox.ledger import Ledger
from outbox.outcome import Outcome, Published
from outbox.recovery import find_candidates, open_recoverer
from outbox.resolution import resolve
from tests.relay.running import Script, Store, emit, eventually, settings, state_is, value, working

pytestmark = pytest.mark.anyio

WAIT: LiteralString = """
insert into outbox.waiting (event_id, lane, key, reason, due_at, attempts, deferrals)
select e.id, e.lane, e.key, 'retry', '2130-01-01Z', 1, 0 from outbox.events as e where e.id = %s
"""


async def go_on(event: Event, ledger: Ledger) -> Outcome:
    """Report what is done, as a saga does."""
    done = ledger.answer("publish")
    assert done is not None, "what is live would have been published again"
    return Published(done)


async def recover_live(store: Store, event_id: EventId) -> None:
    """Write that an event without a trace was found live, as `outbox recover --verify` does."""
    async with open_recoverer(store, name="recover", version="0") as recoverer:
        [candidate] = [each for each in await find_candidates(store) if each.event.id == event_id]
        await recoverer.found_live(candidate, "publish", "17")


@pytest.mark.parametrize("fate", ["expired", "cancelled"])
async def test_what_recovery_found_live_ends_as_published(
    database: str, store: Store, script: Script, fate: str
) -> None:
    """Though its deadline has passed, or somebody cancelled it while it waited."""
    script.acts["a"] = [go_on]
    event_id = await emit(store, "a", key="k", expires_in=-1 if fate == "expired" else None)
    if fate == "cancelled":
        await store.execute(WAIT, [event_id])
        await store.execute("select outbox.cancel(%s)", [event_id])
    await recover_live(store, event_id)
    async with working(settings(database), script):
        await state_is(store, event_id, "published")
    assert await value(store, "select result ->> 'remote_id' from outbox.receipts") == "17"


async def park(store: Store, event_id: EventId) -> None:
    """Have an event without a trace wait for a person, as `outbox recover --verify` does."""
    async with open_recoverer(store, name="recover", version="0") as recoverer:
        [candidate] = [each for each in await find_candidates(store) if each.event.id == event_id]
        await recoverer.park(candidate, "it may be live")


@pytest.mark.parametrize(("published", "state"), [(True, "published"), (False, "published"), (False, "cancelled")])
async def test_what_recovery_had_wait_is_decided_by_a_person(
    database: str, store: Store, script: Script, *, published: bool, state: str
) -> None:
    """It is live, or it is published now; and no cancellation ends what may be live before somebody has looked."""

    async def call(event: Event, ledger: Ledger) -> Outcome:
        if (done := ledger.answer("publish")) is None:
            assert not published
            await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=1)
            done = {"remote_id": "18"}
            await ledger.done("publish", done)
        return Published(done)

    script.acts["a"] = [call]
    event_id = await emit(store, "a", key="k")
    await park(store, event_id)
    async with working(settings(database), script):
        if state == "cancelled":
            await store.execute("select outbox.cancel(%s)", [event_id])
            await eventually(lambda: value(store, "select due_at = 'infinity' from outbox.waiting"))
            await state_is(store, event_id, "waiting:unknown")
        await resolve(store, event_id, published=published, remote_id="17" if published else None)
        await state_is(store, event_id, state)
    remote_id = {"published": "17" if published else "18", "cancelled": None}[state]
    assert await value(store, "select result ->> 'remote_id' from outbox.receipts") == remote_id
