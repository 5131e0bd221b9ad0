"""Emit ended events once more: one by its id, or many by a filter, at a rate, a slice at a time.

A replay of many is a row in the database: it can be stopped anywhere, continued by anybody, and cancelled. Replaying by
the same filter twice emits nothing twice. Everything here is a SQL function that psql or any driver can call too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row
from psycopg.types.json import Jsonb

from outbox.errors import Refused
from outbox.event import EventId, JsonObject
from outbox.operations import EventFilter, arguments_of
from outbox.refusals import refusals

REPLAY: LiteralString = "select outbox.replay(%(id)s, %(force)s, %(reason)s)"
IS_OF_THIS_TRANSACTION: LiteralString = (
    "select e.xid = pg_current_xact_id_if_assigned() from outbox.events as e where e.id = %(id)s"
)

BEGIN: LiteralString = """
select b.replay_id, b.event_count
from outbox.begin_replay(%(filter)s, %(rate_per_second)s, %(count_max)s, %(force)s, %(reason)s) as b
"""
CONTINUE: LiteralString = """
select c.event_id, c.outcome, c.replayed_as, c.publish_at
from outbox.continue_replay(%(replay_id)s, %(after)s, %(slice)s) as c
"""
COUNT_LEFT: LiteralString = "select outbox.count_replayable(%(replay_id)s)"
CANCEL: LiteralString = "select outbox.cancel_replay(%(replay_id)s, %(reason)s)"

COUNT_CANCELLABLE: LiteralString = """
select (select r.id from outbox.replays as r where r.id = %(replay_id)s), count(*)
from outbox.replayed_events as m
where m.replay_id = %(replay_id)s
  and not exists (select from outbox.receipts as r where r.event_id = m.event_id)
  and not exists (select from outbox.cancellations as c where c.event_id = m.event_id)
"""

FIND: LiteralString = """
select
  p.id, p.filter, p.rate_per_second, p.count_max, p.force, p.begun_at, p.cancelled_at,
  coalesce(o.event_count, 0) as planned_count, o.reason, o.requested_by,
  m.emitted_count, m.settled_count, m.last_at
from (
  select * from outbox.replays as r
  where %(id)s::bigint is null or r.id = %(id)s
  order by r.id desc
  limit %(limit)s
) as p
left join outbox.operations as o on o.id = p.operation_id
cross join lateral (
  select
    count(*) as emitted_count, count(r.event_id) as settled_count,
    max(coalesce(e.publish_at, e.created_at)) as last_at
  from outbox.replayed_events as d
  join outbox.events as e on e.id = d.event_id
  left join outbox.receipts as r on r.event_id = d.event_id
  where d.replay_id = p.id
) as m
order by p.id desc
"""

SLICE = 1000
"""Events that one transaction emits."""


@dataclass(frozen=True, slots=True)
class Replay:
    """An event that is emitted once more; `is_new` is false where an earlier replay stands already."""

    event_id: EventId
    replay_id: EventId
    is_new: bool


@dataclass(frozen=True, slots=True)
class ReplayOfMany:
    """A replay of many events, and how far it has come.

    Attributes:
        id: Which.
        filter: Which events, as `outbox.begin_replay` takes it.
        rate_per_second: So many a second; None is at once.
        count_max: So many at most.
        force: Even what may be live.
        begun_at: What ended later is none of it.
        cancelled_at: It emits no more.
        planned_count: How many events fitted when it began.
        reason: Why.
        requested_by: Who began it.
        emitted_count: How many it has emitted.
        settled_count: How many of these have ended.
        last_at: When the last of these is due.
    """

    id: int
    filter: JsonObject
    rate_per_second: float | None
    count_max: int
    force: bool
    begun_at: datetime
    cancelled_at: datetime | None
    planned_count: int
    reason: str | None
    requested_by: str | None
    emitted_count: int
    settled_count: int
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one event of a replay; `publish_at` is its turn where the replay has a rate."""

    event_id: EventId
    outcome: Literal["replayed", "already_replayed", "refused"]
    replayed_as: EventId | None
    publish_at: datetime | None


