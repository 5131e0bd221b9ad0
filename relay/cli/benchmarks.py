"""`outbox bench`: measures on databases of its own, on the server of OUTBOX_DSN or on an embedded PostgreSQL."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from relay.cli.printing import JsonFlag, print_json, print_table, say

if TYPE_CHECKING:
    from relay.bench.progress import Tell
    from relay.bench.readings import Cost
    from relay.bench.scratch import Server

EVENTS_MIN = 10
EVENTS_MAX = 10_000_000
SECONDS_MAX = 3600
STORIES_OF_ACCOUNT_MAX = 1000

Figures = dict[str, object]


def drain(
    events: Annotated[
        int, typer.Argument(min=EVENTS_MIN, max=EVENTS_MAX, help="How many events, of 350 bytes of payload.")
    ] = 100_000,
    analyze: Annotated[
        bool, typer.Option("--analyze", help="Analyze the tables between filling and draining.")
    ] = False,
    bulk: Annotated[bool, typer.Option("--bulk", help="Emit all events in one transaction.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Drain a backlog through a handler that does nothing: the relay's own ceiling.

    Time and CPU are of one relay process with 200 handlers, from the first
    dispatch to the last receipt. A handler that calls an API is slower by
    orders of magnitude.
    """
    from relay.bench import drain as bench  # noqa: PLC0415 (help needs none of it)

    with _measuring() as (server, dsn, tell):
        drained = bench.drain(dsn, events, tell, is_analyzed=analyze, in_bulk=bulk)
    figures: Figures = {"start_seconds": drained.start_seconds, "relay_memory_bytes": drained.memory_bytes}
    _print("drain", server, drained.cost, figures, as_json=as_json)


