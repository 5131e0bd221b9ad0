"""`outbox unknown list`, `outbox resolve`: what may be live and nobody knows, and a person's word on it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.arguments import EventIdArgument
from relay.cli.consent import DryRunFlag, ReasonOption, confirm
from relay.cli.events import print_life
from relay.cli.printing import JsonFlag, print_json, print_table, say, to_text

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow

    from outbox.life import Life
    from outbox.resolution import UnknownEvent

NO_ID = "-"


def list_unknown(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Those that the relay still looks for, too.")] = False,
    after: Annotated[int, typer.Option(min=0, metavar="ID", help="Only events after this one.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List the events that may be live and wait for a person, oldest first."""
    from outbox.resolution import find_unknown  # noqa: PLC0415 (help needs none of it)
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    async def work(connection: AsyncConnection[TupleRow]) -> tuple[list[UnknownEvent], bool]:
        found = await find_unknown(connection, for_a_person=not everything, after=after, limit=limit)
        is_looked_for = not found and not everything and bool(await find_unknown(connection, after=after, limit=1))
        return found, is_looked_for

    found, is_looked_for = run_with_database(work)
    if as_json:
        for each in found:
            print_json(each)
    else:
        columns = ("id", "key", "called", "waits since", "waits for", "evidence", "what is known")
        rows = [
            (
                each.event_id,
                each.key,
                each.called_at,
                each.waiting_since,
                _waits_for(each),
                each.evidence_count,
                each.error,
            )
            for each in found
        ]
        print_table(columns, rows)
        if found:
            say("look at the account, then: outbox resolve ID --published MEDIA_ID, or --not-published")
    if is_looked_for:
        say("none waits for a person; those that the relay still looks for are listed with --all")
    if len(found) == limit:
        say(f"there may be more: --after {found[-1].event_id}")


def resolve(
    event_id: EventIdArgument,
    *,
    published: Annotated[
        str | None, typer.Option(metavar="MEDIA_ID", help=f"It is live; {NO_ID} where nobody can tell its id.")
    ] = None,
    not_published: Annotated[bool, typer.Option("--not-published", help="It is not live, and is tried again.")] = False,
    reason: ReasonOption = None,
    force: Annotated[bool, typer.Option("--force", help="Though the relay still looks for it.")] = False,
    dry_run: DryRunFlag = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say what became of an event that may be live, after a look at the account.

    Without a decision all evidence is shown, and nothing is done. What is live
    gets its receipt; what is not is tried again, by the relay, which forgets
    neither who said so nor why.
    """
    if published is not None and not_published:
        raise typer.BadParameter("expected one of --published and --not-published, found both")
    if published == "":
        raise typer.BadParameter(f"expected a media id, or {NO_ID} where nobody can tell it, found none")
    from outbox.event import EventId  # noqa: PLC0415 (help needs none of it)
    from outbox.life import load_life  # noqa: PLC0415
    from outbox.resolution import resolve as decide  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    is_decided = published is not None or not_published
    is_asked = is_decided and not (yes or dry_run) and sys.stdin.isatty()
    life = None
    if is_asked or not is_decided:
        life = run_with_database(lambda connection: load_life(connection, EventId(event_id)))
        if as_json and not is_decided:
            print_json(life)
            return
        if not as_json:
            print_life(life)
        if not is_decided:
            say(_next(life))
            return
    verdict = f"published as {to_text(published)}" if published else "not published"
    if is_asked and life is not None and life.waits_for_a_verdict:  # else the refusal says why
        confirm(f"Is it {verdict}?")

    async def work(connection: AsyncConnection[TupleRow]) -> None:
        await decide(
            connection,
            EventId(event_id),
            published=not not_published,
            remote_id=None if published == NO_ID else published,
            reason=reason,
            force=force,
            dry_run=dry_run,
        )

    run_with_database(work)
    if as_json:
        print_json({"event_id": event_id, "published": not not_published, "is_done": not dry_run})
    else:
        print(f"{event_id} {'would be' if dry_run else 'is'} resolved as {verdict}: the relay goes on from that")


def _next(life: Life) -> str:
    """What there is to decide about an event."""
    event = life.event
    if event.settled_at is not None:
        advice = "; outbox replay ID emits it once more" if event.state != "published" else ""
        return f"nothing is to be decided: the event has ended, it is {event.state}{advice}"
    if not life.waits_for_a_verdict:
        how = event.state if event.reason is None else f"{event.state} ({event.reason})"
        return f"nothing is to be decided: no call of the event is in doubt, it is {how}"
    if life.waiting is not None and life.waiting.due_at is not None:
        return "the relay still looks by itself: wait for it, or decide with --published MEDIA_ID"
    return "look at the account, then decide with --published MEDIA_ID or --not-published"


def _waits_for(unknown: UnknownEvent) -> str:
    if unknown.resolved_by is not None:
        return f"the relay, after {unknown.resolved_by}"
    return "a person" if unknown.due_at is None else f"a look at {to_text(unknown.due_at)}"
