"""What the relay makes of a person's word on an open intent: the receipt, or the call once more."""

from __future__ import annotations

import anyio
import pytest

from outbox.event import Event, EventId
from outbox.ledger import Ledger
from outbox.outcome import Outcome, Published, Retry, Unknown
from outbox.resolution import resolve
from relay.app import serve
from tests.relay.running import Gate, Script, Store, emit, rows, settings, state_is, value, working

pytestmark = pytest.mark.anyio

KILLED = """
with dead as (
  insert into outbox.relays (name, version, leased_until, retired_at)
  select 'dead', '0', clock_timestamp() - interval '2 seconds', clock_timestamp() - interval '1 second'
  from generate_series(1, 3)
  returning id
)
insert into outbox.dispatches (event_id, relay_id) select %s, id from dead
"""
"""An event killed as many relays as it may."""

STEPS = "select name || ' ' || state from outbox.steps where event_id = %s order by position"


async def call(event: Event, ledger: Ledger) -> Outcome:
    """Publish, as a saga does: go on from what is done, ask a person where nobody knows, call otherwise."""
    done = ledger.answer("publish")
    if done is not None:
        return Published(done)
    if ledger.open_intent() is not None:
        return Unknown("a person has to look", None)
    await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=1)
    if len(ledger.steps) == 1:
        return Unknown("no answer", None)
    await ledger.done("publish", {"remote_id": "2"})
    return Published({"remote_id": "2"})


async def asked(store: Store, script: Script) -> EventId:
    """An event that waits for a person."""
    script.acts["a"] = [call]
    event_id = await emit(store, "a", key="k")
    await state_is(store, event_id, "waiting:unknown")
    return event_id


async def test_what_a_person_says_is_live_gets_its_receipt(database: str, store: Store, script: Script) -> None:
    """With the id that was found, and a step that says who said so."""
    async with working(settings(database), script):
        event_id = await asked(store, script)
        await resolve(store, event_id, published=True, remote_id="17", reason="seen")
        await state_is(store, event_id, "published")
    assert await rows(store, STEPS, [event_id]) == [("publish intent",), ("publish done",)]
    [[detail]] = await rows(store, "select detail from outbox.steps where state = 'done'")
    assert (detail["remote_id"], detail["verified"], detail["why"]) == ("17", "person", "seen")
    [[result]] = await rows(store, "select result from outbox.receipts")
    assert result["remote_id"] == "17"


async def test_what_a_person_says_is_not_live_is_called_once_more(database: str, store: Store, script: Script) -> None:
    """After the step that says that the first call took no effect."""
    async with working(settings(database), script):
        event_id = await asked(store, script)
        await resolve(store, event_id, published=False)
        await state_is(store, event_id, "published")
    expected = ["publish intent", "publish refused", "publish intent", "publish done"]
    assert await rows(store, STEPS, [event_id]) == [(each,) for each in expected]


async def test_a_decision_that_was_taken_while_no_relay_ran_is_found(
    database: str, store: Store, script: Script
) -> None:
    """By the next one."""
    async with working(settings(database), script):
        event_id = await asked(store, script)
    await resolve(store, event_id, published=False)
    async with working(settings(database), script):
        await state_is(store, event_id, "published")


async def test_what_is_tried_again_waits_for_a_hold(database: str, store: Store, script: Script) -> None:
    """A word on what was is no leave to publish now; what is live has its receipt whatever is held."""
    async with working(settings(database), script):
        absent = await asked(store, script)
        live = await emit(store, "a", key="k")
        await state_is(store, live, "waiting:unknown")
        await store.execute("select outbox.hold('k', 'infinity', 'an incident')")
        await resolve(store, absent, published=False)
        await resolve(store, live, published=True)
        await state_is(store, absent, "waiting:held")
        await state_is(store, live, "published")
        await store.execute("select outbox.release('k')")
        await state_is(store, absent, "published")


async def test_what_is_not_live_and_was_cancelled_is_not_called(database: str, store: Store, script: Script) -> None:
    """It ends as cancelled; what is live ends as published although it was to be cancelled."""
    async with working(settings(database), script):
        absent = await asked(store, script)
        live = await emit(store, "a", key="l")
        await state_is(store, live, "waiting:unknown")
        for event_id in (absent, live):
            await store.execute("select outbox.cancel(%s)", [event_id])
        await resolve(store, absent, published=False, force=True)
        await resolve(store, live, published=True)
        await state_is(store, absent, "cancelled")
        await state_is(store, live, "published")


