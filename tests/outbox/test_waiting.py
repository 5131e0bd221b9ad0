"""What is due is found by index, and what waits for something else is left alone."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import pytest

from outbox import database as connections
from outbox.batch import Batch, HoldRow, StepRow
from outbox.holds import HeldFor, load_holds
from outbox.ledger import Step, StepState, load_steps
from outbox.outcome import Reason
from outbox.settle import settle
from outbox.waiting import (
    COUNT_BY_REASON,
    LOAD_BLOCKED_SEQUENCES,
    LOAD_DUE,
    LOAD_DUE_OF_KEYS,
    NEXT_DUE,
    count_waiting,
    estimate_waiting_count,
    load_blocked_sequences,
    load_due,
    load_due_of_keys,
    seconds_to_next_due,
)
from tests.outbox.store import LANES, Store, event, events, ids, incarnate, value, wait

pytestmark = pytest.mark.anyio

MANY: LiteralString = """
with made as (
  insert into outbox.events (lane, key, type, payload, headers, publish_at)
  select n % 64, 'k' || n % 640, 't', '{}', '{}', clock_timestamp() + case
    -- Due: three of lane 1, nearly all of lane 2, nothing else within a day.
    when n in (65, 129, 193) or n % 64 = 2 then - n * interval '1 second'
    else interval '1 day' + n * interval '1 second'
  end
  from generate_series(1, 64000) as n
  returning id, lane, key, publish_at
)
insert into outbox.waiting (event_id, lane, key, reason, due_at, attempts, deferrals, owed_since)
select id, lane, key, 'scheduled', publish_at, 0, 0, publish_at from made
"""
"""Scheduled events, a thousand a lane and a hundred a key."""


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
    waits = [wait(later, delay_seconds=600), wait(never, delay_seconds=math.inf)]
    await settle(store, relay_id, Batch(waits=waits))
    assert await seconds_to_next_due(store, LANES, in_hand=[]) == pytest.approx(600, abs=100)
    await settle(store, relay_id, Batch(waits=[wait(soon, delay_seconds=-300)]))
    assert await seconds_to_next_due(store, LANES, in_hand=[]) == pytest.approx(-300, abs=100)


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
    holds = [HoldRow("key", "past", -1, "r"), HoldRow("key", "k", 600, "r"), HoldRow("app", "", math.inf, "r")]
    await settle(store, relay_id, Batch(holds=holds))
    on_key, on_app = sorted(await load_holds(store), key=lambda hold: hold.seconds)
    assert on_key.key == "k"
    assert on_key.seconds == pytest.approx(600, abs=100)
    assert on_app == HeldFor(None, math.inf)


async def test_sequences_of_which_an_event_waits_are_blocked(store: Store) -> None:
    """Each once, of our lanes alone; an event without a sequence blocks none."""
    relay_id = await incarnate(store)
    of = [*await events(store, 2, key="k", sequence="s"), await event(store, key="k")]
    await settle(store, relay_id, Batch(waits=[wait(each) for each in of]))
    assert await load_blocked_sequences(store, LANES) == [("k", "s")]
    assert await load_blocked_sequences(store, [lane for lane in LANES if lane != of[0].lane]) == []


async def test_waiting_events_are_counted_by_reason(store: Store) -> None:
    """The gauge tells why events wait, up to its bound."""
    relay_id = await incarnate(store)
    of = await events(store, 3)
    reasons = (Reason.RETRY, Reason.RETRY, Reason.UNKNOWN)
    await settle(store, relay_id, Batch(waits=[wait(each, reason) for each, reason in zip(of, reasons, strict=True)]))
    counts = {reason: found.count for reason, found in (await count_waiting(store, count_max=9)).items()}
    assert counts == dict.fromkeys(Reason, 0) | {Reason.RETRY: 2, Reason.UNKNOWN: 1}
    assert (await count_waiting(store, count_max=1))[Reason.RETRY].count == 1


async def test_the_number_of_waiting_events_is_estimated(store: Store) -> None:
    """By the server's statistics: none before it has any."""
    assert await estimate_waiting_count(store) == 0
    relay_id = await incarnate(store)
    await settle(store, relay_id, Batch(waits=[wait(each) for each in await events(store, 3)]))
    await store.execute("analyze outbox.waiting")
    assert await estimate_waiting_count(store) == 3


async def test_a_scheduled_event_is_not_late(store: Store) -> None:
    """Age counts from the time that an event was to be published, if that is later than when it was emitted."""
    relay_id = await incarnate(store)
    [first, late], scheduled = await events(store, 2), await event(store, publish_at=datetime(2100, 1, 1, tzinfo=UTC))
    earlier = first._replace(created_at=first.created_at - timedelta(hours=1))
    await settle(store, relay_id, Batch(waits=[wait(late), wait(earlier), wait(scheduled, Reason.SCHEDULED)]))
    found = await count_waiting(store, count_max=9)
    age = found[Reason.RETRY].oldest_seconds
    assert age is not None
    assert 3600 < age < 7200
    assert (found[Reason.SCHEDULED].oldest_seconds or 0) < 0
    assert found[Reason.PARKED].oldest_seconds is None


