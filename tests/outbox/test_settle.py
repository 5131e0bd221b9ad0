"""What a relay writes is whole, fenced by its lease, and as little as can be."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import pytest
from psycopg import errors

from outbox import lease
from outbox.batch import Batch, HoldRow, StepRow, Try, Wait
from outbox.errors import LeaseLost
from outbox.event import Event, RelayId
from outbox.ledger import Step, StepState
from outbox.low_water import Cursor
from outbox.outcome import Reason
from outbox.settle import promote, save_cursor, settle
from tests.outbox.store import LANES, Store, blocked, event, events, incarnate, receipt, rows, value, wait

pytestmark = pytest.mark.anyio

EXPIRE = "update outbox.relays set leased_until = clock_timestamp() - interval '1 second' where id = %s"
DUE_IN = "select extract(epoch from due_at - clock_timestamp())::float8 from outbox.waiting where event_id = %s"


def intent(of: Event, *, position: int = 1, call_seconds: float = 10) -> StepRow:
    return StepRow(of, Step(position, "publish", StepState.INTENT, {"container": "1"}, "f"), call_seconds)


def done(of: Event, *, position: int = 2) -> StepRow:
    return StepRow(of, Step(position, "publish", StepState.DONE, {"remote_id": "9"}), None)


async def mixed(store: Store, relay_id: RelayId) -> Batch:
    """A batch with a row of each kind, of events in different lanes; the one that ends was waiting."""
    first, second, third = [await event(store, key=f"k{number}") for number in range(3)]
    assert len({first.lane, second.lane, third.lane}) == 3
    await settle(store, relay_id, Batch(waits=[wait(first)]))
    return Batch(
        receipts=[receipt(first, was_waiting=True)],
        waits=[wait(second)],
        tries=[Try(second, Reason.RETRY, "no answer", None)],
        holds=[HoldRow("key", "k1", 60, "rate_limited")],
        steps=[intent(third)],
    )


async def everything(store: Store) -> list[Any]:
    """All that settling writes."""
    return [
        await rows(store, "select * from outbox.receipts"),
        await rows(store, "select * from outbox.waiting"),
        await rows(store, "select * from outbox.attempts"),
        await rows(store, "select * from outbox.holds"),
        await rows(store, "select * from outbox.steps"),
    ]


async def tuples_written(store: Store) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Rows inserted, updated and deleted by this connection and not yet reported, by table."""
    found = await rows(
        store,
        "select schemaname, relname, n_tup_ins, n_tup_upd, n_tup_del from pg_stat_xact_user_tables "
        "where n_tup_ins + n_tup_upd + n_tup_del > 0",
    )
    return {(schema, table): (inserted, updated, deleted) for schema, table, inserted, updated, deleted in found}


async def test_a_batch_is_written_whole(store: Store) -> None:
    """Every kind of row arrives, and the event that ended waits no more."""
    relay_id = await incarnate(store)
    batch = await mixed(store, relay_id)
    verdicts = await settle(store, relay_id, batch)
    first, second, third = batch.receipts[0].event, batch.waits[0].event, batch.steps[0].event
    assert [verdict for verdict, at in verdicts.values() if at is not None] == ["written"]
    assert await rows(store, "select event_id, outcome, relay_id from outbox.receipts") == [
        (first.id, "published", relay_id)
    ]
    assert await rows(store, "select event_id, reason from outbox.waiting") == [(second.id, "retry")]
    assert await rows(store, "select event_id, error from outbox.attempts") == [(second.id, "no answer")]
    assert await rows(store, "select key, reason, held_by from outbox.holds") == [("k1", "rate_limited", "test")]
    assert await rows(store, "select event_id, name, state, fingerprint, detail from outbox.steps") == [
        (third.id, "publish", "intent", "f", {"container": "1"})
    ]


async def test_a_retired_incarnation_writes_nothing_at_all(store: Store) -> None:
    """A zombie's batch leaves no trace, and the zombie learns of it."""
    relay_id = await incarnate(store)
    batch = await mixed(store, relay_id)
    before = await everything(store)
    await lease.retire(store, relay_id)
    with pytest.raises(LeaseLost):
        await settle(store, relay_id, batch)
    assert await everything(store) == before


