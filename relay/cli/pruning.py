"""`outbox prune`: delete what ended long ago. The relay does it on a schedule too."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.arguments import parse_duration
from relay.cli.consent import DryRunFlag, ReasonOption, YesFlag, ask
from relay.cli.printing import JsonFlag, print_json, say
from relay.cli.progress import open_bar

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow

RETENTION_DAYS = 30
COUNT_MAX = 1_000_000


def prune(
    *,
    older_than: Annotated[
        timedelta | None,
        typer.Option(parser=parse_duration, metavar="30d", help="Ended longer ago than this, 30d by default."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Events that one transaction deletes.")] = 1000,
    reason: ReasonOption = None,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Delete events that ended long ago, with their receipts, steps and attempts.

    Nothing that has not ended, or that a relay may still read, is deleted.
    With an event its dedupe key goes: emitting that again is a new event.
    """
    from outbox.prune import count_prunable  # noqa: PLC0415 (help needs none of it)
    from outbox.prune import prune as delete  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    retention = timedelta(days=RETENTION_DAYS) if older_than is None else older_than

    def count_all(connection: AsyncConnection[TupleRow]) -> Awaitable[int]:
        return count_prunable(connection, retention, count_max=COUNT_MAX)

    async def work(connection: AsyncConnection[TupleRow]) -> int:
        total = 0
        with open_bar("pruning", count) as advance:
            while True:
                deleted_count = await delete(connection, retention, batch=batch, reason=reason) or 0
                total += deleted_count
                advance(deleted_count)
                if deleted_count < batch:
                    return total

    count = run_with_database(count_all)
    if not dry_run:
        ask("prune", count, unasked=yes)
        count = run_with_database(work)
    if as_json:
        print_json({"event_count": count, "is_done": not dry_run})
    else:
        print(f"{count} events {'would be' if dry_run else 'are'} deleted")
    if dry_run and count == COUNT_MAX:
        say(f"there may be more: only the first {COUNT_MAX} are counted")
