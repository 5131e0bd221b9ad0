"""Any number of relays share the lanes: evenly, calmly, and no lane is held up by another one."""

from __future__ import annotations

import math
from typing import LiteralString

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.event import LANE_COUNT, EventId, RelayId
from outbox.outcome import Defer, Hold, Reason, Retry
from relay.app import serve
from relay.keeper import share_of
from tests.relay.running import (
    Gate,
    Script,
    Store,
    all_settled,
    closed,
    emit,
    eventually,
    get,
    ready,
    relay,
    rows,
    settings,
    state_is,
    value,
    working,
)

pytestmark = pytest.mark.anyio

OWNED: LiteralString = """
select count(*) from outbox.lanes as l join outbox.relays as r on r.id = l.relay_id and r.retired_at is null
group by r.id order by r.id
"""
A_KEY_FOR_EACH_LANE: LiteralString = """
select hashtextextended('k' || n, 0) & 63, min('k' || n) from generate_series(1, 2000) as n group by 1
"""
OWNER_OF: LiteralString = (
    "select l.relay_id from outbox.lanes as l join outbox.events as e using (lane) where e.id = %s"
)
LISTENERS: LiteralString = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and application_name = 'outbox-listener'
"""


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=100, unique=True).map(sorted))
def test_shares_are_even_and_calm(ids: list[int]) -> None:
    """They are all lanes, differ by one at most, and who leaves makes nobody's share smaller."""
    relays = [RelayId(each) for each in ids]
    shares = [share_of(each, relays) for each in relays]
    assert sum(shares) == LANE_COUNT
    assert max(shares) == math.ceil(LANE_COUNT / len(relays))
    assert max(shares) - min(shares) <= 1
    for gone in relays[:-1]:
        left = [each for each in relays if each != gone]
        assert all(share_of(each, left) >= share_of(each, relays) for each in left)


async def shared(store: Store, *counts: int) -> None:
    """Return once the relays, oldest first, own so many lanes each."""

    async def are_shared() -> bool:
        return [count for (count,) in await rows(store, OWNED)] == list(counts)

    await eventually(are_shared, seconds=60)


async def a_key_for_each_lane(store: Store) -> dict[int, str]:
    """A key that travels in each lane."""
    keys: dict[int, str] = dict(await rows(store, A_KEY_FOR_EACH_LANE))
    assert len(keys) == LANE_COUNT
    return keys


async def test_relays_that_join_get_even_shares_and_those_that_leave_give_them_back(
    database: str, store: Store, script: Script
) -> None:
    """With n of them nobody owns more than 64 / n, rounded up; each publishes the events of its own lanes."""
    first, second, third = Script(), Script(), Script()
    keys = await a_key_for_each_lane(store)
    async with working(settings(database), first):
        await shared(store, 64)
        async with working(settings(database), second):
            await shared(store, 32, 32)
            async with working(settings(database), third):
                await shared(store, 22, 21, 21)
                for key in keys.values():
                    await emit(store, key, key=key)
                await all_settled(store, LANE_COUNT, seconds=60)
                assert [len(each.calls) for each in (first, second, third)] == [22, 21, 21]
            await shared(store, 32, 32)
        await shared(store, 64)
        event_id = await emit(store, "a")
        await state_is(store, event_id, "published")
    assert sorted(first.calls + second.calls + third.calls) == sorted([*keys.values(), "a"])


async def test_a_relay_that_finds_no_lane_stands_by_and_works_when_one_is_free(
    database: str, store: Store, script: Script
) -> None:
    """It is not ready, renews its lease, and does not need to begin anew."""
    await store.execute(
        "with others as (insert into outbox.relays (name, version, leased_until) "
        "select 'other', '0', clock_timestamp() + interval '1 hour' from generate_series(1, 64) returning id) "
        "update outbox.lanes as l set relay_id = o.id "
        "from (select id, row_number() over (order by id) - 1 as lane from others) as o where o.lane = l.lane"
    )
    async with relay(settings(database), script) as url:

        async def stands_by() -> bool:
            status, text = await get(f"{url}/readyz")
            return status == 503 and '"lease_held": true' in text and '"lanes_owned": 0' in text

        await eventually(stands_by)
        event_id = await emit(store, "a", key="k")
        gone = await value(store, OWNER_OF, [event_id])
        await store.execute("update outbox.relays set leased_until = clock_timestamp() where id = %s", [gone])
        await store.execute("notify outbox, 'lanes'")
        await state_is(store, event_id, "published")
    assert await value(store, "select count(*) from outbox.relays where name <> 'other'") == 1


