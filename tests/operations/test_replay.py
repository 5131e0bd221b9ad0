"""Replays of many events: spread over time, stopped and continued, cancelled, never twice."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import LiteralString

import pytest
from psycopg import AsyncConnection, errors
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from outbox.audit import find_operations
from outbox.errors import Refused
from outbox.event import EventId
from outbox.operations import EventFilter, database_now, find_event, find_events
from outbox.prune import prune
from outbox.replay import (
    Replayed,
    begin_replay,
    cancel_replay,
    continue_replay,
    count_cancellable,
    count_left,
    find_replays,
    replay,
)
from tests.operations.histories import LONG_AGO, Histories

pytestmark = pytest.mark.anyio

Connection = AsyncConnection[TupleRow]


MANY: LiteralString = """
alter table outbox.events set (autovacuum_enabled = off);
alter table outbox.receipts set (autovacuum_enabled = off);
with emitted as (
  insert into outbox.events (lane, type, payload, headers)
  select 0, 't', '{}', '{}' from generate_series(1, 20000)
  returning id
)
insert into outbox.receipts (event_id, outcome, attempts, deferrals, relay_id)
select id, case when id % 4000 = 0 then 'dead' else 'published' end, 0, 0, 1 from emitted
"""
BEGIN_FEW: LiteralString = "explain (analyze, buffers, format json) select outbox.begin_replay('{}')"


async def run(connection: Connection, replay_id: int, *, slice_count: int = 2) -> list[Replayed]:
    """Emit all that is left."""
    return [
        each async for replayed in continue_replay(connection, replay_id, slice_count=slice_count) for each in replayed
    ]


async def test_a_filter_is_replayed_oldest_first(connection: Connection, histories: Histories) -> None:
    """Dead by default; what was replayed before, fits not or has not ended is left out."""
    first, second, third = [histories.ended(key="k", reason="rejected") for _ in range(3)]
    histories.ended(key="other")
    histories.ended("expired", key="k")
    histories.emit(key="k")
    await replay(connection, second)
    which = EventFilter(key="k", reason="rejected")
    replay_id, count = await begin_replay(connection, which, reason="mended")
    assert count == 2
    replayed = await run(connection, replay_id)
    assert [(each.event_id, each.outcome) for each in replayed] == [(first, "replayed"), (third, "replayed")]
    assert await run(connection, replay_id) == []
    again, count = await begin_replay(connection, which)
    assert (count, await run(connection, again)) == (0, [])


@pytest.mark.parametrize(
    ("which", "fits"),
    [
        (EventFilter(error="NO ANSWER"), True),
        (EventFilter(error="refused"), False),
        (EventFilter(type="t", states=["dead", "expired"]), True),
        (EventFilter(states=["expired"]), False),
    ],
)
async def test_a_filter_narrows(connection: Connection, histories: Histories, which: EventFilter, fits: bool) -> None:
    """By a part of the error in any case, by type, by how it ended."""
    histories.end(histories.emit(), error="there was no answer")
    assert (await begin_replay(connection, which))[1] == fits


@pytest.mark.parametrize("statistics", ["none", "fresh", "of when all were dead"])
async def test_few_that_died_are_found_among_many_that_were_published(
    connection: Connection, histories: Histories, statistics: str
) -> None:
    """Their own index finds them, whatever the planner knows of the receipts."""
    if statistics == "of when all were dead":
        for _ in range(100):
            await connection.execute("delete from outbox.receipts where event_id = %s", [histories.ended()])
        await connection.execute("analyze outbox.events, outbox.receipts")
    await connection.execute(MANY)
    if statistics == "fresh":
        await connection.execute("analyze outbox.events, outbox.receipts")
    await begin_replay(connection, EventFilter())  # its plans are made
    row = await (await connection.execute(BEGIN_FEW)).fetchone()
    assert row is not None
    [explained] = row[0]
    assert explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"] < 150
    assert (await begin_replay(connection, EventFilter()))[1] == 5
    assert (await begin_replay(connection, EventFilter(states=["published", "dead"])))[1] == 1000


async def test_a_filter_takes_a_range_of_time(connection: Connection, histories: Histories) -> None:
    """When it ended: from since on, before until."""
    now = await database_now(connection)
    for hours in (1, 2, 3):
        histories.end(histories.emit(), settled_at=now - timedelta(hours=hours))
    which = EventFilter(since=now - timedelta(hours=2), until=now - timedelta(hours=1))
    assert (await begin_replay(connection, which))[1] == 1


async def test_a_filter_takes_how_old_an_event_is(connection: Connection, histories: Histories) -> None:
    """When it was emitted, whenever it ended."""
    histories.ended()
    histories.backdate(histories.ended())
    assert (await begin_replay(connection, EventFilter(emitted_before=LONG_AGO + timedelta(days=1))))[1] == 1


@pytest.mark.parametrize(
    ("which", "found"),
    [
        ({"stetes": ["expired"], "kee": "nobody", "type": "t"}, "kee, stetes"),
        (["dead"], "array"),
        (None, "none"),
    ],
)
async def test_a_filter_that_nobody_knows_is_refused(
    connection: Connection, histories: Histories, which: object, found: str
) -> None:
    """Unheeded, a key that is misspelt would replay every dead event."""
    histories.ended()
    with pytest.raises(errors.DatabaseError, match=rf"^expected a filter of states, .*, found {found}\n") as raised:
        await connection.execute("select outbox.begin_replay(%s)", [None if which is None else Jsonb(which)])
    assert raised.value.sqlstate == "OB017"
    assert await find_replays(connection) == []


async def test_a_rate_gives_each_event_its_turn(connection: Connection, histories: Histories) -> None:
    """Through slices, and where it goes on after it was stopped."""
    ids = [histories.ended() for _ in range(6)]
    replay_id, _ = await begin_replay(connection, EventFilter(states=["dead"]), rate_per_second=50)
    stopped = []
    async for replayed in continue_replay(connection, replay_id, slice_count=2):
        stopped += replayed
        break
    assert await count_left(connection, replay_id) == 4
    turns = [each.publish_at for each in stopped + await run(connection, replay_id) if each.publish_at is not None]
    assert len(turns) == len(ids)
    gaps = {(late - early) >= timedelta(milliseconds=20) for early, late in pairwise(turns)}
    assert gaps == {True}
    event = await find_event(connection, EventId(ids[-1] + 6))
    assert event is not None
    assert (event.replay_of, event.publish_at) == (ids[-1], turns[-1])


async def test_what_dies_again_is_not_chased(connection: Connection, histories: Histories) -> None:
    """What a replay emits is none of it, however soon it ends."""
    first, second = histories.ended(), histories.ended()
    replay_id, _ = await begin_replay(connection, EventFilter())
    seen = []
    async for replayed in continue_replay(connection, replay_id, slice_count=1):
        for each in replayed:
            seen.append(each.event_id)
            assert each.replayed_as is not None
            histories.end(each.replayed_as)
    assert seen == [first, second]


async def test_what_may_be_live_is_refused_without_force(connection: Connection, histories: Histories) -> None:
    """And holds up none of those after it."""
    live, dead = histories.ended("published"), histories.ended()
    which = EventFilter(states=["published", "dead"])
    replay_id, count = await begin_replay(connection, which)
    assert count == 2
    replayed = await run(connection, replay_id, slice_count=1)
    assert [(each.event_id, each.outcome) for each in replayed] == [(live, "refused"), (dead, "replayed")]
    forced, _ = await begin_replay(connection, which, force=True)
    assert [(each.event_id, each.outcome) for each in await run(connection, forced)] == [(live, "replayed")]


async def test_a_bound_holds_through_a_stop(connection: Connection, histories: Histories) -> None:
    """At most so many, in all."""
    for _ in range(5):
        histories.ended()
    replay_id, count = await begin_replay(connection, EventFilter(), count_max=3)
    assert count == 3
    async for _ in continue_replay(connection, replay_id, slice_count=2):
        break
    assert len(await run(connection, replay_id)) == 1
    assert await count_left(connection, replay_id) == 0


async def test_a_cancelled_replay_emits_no_more_and_takes_back_what_has_not_ended(
    connection: Connection, histories: Histories
) -> None:
    """What waits is due at once, so that the relay settles it; what has ended stays as it is."""
    for _ in range(4):
        histories.ended()
    replay_id, _ = await begin_replay(connection, EventFilter(), rate_per_second=0.001)
    [first, second, third] = (await run(connection, replay_id))[:3]
    assert first.replayed_as is not None
    assert second.replayed_as is not None
    assert third.replayed_as is not None
    histories.end(first.replayed_as, "published")
    histories.wait(second.replayed_as, "scheduled")
    assert await count_cancellable(connection, replay_id) == 3
    assert await cancel_replay(connection, replay_id, reason="too many") == 3
    assert await cancel_replay(connection, replay_id) == 0
    rows = histories.fetch("select event_id, reason from outbox.cancellations order by event_id")
    assert rows == [(id_, "too many") for id_ in (second.replayed_as, third.replayed_as, third.replayed_as + 1)]
    assert histories.fetch("select due_at <= clock_timestamp() from outbox.waiting") == [(True,)]
    for refused in (run(connection, replay_id), count_left(connection, replay_id)):
        with pytest.raises(Refused, match=f"^replay {replay_id} was cancelled: begin another one"):
            await refused


async def test_an_unknown_replay_is_refused(connection: Connection) -> None:
    """By each of the functions."""
    for refused in (
        run(connection, 7),
        cancel_replay(connection, 7),
        count_left(connection, 7),
        count_cancellable(connection, 7),
    ):
        with pytest.raises(Refused, match=r"^replay 7 does not exist"):
            await refused


async def test_a_rate_of_nothing_breaks_a_rule(connection: Connection) -> None:
    """For callers that are not the command line."""
    with pytest.raises(errors.CheckViolation, match="a_rate_is_positive"):
        await begin_replay(connection, EventFilter(), rate_per_second=0)


async def test_replays_are_listed_with_how_far_they_have_come(connection: Connection, histories: Histories) -> None:
    """And the audit has a row of each."""
    for _ in range(3):
        histories.ended(key="k")
    replay_id, _ = await begin_replay(connection, EventFilter(key="k"), rate_per_second=2, reason="mended")
    [done, *_] = await run(connection, replay_id)
    assert done.replayed_as is not None
    histories.end(done.replayed_as, "published")
    [found] = await find_replays(connection)
    assert (found.id, found.planned_count, found.emitted_count, found.settled_count) == (replay_id, 3, 3, 1)
    assert (found.filter, found.rate_per_second, found.reason) == ({"key": "k"}, 2, "mended")
    newest = (await find_events(connection, EventFilter(), limit=1))[0]
    assert (found.last_at, found.cancelled_at) == (newest.publish_at, None)
    [row] = await find_operations(connection)
    assert (row.operation, row.event_count, row.detail["replay"]) == ("replay", 3, replay_id)


async def test_a_replay_is_forgotten_with_its_events(connection: Connection, histories: Histories) -> None:
    """Once all that it emitted is pruned."""
    original = histories.ended()
    replay_id, _ = await begin_replay(connection, EventFilter())
    [replayed] = await run(connection, replay_id)
    assert replayed.replayed_as is not None
    histories.end(replayed.replayed_as)
    histories.connection.execute("update outbox.receipts set settled_at = settled_at - interval '31 days'")
    histories.connection.execute("update outbox.replays set begun_at = begun_at - interval '31 days'")
    for event_id in (original, replayed.replayed_as):
        histories.backdate(event_id)
    histories.pass_events()
    assert await prune(connection, timedelta(days=30)) == 2
    assert await find_replays(connection) == []
    assert histories.fetch("select count(*) from outbox.replayed_events") == [(0,)]
