"""Every change by hand leaves a row that says who, when, what and why, in the transaction of the change."""

from __future__ import annotations

from datetime import timedelta

import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.audit import find_operations
from outbox.errors import Refused
from outbox.holds import hold, release
from outbox.operations import cancel
from outbox.prune import prune
from outbox.replay import replay
from tests.operations.histories import LONG_AGO, Histories

pytestmark = pytest.mark.anyio

Connection = AsyncConnection[TupleRow]


async def test_every_change_is_told_newest_first(connection: Connection, histories: Histories) -> None:
    """With the role that logged in and the name of its connection."""
    dead, new = histories.ended(), histories.emit(key="k")
    histories.wait(new, "held")
    replayed = await replay(connection, dead, reason="mended")
    await cancel(connection, new, reason="wrong picture")
    await hold(connection, "k", held_until=None, reason="an incident")
    assert await release(connection, "k", reason="it is over") == 1
    found = await find_operations(connection)
    assert [(each.operation, each.event_id, each.key, each.event_count, each.reason) for each in found] == [
        ("release", None, "k", 1, "it is over"),
        ("hold", None, "k", 0, "an incident"),
        ("cancel", new, None, 1, "wrong picture"),
        ("replay", dead, None, 1, "mended"),
    ]
    assert found[-1].detail == {"replay_id": replayed.replay_id, "force": False}
    assert {(each.requested_by, each.client) for each in found} == {(connection.info.user, "outbox-test")}


async def test_a_filter_takes_what_fits_all_of_it(connection: Connection, histories: Histories) -> None:
    """Of operation, event, key and role; page by page."""
    first, second = histories.emit(), histories.emit()
    for event_id in (first, second):
        await cancel(connection, event_id)
    await hold(connection, "k", held_until=None, reason="r")
    [held, late, early] = await find_operations(connection)
    assert await find_operations(connection, limit=1) == [held]
    assert await find_operations(connection, before=held.id) == [late, early]
    assert await find_operations(connection, operation="cancel", event_id=first) == [early]
    assert await find_operations(connection, key="k", by=connection.info.user) == [held]
    assert await find_operations(connection, since=held.requested_at) == [held]


async def test_what_changes_nothing_leaves_no_row(connection: Connection, histories: Histories) -> None:
    """A refusal, a dry run, and what was done before."""
    published, dead, new = histories.ended("published"), histories.ended(), histories.emit()
    with pytest.raises(Refused):
        await replay(connection, published)
    with pytest.raises(Refused):
        await cancel(connection, published)
    await replay(connection, dead, dry_run=True)
    await cancel(connection, new, dry_run=True)
    await hold(connection, "k", held_until=None, reason="r", dry_run=True)
    assert await find_operations(connection) == []
    for _ in range(2):
        await replay(connection, dead)
        await cancel(connection, new)
    assert [each.operation for each in await find_operations(connection)] == ["cancel", "replay"]


async def test_the_audit_is_kept_as_long_as_events(connection: Connection, histories: Histories) -> None:
    """What is older than the retention is deleted with the last batch, and the deletion is told."""
    old, young = histories.emit(), histories.emit()
    await cancel(connection, old)
    histories.connection.execute("update outbox.operations set requested_at = %s", [LONG_AGO])
    await cancel(connection, young)
    histories.backdate(histories.end(old, settled_at=LONG_AGO))
    histories.pass_events()
    assert await prune(connection, timedelta(days=30), reason="by hand") == 1
    found = await find_operations(connection)
    assert [(each.operation, each.event_id, each.event_count, each.reason) for each in found] == [
        ("prune", None, 1, "by hand"),
        ("cancel", young, 1, None),
    ]


async def test_an_account_and_its_new_token_are_told_without_the_token(
    connection: Connection, histories: Histories
) -> None:
    """Whoever sets it, with whatever program."""
    await connection.execute(
        "insert into social.accounts (platform, remote_id, name, token_ciphertext) "
        "values ('instagram', '17', 'n', 'abc')"
    )
    await connection.execute("update social.accounts set name = 'other'")
    await connection.execute("update social.accounts set token_ciphertext = 'def', token_set_at = clock_timestamp()")
    found = await find_operations(connection, key="instagram:17")
    assert [(each.operation, each.detail) for each in found] == [
        ("account", {"what": "token set"}),
        ("account", {"what": "added"}),
    ]
