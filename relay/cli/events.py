"""`outbox emit`, `events`, `show`: write an event, list events, read one's whole life."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, assert_never

import typer

from relay.cli.arguments import EventIdArgument, When, parse_future, parse_headers, parse_past, parse_payload, resolve
from relay.cli.consent import DryRunFlag
from relay.cli.printing import JsonFlag, print_json, print_table, say, to_text

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow

    from outbox.event import EventId
    from outbox.life import Life, Moment
    from outbox.operations import FoundEvent

COLUMNS = ("id", "state", "reason", "type", "key", "attempts", "emitted", "ended or due", "error")


WATCH_SECONDS = 1.0


class StateOption(StrEnum):
    """The states of `outbox.event_states`."""

    NEW = "new"
    WAITING = "waiting"
    PUBLISHED = "published"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


def emit(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="Names the handler, for example variant.created.")],
    *,
    payload: Annotated[str, typer.Option(help="A JSON object, @FILE, or - for standard input.")] = "{}",
    key: Annotated[str | None, typer.Option(help="Routes and limits; one event of a key is in flight.")] = None,
    sequence: Annotated[str | None, typer.Option(help="Events of a key and sequence go in order.")] = None,
    dedupe_key: Annotated[str | None, typer.Option(help="Emitting it again gives the first event's id.")] = None,
    publish_at: Annotated[
        When | None, typer.Option(parser=parse_future, metavar="INSTANT|+10m", help="Not before.")
    ] = None,
    expires_at: Annotated[
        When | None, typer.Option(parser=parse_future, metavar="INSTANT|+10m", help="Not after.")
    ] = None,
    header: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="About the event; repeatable.")] = None,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Write an event into the log and print its id, as an application does: the event itself tells of it, no audit.

    With --dry-run the log's rules are asked, and nothing is kept.
    """
    from outbox.emit import emit as write  # noqa: PLC0415 (help needs none of it)
    from outbox.operations import database_now  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    document, headers = parse_payload(payload), parse_headers(header or [])

    async def work(connection: AsyncConnection[TupleRow]) -> EventId:
        now = await database_now(connection)
        async with connection.transaction(force_rollback=dry_run):
            return await write(
                connection,
                event_type,
                document,
                key=key,
                sequence=sequence,
                dedupe_key=dedupe_key,
                publish_at=resolve(publish_at, now),
                expires_at=resolve(expires_at, now),
                headers=headers,
            )

    event_id = run_with_database(work)
    if dry_run and as_json:
        print_json({"is_done": False})
    elif dry_run:
        say("the event would be emitted")
    elif as_json:
        print_json({"id": event_id})
    else:
        print(event_id)


