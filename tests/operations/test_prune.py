"""What ended long ago and every cursor has passed is deleted, and nothing else."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
import pytest
from psycopg import AsyncConnection, errors
from psycopg.rows import TupleRow

from outbox.emit import emit
from outbox.errors import Refused
from outbox.event import EventId
from outbox.operations import cancel
from outbox.prune import count_prunable, prune
from tests.operations.histories import LONG_AGO, Histories
from tests.processes import poll

pytestmark = pytest.mark.anyio

Connection = AsyncConnection[TupleRow]

RETENTION = timedelta(days=30)
COUNTS = """
select
  (select count(*) from outbox.receipts), (select count(*) from outbox.steps),
  (select count(*) from outbox.attempts), (select count(*) from outbox.cancellations)
"""
MANY: LiteralString = """
insert into outbox.events (lane, type, payload, headers, created_at)
select 0, 't', '{}', '{}', clock_timestamp() - interval '31 days' from generate_series(1, %(count)s)
"""
END_LATELY: LiteralString = """
insert into outbox.receipts (event_id, outcome, attempts, deferrals, relay_id)
select e.id, 'published', 0, 0, 1 from outbox.events as e
"""
PRUNE_ONE: LiteralString = "explain (analyze, buffers, format json) select outbox.prune('30 days', 1)"
IS_WAITING = "select from pg_locks where not granted"


def counts(histories: Histories) -> tuple[int, ...]:
    """Rows of the tables that belong to events: receipts, steps, attempts, cancellations."""
    [row] = histories.fetch(COUNTS)
    return row


async def page_count_of_a_batch(connection: Connection) -> int:
    """Delete a batch of one event, and return how many pages that took."""
    row = await (await connection.execute(PRUNE_ONE)).fetchone()
    assert row is not None
    [explained] = row[0]
    plan = explained["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def test_an_event_goes_with_all_that_belongs_to_it(connection: Connection, histories: Histories) -> None:
    """Receipt, steps, attempts and cancellation, of that event alone."""
    old, young = histories.emit(), histories.emit()
    for event_id in (old, young):
        histories.step(event_id, "publish", "intent")
        histories.step(event_id, "publish", "done")
        histories.attempt(event_id, "no answer")
        await cancel(connection, event_id)
        histories.end(event_id, settled_at=LONG_AGO if event_id == old else None)
        histories.backdate(event_id)
    histories.pass_events()
    assert counts(histories) == (2, 4, 2, 2)
    assert await prune(connection, RETENTION) == 1
    assert (histories.ids(), counts(histories)) == ([young], (1, 2, 1, 1))
    assert await prune(connection, RETENTION) == 0


async def test_what_has_not_ended_stays(connection: Connection, histories: Histories) -> None:
    """However old it is: new, waiting, or unknown for a person to decide; and it stops none of those after it."""
    new, waits, unknown = [histories.backdate(histories.emit()) for _ in range(3)]
    histories.wait(waits, "retry")
    histories.wait(unknown, "unknown")
    histories.ended_long_ago()
    histories.pass_events()
    assert await prune(connection, RETENTION) == 1
    assert histories.ids() == [new, waits, unknown]


async def test_what_ended_lately_stays_however_long_ago_it_was_emitted(
    connection: Connection, histories: Histories
) -> None:
    """The retention counts from the end; and a story that was scheduled weeks ahead stops none of those after it."""
    scheduled = histories.ended_long_ago(settled_at=datetime.now(UTC) - timedelta(days=29))
    histories.ended_long_ago()
    histories.pass_events()
    assert await prune(connection, RETENTION) == 1
    assert histories.ids() == [scheduled]


async def test_what_a_cursor_has_not_passed_stays(connection: Connection, histories: Histories) -> None:
    """A receipt is not enough: while a relay may read the event again, its receipt must be found."""
    passed = histories.ended_long_ago(key="k")
    histories.pass_events()
    in_window = histories.ended_long_ago(key="k")
    histories.fetch('update outbox.cursors set "window" = pg_current_snapshot(), position = %s returning 1', in_window)
    beyond = histories.ended_long_ago(key="k")
    assert passed < in_window < beyond
    assert await prune(connection, RETENTION) == 1
    assert histories.ids() == [in_window, beyond]


async def test_a_straggler_stays_until_its_lane_has_passed_it(connection: Connection, histories: Histories) -> None:
    """A transaction that ran when the window began is not visible in `seen`, whatever its xid."""
    async with connection.transaction():
        await connection.execute("select outbox.emit('t', key => 'k')")
        histories.emit(key="k")
        histories.pass_events()
    straggler, passed = histories.ids()
    for event_id in (straggler, passed):
        histories.backdate(histories.end(EventId(event_id), settled_at=LONG_AGO))
    assert await prune(connection, RETENTION) == 1
    assert histories.ids() == [straggler]
    histories.pass_events()
    assert await prune(connection, RETENTION) == 1


async def test_only_the_events_own_lane_counts(connection: Connection, histories: Histories) -> None:
    """A lane that nobody has read keeps its events, and no other lane's."""
    keys = ["k0", "k1"]
    kept, gone = [histories.ended_long_ago(key=key) for key in keys]
    histories.fetch(
        "update outbox.cursors as c set seen = pg_current_snapshot() "
        "from outbox.events as e where e.id = %s and e.lane = c.lane returning c.lane",
        gone,
    )
    assert await prune(connection, RETENTION) == 1
    assert histories.ids() == [kept]