@pytest.mark.parametrize("kind", ["receipts", "waits", "steps"])
async def test_who_does_not_own_one_lane_writes_nothing_at_all(store: Store, kind: str) -> None:
    """One event in another's lane refuses the whole batch, whatever is to be written of it."""
    relay_id = await incarnate(store)
    batch = await mixed(store, relay_id)
    before = await everything(store)
    [row] = getattr(batch, kind)
    await store.execute("update outbox.lanes set relay_id = %s where lane = %s", [relay_id + 1, row.event.lane])
    with pytest.raises(LeaseLost):
        await settle(store, relay_id, batch)
    assert await everything(store) == before


@pytest.mark.parametrize("kind", ["tries", "holds"])
async def test_what_has_no_lane_is_fenced_by_the_incarnation(store: Store, kind: str) -> None:
    """Attempts and holds too are refused to a retired incarnation."""
    relay_id = await incarnate(store)
    batch = await mixed(store, relay_id)
    before = await everything(store)
    await lease.retire(store, relay_id)
    with pytest.raises(LeaseLost):
        await settle(store, relay_id, replace(Batch(), **{kind: getattr(batch, kind)}))
    assert await everything(store) == before


@pytest.mark.parametrize("lost", ["incarnation", "lane"])
async def test_what_just_works_is_fenced_too(store: Store, lost: str) -> None:
    """Receipts and steps alone have a statement of their own: it has the same fence."""
    relay_id = await incarnate(store)
    first, second = [await event(store, key=f"k{number}") for number in range(2)]
    batch = Batch(receipts=[receipt(first)], steps=[intent(second)])
    assert batch.is_plain
    before = await everything(store)
    if lost == "incarnation":
        await lease.retire(store, relay_id)
    else:
        await store.execute("update outbox.lanes set relay_id = %s where lane = %s", [relay_id + 1, second.lane])
    with pytest.raises(LeaseLost):
        await settle(store, relay_id, batch)
    assert await everything(store) == before


async def test_a_lease_that_ran_out_but_was_not_taken_still_writes(store: Store) -> None:
    """Nobody retired it, so nobody else may have written: the fence is the retirement, not the clock."""
    relay_id = await incarnate(store)
    of = await event(store)
    await store.execute(EXPIRE, [relay_id])
    await settle(store, relay_id, Batch(receipts=[receipt(of)]))
    assert await value(store, "select event_id from outbox.receipts") == of.id


async def test_retirement_waits_for_a_write_that_is_under_way(store: Store, other: Store, observer: Store) -> None:
    """The write is first: whoever takes the lanes afterwards sees it."""
    relay_id = await incarnate(store)
    of = await event(store)
    await store.execute("begin")
    await settle(store, relay_id, Batch(receipts=[receipt(of)]))
    async with anyio.create_task_group() as group:
        group.start_soon(lease.retire, other, relay_id)
        await blocked(observer, other)
        await store.execute("commit")
    assert await value(store, "select settled_at < retired_at from outbox.receipts, outbox.relays") is True


async def test_a_write_waits_for_a_retirement_that_is_under_way(store: Store, other: Store, observer: Store) -> None:
    """The retirement is first: the write finds no fence and writes nothing."""
    relay_id = await incarnate(store)
    batch = await mixed(store, relay_id)
    before = await everything(store)

    async def write() -> None:
        with pytest.raises(LeaseLost):
            await settle(store, relay_id, batch)

    await other.execute("begin")
    await lease.retire(other, relay_id)
    async with anyio.create_task_group() as group:
        group.start_soon(write)
        await blocked(observer, store)
        await other.execute("commit")
    assert await everything(store) == before


async def test_a_write_goes_on_when_a_retirement_is_rolled_back(store: Store, other: Store, observer: Store) -> None:
    """Only what is committed fences."""
    relay_id = await incarnate(store)
    of = await event(store)
    await other.execute("begin")
    await lease.retire(other, relay_id)
    async with anyio.create_task_group() as group:
        group.start_soon(settle, store, relay_id, Batch(receipts=[receipt(of)]))
        await blocked(observer, store)
        await other.execute("rollback")
    assert await value(store, "select event_id from outbox.receipts") == of.id


