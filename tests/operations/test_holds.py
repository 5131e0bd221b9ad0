"""Holding a key or the app, and listing what is held."""

from __future__ import annotations

from datetime import timedelta

import pytest
from psycopg import AsyncConnection, errors
from psycopg.rows import TupleRow

from outbox.errors import Refused
from outbox.holds import find_holds, hold, release
from outbox.operations import database_now
from tests.operations.histories import Histories

pytestmark = pytest.mark.anyio

Connection = AsyncConnection[TupleRow]


async def test_holds_in_force_are_listed_the_apps_first(connection: Connection, histories: Histories) -> None:
    """With who began them and why; an end that never comes is None, and a hold of the past is none."""
    until = await database_now(connection) + timedelta(hours=1)
    await hold(connection, "k", held_until=until, reason="a look at the pictures")
    await hold(connection, None, held_until=None, reason="an incident")
    histories.fetch(
        "insert into outbox.holds (scope, key, held_until, reason, held_by) "
        "values ('key', 'past', clock_timestamp() - interval '1 second', 'rate_limited', 'host:1') returning 1"
    )
    found = await find_holds(connection)
    assert [(each.scope, each.key, each.held_until, each.reason) for each in found] == [
        ("app", "", None, "an incident"),
        ("key", "k", until, "a look at the pictures"),
    ]
    assert {each.held_by for each in found} == {connection.info.user}


@pytest.mark.parametrize("key", ["k", None])
async def test_a_hold_is_never_shortened(connection: Connection, key: str | None) -> None:
    """It says what stands, and what to do."""
    now = await database_now(connection)
    await hold(connection, key, held_until=None, reason="an incident")
    what = "the app" if key is None else "the key k"
    with pytest.raises(
        Refused, match=rf"^{what} is held by \w+ until somebody releases it \(an incident\): release it first"
    ):
        await hold(connection, key, held_until=now + timedelta(hours=1), reason="shorter")
    await release(connection, key)
    await hold(connection, key, held_until=now + timedelta(hours=2), reason="shorter")
    with pytest.raises(Refused, match=r"until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \(shorter\)"):
        await hold(connection, key, held_until=now + timedelta(hours=1), reason="shorter still")
    assert [each.reason for each in await find_holds(connection)] == ["shorter"]


async def test_a_longer_hold_takes_the_place_of_a_shorter_one(connection: Connection, histories: Histories) -> None:
    """With its reason; what ended in the past is no obstacle."""
    now = await database_now(connection)
    await hold(connection, "k", held_until=now + timedelta(hours=1), reason="first")
    await hold(connection, "k", held_until=now + timedelta(hours=2), reason="second")
    await hold(connection, "k", held_until=None, reason="third")
    assert [(each.held_until, each.reason) for each in await find_holds(connection)] == [(None, "third")]
    histories.fetch("update outbox.holds set held_until = clock_timestamp() returning 1")
    await hold(connection, "k", held_until=now + timedelta(hours=1), reason="fourth")
    assert [each.reason for each in await find_holds(connection)] == ["fourth"]


@pytest.mark.parametrize("offset", [timedelta(), timedelta(days=365 * 7500)])
async def test_a_hold_ends_in_the_future(connection: Connection, offset: timedelta) -> None:
    """Neither in the past nor at an instant that other languages can't hold."""
    with pytest.raises(Refused, match="expected an instant in the future to hold until"):
        await hold(connection, "k", held_until=await database_now(connection) + offset, reason="r")
    assert await find_holds(connection) == []


async def test_a_hold_notifies(connection: Connection) -> None:
    """A relay that listens knows at once."""
    await connection.execute("listen outbox")
    await hold(connection, "k", held_until=None, reason="r")
    [notification] = [each async for each in connection.notifies(timeout=60, stop_after=1)]
    assert notification.payload == "holds"


@pytest.mark.parametrize(
    ("role", "allowed"), [("outbox_operator", True), ("outbox_emitter", False), ("outbox_relay", False)]
)
async def test_operators_hold(connection: Connection, role: str, allowed: bool) -> None:
    """Nobody else."""
    await connection.execute("select set_config('role', %s, false)", [role])
    if allowed:
        await hold(connection, "k", held_until=None, reason="r")
        [found] = await find_holds(connection)
        assert found.held_by == connection.info.user
    else:
        with pytest.raises(errors.InsufficientPrivilege):
            await hold(connection, "k", held_until=None, reason="r")


async def test_released_events_are_due_at_one_instant(connection: Connection, histories: Histories) -> None:
    """So they go on in the order of their ids."""
    for _ in range(3):
        histories.wait(histories.emit(key="k"), "held")
    assert await release(connection, "k") == 3
    assert histories.fetch("select count(distinct due_at) from outbox.waiting") == [(1,)]
