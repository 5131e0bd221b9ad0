"""`outbox replay`, `cancel`, `release`: what a person does about events. One transaction for each event."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relay.cli.arguments import When, parse_past, resolve
from relay.cli.printing import JsonFlag, one_line, print_json, say

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow

    from outbox.event import EventId

UNASKED_MAX = 20
"""More events than these are not replayed before somebody says yes."""


class EndedOption(StrEnum):
    """How an event may have ended."""

    DEAD = "dead"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Done:
    """What was done about an event, or why nothing was."""

    event_id: int
    outcome: Literal["replayed", "already_replayed", "would_be_replayed", "cancellation_asked", "refused"]
    replay_id: int | None = None
    error: str | None = None

    @property
    def sentence(self) -> str:
        """For people."""
        match self.outcome:
            case "replayed":
                return f"{self.event_id} is replayed as {self.replay_id}"
            case "already_replayed":
                return f"{self.event_id} was replayed before, as {self.replay_id}"
            case "would_be_replayed":
                return f"{self.event_id} would be replayed"
            case "cancellation_asked":
                return f"{self.event_id} will be cancelled: no irreversible call of it begins any more"
            case "refused":
                return f"{self.event_id} is refused: {one_line(self.error or '')}"


def replay(
    event_ids: Annotated[list[int] | None, typer.Argument(metavar="ID", help="The events.")] = None,
    *,
    state: Annotated[list[EndedOption] | None, typer.Option(help="How it ended, dead by default; repeatable.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Its type.")] = None,
    key: Annotated[str | None, typer.Option(help="Its key.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why it is dead.")] = None,
    since: Annotated[
        When | None, typer.Option(parser=parse_past, metavar="2h|INSTANT", help="Ended then or later.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many that the filter finds.")] = 1000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; do nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Even what may be live: look at the account first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help=f"Do not ask before more than {UNASKED_MAX} events.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Emit ended events once more, given by their ids or by a filter, oldest first.

    An event that may be live is refused, unless its absence was verified, or
    with --force. Replaying it twice gives the same replay. A filter leaves out
    what was replayed before.
    """
    filters = (state, event_type, key, reason, since)
    if event_ids and any(filters):
        raise typer.BadParameter("expected ids or a filter, found both")
    if not event_ids and not any(filters):
        raise typer.BadParameter("expected ids, or a filter such as --state dead --since 2h, found neither")
    from outbox.operations import EventFilter, database_now, find_replayable  # noqa: PLC0415 (help needs none of it)
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    async def find(connection: AsyncConnection[TupleRow]) -> list[EventId]:
        which = EventFilter(
            states=[each.value for each in state or [EndedOption.DEAD]],
            type=event_type,
            key=key,
            reason=reason,
            since=resolve(since, await database_now(connection)),
        )
        return await find_replayable(connection, which, limit=limit)

    chosen: Sequence[int] = list(dict.fromkeys(event_ids)) if event_ids else run_with_database(find)
    if not event_ids and len(chosen) == limit:
        say(f"only the first {limit} are taken: repeat the command, or raise --limit")
    if not chosen:
        say("no event fits the filter")
        return
    if len(chosen) > UNASKED_MAX and not (dry_run or yes):
        _ask(len(chosen))

    async def work(connection: AsyncConnection[TupleRow]) -> int:
        return await _replay_all(connection, chosen, force=force, dry_run=dry_run, as_json=as_json)

    _fail_where_refused(run_with_database(work), len(chosen))


def cancel(
    event_ids: Annotated[list[int], typer.Argument(metavar="ID", help="The events.")],
    reason: Annotated[str | None, typer.Option(help="Why, for those who read it later.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask for events to be cancelled; what has begun irreversibly ends as that call did."""
    from outbox.errors import Refused  # noqa: PLC0415 (help needs none of it)
    from outbox.event import EventId  # noqa: PLC0415
    from outbox.operations import cancel as ask  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    chosen = list(dict.fromkeys(event_ids))

    async def work(connection: AsyncConnection[TupleRow]) -> int:
        refused_count = 0
        for event_id in chosen:
            try:
                await ask(connection, EventId(event_id), reason=reason)
            except Refused as error:
                refused_count += 1
                _report(Done(event_id, "refused", error=str(error)), as_json)
            else:
                _report(Done(event_id, "cancellation_asked"), as_json)
        return refused_count

    _fail_where_refused(run_with_database(work), len(chosen))


def release(
    key: Annotated[str | None, typer.Argument(help="What is held, for example instagram:17841400000000000.")] = None,
    app: Annotated[bool, typer.Option("--app", help="The hold on the whole app instead.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """End the hold on a key, or on the whole app; what waits for it goes on at once."""
    if (key is None) != app:
        raise typer.BadParameter("expected a key or --app, found " + ("both" if app else "neither"))
    from outbox.operations import release as end  # noqa: PLC0415 (help needs none of it)
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    released_count = run_with_database(lambda connection: end(connection, key))
    if as_json:
        print_json({"key": key, "released_count": released_count})
    else:
        print(f"{released_count} events go on")


async def _replay_all(
    connection: AsyncConnection[TupleRow], event_ids: Sequence[int], *, force: bool, dry_run: bool, as_json: bool
) -> int:
    """Report each event as it is done; return how many were refused."""
    from outbox.errors import Refused  # noqa: PLC0415 (help needs none of it)
    from outbox.event import EventId  # noqa: PLC0415
    from outbox.operations import replay as emit_again  # noqa: PLC0415

    refused_count = 0
    for event_id in event_ids:
        try:
            replayed = await emit_again(connection, EventId(event_id), force=force, dry_run=dry_run)
        except Refused as error:
            refused_count += 1
            _report(Done(event_id, "refused", error=str(error)), as_json)
            continue
        if not replayed.is_new:
            _report(Done(event_id, "already_replayed", replayed.replay_id), as_json)
        elif dry_run:
            _report(Done(event_id, "would_be_replayed"), as_json)
        else:
            _report(Done(event_id, "replayed", replayed.replay_id), as_json)
    return refused_count


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"expected --yes to replay more than {UNASKED_MAX} events, found {count} without it")
    typer.confirm(f"Replay {count} events?", abort=True, err=True)


def _report(done: Done, as_json: bool) -> None:
    if as_json:
        print_json(done)
    else:
        print(done.sentence, flush=True)


def _fail_where_refused(refused_count: int, count: int) -> None:
    if refused_count:
        say(f"outbox: {refused_count} of {count} events {'was' if refused_count == 1 else 'were'} refused")
        raise typer.Exit(1)
