"""`outbox operations`: who changed what, when and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.arguments import When, parse_past, resolve
from relay.cli.printing import JsonFlag, print_json, print_table, say

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow

    from outbox.audit import Operation


def operations(
    *,
    operation: Annotated[str | None, typer.Option(help="What was done: replay, cancel, hold, ...")] = None,
    event: Annotated[int | None, typer.Option(min=1, metavar="ID", help="About this event.")] = None,
    key: Annotated[str | None, typer.Option(help="About this key.")] = None,
    by: Annotated[str | None, typer.Option(metavar="ROLE", help="By this database role.")] = None,
    since: Annotated[When | None, typer.Option(parser=parse_past, metavar="2h|INSTANT", help="Then or later.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
    before: Annotated[int | None, typer.Option(min=1, metavar="ID", help="Only operations before this one.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List what people changed, newest first: who, when, what and why."""
    from outbox.audit import find_operations  # noqa: PLC0415 (help needs none of it)
    from outbox.event import EventId  # noqa: PLC0415
    from outbox.operations import database_now  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    async def work(connection: AsyncConnection[TupleRow]) -> list[Operation]:
        return await find_operations(
            connection,
            operation=operation,
            event_id=None if event is None else EventId(event),
            key=key,
            by=by,
            since=resolve(since, await database_now(connection)),
            before=before,
            limit=limit,
        )

    found = run_with_database(work)
    if as_json:
        for each in found:
            print_json(each)
    else:
        columns = ("id", "when", "operation", "event", "key", "events", "by", "client", "why", "detail")
        rows = [
            (
                each.id,
                each.requested_at,
                each.operation,
                each.event_id,
                each.key,
                each.event_count,
                each.requested_by,
                each.client,
                each.reason,
                each.detail,
            )
            for each in found
        ]
        print_table(columns, rows)
    if len(found) == limit:
        say(f"there may be more: --before {found[-1].id}")
