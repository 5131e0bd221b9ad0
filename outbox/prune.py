"""Deletes what ended long ago, a batch at a time, each in a transaction of its own; see `outbox.prune()` in SQL."""

from __future__ import annotations

from datetime import timedelta
from typing import LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.refusals import refusals

PRUNE: LiteralString = "select outbox.prune(%(retention)s, %(batch)s, %(wait)s, %(reason)s)"
COUNT_PRUNABLE: LiteralString = "select count(*) from outbox.prunable(%(retention)s, %(count_max)s)"

BATCH = 1000
"""Events that one transaction deletes: some tens of milliseconds."""


async def prune(
    connection: AsyncConnection[TupleRow],
    retention: timedelta,
    *,
    batch: int = BATCH,
    wait: bool = True,
    reason: str | None = None,
) -> int | None:
    """Delete a batch of the events that ended longer ago than the retention, and return how many they were.

    Fewer than a batch: nothing is left. None, only without `wait`: somebody else is pruning. The audit gets a row, with
    the reason.

    Raises:
        Refused: The retention is shorter than two days.
    """
    async with refusals():
        arguments = {"retention": retention, "batch": batch, "wait": wait, "reason": reason}
        row = await (await connection.execute(PRUNE, arguments)).fetchone()
    assert row is not None
    deleted_count: int | None = row[0]
    return deleted_count


async def count_prunable(connection: AsyncConnection[TupleRow], retention: timedelta, *, count_max: int) -> int:
    """Return how many events `prune` would delete, `count_max` at most. Raises Refused."""
    async with refusals():
        row = await (
            await connection.execute(COUNT_PRUNABLE, {"retention": retention, "count_max": count_max})
        ).fetchone()
    assert row is not None
    return int(row[0])
