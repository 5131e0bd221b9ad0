"""What a relay makes of what a recovery wrote: what is live has its receipt, whatever else is said of the event."""

from __future__ import annotations

from typing import LiteralString

import pytest

from outbox.event import Event, EventId
from outbox.ledger import Ledger
from outbox.outcome import Outcome, Published
from outbox.recovery import find_candidates, open_recoverer
from tests.relay.running import Script, Store, emit, settings, state_is, value, working

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
