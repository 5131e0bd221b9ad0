"""Holds: a key or the whole app pauses until an instant. What a relay loads; and for people: hold, release, and see."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow, class_row

from outbox.refusals import refusals

HOLD: LiteralString = "select outbox.hold(%(key)s, coalesce(%(held_until)s::timestamptz, 'infinity'), %(reason)s)"

RELEASE: LiteralString = "select outbox.release(%(key)s, %(reason)s)"
COUNT_HELD: LiteralString = """
select count(*) from outbox.waiting as w
where w.reason in ('held', 'rate_limited') and (%(key)s::text is null or w.key = %(key)s)
"""

FIND_HOLDS: LiteralString = """
select h.scope, h.key, nullif(h.held_until, 'infinity') as held_until, h.reason, h.held_by, h.created_at
from outbox.holds as h
where h.held_until > clock_timestamp()
order by h.scope, h.key
"""


LOAD_HOLDS: LiteralString = """
select h.scope, h.key,
  case when h.held_until = 'infinity' then 'Infinity'::float8
  else extract(epoch from h.held_until - clock_timestamp())::float8 end
from outbox.holds as h
where h.held_until > clock_timestamp()
"""

HOLD_REASONS = ("rate_limited", "token", "account", "unknown", "operator")
"""Why there are holds: those of the relay by their names, those by hand are the operator's, whatever the words."""

COUNT_HOLDS: LiteralString = """
select h.scope, case when h.reason = any (%(reasons)s::text[]) then h.reason else 'operator' end, count(*)
from outbox.holds as h
where h.held_until > clock_timestamp()
group by 1, 2
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


@dataclass(frozen=True, slots=True)
class HeldFor:
    """A hold: `key` is None for the whole app; `seconds` may be infinite."""

    key: str | None
    seconds: float


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


async def release(connection: AsyncConnection[TupleRow], key: str | None, *, reason: str | None = None) -> int:
    """End the hold on a key, on the app where it is None; return how many events go on at once."""
    row = await (await connection.execute(RELEASE, {"key": key, "reason": reason})).fetchone()
    assert row is not None
    return int(row[0])


async def count_held(connection: AsyncConnection[TupleRow], key: str | None) -> int:
    """Return how many events `release` would let go on; a million of them are not written for that."""
    row = await (await connection.execute(COUNT_HELD, {"key": key})).fetchone()
    assert row is not None
    return int(row[0])


async def find_holds(connection: AsyncConnection[TupleRow]) -> list[HoldInForce]:
    """Return the holds that are in force, the app's first."""
    async with connection.cursor(row_factory=class_row(HoldInForce)) as cursor:
        return await (await cursor.execute(FIND_HOLDS)).fetchall()


async def load_holds(connection: AsyncConnection[TupleRow]) -> list[HeldFor]:
    """Return the holds that are in force."""
    rows = await (await connection.execute(LOAD_HOLDS)).fetchall()
    return [HeldFor(key if scope == "key" else None, seconds) for scope, key, seconds in rows]


async def count_holds(connection: AsyncConnection[TupleRow]) -> dict[tuple[str, str], int]:
    """Return how many holds are in force, by scope and one of `HOLD_REASONS`."""
    rows = await (await connection.execute(COUNT_HOLDS, {"reasons": list(HOLD_REASONS)})).fetchall()
    return {(scope, reason): count for scope, reason, count in rows}
