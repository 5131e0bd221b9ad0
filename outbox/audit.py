"""The audit: what people changed, when, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row

from outbox.event import EventId, JsonObject

FIND: LiteralString = """
select
  o.id, o.requested_at, o.operation, o.event_id, o.key, o.event_count, o.detail, o.reason, o.requested_by, o.client
from outbox.operations as o
where (%(operation)s::text is null or o.operation = %(operation)s)
  and (%(event_id)s::bigint is null or o.event_id = %(event_id)s)
  and (%(key)s::text is null or o.key = %(key)s)
  and (%(by)s::text is null or o.requested_by = %(by)s)
  and (%(since)s::timestamptz is null or o.requested_at >= %(since)s)
  and (%(before)s::bigint is null or o.id < %(before)s)
order by o.id desc
limit %(limit)s
"""


@dataclass(frozen=True, slots=True)
class Operation:
    """A change by hand.

    Attributes:
        id: Which.
        requested_at: When.
        operation: What: replay, cancel, hold, release, resolve, prune, account, or one of recovery's.
        event_id: Of which event, where it was about one.
        key: Of which key, where it was about one.
        event_count: About how many events it was.
        detail: Its arguments.
        reason: Why, in the operator's words.
        requested_by: The database role.
        client: The connection's name; the command line puts user and host into it.
    """

    id: int
    requested_at: datetime
    operation: str
    event_id: EventId | None
    key: str | None
    event_count: int
    detail: JsonObject
    reason: str | None
    requested_by: str
    client: str


async def find_operations(
    connection: AsyncConnection[TupleRow],
    *,
    operation: str | None = None,
    event_id: EventId | None = None,
    key: str | None = None,
    by: str | None = None,
    since: datetime | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Operation]:
    """Return the audit's rows that fit, newest first; `before` continues where a page ended."""
    arguments = {
        "operation": operation,
        "event_id": event_id,
        "key": key,
        "by": by,
        "since": since,
        "before": before,
        "limit": limit,
    }
    async with connection.cursor(row_factory=class_row(Operation)) as cursor:
        return await (await cursor.execute(FIND, arguments)).fetchall()