async def test_a_lane_goes_over_with_its_waits_its_pauses_and_its_holds(
    database: str, store: Store, script: Script
) -> None:
    """What the relay before had in memory or in the database, the next one goes on with: in order, and not before."""
    other = Script()
    script.acts["s1"] = [Defer(250, Reason.PROCESSING)]
    script.acts["r1"] = [Retry("once", after_seconds=250)]
    script.acts["h1"] = [Hold(250, "account", "paused", "key")]
    stop = anyio.Event()
    async with relay(settings(database, short_deferral_seconds=300), other):
        async with serve(settings(database, short_deferral_seconds=300), stop, factories=script.factories) as url:
            await eventually(lambda: ready(url))
            await shared(store, 32, 32)
            keys = await keys_of(store, 2)
            paused = await emit(store, "s1", key=keys[0], sequence="s")
            behind = await emit(store, "s2", key=keys[0], sequence="s")
            retried = await emit(store, "r1", key=keys[1], sequence="r")
            parked = await emit(store, "r2", key=keys[1], sequence="r")
            await state_is(store, retried, "waiting:retry")
            await state_is(store, parked, "waiting:parked")
            held = await emit(store, "h1", key=keys[2])
            await state_is(store, held, "waiting:held")
            too = await emit(store, "h2", key=keys[2])
            await state_is(store, too, "waiting:held")
            assert "s1" in script.calls
            stop.set()
        await shared(store, 64)
        await state_is(store, paused, "waiting:processing")
        await state_is(store, behind, "waiting:parked")
        later = await emit(store, "h3", key=keys[2])
        await state_is(store, later, "waiting:held")
        assert other.calls == []
        await store.execute("select outbox.release(%s)", [keys[2]])
        await store.execute("update outbox.waiting set due_at = clock_timestamp() where due_at < 'infinity'")
        await store.execute("notify outbox, 'waiting'")
        await all_settled(store, 7)
    calls = other.calls
    assert [name for name in calls if name.startswith("s")] == ["s1", "s2"]
    assert [name for name in calls if name.startswith("r")] == ["r1", "r2"]
    assert sorted(calls) == ["h1", "h2", "h3", "r1", "r2", "s1", "s2"]


async def keys_of(store: Store, relay_id: int) -> list[str]:
    """Keys of the lanes of a relay, each in another lane."""
    keys = await a_key_for_each_lane(store)
    owned = await rows(store, "select lane from outbox.lanes where relay_id = %s order by lane", [relay_id])
    return [keys[lane] for (lane,) in owned]


async def test_a_handler_that_takes_long_holds_up_its_own_lane_and_no_other(
    database: str, store: Store, script: Script
) -> None:
    """The others are free at once; its own when it has finished, and its event is handled once."""
    gate, other = Gate(), Script()
    script.acts["long"] = [gate]
    stop = anyio.Event()
    async with relay(settings(database), other):
        await shared(store, 64)
        async with serve(settings(database, shutdown_seconds=60), stop, factories=script.factories):
            await shared(store, 32, 32)
            long_key, *other_keys = await keys_of(store, 2)
            in_flight = await emit(store, "long", key=long_key)
            await gate.entered.wait()
            behind = await emit(store, "behind", key=long_key)
            stop.set()
            await shared(store, 63, 1)
            for key in other_keys:
                await emit(store, key, key=key)
            await all_settled(store, len(other_keys), seconds=60)
            await state_is(store, behind, "new", seconds=0)
            gate.opened.set()
        await state_is(store, in_flight, "published", seconds=0)
        await state_is(store, behind, "published")
    assert script.calls == ["long"]
    assert sorted(other.calls) == sorted(["behind", *other_keys])


