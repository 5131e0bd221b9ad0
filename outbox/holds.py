"""Holds, for people: pause a key or the whole app, and see what is paused. Releasing is in `outbox.operations`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row

from outbox.refusals import refusals

HOLD: LiteralString = "select outbox.hold(%(key)s, coalesce(%(held_until)s::timestamptz, 'infinity'), %(reason)s)"

FIND_HOLDS: LiteralString = """
select h.scope, h.key, nullif(h.held_until, 'infinity') as held_until, h.reason, h.held_by, h.created_at
from outbox.holds as h
where h.held_until > clock_timestamp()
order by h.scope, h.key
"""


@dataclass(frozen=True, slots=True)
class HoldInForce:
    """What pauses a key or the app now; `held_until` is None where a person must release it."""

    scope: Literal["key", "app"]
    key: str
    held_until: datetime | None
    reason: str
    held_by: str
    created_at: datetime


async def hold(
    connection: AsyncConnection[TupleRow],
    key: str | None,
    *,
    held_until: datetime | None,
    reason: str,
    dry_run: bool = False,
) -> None:
    """Hold a key, or the app where it is None; a relay that listens knows it at once.

    What is dispatched already goes on. A hold that ends at the same time or sooner is replaced.

    Args:
        connection: Where.
        key: What to hold.
        held_until: None waits for a release.
        reason: For people.
        dry_run: Do all that and roll it back.

    Raises:
        Refused: The instant is not in the future, or a hold that ends later stands already.
    """
    async with refusals(), connection.transaction(force_rollback=dry_run):
        await connection.execute(HOLD, {"key": key, "held_until": held_until, "reason": reason})


async def find_holds(connection: AsyncConnection[TupleRow]) -> list[HoldInForce]:
    """Return the holds that are in force, the app's first."""
    async with connection.cursor(row_factory=class_row(HoldInForce)) as cursor:
        return await (await cursor.execute(FIND_HOLDS)).fetchall()