async def test_a_renewal_and_a_write_do_not_wait_for_each_other_long(store: Store, other: Store) -> None:
    """Both leave a lease that is in force: the relay does not fence itself."""
    relay_id = await incarnate(store)
    of = await events(store, 20)
    async with anyio.create_task_group() as group:
        for each in of:
            group.start_soon(settle, store, relay_id, Batch(receipts=[receipt(each)]))
            group.start_soon(partial(lease.renew, other, relay_id, lease_seconds=60))
    assert await value(store, "select count(*) from outbox.receipts") == 20


async def test_an_intent_of_a_cancelled_event_is_not_written(store: Store) -> None:
    """From the cancellation on, no irreversible call begins; what else is in the batch is written."""
    relay_id = await incarnate(store)
    cancelled, fine, ended = await events(store, 3)
    await store.execute("select outbox.cancel(%s)", [cancelled.id])
    verdicts = await settle(store, relay_id, Batch(steps=[intent(cancelled), intent(fine)], receipts=[receipt(ended)]))
    assert verdicts[cancelled.id, 1] == ("cancelled", None)
    assert verdicts[fine.id, 1][0] == "written"
    assert await rows(store, "select event_id from outbox.steps") == [(fine.id,)]
    assert await value(store, "select event_id from outbox.receipts") == ended.id


async def test_an_intent_after_the_deadline_is_not_written(store: Store) -> None:
    """A story that is late is not begun, one that is in time is."""
    relay_id = await incarnate(store)
    now = await value(store, "select clock_timestamp()")
    late, early = await event(store, expires_at=now), await event(store, expires_at=now.replace(year=now.year + 1))
    verdicts = await settle(store, relay_id, Batch(steps=[intent(late), intent(early)]))
    assert verdicts[late.id, 1] == ("expired", None)
    assert verdicts[early.id, 1][0] == "written"
    assert await rows(store, "select event_id from outbox.steps") == [(early.id,)]


async def test_an_intent_that_the_lease_would_not_outlive_is_not_written(store: Store) -> None:
    """While a call is under way nobody else may own its lane."""
    relay_id = await incarnate(store, lease_seconds=30)
    long, short = await events(store, 2)
    verdicts = await settle(
        store, relay_id, Batch(steps=[intent(long, call_seconds=31), intent(short, call_seconds=20)])
    )
    assert verdicts[long.id, 1] == ("lease_too_short", None)
    assert verdicts[short.id, 1][0] == "written"


async def test_an_answer_is_written_whatever_came_meanwhile(store: Store) -> None:
    """What happened is recorded, though the event was cancelled, its deadline passed and the lease is short."""
    relay_id = await incarnate(store, lease_seconds=0.1)
    of = await event(store, expires_at=await value(store, "select clock_timestamp()"))
    await store.execute("select outbox.cancel(%s)", [of.id])
    verdicts = await settle(store, relay_id, Batch(steps=[done(of)]))
    assert verdicts[of.id, 2][0] == "written"


async def test_a_step_tells_when_it_was_written(store: Store) -> None:
    """The instant that comes back is the row's own."""
    relay_id = await incarnate(store)
    of = await event(store)
    verdicts = await settle(store, relay_id, Batch(steps=[intent(of)]))
    assert verdicts[of.id, 1][1] == await value(store, "select created_at from outbox.steps")


async def test_two_writers_of_the_same_step_collide(store: Store) -> None:
    """A second fence: a position is written once."""
    relay_id = await incarnate(store)
    of = await event(store)
    await settle(store, relay_id, Batch(steps=[intent(of)]))
    with pytest.raises(errors.UniqueViolation):
        await settle(store, relay_id, Batch(steps=[intent(of)]))


