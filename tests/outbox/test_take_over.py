"""What a relay finds in doubt in lanes that it has just taken, and how it is put before the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, LiteralString

import pytest

from outbox import database as connections
from outbox.batch import Batch, StepRow
from outbox.errors import LeaseLost
from outbox.event import Event, RelayId
from outbox.ledger import Step, StepState
from outbox.log import load_cursors
from outbox.low_water import Cursor
from outbox.outcome import Reason
from outbox.pooled import execute_numbered
from outbox.settle import settle
from outbox.take_over import (
    FIND_DOUBTS,
    PROMOTE_ORPHANS,
    ROWS_MAX,
    Doubt,
    find_doubts,
    promote_orphans,
    put_doubts_first,
)
from outbox.waiting import load_due
from tests.outbox.store import LANES, Store, event, events, ids, incarnate, receipt, rows, value, wait

pytestmark = pytest.mark.anyio

HISTORY: LiteralString = """
with made as (
  insert into outbox.events (lane, key, type, payload, headers)
  select n % 64, 'k' || n % 640, 't', '{}', '{}' from generate_series(1, 20000) as n
  returning id
),
stepped as (
  insert into outbox.steps (event_id, position, name, state, detail, relay_id)
  select id, position, 'publish', case position when 1 then 'intent' else 'done' end, '{}', 1
  from made, generate_series(1, 2) as position
)
insert into outbox.receipts (event_id, outcome, attempts, deferrals, relay_id)
select id, 'published', 0, 0, 1 from made
"""
"""Events that were published, with their steps."""

PARKED_COUNT = 3000
PARKED: LiteralString = """
insert into outbox.waiting (event_id, lane, key, sequence, reason, due_at, attempts, deferrals, owed_since)
select
  n, hashtextextended('k', 0) & 63, 'k', 's', case n when 1 then 'held' else 'parked' end, 'infinity', 0, 0,
  clock_timestamp()
