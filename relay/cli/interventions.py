"""`outbox cancel`, `release`: what a person does about events; and what came of each, for `replay` too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relay.cli.arguments import ID_MAX, EventIdsArgument
from relay.cli.consent import DryRunFlag, ReasonOption, YesFlag, ask
from relay.cli.printing import JsonFlag, one_line, print_json, say, to_text

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow


@dataclass(frozen=True, slots=True)
class Done:
    """What was done about an event, or why nothing was."""

    event_id: int
    outcome: Literal[
        "replayed", "already_replayed", "would_be_replayed", "cancellation_asked", "would_be_cancelled", "refused"
    ]
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
            case "would_be_cancelled":
                return f"{self.event_id} would be cancelled"
            case "refused":
                return f"{self.event_id} is refused: {one_line(self.error or '')}"


def cancel(
    event_ids: EventIdsArgument = None,
    *,
    replay: Annotated[
        int | None,
        typer.Option("--replay", min=1, max=ID_MAX, metavar="REPLAY", help="All that a replay has emitted instead."),
    ] = None,
    reason: ReasonOption = None,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Ask for events to be cancelled; what has begun irreversibly ends as that call did.

    With --replay the replay emits no more, and what it has emitted and has not
    ended is cancelled.
    """
    if bool(event_ids) == (replay is not None):
        raise typer.BadParameter("expected ids or --replay, found " + ("both" if event_ids else "neither"))
    if replay is not None:
        _cancel_replay(replay, reason, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    from outbox.errors import Refused  # noqa: PLC0415 (help needs none of it)
    from outbox.event import EventId  # noqa: PLC0415
    from outbox.operations import cancel as request  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    chosen = list(dict.fromkeys(event_ids or []))
    ask("cancel", len(chosen), unasked=dry_run or yes)

    async def work(connection: AsyncConnection[TupleRow]) -> int:
        refused_count = 0
        for event_id in chosen:
            try:
                await request(connection, EventId(event_id), reason=reason, dry_run=dry_run)
            except Refused as error:
                refused_count += 1
                report(Done(event_id, "refused", error=str(error)), as_json)
            else:
                report(Done(event_id, "would_be_cancelled" if dry_run else "cancellation_asked"), as_json)
        return refused_count

    fail_where_refused(run_with_database(work), len(chosen))


def release(
    key: Annotated[str | None, typer.Argument(help="What is held, for example instagram:17841400000000000.")] = None,
    *,
    app: Annotated[bool, typer.Option("--app", help="The hold on the whole app instead.")] = False,
    reason: ReasonOption = None,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """End the hold on a key, or on the whole app; what waits for it goes on at once."""
    if (key is None) != app:
        raise typer.BadParameter("expected a key or --app, found " + ("both" if app else "neither"))
    from outbox.holds import count_held, find_holds  # noqa: PLC0415 (help needs none of it)
    from outbox.holds import release as end  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    async def look(connection: AsyncConnection[TupleRow]) -> tuple[int, bool]:
        holds = await find_holds(connection)
        return await count_held(connection, key), any(each.key == (key or "") for each in holds)

    released_count, was_held = run_with_database(look)
    if not dry_run:
        ask("release", released_count, unasked=yes)
        released_count = run_with_database(lambda connection: end(connection, key, reason=reason))
    if as_json:
        print_json({"key": key, "was_held": was_held, "released_count": released_count, "is_done": not dry_run})
    else:
        if not was_held:
            say(f"{'the app' if key is None else to_text(key)} is not held; outbox holds lists what is")
        print(f"{released_count} events {'would go' if dry_run else 'go'} on")


def _cancel_replay(replay_id: int, reason: str | None, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    from outbox.replay import cancel_replay, count_cancellable  # noqa: PLC0415 (help needs none of it)
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    count = run_with_database(lambda connection: count_cancellable(connection, replay_id))
    if not dry_run:
        ask("cancel", count, unasked=yes)
        count = run_with_database(lambda connection: cancel_replay(connection, replay_id, reason=reason))
    if as_json:
        print_json({"replay": replay_id, "cancelled_count": count, "is_done": not dry_run})
    else:
        print(f"replay {replay_id} emits no more; {count} events {'would be' if dry_run else 'will be'} cancelled")


def report(done: Done, as_json: bool) -> None:
    """Tell what became of one event."""
    if as_json:
        print_json(done)
    else:
        print(done.sentence, flush=True)


def fail_where_refused(refused_count: int, count: int) -> None:
    """End with status 1 where an event was refused."""
    if refused_count:
        say(f"outbox: {refused_count} of {count} events {'was' if refused_count == 1 else 'were'} refused")
        raise typer.Exit(1)
