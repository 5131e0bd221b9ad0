"""`outbox stats`, `top`: how it goes, once or live."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli.arguments import When, parse_past, resolve
from relay.cli.printing import JsonFlag, print_json, print_table, to_text

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from psycopg.rows import TupleRow
    from rich.console import RenderableType

    from outbox.statistics import Rates, Statistics

SinceOption = Annotated[
    When | None, typer.Option(parser=parse_past, metavar="1h|INSTANT", help="Of events emitted then or later, 1h.")
]
HOUR_AGO = When(distance=-timedelta(hours=1))
HOLDS_SHOWN = 8
RECENT_MAX = 10_000
"""A look a second counts among fewer of the newest events than one that is asked for."""


def stats(since: SinceOption = None, as_json: JsonFlag = False) -> None:
    """Tell how it goes: what waits and why, what ended lately and how, who works, what is held.

    What waits is counted up to 10,000 a reason, what ended among the newest
    100,000 events.
    """
    from relay.cli.connection import run_with_database  # noqa: PLC0415 (help needs none of it)

    found = run_with_database(lambda connection: _load(connection, since or HOUR_AGO))
    if as_json:
        print_json(
            {
                "at": found.at,
                "since": found.since,
                "waiting": found.waiting,
                "endings": found.endings,
                "relays": found.relays,
                "holds": found.holds,
                "unowned_lanes": found.unowned_count,
                "backlog_count": found.backlog_count,
                "backlog_seconds": found.backlog_seconds,
            }
        )
        return
    rows: list[tuple[str, str | None, object, object]] = [
        ("relays", "working", sum(relay.state == "working" for relay in found.relays), None),
        ("lanes", "unowned", found.unowned_count, None),
        ("events", "new or in flight", found.backlog_count, seconds(found.backlog_seconds)),
        *(("waiting", each.reason, counted(each.count), seconds(each.oldest_seconds)) for each in found.waiting),
        *((each.outcome, each.reason, each.count, None) for each in found.endings),
        ("holds", "in force", len(found.holds), None),
    ]
    print_table(("what", "why", "count", "oldest"), rows)


def top(
    every: Annotated[float, typer.Option(min=0.2, max=60, metavar="SECONDS", help="How often to look.")] = 1,
    since: SinceOption = None,
) -> None:
    """Show live how it goes: rates, what waits and why, relays, lanes, holds. Ctrl-C ends it."""
    from rich.console import Console  # noqa: PLC0415 (only for people)
    from rich.live import Live  # noqa: PLC0415

    from relay.cli.connection import run_with_database  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        raise typer.BadParameter("expected a terminal, found none: outbox stats --json is for machines")

    async def work(connection: AsyncConnection[TupleRow]) -> None:
        import anyio  # noqa: PLC0415 (help needs none of it)

        from outbox.statistics import rates  # noqa: PLC0415

        before: Statistics | None = None
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                found = await _load(connection, since or HOUR_AGO, recent_max=RECENT_MAX)
                now = None if before is None else rates(before.inserted, found.inserted)
                live.update(picture(found, now), refresh=True)
                before = found
                await anyio.sleep(every)

    run_with_database(work)


def picture(found: Statistics, now: Rates | None) -> RenderableType:
    """Draw how it goes."""
    from rich.console import Group  # noqa: PLC0415 (only for people)
    from rich.text import Text  # noqa: PLC0415

    pace = (
        ""
        if now is None
        else f"   emitted {now.emitted:.1f}/s   ended {now.ended:.1f}/s   failed tries {now.tries_failed:.1f}/s"
    )
    head = Text(f"outbox  {to_text(found.at)}{pace}", style="bold")
    backlog = f"new or in flight {found.backlog_count}, the oldest {seconds(found.backlog_seconds)}"
    state = Text(f"{backlog}   lanes that nobody owns {found.unowned_count}")
    state.stylize("red" if found.unowned_count else "green", len(backlog))
    return Group(
        head,
        state,
        _table(
            "waits because",
            ("reason", "events", "oldest"),
            [(each.reason, counted(each.count), seconds(each.oldest_seconds)) for each in found.waiting],
        ),
        _table(
            f"emitted since {to_text(found.since)}",
            ("ended", "why", "events"),
            [(each.outcome, each.reason, each.count) for each in found.endings],
        ),
        _table(
            "relays at work",
            ("id", "name", "lanes", "awake", "lease until"),
            [(each.id, each.name, each.lane_count, each.is_awake, each.leased_until) for each in found.relays],
        ),
        _table(
            f"holds ({len(found.holds)})",
            ("scope", "key", "until", "why", "by"),
            [
                (each.scope, each.key, each.held_until or "released", each.reason, each.held_by)
                for each in found.holds[:HOLDS_SHOWN]
            ],
        ),
    )


def seconds(value: float | None) -> str:
    """Show an age."""
    from outbox.doctor.finding import duration  # noqa: PLC0415 (help needs none of it)

    if value is None:
        return ""
    return duration(value) if value >= 0 else f"in {duration(-value)}"


def counted(count: int) -> str:
    """Show a count that stops at a bound."""
    from outbox.statistics import COUNT_MAX  # noqa: PLC0415 (help needs none of it)

    return f"{count}{'+' if count >= COUNT_MAX else ''}"


async def _load(connection: AsyncConnection[TupleRow], since: When, *, recent_max: int | None = None) -> Statistics:
    from outbox import statistics  # noqa: PLC0415 (help needs none of it)
    from outbox.operations import database_now  # noqa: PLC0415

    instant = resolve(since, await database_now(connection))
    assert instant is not None
    return await statistics.load_statistics(connection, instant, recent_max=recent_max or statistics.RECENT_MAX)


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> RenderableType:
    from rich import box  # noqa: PLC0415 (only for people)
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows or [("none", *("" for _ in columns[1:]))]:
        table.add_row(*(Text(to_text(cell)) for cell in row))
    return Group(Text(title, style="bold"), table)