from generate_series(1, 3000) as n
"""
"""One sequence, of which the first event is held."""


@pytest.fixture
async def reading(database: str) -> AsyncIterator[Store]:
    """A connection with the planner settings that the search is made with."""
    async with await connections.connect(
        database, application_name="outbox-test", settings=connections.PLANNER_SETTINGS
    ) as connection:
        yield connection


async def begin(store: Store, relay_id: RelayId, of: Event, *states: StepState) -> None:
    """Write steps of an event, the intent of its call first."""
    for position, state in enumerate((StepState.INTENT, *states), start=1):
        await settle(store, relay_id, Batch(steps=[StepRow(of, Step(position, "publish", state, {}), 0.1)]))


@pytest.mark.parametrize("rows_max", [ROWS_MAX, 1], ids=["by cursor", "by steps"])
async def test_only_an_open_intent_whose_turn_it_is_makes_a_doubt(store: Store, reading: Store, rows_max: int) -> None:
    """In the log and in what is due; not one that was answered, has ended, waits for later, or has no key."""
    relay_id = await incarnate(store)
    new, begun, answered, ended, due, later = await events(store, 6, key="k")
    loose = await event(store)
    for each in (begun, ended, due, later, loose):
        await begin(store, relay_id, each)
    await begin(store, relay_id, answered, StepState.REFUSED)
    waits = [wait(due, Reason.PROCESSING, 0), wait(later, Reason.UNKNOWN, 60)]
    await settle(store, relay_id, Batch(receipts=[receipt(ended)], waits=waits))
    cursors = await load_cursors(reading, LANES)
    assert await find_doubts(reading, cursors, rows_max=rows_max) == ids([begun, due])
    others = [(cursor, [lane for lane in lanes if lane != new.lane]) for cursor, lanes in cursors]
    assert await find_doubts(reading, others, rows_max=rows_max) == []


@pytest.mark.parametrize("rows_max", [ROWS_MAX, 1, 2], ids=["by cursor", "a step a piece", "two steps a piece"])
async def test_an_intent_after_other_steps_is_found(store: Store, reading: Store, rows_max: int) -> None:
    """A piece may end between the steps of an event: a container is made before the call, and a call may come again."""
    relay_id = await incarnate(store)
    [called, again] = await events(store, 2, key="k")
    made = Step(1, "container", StepState.DONE, {})
    await settle(store, relay_id, Batch(steps=[StepRow(called, made, None)]))
    await settle(store, relay_id, Batch(steps=[StepRow(called, Step(2, "publish", StepState.INTENT, {}), 0.1)]))
    await begin(store, relay_id, again, StepState.REFUSED, StepState.INTENT)
    cursors = await load_cursors(reading, LANES)
    assert await find_doubts(reading, cursors, rows_max=rows_max) == ids([called, again])


async def test_what_the_cursor_has_passed_is_not_looked_through(store: Store, other: Store, reading: Store) -> None:
    """A straggler that ran when the cursor was saved is ahead of it all the same."""
    relay_id = await incarnate(store)
    passed = await event(store, key="k")
    await begin(store, relay_id, passed)
    async with other.transaction():
        straggler = await event(other, key="k")
        await event(store, key="k")
        seen = await value(store, "select pg_current_snapshot()::text")
    await begin(store, relay_id, straggler)
    assert await find_doubts(reading, [(Cursor(seen, seen), LANES)]) == [straggler.id]


@pytest.mark.parametrize("analyzed", [False, True])
async def test_a_search_costs_what_is_ahead_and_not_what_was_ever_published(
    store: Store, reading: Store, *, analyzed: bool
) -> None:
    """By index, whether the server has statistics or not: a relay that takes lanes must begin at once."""
    relay_id = await incarnate(store)
    await store.execute(HISTORY)
    if analyzed:
        await store.execute("analyze outbox.events, outbox.steps, outbox.receipts, outbox.waiting")
    seen = await value(store, "select pg_current_snapshot()::text")
    begun = await events(store, 10, key="k")
    await begin(store, relay_id, begun[3])
    given = {"seen": seen, "lanes": LANES, "limit": ROWS_MAX}
    explain: LiteralString = "explain (analyze, buffers, format json) " + FIND_DOUBTS
    await value(reading, explain, given)  # which loads the catalog
    [plan] = await value(reading, explain, given)
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 400
    assert await find_doubts(reading, [(Cursor(seen, seen), LANES)]) == [begun[3].id]


@pytest.mark.parametrize("analyzed", [False, True])
async def test_what_is_parked_in_one_sequence_is_not_compared_with_all_of_it(store: Store, *, analyzed: bool) -> None:
    """Thousands behind a held event: a relay that compares them in pairs does not take their lane in time, ever."""
    relay_id = await incarnate(store)
    await store.execute(PARKED)
    if analyzed:
        await store.execute("analyze outbox.waiting")
    [[[plan]]] = await execute_numbered(
        store, "explain (analyze, format json) " + PROMOTE_ORPHANS, relay_id, list(LANES)
    )
    assert rows_met(plan["Plan"]) < 10 * PARKED_COUNT
    await promote_orphans(store, relay_id, LANES)
    assert await rows(store, "select event_id from outbox.waiting where due_at < 'infinity'") == []
    await store.execute("delete from outbox.waiting where event_id = 1")
    await promote_orphans(store, relay_id, LANES)
    assert await rows(store, "select event_id from outbox.waiting where due_at < 'infinity'") == [(2,)]


def rows_met(node: dict[str, Any]) -> float:
    """How many rows, or pairs of them, the nodes of a plan have looked at."""
    met = node["Actual Rows"] + node.get("Rows Removed by Join Filter", 0) + node.get("Rows Removed by Filter", 0)
    return float(met * node["Actual Loops"] + sum(map(rows_met, node.get("Plans", []))))


async def test_doubts_are_due_before_all_else_of_their_lanes(store: Store) -> None:
    """As unknown, whatever they waited for; with an attempt that says why."""
    relay_id = await incarnate(store)
    older, begun, waiting = await events(store, 3, key="k")
    await begin(store, relay_id, begun)
    await begin(store, relay_id, waiting)
    await settle(store, relay_id, Batch(waits=[wait(older, delay_seconds=-3600), wait(waiting, Reason.PROCESSING, -1)]))
    put = await put_doubts_first(store, relay_id, LANES, ids([begun, waiting]))
    assert sorted(put, key=lambda doubt: doubt.event_id) == [
        Doubt(each.id, each.lane, "k") for each in (begun, waiting)
    ]
    due = await load_due(store, LANES, in_hand=[], limit=10)
    assert [(each.event.id, each.reason) for each in due] == [
        (begun.id, Reason.UNKNOWN),
        (waiting.id, Reason.UNKNOWN),
        (older.id, Reason.RETRY),
    ]
    assert [each.attempts for each in due] == [0, 1, 1]
    tries = await rows(store, "select event_id, reason, relay_id from outbox.attempts order by event_id")
    assert tries == [(each.id, "unknown", relay_id) for each in (begun, waiting)]


async def test_a_relay_that_was_retired_puts_nothing_first(store: Store) -> None:
    """The fence holds here too."""
    relay_id = await incarnate(store)
    begun = await event(store, key="k")
    await begin(store, relay_id, begun)
    await store.execute("update outbox.relays set retired_at = clock_timestamp()")
    with pytest.raises(LeaseLost):
        await put_doubts_first(store, relay_id, LANES, [begun.id])
    assert await value(store, "select count(*) from outbox.waiting") == 0
