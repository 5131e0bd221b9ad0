"""What is known of a log in a strange cluster, and how relays are held to verifying."""

from __future__ import annotations

from typing import LiteralString

import pytest
from psycopg import AsyncConnection, errors
from psycopg.rows import TupleRow

from outbox.recovery import find_cause, load_state, stand_still
from tests.operations.histories import Histories

pytestmark = pytest.mark.anyio

Connection = AsyncConnection[TupleRow]

RECOGNISE: LiteralString = "select outbox.recognise_cluster()"
COPY: LiteralString = "update outbox.cluster set recognised_at = recognised_at"
CLONE: LiteralString = "update outbox.cluster set xid = pg_current_xact_id(), database_oid = 1"
BEGIN: LiteralString = "select outbox.begin_verify_only('a restore')"
MARK: LiteralString = "select outbox.mark_verified()"
END: LiteralString = "select outbox.end_verify_only()"
WRITTEN: LiteralString = """
select (select count(*) from outbox.operations), c.xmin::text, c.verify_only_since, c.must_rebase
from outbox.cluster as c
"""


async def test_a_log_in_its_own_cluster_needs_nobody(connection: Connection) -> None:
    """Nor does one that no relay has worked on."""
    for statement in ("select", RECOGNISE):
        await connection.execute(statement)
        assert await find_cause(connection) is None
        assert await stand_still(connection) is None


@pytest.mark.parametrize(
    ("statement", "why", "must_rebase"),
    [(COPY, "the log was copied into this database", True), (CLONE, "this database is a copy of another one", False)],
)
async def test_looking_why_relays_will_stand_still_writes_nothing(
    connection: Connection, histories: Histories, statement: LiteralString, why: str, *, must_rebase: bool
) -> None:
    """Though none has looked yet; only verifying in earnest holds them to it."""
    await connection.execute(RECOGNISE)
    await connection.execute(statement)
    before = histories.fetch(WRITTEN)
    assert await load_state(connection) is None
    assert (await find_cause(connection) or "").startswith(why)
    tried = await stand_still(connection, dry_run=True)
    assert tried is not None
    assert (tried.known_until is not None, tried.must_rebase) == (True, must_rebase)
    assert histories.fetch(WRITTEN) == before
    state = await stand_still(connection)
    assert state is not None
    assert (state, state.must_rebase) == (await load_state(connection), must_rebase)


async def test_a_person_who_stops_relays_hides_no_copy(connection: Connection) -> None:
    """The row is written anew, and would pass for an original: its xids are given anew at the end all the same."""
    for statement in (RECOGNISE, COPY, BEGIN):
        await connection.execute(statement)
    state = await load_state(connection)
    assert state is not None
    assert state.must_rebase


@pytest.mark.parametrize(
    ("before", "statement"),
    [
        ((), RECOGNISE),
        ((RECOGNISE,), RECOGNISE),
        ((RECOGNISE,), BEGIN),
        ((RECOGNISE, BEGIN), MARK),
        ((RECOGNISE, BEGIN, MARK), END),
    ],
)
async def test_the_guards_row_is_not_written_in_a_savepoint(
    connection: Connection, histories: Histories, before: tuple[LiteralString, ...], statement: LiteralString
) -> None:
    """It would carry the xid of the subtransaction, and every relay would take the log for a copy."""
    for earlier in before:
        await connection.execute(earlier)
    written = histories.fetch(WRITTEN)
    async with connection.transaction():
        with pytest.raises(
            errors.DatabaseError, match="expected a transaction of its own, found a savepoint"
        ) as raised:
            async with connection.transaction():
                await connection.execute(statement)
    assert raised.value.sqlstate == "OB014"
    assert histories.fetch(WRITTEN) == written
    await connection.execute(statement)
    assert histories.fetch("select finding from outbox.compare_cluster()") == [("same",)]