async def test_waiting_again_keeps_since_when_and_the_last_error(store: Store) -> None:
    """A wait without an error of its own does not hide the one before; all else is the newest."""
    relay_id = await incarnate(store)
    of = await event(store)
    await settle(store, relay_id, Batch(waits=[wait(of, Reason.RETRY, 60, "no answer")]))
    since = await value(store, "select waiting_since from outbox.waiting")
    again = replace(wait(of, Reason.HELD, 600), attempts=4, deferrals=5)
    await settle(store, relay_id, Batch(waits=[again]))
    [row] = await rows(store, "select waiting_since, error, reason, attempts, deferrals from outbox.waiting")
    assert row == (since, "no answer", "held", 4, 5)
    assert await value(store, DUE_IN, [of.id]) == pytest.approx(600, abs=100)


async def test_waiting_again_takes_a_newer_error(store: Store) -> None:
    """The last error is the one that is shown."""
    relay_id = await incarnate(store)
    of = await event(store)
    for error in ("first", "second"):
        await settle(store, relay_id, Batch(waits=[wait(of, error=error)]))
    assert await value(store, "select error from outbox.waiting") == "second"


async def test_a_wait_may_be_for_ever(store: Store) -> None:
    """Infinity waits for another event, or for a person."""
    relay_id = await incarnate(store)
    of = await event(store, key="k")
    hold = HoldRow("key", "k", math.inf, "token")
    await settle(store, relay_id, Batch(waits=[wait(of, Reason.HELD, math.inf)], holds=[hold]))
    assert await value(store, "select due_at = 'infinity' from outbox.waiting") is True
    assert await value(store, "select held_until = 'infinity' from outbox.holds") is True


@pytest.mark.parametrize(("then", "left"), [(100.0, 600.0), (6000.0, 6000.0), (math.inf, math.inf)])
async def test_a_hold_is_never_shortened(store: Store, then: float, left: float) -> None:
    """Of two holds on a key the longer one stands."""
    relay_id = await incarnate(store)
    for seconds in (600.0, then):
        await settle(store, relay_id, Batch(holds=[HoldRow("key", "k", seconds, f"for {seconds}")]))
    [(until, reason)] = await rows(
        store,
        "select case when held_until = 'infinity' then 'Infinity'::float8 "
        "else extract(epoch from held_until - clock_timestamp())::float8 end, reason from outbox.holds",
    )
    assert until == pytest.approx(left, abs=100)
    assert reason == f"for {left}"


async def test_of_two_holds_in_a_batch_the_longer_stands(store: Store) -> None:
    """Two handlers that meet the same limit at once write one hold."""
    relay_id = await incarnate(store)
    holds = [HoldRow("app", "", seconds, f"for {seconds}") for seconds in (60.0, math.inf, 10.0)]
    await settle(store, relay_id, Batch(holds=holds))
    assert await rows(store, "select scope, reason from outbox.holds") == [("app", "for inf")]


async def test_a_receipt_says_when_the_last_dispatch_began(store: Store) -> None:
    """So long ago, by the database's clock; null for an event that was never dispatched."""
    relay_id = await incarnate(store)
    dispatched, never = await events(store, 2)
    await settle(
        store,
        relay_id,
        Batch(
            receipts=[
                replace(receipt(dispatched), dispatched_seconds_ago=300.0),
                replace(receipt(never), outcome="expired", result=None, dispatched_seconds_ago=None),
            ]
        ),
    )
    found = await rows(
        store,
        "select extract(epoch from settled_at - dispatched_at)::float8, result from outbox.receipts order by event_id",
    )
    assert found[0] == (pytest.approx(300, abs=30), {"remote_id": "1"})
    assert found[1] == (None, None)


async def test_the_happy_path_is_one_statement_that_only_inserts(store: Store) -> None:
    """500 events that just worked are 500 inserted rows of one transaction: nothing is updated, nothing deleted."""
    relay_id = await incarnate(store)
    of = await events(store, 500)
    await store.execute("begin")
    before = await tuples_written(store)
    await settle(store, relay_id, Batch(receipts=[receipt(each) for each in of]))
    after = await tuples_written(store)
    commands = await value(store, "select count(distinct cmin::text) from outbox.receipts")
    await store.execute("commit")
    assert after == {**before, ("outbox", "receipts"): (500, 0, 0)}
    assert commands == 1


