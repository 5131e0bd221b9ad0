"""A lane has one owner at a time, and an incarnation that lost its lease learns of it."""

from __future__ import annotations

import time

import anyio
import pytest

from outbox import lease
from outbox.errors import LeaseLost
from outbox.event import Lane, RelayId
from tests.outbox.store import LANES, Store, connect, eventually, incarnate, rows, value

pytestmark = pytest.mark.anyio

EXPIRE = "update outbox.relays set leased_until = clock_timestamp() - interval '1 second' where id = %s"


async def join(store: Store) -> RelayId:
    return await lease.join(store, name="test", version="0", lease_seconds=60)


async def test_every_join_is_a_new_incarnation(store: Store) -> None:
    """The fencing token of a relay is never used again."""
    assert await join(store) < await join(store)


async def test_a_renewal_prolongs_the_lease_and_tells_the_databases_time(store: Store) -> None:
    """The lease ends so many seconds after the renewal, by the clock that the renewal returns."""
    relay_id = await join(store)
    now = await lease.renew(store, relay_id, lease_seconds=300)
    leased_until = await value(store, "select leased_until from outbox.relays where id = %s", [relay_id])
    assert leased_until.timestamp() - now == pytest.approx(300, abs=30)
    assert now == pytest.approx(time.time(), abs=60)


async def test_a_renewal_touches_no_index(store: Store) -> None:
    """Every emitter's bell reads this table: versions of its rows must not pile up in its indexes."""
    relay_id = await join(store)
    async with store.transaction():
        for _ in range(5):
            await lease.renew(store, relay_id, lease_seconds=60)
        assert await value(store, "select pg_stat_get_xact_tuples_hot_updated('outbox.relays'::regclass)") == 5


async def test_a_retired_incarnation_cannot_renew(store: Store) -> None:
    """It learns that others may own its lanes."""
    relay_id = await join(store)
    await lease.retire(store, relay_id)
    with pytest.raises(LeaseLost):
        await lease.renew(store, relay_id, lease_seconds=60)


async def test_a_retired_incarnation_cannot_mute(store: Store) -> None:
    """Its bell is not its own any more."""
    relay_id = await join(store)
    await lease.retire(store, relay_id)
    with pytest.raises(LeaseLost):
        await lease.mute(store, relay_id, 30)


async def test_only_the_dead_are_retired(store: Store) -> None:
    """A lease that is in force is nobody's to end, and the dead are named once."""
    dead, alive = await join(store), await join(store)
    await store.execute(EXPIRE, [dead])
    assert await lease.retire_dead(store) == [lease.DeadRelay(dead, "test")]
    assert await lease.retire_dead(store) == []
    await lease.renew(store, alive, lease_seconds=60)


async def test_our_previous_incarnation_is_retired_while_its_lease_runs(store: Store) -> None:
    """A relay that begins again does not wait for its own lease."""
    previous, other = await join(store), await join(store)
    await lease.retire(store, previous)
    with pytest.raises(LeaseLost):
        await lease.renew(store, previous, lease_seconds=60)
    await lease.renew(store, other, lease_seconds=60)


async def test_lanes_of_the_living_are_not_taken(store: Store) -> None:
    """Free lanes are taken once; a second relay gets none."""
    first, second = await join(store), await join(store)
    assert await lease.take_lanes(store, first) == LANES
    assert await lease.take_lanes(store, second) == []
    assert await lease.take_lanes(store, first) == []


async def test_a_lease_that_ran_out_keeps_its_lanes_until_it_is_retired(store: Store) -> None:
    """Retire first, take then: in between the old owner may still be writing."""
    first, second = await incarnate(store), await join(store)
    await store.execute(EXPIRE, [first])
    assert await lease.take_lanes(store, second) == []
    await lease.retire_dead(store)
    assert await lease.take_lanes(store, second) == LANES


async def test_a_retired_incarnation_takes_no_lane(store: Store) -> None:
    """A zombie gets nothing, free or not."""
    relay_id = await join(store)
    await lease.retire(store, relay_id)
    assert await lease.take_lanes(store, relay_id) == []


async def test_relays_that_race_own_disjoint_lanes(store: Store, database: str) -> None:
    """However many take at once, every lane has exactly one owner and each relay knows which are its own."""
    taken: dict[RelayId, list[Lane]] = {}

    async def race(relay_id: RelayId) -> None:
        async with await connect(database) as connection:
            taken[relay_id] = await lease.take_lanes(connection, relay_id)

    relays = [await join(store) for _ in range(4)]
    async with anyio.create_task_group() as group:
        for relay_id in relays:
            group.start_soon(race, relay_id)
    assert sorted(lane for lanes in taken.values() for lane in lanes) == LANES
    owned = await rows(store, "select relay_id, array_agg(lane order by lane) from outbox.lanes group by relay_id")
    assert dict(owned) == {relay_id: sorted(lanes) for relay_id, lanes in taken.items() if lanes}


async def test_leaving_frees_the_lanes_at_once(store: Store) -> None:
    """A clean stop lets the next relay begin without waiting for a lease."""
    first, second = await incarnate(store), await join(store)
    await lease.leave(store, first)
    assert await lease.take_lanes(store, second) == LANES
    with pytest.raises(LeaseLost):
        await lease.renew(store, first, lease_seconds=60)


async def test_leaving_gives_up_no_others_lanes(store: Store) -> None:
    """Only one's own lanes are given back."""
    owner, guest = await incarnate(store), await join(store)
    await lease.leave(store, guest)
    assert await value(store, "select count(*) from outbox.lanes where relay_id = %s", [owner]) == 64


async def test_leaving_tells_the_others(store: Store, other: Store) -> None:
    """Those that listen hear that lanes are free."""
    relay_id = await incarnate(store)
    await other.execute("listen outbox")
    await lease.leave(store, relay_id)
    assert [n.payload async for n in other.notifies(timeout=60, stop_after=1)] == ["lanes"]


async def test_muting_is_for_a_while_and_can_be_taken_back(store: Store) -> None:
    """The bell is muted ahead of now, and null lets it ring."""
    relay_id = await join(store)
    await lease.mute(store, relay_id, 300)
    ahead = "select extract(epoch from awake_until - clock_timestamp())::float8 from outbox.relays"
    assert await value(store, ahead) == pytest.approx(300, abs=100)
    await lease.mute(store, relay_id, 0)
    assert await value(store, ahead) <= 0


async def test_a_horizon_has_passed_when_every_transaction_before_it_has_ended(store: Store, other: Store) -> None:
    """A transaction that had an xid holds the horizon back; one that began afterwards does not."""
    async with other.transaction():
        await other.execute("select pg_current_xact_id()")
        horizon = await lease.take_horizon(store, is_forgotten=True)
        assert horizon is not None
        assert not await lease.horizon_passed(store, horizon)
    async with other.transaction():
        await other.execute("select pg_current_xact_id()")
        await eventually(lambda: lease.horizon_passed(store, horizon))


@pytest.mark.parametrize(
    ("awake", "is_taken"), [(None, True), ("-2 minutes", True), ("-1 second", False), ("30 s", False)]
)
async def test_no_horizon_is_taken_while_a_session_may_remember_a_muted_bell(
    store: Store, awake: str | None, is_taken: bool
) -> None:
    """Whoever remembers it begins transactions after the horizon, too, and does not ring."""
    await join(store)
    await store.execute("update outbox.relays set awake_until = clock_timestamp() + %s::interval", [awake])
    assert (await lease.take_horizon(store, is_forgotten=False) is not None) is is_taken
    assert await lease.take_horizon(store, is_forgotten=True) is not None
