"""What is due is found by index, and what waits for something else is left alone."""

from __future__ import annotations

import math
from typing import Any, LiteralString

import pytest

from outbox.batch import Batch, HoldRow, StepRow
from outbox.ledger import Step, StepState
from outbox.outcome import Reason
from outbox.settle import settle
from outbox.waiting import (
    LOAD_DUE,
    NEXT_DUE,
    HeldFor,
    count_by_reason,
    load_blocked_sequences,
    load_due,
    load_holds,
    load_steps,
    oldest_waiting_seconds,
    seconds_to_next_due,
)
from tests.outbox.store import LANES, Store, event, events, ids, incarnate, value, wait

pytestmark = pytest.mark.anyio

MANY: LiteralString = """
with made as (select outbox.emit('t', key => 'k' || n) as id, n from generate_series(1, 20000) as n)
insert into outbox.waiting (event_id, lane, key, reason, due_at, attempts, deferrals)
select
  id, hashtextextended('k' || n, 0) & 63, 'k' || n, 'retry',
  case when n <= 3 then clock_timestamp() else clock_timestamp() + n * interval '1 second' end, 1, 0
from made
"""


async def test_due_events_come_in_the_order_in_which_they_were_due(store: Store) -> None:
    """The longest due first; what is not due yet, not at all."""
    relay_id = await incarnate(store)
    first, second, third, later = await events(store, 4)
    delays = [(first, -1.0), (second, -3.0), (third, -2.0), (later, 60.0)]
    await settle(store, relay_id, Batch(waits=[wait(each, delay_seconds=delay) for each, delay in delays]))
    due = await load_due(store, LANES, in_hand=[], limit=10)
    assert ids([each.event for each in due]) == ids([second, third, first])


async def test_no_more_are_loaded_than_asked_for(store: Store) -> None:
    """The limit keeps the longest due."""
    relay_id = await incarnate(store)
    of = await events(store, 3)
    waits = [wait(each, delay_seconds=-number) for number, each in enumerate(of)]
    await settle(store, relay_id, Batch(waits=waits))
    due = await load_due(store, LANES, in_hand=[], limit=2)
    assert ids([each.event for each in due]) == ids([of[2], of[1]])


async def test_only_our_lanes_are_loaded(store: Store) -> None:
    """Another relay's events are not ours to bring back."""
    relay_id = await incarnate(store)
    ours, others = await event(store, key="k0"), await event(store, key="k1")
    await settle(store, relay_id, Batch(waits=[wait(ours, delay_seconds=0), wait(others, delay_seconds=0)]))
    due = await load_due(store, [ours.lane], in_hand=[], limit=10)
    assert [each.event for each in due] == [ours]
    assert await seconds_to_next_due(store, [others.lane], in_hand=[]) is not None
    assert await seconds_to_next_due(store, [63 if others.lane != 63 else 62], in_hand=[]) is None  # type: ignore[list-item]


async def test_what_is_in_hand_is_not_loaded_again(store: Store) -> None:
    """An event is in the hands of one worker only."""
    relay_id = await incarnate(store)
    of = await events(store, 2)
    await settle(store, relay_id, Batch(waits=[wait(each, delay_seconds=0) for each in of]))
    due = await load_due(store, LANES, in_hand=[of[0].id], limit=10)
    assert [each.event for each in due] == [of[1]]
    assert await seconds_to_next_due(store, LANES, in_hand=ids(of)) is None


async def test_a_due_event_is_whole(store: Store) -> None:
    """It comes with all that the log knows, and how often it was tried."""
    relay_id = await incarnate(store)
    of = await event(store, key="k", sequence="s", headers={"h": 1})
    await settle(store, relay_id, Batch(waits=[wait(of, Reason.PROCESSING, 0)]))
    [due] = await load_due(store, LANES, in_hand=[], limit=10)
    assert (due.event, due.reason, due.attempts, due.deferrals) == (of, Reason.PROCESSING, 1, 0)
    assert (due.blocked, due.cancelled) == (False, False)


async def test_a_due_event_behind_another_of_its_sequence_is_blocked(store: Store) -> None:
    """Only an earlier event of the same key and sequence blocks, due or not."""
    relay_id = await incarnate(store)
    head, follower = await events(store, 2, key="k", sequence="s")
    elsewhere = await event(store, key="k", sequence="t")
    waits = [wait(head, delay_seconds=60), wait(follower, delay_seconds=0), wait(elsewhere, delay_seconds=0)]
    await settle(store, relay_id, Batch(waits=waits))
    due = {each.event.id: each.blocked for each in await load_due(store, LANES, in_hand=[], limit=10)}
    assert due == {follower.id: True, elsewhere.id: False}


async def test_a_cancelled_event_is_due_at_once_and_says_so(store: Store) -> None:
    """An operator's request does not wait for the event's time."""
    relay_id = await incarnate(store)
    of = await event(store)
    await settle(store, relay_id, Batch(waits=[wait(of, delay_seconds=math.inf)]))
    await store.execute("select outbox.cancel(%s)", [of.id])
    [due] = await load_due(store, LANES, in_hand=[], limit=10)
    assert due.cancelled


