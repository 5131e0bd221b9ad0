"""`outbox hold`, `holds`: pause a key or the whole app, and see what pauses; `release` is an intervention."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.arguments import When, parse_duration, parse_future, resolve
from relay.cli.consent import DryRunFlag
from relay.cli.printing import JsonFlag, print_json, print_table, to_text

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow


def hold(
    key: Annotated[str | None, typer.Argument(help="What to hold, for example instagram:17841400000000000.")] = None,
    *,
    app: Annotated[bool, typer.Option("--app", help="Hold the whole app instead.")] = False,
    until: Annotated[
        When | None, typer.Option(parser=parse_future, metavar="INSTANT|+10m", help="When it ends by itself.")
    ] = None,
    duration: Annotated[
        timedelta | None, typer.Option("--for", parser=parse_duration, metavar="2h", help="The same, from now.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for those who read it later.")],
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Hold a key, or the whole app, for a while or until it is released.

    What a handler works on already goes on; everything else of the key waits,
    and goes on when the hold ends. A hold is never shortened: release it first.
    """
    if (key is None) != app:
        raise typer.BadParameter("expected a key or --app, found " + ("both" if app else "neither"))
    if until is not None and duration is not None:
        raise typer.BadParameter("expected one of --until and --for, found both")
    if key == "" or not reason.strip():
        raise typer.BadParameter(f"expected a {'key' if key == '' else 'reason'} that is not empty")
    from outbox.holds import hold as begin  # noqa: PLC0415 (help needs none of it)
    from outbox.operations import database_now  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    end = When(distance=duration) if duration is not None else until

    async def work(connection: AsyncConnection[TupleRow]) -> datetime | None:
        held_until = resolve(end, await database_now(connection))
        await begin(connection, key, held_until=held_until, reason=reason, dry_run=dry_run)
        return held_until

    held_until = run_with_database(work)
    if as_json:
        scope = "app" if app else "key"
        print_json({"scope": scope, "key": key, "held_until": held_until, "reason": reason, "is_done": not dry_run})
    else:
        what = "the app" if key is None else to_text(key)
        print(f"{what} {'would be' if dry_run else 'is'} held {_until(held_until)}")


def holds(as_json: JsonFlag = False) -> None:
    """List the holds that are in force, the relays' and the operators'."""
    from outbox.holds import find_holds  # noqa: PLC0415 (help needs none of it)
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    found = run_with_database(find_holds)
    if as_json:
        for each in found:
            print_json({**asdict(each), "key": each.key or None})
        return
    rows = [
        (each.scope, each.key, each.held_until or "until released", each.reason, each.held_by, each.created_at)
        for each in found
    ]
    print_table(("scope", "key", "until", "reason", "by", "since"), rows)


def _until(instant: datetime | None) -> str:
    return "until somebody releases it" if instant is None else f"until {to_text(instant)}"