async def test_a_handler_that_takes_too_long_is_ended_and_its_event_put_back(
    database: str, store: Store, script: Script
) -> None:
    """A relay that gives up a lane does not wait for ever: the next one begins the event again, at no attempt."""
    gate, other = Gate(), Script()
    script.acts["long"] = [gate]
    async with working(settings(database, shutdown_seconds=0.2), script):
        keys = await a_key_for_each_lane(store)
        for key in keys.values():
            await emit(store, "long", key=key)
        await gate.entered.wait()

        async def all_begun() -> bool:
            return len(script.calls) == LANE_COUNT

        await eventually(all_begun)
        async with working(settings(database), other):
            await shared(store, 32, 32)

            async def gone_over() -> bool:
                return len(other.calls) == 32

            await eventually(gone_over)
            gate.opened.set()
            await all_settled(store, LANE_COUNT)
    assert await rows(store, "select outcome, attempts, count(*) from outbox.receipts group by 1, 2") == [
        ("published", 0, LANE_COUNT)
    ]


async def test_without_notifications_lanes_are_shared_all_the_same(database: str, store: Store, script: Script) -> None:
    """Behind a transaction pooler a relay looks for itself."""
    other = Script()
    async with working(settings(database), script), relay(settings(database), other):
        await shared(store, 32, 32)
        stop = anyio.Event()
        async with serve(settings(database), stop, factories=Script().factories):
            await shared(store, 22, 21, 21)
            async with closed(database):
                assert await value(store, LISTENERS) == 3
                stop.set()
                await shared(store, 32, 32)


async def test_what_a_dead_relay_left_parked_behind_nothing_goes_on(
    database: str, store: Store, script: Script
) -> None:
    """It died between the receipt of the event before and having the next one go on."""
    event_id = await emit(store, "a", key="k", sequence="s")
    await store.execute(
        "insert into outbox.waiting (event_id, lane, key, sequence, reason, due_at, attempts, deferrals) "
        "select id, lane, key, sequence, 'parked', 'infinity', 0, 0 from outbox.events"
    )
    async with working(settings(database), script):
        await state_is(store, event_id, "published")


async def test_a_hold_of_the_app_that_one_relay_begins_holds_the_others_too(
    database: str, store: Store, script: Script
) -> None:
    """A limit of the app is everybody's, and known at once."""
    other = Script()
    script.acts["limit"] = other.acts["limit"] = [Hold(3600, "rate_limited", "too many", "app")]
    async with working(settings(database), script), working(settings(database), other):
        await shared(store, 32, 32)
        keys = await a_key_for_each_lane(store)
        first = await emit(store, "limit", key=keys[0])
        await state_is(store, first, "waiting:rate_limited")
        owner = await value(store, OWNER_OF, [first])
        [(lane,), *_] = await rows(store, "select lane from outbox.lanes where relay_id <> %s order by lane", [owner])

        async def is_held() -> bool:
            event_id = EventId(await emit(store, "b", key=keys[lane]))
            await eventually(lambda: value(store, "select state <> 'new' from outbox.status(%s)", [event_id]))
            return bool(await value(store, "select state = 'waiting' from outbox.status(%s)", [event_id]))

        await eventually(is_held)


async def test_events_stay_in_order_while_lanes_go_to_and_fro(database: str, store: Store, script: Script) -> None:
    """Relays join and leave under load: each event of a sequence is handled once, after those before it."""
    scripts = [script, *(Script() for _ in range(4))]
    order: list[str] = []
    for each in scripts:
        each.calls = order
    count = 0

    async def load(names: int) -> None:
        nonlocal count
        for _ in range(names):
            await emit(store, f"{count:05}", key=f"k{count % 50}", sequence="s")
            count += 1

    async with working(settings(database), scripts[0]):
        for joining in scripts[1:]:
            async with relay(settings(database), joining):
                await load(150)
            await load(50)
        await all_settled(store, count, seconds=60)
    assert len(order) == count
    for key in range(50):
        mine = [name for name in order if int(name) % 50 == key]
        assert mine == sorted(mine)
    assert await rows(store, "select outcome, count(*) from outbox.receipts group by 1") == [("published", count)]