async def test_promoting_makes_the_first_parked_event_due(store: Store) -> None:
    """One at a time: those behind it stay parked."""
    relay_id = await incarnate(store)
    of = await events(store, 3, key="k", sequence="s")
    await settle(store, relay_id, Batch(waits=[wait(each, Reason.PARKED, math.inf) for each in of]))
    assert await promote(store, relay_id, [("k", "s")]) == []
    due = await rows(store, "select event_id from outbox.waiting where due_at <= clock_timestamp()")
    assert due == [(of[0].id,)]


async def test_promoting_leaves_an_event_that_waits_for_something_else(store: Store) -> None:
    """The first event's retry keeps its time, and those behind it stay parked."""
    relay_id = await incarnate(store)
    head, follower = await events(store, 2, key="k", sequence="s")
    parked = wait(follower, Reason.PARKED, math.inf)
    await settle(store, relay_id, Batch(waits=[wait(head, Reason.RETRY, 60), parked]))
    assert await promote(store, relay_id, [("k", "s")]) == []
    assert await value(store, "select count(*) from outbox.waiting where due_at <= clock_timestamp()") == 0


async def test_promoting_tells_which_sequences_wait_no_more(store: Store) -> None:
    """A sequence is known by key and name: another one's events don't count."""
    relay_id = await incarnate(store)
    of = await event(store, key="k", sequence="s")
    await settle(store, relay_id, Batch(waits=[wait(of, Reason.PARKED, math.inf)]))
    free = await promote(store, relay_id, [("k", "s"), ("k", "other"), ("other", "s")])
    assert sorted(free) == [("k", "other"), ("other", "s")]


async def test_a_retired_incarnation_promotes_nothing(store: Store) -> None:
    """What is due is not a zombie's to decide."""
    relay_id = await incarnate(store)
    of = await event(store, key="k", sequence="s")
    await settle(store, relay_id, Batch(waits=[wait(of, Reason.PARKED, math.inf)]))
    await lease.retire(store, relay_id)
    with pytest.raises(LeaseLost):
        await promote(store, relay_id, [("k", "s")])
    assert await value(store, "select due_at = 'infinity' from outbox.waiting") is True


async def test_a_cursor_is_saved_for_its_lanes_alone(store: Store) -> None:
    """Lanes that have another cursor keep it."""
    relay_id = await incarnate(store)
    await save_cursor(store, relay_id, LANES[:3], Cursor("5:5:", "9:9:", 7))
    saved = await rows(
        store, "select lane from outbox.cursors where (seen::text, \"window\"::text, position) = ('5:5:', '9:9:', 7)"
    )
    assert sorted(lane for (lane,) in saved) == LANES[:3]


async def test_a_retired_incarnation_saves_no_cursor(store: Store) -> None:
    """A zombie can't move the water mark of its successor."""
    relay_id = await incarnate(store)
    await lease.retire(store, relay_id)
    with pytest.raises(LeaseLost):
        await save_cursor(store, relay_id, LANES, Cursor("5:5:", "9:9:", 7))
    assert await value(store, "select max(position) from outbox.cursors") == 0


async def test_a_cursor_of_anothers_lane_is_not_saved(store: Store) -> None:
    """One lane that is another's refuses the whole save."""
    relay_id = await incarnate(store)
    await store.execute("update outbox.lanes set relay_id = %s where lane = 2", [relay_id + 1])
    with pytest.raises(LeaseLost):
        await save_cursor(store, relay_id, LANES[:3], Cursor("5:5:", "9:9:", 7))
    assert await value(store, "select max(position) from outbox.cursors") == 0


DUE_WITH_HOLDS = """
select w.event_id, w.due_at = (select max(h.held_until) from outbox.holds as h where h.key in ('', w.key)),
  w.due_at <= clock_timestamp()
from outbox.waiting as w
order by w.event_id
"""


def parked(of: Event) -> Wait:
    """It waits for a hold, as long as its relay believes."""
    return replace(wait(of, Reason.HELD, math.inf), for_hold=True)