async def test_nothing_is_called_once_a_person_says_that_it_is_live(
    database: str, store: Store, script: Script
) -> None:
    """A relay that found nothing while the person decided is refused its next intent, and takes the person's word."""
    gate = Gate()

    async def look_and_call(event: Event, ledger: Ledger) -> Outcome:
        await gate(event, ledger)
        await ledger.refused("publish", {"verified": "absent"})
        await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=1)
        pytest.fail("an irreversible call would have been made")

    async with working(settings(database), script):
        script.acts["a"] = [call, look_and_call, call]
        event_id = await emit(store, "a", key="k")
        await state_is(store, event_id, "waiting:unknown")
        await store.execute("update outbox.waiting set due_at = clock_timestamp()")
        await store.execute("notify outbox, 'waiting'")
        await gate.entered.wait()
        await resolve(store, event_id, published=True, remote_id="17")
        gate.opened.set()
        await state_is(store, event_id, "published")
    steps = ["publish intent", "publish refused", "publish done"]
    assert await rows(store, STEPS, [event_id]) == [(each,) for each in steps]
    assert await value(store, "select result ->> 'remote_id' from outbox.receipts") == "17"


async def test_what_is_live_does_not_end_as_cancelled(database: str, store: Store, script: Script) -> None:
    """Though its handler broke off after the call was known to have worked, and somebody cancelled it meanwhile."""
    gate = Gate()

    async def break_off(event: Event, ledger: Ledger) -> Outcome:
        await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=1)
        await ledger.done("publish", {"remote_id": "17"})
        await gate(event, ledger)
        return Retry("the connection went away")

    async with working(settings(database), script):
        script.acts["a"] = [break_off, call]
        event_id = await emit(store, "a", key="k")
        await gate.entered.wait()
        await store.execute("select outbox.cancel(%s)", [event_id])
        gate.opened.set()
        await state_is(store, event_id, "published")


async def test_what_a_person_says_is_live_needs_no_handler(database: str, store: Store, script: Script) -> None:
    """The project that brought it was removed meanwhile."""
    async with working(settings(database), script):
        event_id = await asked(store, script)
    await resolve(store, event_id, published=True, remote_id="17")
    stop = anyio.Event()
    async with serve(settings(database), stop, factories={"u": script.open}):
        await state_is(store, event_id, "published")
        stop.set()
    assert await value(store, "select result ->> 'remote_id' from outbox.receipts") == "17"


@pytest.mark.parametrize("reason", ["unknown", "retry"])
async def test_what_a_person_says_is_live_ends_so_though_it_kills_relays(
    database: str, store: Store, script: Script, reason: str
) -> None:
    """Once it has killed as many as it may, whatever it waited for last, no handler is called and it is not dead."""
    async with working(settings(database), script):
        event_id = await asked(store, script)
    await resolve(store, event_id, published=True, remote_id="17")
    await store.execute("update outbox.waiting set reason = %s", [reason])
    await store.execute(KILLED, [event_id])
    async with working(settings(database), script):
        await state_is(store, event_id, "published")
    assert script.calls == ["a"]
    assert await rows(store, STEPS, [event_id]) == [("publish intent",), ("publish done",)]
    assert await rows(store, "select result ->> 'remote_id', error from outbox.receipts") == [("17", None)]


async def test_what_a_person_says_is_not_live_is_not_tried_again_where_it_kills_relays(
    database: str, store: Store, script: Script
) -> None:
    """It is dead."""
    async with working(settings(database), script):
        event_id = await asked(store, script)
    await resolve(store, event_id, published=False)
    await store.execute(KILLED, [event_id])
    async with working(settings(database), script):
        await state_is(store, event_id, "dead")
    assert script.calls == ["a"]


async def test_what_went_live_before_it_killed_its_relays_is_published(
    database: str, store: Store, script: Script
) -> None:
    """Its call was answered; that its handler never came to an end is told beside it."""

    async def publish(event: Event, ledger: Ledger) -> Outcome:
        await ledger.intent("publish", fingerprint="f", detail={}, call_seconds=1)
        await ledger.done("publish", {"remote_id": "17"})
        return Retry("the connection went away", after_seconds=1)

    script.acts["a"] = [publish]
    async with working(settings(database), script):
        event_id = await emit(store, "a", key="k")
        await state_is(store, event_id, "waiting:retry")
    await store.execute(KILLED, [event_id])
    async with working(settings(database), script):
        await state_is(store, event_id, "published")
    assert await rows(store, "select result, error from outbox.receipts") == [
        ({"remote_id": "17"}, "3 relays died while they handled it")
    ]
