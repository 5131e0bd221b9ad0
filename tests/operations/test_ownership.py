"""Which relays work, and what is behind the cursors of their lanes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.operations import database_now
from outbox.ownership import LaneRow, count_unowned_lanes, find_lanes, find_relays
from outbox.statistics import load_statistics
from tests.operations.histories import Histories

pytestmark = pytest.mark.anyio

Connection = AsyncConnection[TupleRow]

RELAY = """
insert into outbox.relays (name, version, leased_until, awake_until, retired_at)
values (
  %s, '1', clock_timestamp() + %s * interval '1 second', clock_timestamp() + %s * interval '1 second',
  clock_timestamp() - %s * interval '1 second'
)
returning id
"""
OWN_ALL = "update outbox.lanes set relay_id = %s returning lane"


async def test_relays_that_are_long_retired_are_left_out(connection: Connection, histories: Histories) -> None:
    """The rest are listed newest first, with their lanes, their lease and their bell."""
    [(working,)] = histories.fetch(RELAY, "working", 10, 10, None)
    histories.fetch(RELAY, "expired", -1, None, None)
    histories.fetch(RELAY, "retired", 10, 10, 60)
    histories.fetch(RELAY, "long retired", -1, None, 7200)
    histories.fetch(OWN_ALL, working)
    since = await database_now(connection) - timedelta(hours=1)
    found = await find_relays(connection, retired_since=since)
    assert [(each.name, each.state, each.lane_count, each.is_awake) for each in found] == [
        ("retired", "retired", 0, False),
        ("expired", "expired", 0, False),
        ("working", "working", 64, True),
        ("host:1", "expired", 0, False),
    ]
    assert len(await find_relays(connection, retired_since=since, limit=2)) == 2


async def test_what_is_behind_a_cursor_and_not_settled_is_counted(connection: Connection, histories: Histories) -> None:
    """What has a receipt or a waiting row is settled, and what a cursor has passed is behind nobody."""
    histories.emit(key="passed")
    histories.pass_events()
    unsettled = [histories.emit(key="k") for _ in range(2)]
    histories.ended(key="k")
    histories.wait(histories.emit(key="k"), "retry")
    lanes = await find_lanes(connection)
    assert [lane.lane for lane in lanes] == list(range(64))
    [(number, oldest_at)] = histories.fetch("select lane, created_at from outbox.events where id = %s", unsettled[0])
    expected = {lane.lane: 2 if lane.lane == number else 0 for lane in lanes}
    assert {lane.lane: lane.unsettled_count for lane in lanes} == expected
    assert all(lane.is_complete for lane in lanes)
    busy = lanes[number]
    assert busy.oldest_at == oldest_at
    assert busy.oldest_seconds is not None
    assert 0 < busy.oldest_seconds < 60
    assert (busy.relay_id, busy.relay, lanes[number - 1].oldest_at) == (None, None, None)


async def test_a_position_inside_a_window_is_passed_too(connection: Connection, histories: Histories) -> None:
    """A large window is worked through by id: what is below is settled."""
    first, second = histories.emit(key="k"), histories.emit(key="k")
    histories.fetch('update outbox.cursors set "window" = pg_current_snapshot(), position = %s returning lane', first)
    assert await unsettled_ids(connection, histories) == [second]


async def test_a_straggler_is_counted(connection: Connection, histories: Histories) -> None:
    """An event whose transaction ran when the cursor's window began, and has committed since."""
    async with connection.transaction():
        await connection.execute("select outbox.emit('t', key => 'k')")
        histories.emit(key="passed")
        histories.pass_events()
    assert sum(lane.unsettled_count for lane in await find_lanes(connection)) == 1


async def test_no_more_is_looked_at_than_asked_for(connection: Connection, histories: Histories) -> None:
    """A backlog of any size costs the same, and the answer says that it is not all."""
    for _ in range(5):
        histories.emit(key="k")
    lanes = await find_lanes(connection, count_max=3)
    assert sum(lane.unsettled_count for lane in lanes) == 3
    assert not any(lane.is_complete for lane in lanes)


async def unsettled_ids(connection: Connection, histories: Histories) -> list[int]:
    """The events that lanes count, told by when they were emitted; each in a lane of its own, or the oldest."""
    busy: list[LaneRow] = [lane for lane in await find_lanes(connection) if lane.unsettled_count]
    instants = [lane.oldest_at for lane in busy]
    assert sum(lane.unsettled_count for lane in busy) == len(busy)
    return [row[0] for row in histories.fetch("select id from outbox.events where created_at = any (%s)", instants)]


async def test_the_lanes_of_a_relay_that_leaves_are_still_its_own(connection: Connection, histories: Histories) -> None:
    """Statistics and the gauge agree: a rolling restart leaves no lane unowned."""
    [(leaving,)] = histories.fetch(RELAY, "leaving", 10, None, None)
    histories.fetch(OWN_ALL, leaving)
    histories.fetch("update outbox.relays set leaving_at = clock_timestamp() where id = %s returning id", leaving)
    found = await load_statistics(connection, await database_now(connection))
    assert found.unowned_count == await count_unowned_lanes(connection) == 0
