"""Which commands there are."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]  # its documented module names no exports

from relay.cli import (
    accounts,
    auditing,
    benchmarks,
    completing,
    diagnosing,
    events,
    holding,
    interventions,
    media_checking,
    migrating,
    ownership,
    pruning,
    recovering,
    replaying,
    resolving,
    running,
    watching,
)


@dataclass(slots=True)
class Invocation:
    """One run of `outbox`: its command, and whether to show where an error came from."""

    command: str | None = None
    traceback: bool = False


def build() -> Any:
    """Return the command `outbox`, as typer makes it."""
    app = typer.Typer(
        name="outbox",
        help="The outbox for APIs that can't take it back.",
        no_args_is_help=True,
        add_completion=False,  # `outbox completion` prints the scripts, and touches nobody's start-up files
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_begin)
    app.command("migrate")(migrating.migrate)
    app.command("relay")(running.relay)
    app.command("sandbox")(running.sandbox)
    app.command("demo")(running.demo)
    app.command("settings")(running.settings)
    app.command("emit")(events.emit)
    app.command("events")(events.events)
    app.command("show")(events.show)
    app.command("stats")(watching.stats)
    app.command("top")(watching.top)
    app.command("replay")(replaying.replay)
    app.command("replays")(replaying.replays)
    app.command("cancel")(interventions.cancel)
    app.command("resolve")(resolving.resolve)
    app.command("hold")(holding.hold)
    app.command("holds")(holding.holds)
    app.command("release")(interventions.release)
    app.command("relays")(ownership.relays)
    app.command("lanes")(ownership.lanes)
    app.command("doctor")(diagnosing.doctor)
    app.command("check-media")(media_checking.check_media)
    app.command("prune")(pruning.prune)
    app.command("operations")(auditing.operations)
    app.command("completion")(completing.completion)
    app.command("recover")(recovering.recover)
    group = typer.Typer(name="unknown", help="What may be live, and nobody knows.", no_args_is_help=True)
    group.command("list")(resolving.list_unknown)
    app.add_typer(group)
    group = typer.Typer(name="accounts", help="The publishing accounts and their tokens.", no_args_is_help=True)
    group.command("add")(accounts.add)
    group.command("list")(accounts.list_all)
    group.command("show")(accounts.show)
    group.command("rotate-keys")(accounts.rotate_keys)
    group.command("generate-key")(accounts.generate_key)
    app.add_typer(group)
    group = typer.Typer(
        name="bench", help="Measure on scratch databases; the server's own tables stay untouched.", no_args_is_help=True
    )
    group.command("drain")(benchmarks.drain)
    group.command("latency")(benchmarks.latency)
    group.command("fairness")(benchmarks.fairness)
    group.command("emit")(benchmarks.emit)
    group.command("idle")(benchmarks.idle)
    group.command("horizon")(benchmarks.horizon)
    group.command("pipeline")(benchmarks.pipeline)
    group.command("recovery")(benchmarks.recovery)
    group.command("traces")(benchmarks.traces)
    app.add_typer(group)
    completion_init()
    return typer.main.get_command(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"outbox {version('outbox-relay')}")
        raise typer.Exit


def _begin(
    context: typer.Context,
    show_traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error came from, not only the sentence.")
    ] = False,
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    invocation = context.find_object(Invocation)
    if invocation is not None:
        invocation.command = context.invoked_subcommand
        invocation.traceback = show_traceback