async def test_what_is_parked_for_a_hold_is_due_exactly_at_its_end(store: Store) -> None:
    """Of the key's hold and the app's the later end counts, and events that were parked apart are due together."""
    relay_id = await incarnate(store)
    first, second, other, keyless = [await event(store, key=key) for key in ("k", "k", "l", None)]
    await settle(store, relay_id, Batch(waits=[parked(first)], holds=[HoldRow("key", "k", 60, "token")]))
    await settle(store, relay_id, Batch(waits=[parked(second)]))
    await settle(store, relay_id, Batch(waits=[parked(other)]))
    assert await rows(store, DUE_WITH_HOLDS) == [
        (first.id, True, False),
        (second.id, True, False),
        (other.id, None, True),
    ]
    await settle(store, relay_id, Batch(holds=[HoldRow("app", "", math.inf, "rate_limited")]))
    await settle(store, relay_id, Batch(waits=[parked(each) for each in (first, second, other, keyless)]))
    assert {row[1:] for row in await rows(store, DUE_WITH_HOLDS)} == {(True, False)}


async def test_what_is_parked_while_its_hold_is_released_does_not_wait_for_ever(
    store: Store, other: Store, observer: Store
) -> None:
    """Whoever comes second knows of the first: the event is due at once, in either order."""
    relay_id = await incarnate(store)
    late, early = await events(store, 2, key="k")
    hold = HoldRow("key", "k", math.inf, "token")
    await settle(store, relay_id, Batch(holds=[hold]))
    async with anyio.create_task_group() as group, other.transaction():
        await other.execute("select outbox.release('k')")
        group.start_soon(settle, store, relay_id, Batch(waits=[parked(late)]))
        await blocked(observer, store)
    await settle(store, relay_id, Batch(holds=[hold]))
    async with anyio.create_task_group() as group, store.transaction():
        await settle(store, relay_id, Batch(waits=[parked(early)]))
        group.start_soon(other.execute, "select outbox.release('k')")
        await blocked(observer, other)
    assert await rows(store, DUE_WITH_HOLDS) == [(late.id, None, True), (early.id, None, True)]


async def test_a_receipt_and_a_release_do_not_wait_in_a_circle(store: Store, other: Store, observer: Store) -> None:
    """Both lock the hold first, then the waiting rows."""
    relay_id = await incarnate(store)
    ended, parks = await events(store, 2, key="k")
    await settle(
        store, relay_id, Batch(waits=[wait(ended, Reason.HELD)], holds=[HoldRow("key", "k", math.inf, "token")])
    )
    async with anyio.create_task_group() as group, other.transaction():
        await other.execute("select from outbox.holds for update")
        batch = Batch(receipts=[receipt(ended, was_waiting=True)], waits=[parked(parks)])
        group.start_soon(settle, store, relay_id, batch)
        await blocked(observer, store)
        await other.execute("select outbox.release('k')")
    assert await value(store, "select count(*) from outbox.receipts") == 1
    assert await value(store, "select due_at <= clock_timestamp() from outbox.waiting") is True


@pytest.mark.parametrize("who", ["relay", "release"])
async def test_waiting_rows_are_locked_in_the_order_of_their_events(
    store: Store, other: Store, observer: Store, who: str
) -> None:
    """Who waits for an earlier event's row holds no later one's, or two could wait for each other in a circle."""
    relay_id = await incarnate(store)
    ended, early, late = await events(store, 3, key="k")
    waits = [wait(late, Reason.HELD), wait(early, Reason.HELD), wait(ended, Reason.HELD)]
    await settle(store, relay_id, Batch(waits=waits))
    batch = Batch(receipts=[receipt(late, was_waiting=True)], waits=[waits[1], waits[2]])
    async with anyio.create_task_group() as group, other.transaction():
        await other.execute("select from outbox.waiting where event_id = %s for update", [ended.id])
        if who == "relay":
            group.start_soon(settle, store, relay_id, batch)
        else:
            group.start_soon(store.execute, "select outbox.release('k')")
        await blocked(observer, store)
        free = "select event_id from outbox.waiting order by event_id for update skip locked"
        assert await rows(observer, free) == [(early.id,), (late.id,)]
