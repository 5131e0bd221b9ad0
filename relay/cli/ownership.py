"""`outbox relays`, `lanes`: who works, and how far it has come."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.arguments import When, parse_past, resolve
from relay.cli.printing import JsonFlag, print_json, print_table, say

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow

    from outbox.ownership import RelayRow

LIMIT = 1000


def relays(
    since: Annotated[
        When | None, typer.Option(parser=parse_past, metavar="2h|INSTANT", help="Retired then or later, 1d by default.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the relay incarnations that work, or were retired lately, newest first."""
    from outbox.operations import database_now  # noqa: PLC0415 (help needs none of it)
    from outbox.ownership import find_relays  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    async def work(connection: AsyncConnection[TupleRow]) -> list[RelayRow]:
        now = await database_now(connection)
        retired_since = resolve(since or When(distance=-timedelta(days=1)), now)
        assert retired_since is not None
        return await find_relays(connection, retired_since=retired_since, limit=LIMIT)

    found = run_with_database(work)
    if as_json:
        for each in found:
            print_json(each)
    else:
        columns = ("id", "name", "version", "state", "lanes", "awake", "started", "lease until", "retired")
        rows = [
            (
                each.id,
                each.name,
                each.version,
                each.state,
                each.lane_count,
                each.is_awake,
                each.started_at,
                each.leased_until,
                each.retired_at,
            )
            for each in found
        ]
        print_table(columns, rows)
    if len(found) == LIMIT:
        say(f"only the newest {LIMIT} are listed: a later --since lists fewer")


def lanes(as_json: JsonFlag = False) -> None:
    """List the 64 lanes: who owns each, and what is behind its saved cursor and neither ended nor waits.

    A + says that there may be more: only the first 10,000 events behind a
    cursor are looked at.
    """
    from outbox.ownership import find_lanes  # noqa: PLC0415 (help needs none of it)
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    found = run_with_database(find_lanes)
    if as_json:
        for each in found:
            print_json(each)
        return
    rows = [
        (
            each.lane,
            each.relay_id,
            each.relay,
            f"{each.unsettled_count}{'' if each.is_complete else '+'}",
            None if each.oldest_seconds is None else f"{each.oldest_seconds:.1f}",
            each.saved_at,
        )
        for each in found
    ]
    print_table(("lane", "relay", "name", "unsettled", "oldest (s)", "cursor saved"), rows)