async def test_a_batch_takes_the_oldest(connection: Connection, histories: Histories) -> None:
    """No more than asked for, until nothing is left."""
    of = [histories.ended_long_ago() for _ in range(5)]
    histories.pass_events()
    assert await count_prunable(connection, RETENTION, count_max=3) == 3
    assert await count_prunable(connection, RETENTION, count_max=100) == 5
    assert await prune(connection, RETENTION, batch=2) == 2
    assert histories.ids() == of[2:]
    assert [await prune(connection, RETENTION, batch=2) for _ in range(3)] == [2, 1, 0]


async def test_what_has_not_ended_costs_a_batch_nothing(connection: Connection, histories: Histories) -> None:
    """Events that were scheduled years ahead are not looked at."""
    await page_count_of_a_batch(connection)  # its plans are made
    await connection.execute(MANY, {"count": 2000})
    old = [histories.ended_long_ago() for _ in range(2)]
    histories.pass_events()
    assert await page_count_of_a_batch(connection) < 500
    assert histories.ids()[2000:] == old[1:]


async def test_what_ended_lately_is_walked_once(connection: Connection, histories: Histories) -> None:
    """And not by each batch again."""
    await page_count_of_a_batch(connection)  # its plans are made
    await connection.execute(MANY, {"count": 20_000})
    await connection.execute(END_LATELY)
    for _ in range(4):
        histories.ended_long_ago()
    histories.pass_events()
    first, *others = [await page_count_of_a_batch(connection) for _ in range(4)]
    assert first > 2 * max(others)
    assert await prune(connection, RETENTION) == 0


async def test_what_a_batch_passed_is_found_when_it_is_old_enough(connection: Connection, histories: Histories) -> None:
    """Less than a batch means that nothing is left."""
    passed = histories.ended_long_ago(settled_at=datetime.now(UTC) - timedelta(days=29))
    histories.ended_long_ago()
    histories.pass_events()
    assert await prune(connection, RETENTION, batch=1) == 1
    assert histories.ids() == [passed]
    histories.fetch("update outbox.receipts set settled_at = %s returning 1", LONG_AGO)
    histories.ended_long_ago()
    histories.pass_events()
    assert await prune(connection, RETENTION, batch=3) == 2
    assert histories.fetch("select from outbox.pruning") == []


async def test_another_retention_begins_at_the_oldest(connection: Connection, histories: Histories) -> None:
    """What one pruning passed is old enough for another one."""
    passed = histories.ended_long_ago(settled_at=datetime.now(UTC) - timedelta(days=29))
    young = [histories.ended_long_ago() for _ in range(3)][1:]
    histories.pass_events()
    assert await prune(connection, RETENTION, batch=1) == 1
    assert histories.ids() == [passed, *young]
    assert await prune(connection, timedelta(days=28), batch=1) == 1
    assert histories.ids() == young


async def test_what_was_replayed_goes_before_its_replay(connection: Connection, histories: Histories) -> None:
    """Between two batches it grew old enough: without it, and with its original, that could be replayed again."""
    original = histories.ended_long_ago(settled_at=datetime.now(UTC) - timedelta(days=29))
    histories.ended_long_ago()
    histories.pass_events()
    assert await prune(connection, RETENTION, batch=1) == 1
    now = datetime.now(UTC)
    settled_at = now - RETENTION - timedelta(minutes=30)
    again = histories.ended_long_ago(settled_at=settled_at + timedelta(minutes=10))
    histories.pass_events()
    histories.fetch("update outbox.events set replay_of = %s where id = %s returning 1", original, again)
    histories.fetch("update outbox.receipts set settled_at = %s where event_id = %s returning 1", settled_at, original)
    histories.fetch("update outbox.pruning set ended_before = ended_before - interval '1 hour' returning 1")
    assert await prune(connection, RETENTION, batch=1) == 1
    assert histories.ids() == [again]


