"""An application's side: write an event in its own transaction.

    async with pool.connection() as connection:
        await connection.execute("insert into orders ...")
        await emit(connection, "order.placed", {"order_id": 7}, key="customer:3")

Every other driver calls the SQL function: `select outbox.emit('order.placed', '{"order_id": 7}', 'customer:3')`.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import Any, LiteralString, TypedDict, Unpack, overload

from psycopg import AsyncConnection, Connection
from psycopg.rows import TupleRow, tuple_row
from psycopg.types.json import Jsonb

from outbox.event import EventId, JsonObject
from outbox.trace import current_headers

EMIT: LiteralString = """
select outbox.emit(
  type => %(type)s, payload => %(payload)s, key => %(key)s, sequence => %(sequence)s, dedupe_key => %(dedupe_key)s,
  publish_at => %(publish_at)s::timestamptz, expires_at => %(expires_at)s::timestamptz, headers => %(headers)s
)
"""


CARRY: LiteralString = "select set_config('outbox.traceparent', %s, true)"


class Options(TypedDict, total=False):
    """What an event may carry beside its type and payload.

    Attributes:
        key: The publishing account, or whatever limits apply to; at most one event of a key is in flight. Not empty.
        sequence: Events of the same key and sequence are handled strictly in order; needs a key.
        dedupe_key: Unique: emitting it again writes nothing and returns the first event's id. At most 1,000 bytes;
            `replay:` begins those of replays.
        publish_at: Not dispatched before; timezone-aware.
        expires_at: Ends as expired when nothing irreversible was begun by then; timezone-aware.
        headers: About the event rather than for its handler. Where the process uses OpenTelemetry, the current span's
            `traceparent` is added.
    """

    key: str | None
    sequence: str | None
    dedupe_key: str | None
    publish_at: datetime | None
    expires_at: datetime | None
    headers: JsonObject | None


@overload
def emit(
    connection: AsyncConnection[Any], type: str, payload: JsonObject, **options: Unpack[Options]
) -> Awaitable[EventId]: ...


@overload
def emit(connection: Connection[Any], type: str, payload: JsonObject, **options: Unpack[Options]) -> EventId: ...


def emit(
    connection: AsyncConnection[Any] | Connection[Any],
    type: str,  # noqa: A002  # the vocabulary's word, as in SQL
    payload: JsonObject,
    **options: Unpack[Options],
) -> Awaitable[EventId] | EventId:
    """Write an event in the caller's transaction and return its id; nothing is committed here.

    Awaitable on an async connection, immediate on a sync one.

    Raises:
        psycopg.errors.CheckViolation: A rule of the log says no, and its name says which.
        psycopg.errors.InsufficientPrivilege: The role is not a member of outbox_emitter.
    """
    arguments = {
        "type": type,
        "payload": Jsonb(payload),
        "key": options.get("key"),
        "sequence": options.get("sequence"),
        "dedupe_key": options.get("dedupe_key"),
        "publish_at": options.get("publish_at"),
        "expires_at": options.get("expires_at"),
        "headers": Jsonb({**current_headers(), **(options.get("headers") or {})}),
    }
    if isinstance(connection, AsyncConnection):
        return _emit(connection, arguments)
    with connection.cursor(row_factory=tuple_row) as cursor:
        return _event_id(cursor.execute(EMIT, arguments).fetchone())


async def _emit(connection: AsyncConnection[Any], arguments: JsonObject) -> EventId:
    async with connection.cursor(row_factory=tuple_row) as cursor:
        return _event_id(await (await cursor.execute(EMIT, arguments)).fetchone())


def _event_id(row: TupleRow | None) -> EventId:
    assert row is not None, "outbox.emit() returns an id or raises"
    return EventId(row[0])


@overload
def carry_trace(connection: AsyncConnection[Any]) -> Awaitable[None]: ...


@overload
def carry_trace(connection: Connection[Any]) -> None: ...


def carry_trace(connection: AsyncConnection[Any] | Connection[Any]) -> Awaitable[None] | None:
    """Have the events that triggers emit go on from the current span, until the end of the caller's transaction.

    For variants, which are inserted and not emitted: `emit` does it by itself. Nothing is asked of the database where
    the process does not use OpenTelemetry, or is in no span. Awaitable on an async connection, immediate on a sync one.
    """
    traceparent = current_headers().get("traceparent")
    if isinstance(connection, AsyncConnection):
        return _carry(connection, traceparent)
    if traceparent is not None:
        connection.execute(CARRY, [traceparent])
    return None


async def _carry(connection: AsyncConnection[Any], traceparent: str | None) -> None:
    if traceparent is not None:
        await connection.execute(CARRY, [traceparent])