async def replay(
    connection: AsyncConnection[TupleRow],
    event_id: EventId,
    *,
    force: bool = False,
    reason: str | None = None,
    dry_run: bool = False,
) -> Replay:
    """Emit an ended event once more, in one transaction; replaying it again gives the same replay.

    Args:
        connection: Where.
        event_id: Which.
        force: Even where it may be live.
        reason: Why, for the audit.
        dry_run: Do all that and roll it back: `replay_id` then names nothing where the replay is new.

    Raises:
        Refused: There is no such event, it has not ended, or it may be live.
    """
    async with refusals(), connection.transaction(force_rollback=dry_run):
        arguments = {"id": event_id, "force": force, "reason": reason}
        row = await (await connection.execute(REPLAY, arguments)).fetchone()
        assert row is not None
        replay_id = EventId(row[0])
        written = await (await connection.execute(IS_OF_THIS_TRANSACTION, {"id": replay_id})).fetchone()
        assert written is not None
    return Replay(event_id, replay_id, is_new=bool(written[0]))


async def begin_replay(
    connection: AsyncConnection[TupleRow],
    which: EventFilter,
    *,
    rate_per_second: float | None = None,
    count_max: int = 1000,
    force: bool = False,
    reason: str | None = None,
) -> tuple[int, int]:
    """Begin a replay of what fits a filter, and return its id and how many events fit; nothing is emitted yet.

    `which.states` says how they ended, dead where it is empty. What was replayed before does not fit.
    """
    arguments = {
        "filter": Jsonb(arguments_of(which)),
        "rate_per_second": rate_per_second,
        "count_max": count_max,
        "force": force,
        "reason": reason,
    }
    row = await (await connection.execute(BEGIN, arguments)).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


async def continue_replay(
    connection: AsyncConnection[TupleRow], replay_id: int, *, slice_count: int = SLICE
) -> AsyncIterator[list[Replayed]]:
    """Emit what is left of a replay, a slice and a transaction at a time, and tell what became of each event.

    Raises:
        Refused: There is no such replay, or it was cancelled.
    """
    after = 0
    while True:
        async with refusals(), connection.cursor(row_factory=class_row(Replayed)) as cursor:
            arguments = {"replay_id": replay_id, "after": after, "slice": slice_count}
            replayed = await (await cursor.execute(CONTINUE, arguments)).fetchall()
        if not replayed:
            return
        after = replayed[-1].event_id
        yield replayed


async def count_left(connection: AsyncConnection[TupleRow], replay_id: int) -> int:
    """Return how many events a replay has not emitted yet, those that it would refuse included. Raises Refused."""
    async with refusals():
        row = await (await connection.execute(COUNT_LEFT, {"replay_id": replay_id})).fetchone()
    assert row is not None
    return int(row[0])


async def cancel_replay(connection: AsyncConnection[TupleRow], replay_id: int, *, reason: str | None = None) -> int:
    """Let a replay emit no more, cancel what it has emitted and has not ended, and return how many events that are.

    Raises:
        Refused: There is no such replay.
    """
    async with refusals():
        row = await (await connection.execute(CANCEL, {"replay_id": replay_id, "reason": reason})).fetchone()
    assert row is not None
    return int(row[0])


async def count_cancellable(connection: AsyncConnection[TupleRow], replay_id: int) -> int:
    """Return how many events `cancel_replay` would cancel; a hundred thousand of them are not written for that.

    Raises:
        Refused: There is no such replay.
    """
    row = await (await connection.execute(COUNT_CANCELLABLE, {"replay_id": replay_id})).fetchone()
    assert row is not None
    if row[0] is None:
        raise Refused(f"replay {replay_id} does not exist")
    return int(row[1])


async def find_replays(
    connection: AsyncConnection[TupleRow], *, replay_id: int | None = None, limit: int = 20
) -> list[ReplayOfMany]:
    """Return the replays of many events, the newest first; or the one that is asked for."""
    async with connection.cursor(row_factory=class_row(ReplayOfMany)) as cursor:
        return await (await cursor.execute(FIND, {"id": replay_id, "limit": limit})).fetchall()