async def test_a_look_passes_over_what_an_earlier_one_has_seen(store: Store) -> None:
    """It is in hand or of a busy key, which has a look of its own."""
    relay_id = await incarnate(store)
    [seen, new] = await events(store, 2)
    await settle(store, relay_id, Batch(waits=[wait(seen, delay_seconds=-600), wait(new, delay_seconds=0)]))
    due = await load_due(store, LANES, in_hand=[], limit=10, within_seconds=300)
    assert [each.event for each in due] == [new]
    assert await seconds_to_next_due(store, LANES, in_hand=[new.id], within_seconds=300) is None


async def test_a_busy_key_is_looked_at_by_itself(store: Store) -> None:
    """So many of each key, the longest due first, without what is in hand."""
    relay_id = await incarnate(store)
    of, others = await events(store, 3, key="k"), await event(store, key="l")
    delays = zip([*of, others], (-1, -2, -3, -4), strict=True)
    await settle(store, relay_id, Batch(waits=[wait(each, delay_seconds=delay) for each, delay in delays]))
    due = await load_due_of_keys(store, ["k"], in_hand=[of[2].id], limit=1)
    assert [each.event for each in due] == [of[1]]
    assert await load_due(store, LANES, in_hand=[others.id], limit=10, busy=["k"]) == []


@dataclass
class Work:
    """What a statement did: rows of `outbox.waiting` that it read, of them for nothing, and pages of all relations."""

    read_count: int = 0
    removed_count: int = 0
    page_count: int = 0


@pytest.fixture(params=[False, True], ids=["never analyzed", "analyzed"])
async def crowd(database: str, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """A connection as the relay's timers have it, to a database in which many events wait."""
    async with await connections.connect(
        database, application_name="outbox-test", settings=connections.PLANNER_SETTINGS
    ) as connection:
        await connection.execute("alter table outbox.waiting set (autovacuum_enabled = off)")
        await connection.execute("set statement_timeout = 0")  # a busy machine takes its time to fill it
        await connection.execute(MANY)
        await connection.execute("reset statement_timeout")
        if request.param:
            await connection.execute("analyze outbox.waiting, outbox.events")
        yield connection


async def work_of(store: Store, query: LiteralString, arguments: dict[str, Any]) -> Work:
    """Run a query and return what it did."""
    explain: LiteralString = "explain (analyze, buffers, format json) " + query
    [plan] = await value(store, explain, arguments)
    nodes, work = [plan["Plan"]], Work()
    work.page_count = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node.get("Relation Name") == "waiting":
            work.read_count += node["Actual Rows"] * node["Actual Loops"]
            work.removed_count += node.get("Rows Removed by Filter", 0) * node["Actual Loops"]
    return work


async def test_due_events_are_found_by_index_among_many(crowd: Store) -> None:
    """Three due rows among 64,000 cost three rows, whether the server has statistics or not, and whosever are due."""
    ours = [lane for lane in LANES if lane != 2]
    looking = {"lanes": ours, "in_hand": [], "busy": [], "limit": 500, "within_seconds": None}
    assert len(await load_due(crowd, ours, in_hand=[], limit=500)) == 3
    work = await work_of(crowd, LOAD_DUE, looking)
    assert work.removed_count == 0
    assert work.read_count <= 10
    assert work.page_count < 400  # three for each lane's index, the rows, and the catalog
    work = await work_of(crowd, NEXT_DUE, looking)
    assert (work.removed_count, work.read_count) == (0, len(ours))
    work = await work_of(crowd, LOAD_DUE, {**looking, "lanes": [1]})
    assert work.page_count < 50


async def test_more_of_a_busy_key_is_found_by_index(crowd: Store) -> None:
    """However much of it is due."""
    work = await work_of(crowd, LOAD_DUE_OF_KEYS, {"keys": ["k2", "k66"], "in_hand": [], "limit": 10})
    assert work.removed_count == 0
    assert work.read_count <= 40  # found, and then read whole
    assert work.page_count < 200


async def test_blocked_sequences_cost_nothing_where_no_sequence_waits(crowd: Store) -> None:
    """Events without a sequence block nothing, and are not read to find that out."""
    work = await work_of(crowd, LOAD_BLOCKED_SEQUENCES, {"lanes": LANES})
    assert (work.removed_count, work.read_count) == (0, 0)
    assert work.page_count < 200


async def test_gauges_read_no_more_than_their_bound(crowd: Store) -> None:
    """A million that wait must not be counted every few seconds."""
    work = await work_of(crowd, COUNT_BY_REASON, {"reasons": list(Reason), "count_max": 100})
    assert work.removed_count == 0
    assert work.read_count <= 101 + len(Reason)
    assert work.page_count < 200
