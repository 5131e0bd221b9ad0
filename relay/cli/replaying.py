"""`outbox replay`, `replays`: emit ended events once more, by their ids or by a filter, at once or at a rate."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.arguments import ID_MAX, EventIdsArgument, When, parse_past, parse_rate, resolve
from relay.cli.consent import UNASKED_MAX, DryRunFlag, ReasonOption, YesFlag, ask
from relay.cli.interventions import Done, fail_where_refused, report
from relay.cli.printing import JsonFlag, print_json, print_table, say, to_text
from relay.cli.progress import open_bar

if TYPE_CHECKING:
    from datetime import datetime

    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow

    from outbox.operations import EventFilter
    from outbox.replay import Replayed

COUNT_MAX = 1_000_000
COUNT_DEFAULT = 1000


class EndedOption(StrEnum):
    """How an event may have ended."""

    DEAD = "dead"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    PUBLISHED = "published"


def replay(
    event_ids: EventIdsArgument = None,
    *,
    state: Annotated[list[EndedOption] | None, typer.Option(help="How it ended, dead by default; repeatable.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Its type.")] = None,
    key: Annotated[str | None, typer.Option(help="Its key.")] = None,
    dead_reason: Annotated[str | None, typer.Option(metavar="WORD", help="Why it is dead.")] = None,
    error: Annotated[str | None, typer.Option(metavar="TEXT", help="A part of its error.")] = None,
    since: Annotated[
        When | None, typer.Option(parser=parse_past, metavar="2h|INSTANT", help="Ended then or later.")
    ] = None,
    until: Annotated[
        When | None, typer.Option(parser=parse_past, metavar="2h|INSTANT", help="Ended before then.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, max=COUNT_MAX, help=f"How many that the filter finds; {COUNT_DEFAULT} by default."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(parser=parse_rate, metavar="50/s", help="Spread what the filter finds over time."),
    ] = None,
    resume: Annotated[
        int | None,
        typer.Option("--resume", min=1, max=ID_MAX, metavar="REPLAY", help="Go on with a replay that was stopped."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Even what may be live: look at the account first.")] = False,
    reason: ReasonOption = None,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Emit ended events once more, given by their ids or by a filter, oldest first.

    An event that may be live is refused, unless its absence was verified, or
    with --force. Replaying it twice gives the same replay. A filter leaves out
    what was replayed before.

    With --rate 50/s each event gets its turn as its publish_at: nobody has to
    stay for it. A replay that was stopped goes on with --resume; `outbox
    cancel --replay` takes back what has not ended.
    """
    filters = (state, event_type, key, dead_reason, error, since, until)
    given = [bool(event_ids), any(filters), resume is not None]
    if sum(given) > 1:
        expected = "ids or a filter" if resume is None else "--resume alone"
        raise typer.BadParameter(f"expected {expected}, found {'both' if resume is None else 'more'}")
    if not any(given):
        raise typer.BadParameter("expected ids, or a filter such as --state dead --since 2h, found neither")
    if not any(filters):
        for name, value in (("--rate", rate), ("--limit", limit)):
            if value is not None:
                raise typer.BadParameter(f"expected {name} with a filter such as --state dead, found it without")
    if resume is not None and (force or reason is not None):
        raise typer.BadParameter("expected --resume alone: a replay goes on with what it was begun with")
    if event_ids:
        _replay_each(list(dict.fromkeys(event_ids)), force, reason, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    which = partial(
        _filter,
        states=state or [],
        event_type=event_type,
        key=key,
        reason=dead_reason,
        error=error,
        since=since,
        until=until,
    )
    plan = _Plan(resume, which, rate, limit or COUNT_DEFAULT, force, reason)
    _replay_many(plan, dry_run=dry_run, yes=yes, as_json=as_json)


def replays(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List the replays by a filter, newest first: how far each has come."""
    from outbox.replay import find_replays  # noqa: PLC0415 (help needs none of it)
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    found = run_with_database(lambda connection: find_replays(connection, limit=limit))
    if as_json:
        for each in found:
            print_json(each)
        return
    columns = ("id", "begun", "filter", "rate", "fitted", "emitted", "ended", "last due", "cancelled", "by", "why")
    rows = [
        (
            each.id,
            each.begun_at,
            each.filter,
            "at once" if each.rate_per_second is None else f"{each.rate_per_second:g}/s",
            each.planned_count,
            each.emitted_count,
            each.settled_count,
            each.last_at,
            each.cancelled_at,
            each.requested_by,
            each.reason,
        )
        for each in found
    ]
    print_table(columns, rows)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A replay by a filter: one that was stopped, or a new one."""

    resume: int | None
    which: Callable[[datetime], EventFilter]
    rate: float | None
    limit: int
    force: bool
    reason: str | None

    async def count(self, connection: AsyncConnection[TupleRow]) -> int:
        """Return how many events it would replay; nothing is left behind."""
        from outbox.replay import count_left  # noqa: PLC0415 (help needs none of it)

        if self.resume is not None:
            return await count_left(connection, self.resume)
        async with connection.transaction(force_rollback=True):
            return (await self._begin(connection))[1]

    async def begin(self, connection: AsyncConnection[TupleRow]) -> int:
        """Return the replay's id."""
        return self.resume if self.resume is not None else (await self._begin(connection))[0]

    async def _begin(self, connection: AsyncConnection[TupleRow]) -> tuple[int, int]:
        from outbox.operations import database_now  # noqa: PLC0415 (help needs none of it)
        from outbox.replay import begin_replay  # noqa: PLC0415

        which = self.which(await database_now(connection))
        return await begin_replay(
            connection,
            which,
            rate_per_second=self.rate,
            count_max=self.limit,
            force=self.force,
            reason=self.reason,
        )


def _filter(
    now: datetime,
    *,
    states: Sequence[EndedOption],
    event_type: str | None,
    key: str | None,
    reason: str | None,
    error: str | None,
    since: When | None,
    until: When | None,
) -> EventFilter:
    from outbox.operations import EventFilter  # noqa: PLC0415 (help needs none of it)

    return EventFilter(
        states=[each.value for each in states],
        type=event_type,
        key=key,
        reason=reason,
        error=error,
        since=resolve(since, now),
        until=resolve(until, now),
    )


def _replay_many(plan: _Plan, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Replay what a filter finds, or what is left of it."""
    from relay.cli.connection import run_with_database  # noqa: PLC0415 (help needs none of it)

    count = run_with_database(plan.count)
    if count == plan.limit and plan.resume is None:
        say(f"only the first {count} are taken: repeat the command, or raise --limit")
    if not count:
        say("no event fits the filter" if plan.resume is None else f"nothing is left of replay {plan.resume}")
        return
    ask("replay", count, unasked=dry_run or yes)

    async def work(connection: AsyncConnection[TupleRow]) -> Counter[str]:
        if dry_run:
            async with connection.transaction(force_rollback=True):
                return await _run(connection, plan, count, dry_run=True, as_json=as_json)
        return await _run(connection, plan, count, dry_run=False, as_json=as_json)

    outcomes = run_with_database(work)
    fail_where_refused(outcomes["refused"], outcomes.total())


async def _run(
    connection: AsyncConnection[TupleRow], plan: _Plan, count: int, *, dry_run: bool, as_json: bool
) -> Counter[str]:
    """Emit slice by slice, and tell of each event, or on a terminal only how many they are."""
    from outbox.replay import continue_replay  # noqa: PLC0415 (help needs none of it)

    replay_id = await plan.begin(connection)
    is_quiet = not as_json and count > UNASKED_MAX and sys.stdout.isatty()
    outcomes: Counter[str] = Counter()
    last_at: datetime | None = None
    is_whole = False
    try:
        with open_bar("replaying", count) as advance:
            async for replayed in continue_replay(connection, replay_id):
                for each in replayed:
                    done = _done(each, dry_run=dry_run)
                    outcomes[done.outcome] += 1
                    last_at = each.publish_at or last_at
                    if not is_quiet:
                        report(done, as_json)
                advance(len(replayed))
        is_whole = True
    finally:
        if not (is_whole or dry_run):
            say(f"stopped: what was told of is emitted; go on with: outbox replay --resume {replay_id}")
    if is_quiet or (last_at is not None and not dry_run):
        counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in sorted(outcomes.items()))
        due = "" if last_at is None else f"; the last is due at {to_text(last_at)}"
        say(f"{'dry run' if dry_run else f'replay {replay_id}'}: {counts}{due}")
    return outcomes


def _done(replayed: Replayed, *, dry_run: bool) -> Done:
    event_id = replayed.event_id
    if replayed.outcome == "refused":
        why = f"event {event_id} may be live: look at the account, then replay it with --force"
        return Done(event_id, "refused", error=why)
    if replayed.outcome == "replayed" and dry_run:
        return Done(event_id, "would_be_replayed")
    return Done(event_id, replayed.outcome, replayed.replayed_as)


def _replay_each(
    event_ids: Sequence[int], force: bool, reason: str | None, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Replay events by their ids, each in a transaction of its own."""
    from outbox.errors import Refused  # noqa: PLC0415 (help needs none of it)
    from outbox.event import EventId  # noqa: PLC0415
    from outbox.replay import replay as emit_again  # noqa: PLC0415
    from relay.cli.connection import run_with_database  # noqa: PLC0415

    ask("replay", len(event_ids), unasked=dry_run or yes)

    async def work(connection: AsyncConnection[TupleRow]) -> int:
        refused_count = 0
        for event_id in event_ids:
            try:
                done = await emit_again(connection, EventId(event_id), force=force, reason=reason, dry_run=dry_run)
            except Refused as error:
                refused_count += 1
                report(Done(event_id, "refused", error=str(error)), as_json)
                continue
            if not done.is_new:
                report(Done(event_id, "already_replayed", done.replay_id), as_json)
            elif dry_run:
                report(Done(event_id, "would_be_replayed"), as_json)
            else:
                report(Done(event_id, "replayed", done.replay_id), as_json)
        return refused_count

    fail_where_refused(run_with_database(work), len(event_ids))