def events(
    *,
    state: Annotated[list[StateOption] | None, typer.Option(help="How it stands; repeatable.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Its type.")] = None,
    key: Annotated[str | None, typer.Option(help="Its key.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why it waits, or why it is dead.")] = None,
    error: Annotated[str | None, typer.Option(metavar="TEXT", help="A part of its last error, in any case.")] = None,
    since: Annotated[
        When | None,
        typer.Option(parser=parse_past, metavar="2h|INSTANT", help="Ended, or else emitted, then or later."),
    ] = None,
    until: Annotated[
        When | None, typer.Option(parser=parse_past, metavar="2h|INSTANT", help="Ended, or else emitted, before then.")
    ] = None,
    older_than: Annotated[
        When | None, typer.Option(parser=parse_past, metavar="2h|INSTANT", help="Emitted longer ago than this.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
    before: Annotated[int | None, typer.Option(min=1, metavar="ID", help="Only events before this one.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on: print each event that changes, until Ctrl-C.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List events, newest first; with --watch the newest last, and each again when it has changed."""
    if watch and before is not None:
        raise typer.BadParameter("expected --watch or --before, found both")
    from outbox.event import EventId  # noqa: PLC0415 (help needs none of it)
    from outbox.operations import EventFilter, database_now, find_events  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    async def find(connection: AsyncConnection[TupleRow]) -> list[FoundEvent]:
        now = await database_now(connection)
        which = EventFilter(
            states=[each.value for each in state or []],
            type=event_type,
            key=key,
            reason=reason,
            error=error,
            since=resolve(since, now),
            until=resolve(until, now),
            emitted_before=resolve(older_than, now),
        )
        return await find_events(connection, which, limit=limit, before=None if before is None else EventId(before))

    if watch:
        run_with_database(lambda connection: _watch(connection, find, as_json))
        return
    found = run_with_database(find)
    _print(found, as_json)
    if len(found) == limit:
        say(f"there may be more: --before {found[-1].id}")


async def _watch(
    connection: AsyncConnection[TupleRow],
    find: Callable[[AsyncConnection[TupleRow]], Awaitable[list[FoundEvent]]],
    as_json: bool,
) -> None:
    """Print what is found, oldest first, and each event again when it is found changed."""
    import anyio  # noqa: PLC0415 (help needs none of it)

    printed: dict[EventId, FoundEvent] = {}
    while True:
        found = await find(connection)
        _print([event for event in reversed(found) if printed.get(event.id) != event], as_json)
        printed = {event.id: event for event in found}
        await anyio.sleep(WATCH_SECONDS)


def _print(found: Sequence[FoundEvent], as_json: bool) -> None:
    if as_json:
        for event in found:
            print_json(event)
    elif found:
        print_table(COLUMNS, map(_columns, found))


def show(
    event_id: EventIdArgument,
    as_json: JsonFlag = False,
) -> None:
    """Show an event's whole life: emitted, every attempt and step, what it waits for, how it ended."""
    from outbox.event import EventId  # noqa: PLC0415 (help needs none of it)
    from outbox.life import load_life  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    life = run_with_database(lambda connection: load_life(connection, EventId(event_id)))
    if as_json:
        print_json(life)
        return
    print_life(life)


def print_life(life: Life) -> None:
    """Print what an event is, what happened to it, and what it waits for."""
    print_table(("what", "value"), _facts(life), heading=False)
    print_table(("when", "what", "how"), [(moment.at, *_tell(moment)) for moment in life.moments])
    for line in _now(life):
        print(line)


def _columns(event: FoundEvent) -> tuple[object, ...]:
    return (
        event.id,
        event.state,
        event.reason,
        event.type,
        event.key,
        event.attempts,
        event.created_at,
        event.settled_at or event.due_at,
        event.error,
    )


def _facts(life: Life) -> list[tuple[str, object]]:
    event = life.event
    facts: list[tuple[str, object]] = [
        ("event", event.id),
        ("type", event.type),
        ("state", f"{event.state} ({event.reason})" if event.reason else event.state),
        ("may be live", life.may_be_live),
        ("key", event.key),
        ("sequence", event.sequence),
        ("dedupe key", life.dedupe_key),
        ("publish at", event.publish_at),
        ("expires at", event.expires_at),
        ("payload", life.payload),
        ("headers", life.headers or None),
        ("result", life.result),
    ]
    return [(name, value) for name, value in facts if value is not None]


def _tell(moment: Moment) -> tuple[str, object]:
    """Name a moment, and tell it on one line."""
    from outbox import life  # noqa: PLC0415 (help needs none of it)

    match moment:
        case life.Emitted():
            return "emitted", "" if moment.replay_of is None else f"replays {moment.replay_of}"
        case life.CancellationAsked():
            return "cancellation asked", _join(f"by {moment.requested_by}", moment.reason)
        case life.Resolved():
            what = f"published as {moment.remote_id or 'nobody knows what'}" if moment.published else "not published"
            return "resolved", _join(
                f"{moment.name} {moment.position}: {what}", f"by {moment.requested_by}", moment.reason
            )
        case life.Dispatched():
            return "dispatched", _by(moment.relay_id, moment.relay)
        case life.Attempt():
            return "attempt", _join(moment.reason, moment.error, moment.context, _by(moment.relay_id, moment.relay))
        case life.StepWritten():
            step = f"{moment.name} {moment.state}"
            return f"step {moment.position}", _join(step, moment.detail or None, _by(moment.relay_id, moment.relay))
        case life.ReceiptWritten():
            counts = f"failed attempts: {moment.attempts}, deferrals: {moment.deferrals}"
            return moment.outcome, _join(moment.reason, moment.error, counts, _by(moment.relay_id, moment.relay))
        case life.PostFound():
            return "post found", {"remote_id": moment.remote_id, "permalink": moment.permalink}
        case life.EmittedAgain():
            return "replayed", f"as {moment.replay_id}"
        case _:
            assert_never(moment)


def _now(life: Life) -> list[str]:
    lines = []
    if life.waiting is not None:
        waiting = life.waiting
        due = "another event or a person" if waiting.due_at is None else to_text(waiting.due_at)
        counts = f"failed attempts: {waiting.attempts}, deferrals: {waiting.deferrals}"
        since = f"since {to_text(waiting.waiting_since)}"
        lines.append(f"waits {_join(waiting.reason, since, f'for {due}', counts, waiting.error)}")
    for hold in life.holds:
        until = "until somebody releases it" if hold.held_until is None else f"until {to_text(hold.held_until)}"
        what = "the app" if hold.scope == "app" else f"the key {to_text(hold.key)}"
        lines.append(f"{what} is held {until}: {to_text(hold.reason)}, by {to_text(hold.held_by)}")
    return lines


def _join(*parts: object) -> str:
    return "; ".join(to_text(part) for part in parts if part is not None)


def _by(relay_id: int, relay: str | None) -> str:
    return f"relay {relay_id}" if relay is None else f"relay {relay_id} ({relay})"