@pytest.mark.parametrize("gap", [0, 1, 7])
async def test_the_first_event_that_is_too_young_is_found(
    connection: Connection, histories: Histories, gap: int
) -> None:
    """Whatever ids are missing, and wherever it is."""
    old = [histories.ended_long_ago() for _ in range(10)]
    young = [histories.ended() for _ in range(3)]
    histories.fetch("delete from outbox.events where id = any (%s) returning id", old[5 : 5 + gap])
    histories.pass_events()
    assert await prune(connection, RETENTION) == min(10, 10 - len(old[5 : 5 + gap]))
    assert histories.ids() == young


async def test_without_events_there_is_nothing_to_prune(connection: Connection) -> None:
    """An empty log is no error."""
    assert await prune(connection, RETENTION) == 0


@pytest.mark.parametrize("retention", [timedelta(), timedelta(hours=47), timedelta(days=-30)])
async def test_a_retention_outlives_a_story(connection: Connection, histories: Histories, retention: timedelta) -> None:
    """Reconciling must know what published the stories that are live."""
    histories.ended_long_ago()
    histories.pass_events()
    for refused in (prune(connection, retention), count_prunable(connection, retention, count_max=10)):
        with pytest.raises(Refused, match="expected a retention of 2 days at least"):
            await refused
    with pytest.raises(Refused, match="expected a batch of 1 event at least, found 0"):
        await prune(connection, RETENTION, batch=0)
    assert histories.count_events() == 1


async def test_relays_that_were_retired_long_ago_go_too(connection: Connection, histories: Histories) -> None:
    """But not one that still owns a lane: nobody could take it from a relay without a row."""
    query: LiteralString = (
        "insert into outbox.relays (name, version, leased_until, retired_at) values (%s, '1', %s, %s) returning id"
    )
    histories.fetch(query, "gone", LONG_AGO, LONG_AGO)
    [(owner,)] = histories.fetch(query, "owns a lane", LONG_AGO, LONG_AGO)
    histories.fetch(query, "lately", LONG_AGO, datetime.now(UTC))
    histories.fetch(query, "never retired", LONG_AGO, None)
    histories.fetch("update outbox.lanes set relay_id = %s where lane = 7 returning lane", owner)
    assert await prune(connection, RETENTION) == 0
    left = histories.fetch("select name from outbox.relays order by id")
    assert left == [("host:1",), ("owns a lane",), ("lately",), ("never retired",)]


async def test_one_prunes_at_a_time(connection: Connection, histories: Histories) -> None:
    """Who does not wait is told that somebody else does it."""
    histories.ended_long_ago()
    histories.pass_events()
    with histories.connection.transaction():
        histories.fetch("select outbox.prune('30 days', 1)")
        assert await prune(connection, RETENTION, wait=False) is None
    assert await prune(connection, RETENTION, wait=False) == 0


async def test_a_dedupe_key_lives_as_long_as_its_event(
    connection: Connection, histories: Histories, database: str
) -> None:
    """An emit that waits for the end of a pruning finds the key free."""
    first = histories.ended_long_ago(dedupe_key="d")
    histories.pass_events()
    found: list[int] = []

    def emit_again() -> None:
        with psycopg.connect(database, autocommit=True) as application:
            found.append(emit(application, "t", {}, dedupe_key="d"))

    with histories.connection.transaction():
        histories.fetch("select outbox.prune('30 days', 1)")
        thread = threading.Thread(target=emit_again)
        thread.start()
        assert poll(lambda: bool(histories.fetch(IS_WAITING)))
    thread.join()
    assert found
    assert found[0] > first
    assert histories.ids() == found


@pytest.mark.parametrize(
    ("role", "allowed"), [("outbox_operator", True), ("outbox_relay", True), ("outbox_emitter", False)]
)
async def test_relays_and_operators_prune(
    connection: Connection, histories: Histories, role: str, allowed: bool
) -> None:
    """Without a right to delete of their own."""
    histories.ended_long_ago()
    histories.pass_events()
    await connection.execute("select set_config('role', %s, false)", [role])
    if allowed:
        assert await count_prunable(connection, RETENTION, count_max=10) == 1
        assert await prune(connection, RETENTION) == 1
        with pytest.raises(errors.InsufficientPrivilege):
            await connection.execute("delete from outbox.events")
    else:
        with pytest.raises(errors.InsufficientPrivilege):
            await prune(connection, RETENTION)