async def test_the_next_due_event_is_told_in_seconds(store: Store) -> None:
    """The soonest counts, negative when overdue; what waits for ever does not."""
    relay_id = await incarnate(store)
    soon, later, never = await events(store, 3)
    waits = [wait(later, delay_seconds=60), wait(never, delay_seconds=math.inf)]
    await settle(store, relay_id, Batch(waits=waits))
    assert await seconds_to_next_due(store, LANES, in_hand=[]) == pytest.approx(60, abs=5)
    await settle(store, relay_id, Batch(waits=[wait(soon, delay_seconds=-5)]))
    assert await seconds_to_next_due(store, LANES, in_hand=[]) == pytest.approx(-5, abs=5)


async def test_nothing_is_ever_due_where_all_wait_for_ever(store: Store) -> None:
    """Infinity is no time to wake up at."""
    relay_id = await incarnate(store)
    await settle(store, relay_id, Batch(waits=[wait(await event(store), delay_seconds=math.inf)]))
    assert await seconds_to_next_due(store, LANES, in_hand=[]) is None


async def test_steps_come_oldest_first(store: Store) -> None:
    """A saga goes on from what its predecessor wrote."""
    relay_id = await incarnate(store)
    with_steps, without = await events(store, 2)
    for position, state in enumerate((StepState.INTENT, StepState.DONE), start=1):
        row = StepRow(with_steps, Step(position, "publish", state, {"n": position}, "f"), 1)
        await settle(store, relay_id, Batch(steps=[row]))
    steps = await load_steps(store, ids([with_steps, without]))
    assert [(step.position, step.state, step.detail) for step in steps[with_steps.id]] == [
        (1, StepState.INTENT, {"n": 1}),
        (2, StepState.DONE, {"n": 2}),
    ]
    assert without.id not in steps


async def test_holds_in_force_are_loaded(store: Store) -> None:
    """With the seconds that are left, or infinity; a hold of the past holds nothing."""
    relay_id = await incarnate(store)
    holds = [HoldRow("key", "past", -1, "r"), HoldRow("key", "k", 60, "r"), HoldRow("app", "", math.inf, "r")]
    await settle(store, relay_id, Batch(holds=holds))
    on_key, on_app = sorted(await load_holds(store), key=lambda hold: hold.seconds)
    assert on_key.key == "k"
    assert on_key.seconds == pytest.approx(60, abs=5)
    assert on_app == HeldFor(None, math.inf)


async def test_sequences_of_which_an_event_waits_are_blocked(store: Store) -> None:
    """Each once, of our lanes alone; an event without a sequence blocks none."""
    relay_id = await incarnate(store)
    of = [*await events(store, 2, key="k", sequence="s"), await event(store, key="k")]
    await settle(store, relay_id, Batch(waits=[wait(each) for each in of]))
    assert await load_blocked_sequences(store, LANES) == [("k", "s")]
    assert await load_blocked_sequences(store, [lane for lane in LANES if lane != of[0].lane]) == []


async def test_waiting_events_are_counted_by_reason(store: Store) -> None:
    """The gauge tells why events wait."""
    relay_id = await incarnate(store)
    of = await events(store, 3)
    reasons = (Reason.RETRY, Reason.RETRY, Reason.UNKNOWN)
    await settle(store, relay_id, Batch(waits=[wait(each, reason) for each, reason in zip(of, reasons, strict=True)]))
    assert await count_by_reason(store) == {Reason.RETRY: 2, Reason.UNKNOWN: 1}


async def test_a_scheduled_event_is_not_late(store: Store) -> None:
    """Age counts from the time that an event was to be published, if that is later, and not while it is scheduled."""
    relay_id = await incarnate(store)
    scheduled, late = await events(store, 2)
    await settle(store, relay_id, Batch(waits=[wait(scheduled, Reason.SCHEDULED)]))
    assert await oldest_waiting_seconds(store) == 0
    await settle(store, relay_id, Batch(waits=[wait(late)]))
    assert 0 < await oldest_waiting_seconds(store) < 60


async def rows_removed(store: Store, query: LiteralString, arguments: dict[str, Any]) -> int:
    """Run a query, and return how many waiting rows it read for nothing."""
    explain: LiteralString = "explain (analyze, format json) " + query
    [plan] = await value(store, explain, arguments)
    nodes, removed = [plan["Plan"]], 0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node.get("Relation Name") == "waiting":
            removed += node.get("Rows Removed by Filter", 0)
    return removed


@pytest.mark.parametrize("analyzed", [False, True])
async def test_due_events_are_found_by_index_among_many(store: Store, analyzed: bool) -> None:
    """Three due rows of 20,000 cost three rows, whether the server has statistics or not."""
    await store.execute("alter table outbox.waiting set (autovacuum_enabled = off)")
    await store.execute(MANY)
    if analyzed:
        await store.execute("analyze outbox.waiting")
    assert len(await load_due(store, LANES, in_hand=[], limit=500)) == 3
    assert await rows_removed(store, LOAD_DUE, {"lanes": LANES, "in_hand": [], "busy": [], "limit": 500}) == 0
    assert await rows_removed(store, NEXT_DUE, {"lanes": LANES, "in_hand": [], "busy": []}) == 0