def latency(
    rate: Annotated[float, typer.Argument(min=0.1, max=10_000, help="Events a second.")] = 50,
    seconds: Annotated[float, typer.Argument(min=0.1, max=SECONDS_MAX, help="For how long.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """Measure from just before a commit to the handler, at a steady rate.

    An emitter for each 250 events a second, an event a transaction, and the
    relay in a process of its own. The commit's own time is in it, and is printed beside it. Around
    OUTBOX_MUTE_RINGS_PER_SECOND, 100 by default, the relay changes between
    being rung for and polling, every OUTBOX_MUTED_POLL_SECONDS.
    """
    from relay.bench import latency as bench  # noqa: PLC0415 (help needs none of it)

    with _measuring() as (server, dsn, tell):
        found = bench.latency(dsn, rate, seconds, tell)
    figures: Figures = {"emitters": found.emitter_count, "rate_per_second": found.rate_per_second}
    for name, spread in (("handler", found.handler), ("commit", found.commit)):
        figures |= {f"{name}_{each}_milliseconds": value for each, value in asdict(spread).items()}
    _print("latency", server, found.cost, {**figures, "muted_share": found.muted_share}, as_json=as_json)


def fairness(
    events: Annotated[int, typer.Argument(min=EVENTS_MIN, max=EVENTS_MAX, help="How many, of one key.")] = 100_000,
    rate: Annotated[float, typer.Argument(min=1, max=10_000, help="Events of others a second.")] = 250,
    seconds: Annotated[float, typer.Argument(min=5, max=SECONDS_MAX, help="For how long, each time.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """Measure what others wait beside a key that gets a great many events at once.

    Its handler takes 50 ms and has one event of the key at a time, so nearly
    all of them stay queued. Others emit at a steady rate, as `outbox bench
    latency` has it: first alone, then as long beside it.
    """
    from relay.bench import fairness as bench  # noqa: PLC0415 (help needs none of it)

    with _measuring() as (server, dsn, tell):
        found = bench.fairness(dsn, events, rate, seconds, tell)
    say(f"one transaction emitted {events:,} events of the hot key in {found.emitting_seconds:.1f} s")
    if as_json:
        for phase, spread in found.handler.items():
            spreads = asdict(spread).items() if spread else ()
            figures = {f"handler_{name}_milliseconds": value for name, value in spreads}
            said = {"benchmark": "fairness", "server_version": server.version, "phase": phase.value}
            print_json({**said, "events": found.counts[phase], **figures})
        return
    columns = ("others' events", "count", "p50 ms", "p99 ms", "max ms")
    rows = [
        (phase.value, found.counts[phase], *map(_short, asdict(spread).values() if spread else ("", "", "")))
        for phase, spread in found.handler.items()
    ]
    print_table(columns, rows)


def emit(
    connections: Annotated[int, typer.Option(min=1, max=1000, help="Writers.")] = 32,
    seconds: Annotated[int, typer.Option(min=1, max=SECONDS_MAX, help="For how long, each variant in each round.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often each variant runs, in turns.")] = 3,
    as_json: JsonFlag = False,
) -> None:
    """Measure what emitting costs writers, beside a plain insert and a trigger that always notifies.

    A transaction is one statement that inserts a row of the application's and
    the event. Writers are pgbench where it is found, on this machine: they
    compete with the server and the relay for its cores where those run here.
    A share is of the baseline's rate in the same round, the median of the
    rounds: the bell is compared with outbox.emit without one, all else with
    plain inserts into a table that nobody reads.
    """
    from relay.bench.emit import emit as bench  # noqa: PLC0415 (help needs none of it)
    from relay.bench.writers import Writers  # noqa: PLC0415

    with _measuring() as (server, dsn, tell):
        writers = Writers(dsn, connections, server.pgbench)
        say(f"{connections} connections of {writers.description}")
        emitted = bench(dsn, writers, seconds, rounds, tell)
    if as_json:
        for each in emitted:
            figures: Figures = {"variant": each.variant.value, "baseline": each.variant.baseline.value}
            figures |= {"share_of_baseline": each.share, "unsettled_events": each.unsettled}
            _print("emit", server, each.cost, figures, as_json=True)
        return
    columns = ("variant", "share", "of", *_cost_figures(emitted[0].cost), "unsettled events")
    print_table(
        [column.replace("_", " ") for column in columns],
        [
            (
                *(each.variant.value, _short(each.share), each.variant.baseline.value),
                *map(_short, _cost_figures(each.cost).values()),
                _short(each.unsettled),
            )
            for each in emitted
        ],
    )
    _print_tables(emitted[-1].cost)


def idle(
    seconds: Annotated[float, typer.Argument(min=1, max=SECONDS_MAX, help="For how long.")] = 60,
    as_json: JsonFlag = False,
) -> None:
    """Measure what a relay costs that has nothing to do: transactions a second, and CPU as a share of one core.

    The figures an event are of the two events that frame the measurement.
    """
    from relay.bench import idle as bench  # noqa: PLC0415 (help needs none of it)

    with _measuring() as (server, dsn, tell):
        found = bench.idle(dsn, seconds, tell)
    figures: Figures = {"transactions_per_second": found.transactions_per_second, "core_share": found.core_share}
    _print("idle", server, found.cost, figures, as_json=as_json)


def horizon(
    events: Annotated[
        int, typer.Argument(min=EVENTS_MIN, max=EVENTS_MAX, help="How many events, of 350 bytes of payload.")
    ] = 200_000,
    as_json: JsonFlag = False,
) -> None:
    """Drain while a REPEATABLE READ transaction holds the horizon, and tell the rate of each tenth.

    Nothing can be vacuumed away meanwhile. What only inserts stays level;
    what updates or deletes its rows gets slower and slower.
    """
    from relay.bench import horizon as bench  # noqa: PLC0415 (help needs none of it)

    with _measuring() as (server, dsn, tell):
        held = bench.horizon(dsn, events, tell)
    figures: Figures = {"last_to_first_tenth": held.last_to_first, "tenths_events_per_second": list(held.tenths)}
    _print("horizon", server, held.cost, figures, as_json=as_json)


def pipeline(
    stories: Annotated[int, typer.Argument(min=10, max=100_000, help="How many stories, in each round.")] = 2000,
    accounts: Annotated[int, typer.Option(min=1, max=1000, help="Of how many accounts, all at once.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often, the two sides in turns.")] = 3,
    as_json: JsonFlag = False,
) -> None:
    """Publish image stories to the sandbox, beside a bare script that makes the same calls.

    The relay is a whole one, with the publisher as it is installed; the
    script has no outbox. Both publish one story of an account at a time, and
    find each container finished at once: neither waits for Meta. Sandbox,
    script and relay run on this machine, a process each. The share is the
    relay's rate of the script's in the same round, the median of the rounds.
    """
    from relay.bench import pipeline as bench  # noqa: PLC0415 (help needs none of it)

    if stories > accounts * STORIES_OF_ACCOUNT_MAX:
        raise typer.BadParameter(
            f"expected at most {STORIES_OF_ACCOUNT_MAX} stories of an account: what is live is read before each; "
            f"found {stories} of {accounts} accounts"
        )
    with _measuring() as (server, dsn, tell):
        found = bench.pipeline(dsn, stories, accounts, rounds, tell)
    figures: Figures = {
        "bare_stories_per_second": found.bare_stories_per_second,
        "share_of_bare": found.share,
        "bare_cpu_microseconds_per_story": found.bare_cpu_microseconds,
        "relay_calls_per_story": found.relay_calls,
        "bare_calls_per_story": found.bare_calls,
        "sandbox_calls_per_cpu_second": found.sandbox_calls_per_cpu_second,
    }
    _print("pipeline", server, found.cost, figures, as_json=as_json)


def recovery(
    events: Annotated[int, typer.Argument(min=100, max=EVENTS_MAX, help="How many events, on each side.")] = 30_000,
    kills: Annotated[int, typer.Option(min=1, max=100, help="How often the relay is killed.")] = 5,
    lease: Annotated[float, typer.Option(min=1, max=300, help="Seconds of a killed relay's lease.")] = 5,
    as_json: JsonFlag = False,
) -> None:
    """Drain while relays are killed and started again; then while the server is killed and the relay left alone.

    Always on an embedded PostgreSQL, for it is restarted. The lanes of a
    killed relay are free when its lease has run out: most of the time is
    spent waiting for that. What was in hand is handled again; nothing that
    has a receipt is.
    """
    import tempfile  # noqa: PLC0415 (help needs none of it)
    from pathlib import Path  # noqa: PLC0415

    from relay.bench import recovery as bench  # noqa: PLC0415
    from relay.bench.progress import open_progress  # noqa: PLC0415
    from schema.embedded import EmbeddedPostgres  # noqa: PLC0415
    from schema.migrate import migrate  # noqa: PLC0415

    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="outbox-bench-") as directory,
            EmbeddedPostgres.start() as postgres,
            open_progress() as tell,
        ):
            say(f"PostgreSQL {postgres.version}, embedded, in {postgres.directory}")
            killed_dsn, restarted_dsn = postgres.create_database("killed"), postgres.create_database("restarted")
            migrate(killed_dsn)
            migrate(restarted_dsn)
            killed = bench.kill_relays(
                killed_dsn, events, Path(directory, "killed"), tell, kills=kills, lease_seconds=lease
            )
            restarted = bench.kill_server(postgres, restarted_dsn, events, Path(directory, "restarted"), tell)
            version = postgres.version
    finally:
        signal.signal(signal.SIGTERM, previous)
    found = {"relay killed": (asdict(killed), lease), "server killed": (asdict(restarted), None)}
    if as_json:
        for what, (figures, lease_seconds) in found.items():
            said = {"benchmark": "recovery", "server_version": version, "death": what, **figures}
            print_json({**said, "lease_seconds": lease_seconds})
        return
    columns = ("death", *asdict(killed), "lease_seconds")
    rows = [[what, *map(_short, figures.values()), _short(seconds)] for what, (figures, seconds) in found.items()]
    print_table([column.replace("_", " ") for column in columns], rows)


def traces(
    events: Annotated[
        int, typer.Argument(min=EVENTS_MIN, max=1_000_000, help="How many events, on each side of each round.")
    ] = 20_000,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="How often each side runs, in turns.")] = 3,
    as_json: JsonFlag = False,
) -> None:
    """Drain with OpenTelemetry's traces and without, in turns: what spans cost a relay.

    Each event has two spans, and a call of Graph one more. All are exported, to
    a collector in this process; the figures are of the round with the least CPU.
    """
    from relay.bench.traces import traces as bench  # noqa: PLC0415 (help needs none of it)

    with _measuring() as (server, dsn, tell):
        found = bench(dsn, events, rounds, tell)
    if as_json:
        for name, side in found.items():
            _print("traces", server, side.cost, {"traces": name, "spans_per_event": side.spans}, as_json=True)
        return
    columns = ("traces", "spans per event", *(each.replace("_", " ") for each in _cost_figures(found["on"].cost)))
    rows = [[name, _short(side.spans), *map(_short, _cost_figures(side.cost).values())] for name, side in found.items()]
    print_table(columns, rows)


@contextmanager
def _measuring() -> Iterator[tuple[Server, str, Tell]]:
    """Make a scratch database for the block, and say where."""
    from relay.bench.progress import open_progress  # noqa: PLC0415 (help needs none of it)
    from relay.bench.scratch import open_scratch, open_server  # noqa: PLC0415
    from relay.bench.settings import BenchSettings  # noqa: PLC0415

    given = BenchSettings.load().dsn
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        if given is None:
            say("OUTBOX_DSN is not set: measuring on an embedded PostgreSQL, with fsync, where temporary files go")
        with open_server(None if given is None else given.get_secret_value()) as server, open_scratch(server) as dsn:
            say(f"PostgreSQL {server.version}, {server.origin}; in a database of its own, dropped at the end")
            with open_progress() as tell:
                yield server, dsn, tell
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """Tidy up when asked to end, as after Ctrl-C."""
    raise KeyboardInterrupt


def _print(benchmark: str, server: Server, cost: Cost, figures: Figures, *, as_json: bool) -> None:
    figures = {**_cost_figures(cost), **figures}
    if as_json:
        tables = {name: asdict(changes) for name, changes in cost.tables.items()}
        print_json({"benchmark": benchmark, "server_version": server.version, **figures, "tables": tables})
        return
    print_table(("figure", benchmark), [(name.replace("_", " "), _short(value)) for name, value in figures.items()])
    _print_tables(cost)


def _cost_figures(cost: Cost) -> Figures:
    return {
        "events": cost.events,
        "seconds": cost.seconds,
        "events_per_second": cost.events_per_second,
        "relay_cpu_microseconds_per_event": cost.cpu_microseconds,
        "wal_bytes_per_event": cost.wal_bytes,
        "statements_per_event": cost.statements,
    }


def _print_tables(cost: Cost) -> None:
    """Print what became of the tables' rows: on the happy path those of events are only inserted."""
    if sys.stdout.isatty():
        say("rows, of all events together; updates of relays, lanes and cursors come with time, not with events:")
    rows = [(name, each.inserted, each.updated, each.deleted, each.dead) for name, each in cost.tables.items()]
    print_table(("table", "inserted", "updated", "deleted", "dead"), rows)


def _short(value: object) -> str:
    """Show a figure with as many digits as mean something."""
    match value:
        case None:
            return ""
        case list():
            return ", ".join(map(_short, value))
        case float() if abs(value) >= 100:
            return f"{value:.0f}"
        case float():
            return f"{value:.3g}"
        case _:
            return str(value)
