"""A person's side: find events, cancel. `outbox.replay` replays, `outbox.holds` holds, `outbox.prune` prunes.

What changes something is a SQL function that psql or any driver can call too; here its refusals become `Refused`.
Instants that are infinite in the database are None here: what they wait for is another event or a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, LiteralString, TypeAlias

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row

from outbox.event import EventId, JsonObject
from outbox.refusals import refusals

FIND: LiteralString = """
select
  s.id, s.type, s.key, s.sequence, s.state, s.reason, s.attempts, s.deferrals, s.error,
  nullif(s.due_at, 'infinity') as due_at, nullif(s.publish_at, 'infinity') as publish_at,
  nullif(s.expires_at, 'infinity') as expires_at, s.replay_of, s.created_at, s.settled_at
from outbox.event_states as s
where (%(id)s::bigint is null or s.id = %(id)s)
  and (%(states)s::text[] is null or s.state = any (%(states)s))
  and (%(type)s::text is null or s.type = %(type)s)
  and (%(key)s::text is null or s.key = %(key)s)
  and (%(reason)s::text is null or s.reason = %(reason)s)
  and (%(error)s::text is null or strpos(lower(s.error), lower(%(error)s)) > 0)
  and (%(since)s::timestamptz is null or coalesce(s.settled_at, s.created_at) >= %(since)s)
  and (%(until)s::timestamptz is null or coalesce(s.settled_at, s.created_at) < %(until)s)
  and (%(emitted_before)s::timestamptz is null or s.created_at < %(emitted_before)s)
  and (%(before)s::bigint is null or s.id < %(before)s)
"""
AMONG_FAILED: LiteralString = """
  and s.id in (
    select f.event_id from outbox.receipts as f
    where f.outcome <> 'published' and f.settled_at >= coalesce(%(since)s::timestamptz, '-infinity')
  )
"""
AMONG_WAITING: LiteralString = "  and s.id in (select w.event_id from outbox.waiting as w)\n"
NEWEST_FIRST: LiteralString = "order by s.id desc limit %(limit)s"
"""What did not go well is rare, and what waits is little: their own indexes find it, not a walk over all events."""

CANCEL: LiteralString = "select outbox.cancel(%(id)s, %(reason)s)"
NOW: LiteralString = "select clock_timestamp()"

State: TypeAlias = Literal["new", "waiting", "published", "dead", "cancelled", "expired"]


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events; None and an empty sequence mean any.

    Attributes:
        states: As in `outbox.event_states`.
        type: The event's.
        key: The event's.
        reason: Why it waits, or why it is dead.
        error: A part of its last error's text, in any case.
        since: It ended then or later; where it has not ended, it was emitted then or later.
        until: It ended, or else was emitted, before then.
        emitted_before: It was emitted before then: how old it is.
    """

    states: Sequence[State] = ()
    type: str | None = None
    key: str | None = None
    reason: str | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    emitted_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """An event and how it stands; `due_at` is None unless it waits for an instant."""

    id: EventId
    type: str
    key: str | None
    sequence: str | None
    state: State
    reason: str | None
    attempts: int
    deferrals: int
    error: str | None
    due_at: datetime | None
    publish_at: datetime | None
    expires_at: datetime | None
    replay_of: EventId | None
    created_at: datetime
    settled_at: datetime | None


async def find_events(
    connection: AsyncConnection[TupleRow], which: EventFilter, *, limit: int, before: EventId | None = None
) -> list[FoundEvent]:
    """Return events, newest first; `before` continues where a page ended."""
    return await _find(connection, {**arguments_of(which), "limit": limit, "before": before, "id": None})


async def find_event(connection: AsyncConnection[TupleRow], event_id: EventId) -> FoundEvent | None:
    """Return one event, if there is one."""
    found = await _find(connection, {**arguments_of(EventFilter()), "limit": 1, "before": None, "id": event_id})
    return found[0] if found else None


async def cancel(
    connection: AsyncConnection[TupleRow], event_id: EventId, *, reason: str | None = None, dry_run: bool = False
) -> None:
    """Ask for an event to be cancelled: every intent whose statement begins later is refused. Asking twice is no error.

    Args:
        connection: Where.
        event_id: Which.
        reason: Why, for those who read it later.
        dry_run: Do all that and roll it back.

    Raises:
        Refused: There is no such event, or it has ended.
    """
    async with refusals(), connection.transaction(force_rollback=dry_run):
        await connection.execute(CANCEL, {"id": event_id, "reason": reason})


async def database_now(connection: AsyncConnection[TupleRow]) -> datetime:
    """Return the database's clock, the only one that counts."""
    row = await (await connection.execute(NOW)).fetchone()
    assert row is not None
    now: datetime = row[0]
    return now


async def _find(connection: AsyncConnection[TupleRow], arguments: JsonObject) -> list[FoundEvent]:
    states = set(arguments["states"] or ())
    among: LiteralString = ""
    if states and states <= {"dead", "cancelled", "expired"}:
        among = AMONG_FAILED
    elif states == {"waiting"}:
        among = AMONG_WAITING
    async with connection.cursor(row_factory=class_row(FoundEvent)) as cursor:
        return await (await cursor.execute(FIND + among + NEWEST_FIRST, arguments)).fetchall()


def arguments_of(which: EventFilter) -> JsonObject:
    """Return a filter as arguments of statements, or as `outbox.begin_replay` takes it."""
    return {
        "states": list(which.states) or None,
        "type": which.type,
        "key": which.key,
        "reason": which.reason,
        "error": which.error,
        "since": which.since,
        "until": which.until,
        "emitted_before": which.emitted_before,
    }
