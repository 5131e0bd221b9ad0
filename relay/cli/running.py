"""What runs until it is stopped: `outbox relay`, `sandbox`, `demo`; and `settings`, which relay would take."""

from __future__ import annotations

import signal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from relay.cli.printing import JsonFlag, print_json, print_table, say
from relay.redaction import HIDDEN

if TYPE_CHECKING:
    from publisher.sandbox.settings import SandboxSettings


def relay() -> None:
    """Run the relay with the settings of the environment, until SIGTERM or SIGINT.

    A first signal lets handlers finish, a second one ends at once; nothing is
    lost by either. `outbox settings` lists the settings.
    """
    import anyio  # noqa: PLC0415 (help needs none of it)

    from outbox.settings import refuse_unknown  # noqa: PLC0415
    from publisher.settings import PublisherSettings  # noqa: PLC0415
    from relay import app, logs  # noqa: PLC0415
    from relay.cli.connection import address  # noqa: PLC0415
    from relay.settings import RelaySettings  # noqa: PLC0415
    from relay.tracing import open_traces  # noqa: PLC0415

    chosen = RelaySettings.load()
    refuse_unknown(PublisherSettings)
    address()
    logs.configure(chosen.log_format, chosen.log_level)
    with open_traces(chosen.traces):
        anyio.run(app.run, chosen, backend_options={"use_uvloop": find_spec("uvloop") is not None})


def sandbox(
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Where to listen, 8026 by default; 0 takes a free port.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on, 127.0.0.1 by default.")] = None,
    state: Annotated[
        Path | None, typer.Option(help="The file in which it outlives a restart; in memory by default.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a simulator of Meta's Graph API, until SIGTERM or SIGINT; prints its URL.

    A browser sees there what is live, what was called, and a button to reset.
    Everything else is set by environment variables that begin with SANDBOX_.
    """
    import anyio  # noqa: PLC0415 (help needs none of it)

    from outbox.settings import load  # noqa: PLC0415
    from publisher.sandbox.settings import SandboxSettings  # noqa: PLC0415

    given = {name: value for name, value in (("port", port), ("host", host), ("state", state)) if value is not None}
    use_uvloop = find_spec("uvloop") is not None
    anyio.run(_serve_sandbox, load(SandboxSettings, **given), as_json, backend_options={"use_uvloop": use_uvloop})


def demo(
    once: Annotated[bool, typer.Option("--once", help="End when the main job is done, with its exit status.")] = False,
) -> None:
    """Show the main job on a real PostgreSQL and the sandbox, on this machine alone."""
    from relay.demo import main as play  # noqa: PLC0415 (help needs none of it)

    status = play(once=once)
    if status:
        raise typer.Exit(status)


def settings(as_json: JsonFlag = False) -> None:
    """List the settings that a relay would take: the values in effect and where they come from, secrets struck out."""
    from outbox.settings import allowed, is_secret, source, variable  # noqa: PLC0415 (help needs none of it)
    from publisher.settings import PublisherSettings  # noqa: PLC0415
    from relay.settings import RelaySettings  # noqa: PLC0415
    from schema.server import describe  # noqa: PLC0415

    rows: list[tuple[str, object, str, str | None, str]] = []
    for loaded in (RelaySettings.load(), PublisherSettings.load()):
        kind = type(loaded)
        for field, info in kind.model_fields.items():
            value = getattr(loaded, field)
            if field == "dsn":
                value = describe(value.get_secret_value())
            elif is_secret(kind, field):
                value = None if value is None else HIDDEN
            name = variable(kind, field)
            rows.append((name, _plain(value), source(kind, field), allowed(info), info.description or ""))
    if as_json:
        for name, value, origin, values, description in rows:
            is_set = origin != "default"
            said = {"name": name, "value": value, "is_set": is_set, "source": origin, "allowed": values}
            # Not struck out by their names: what is secret is hidden above, and PUBLISHER_TOKEN_KEYS_FILE is a path.
            print_json({**said, "description": description})
        return
    print_table(["name", "value", "source", "allowed", "what it is"], rows)


def _plain(value: object) -> object:
    """A value as the environment would have it."""
    match value:
        case str() if "://" in value:
            address = urlsplit(value)  # an address as a whole would be struck out: media are addresses too
            return f"{address.netloc.rpartition('@')[2]}, by {address.scheme}"
        case None | bool() | int() | float() | str():
            return value
        case tuple():
            return list(value)
        case _:
            return str(value)


async def _serve_sandbox(settings: SandboxSettings, as_json: bool) -> None:
    import anyio  # noqa: PLC0415 (help needs none of it)

    from publisher.sandbox.server import serve  # noqa: PLC0415

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with serve(settings) as running:
            if as_json:
                # An address of ours is no media URL: it is not to be struck out.
                print(f'{{"url":"{running.url}","port":{running.port}}}', flush=True)
            else:
                print(running.url, flush=True)
            say("the sandbox runs: point PUBLISHER_GRAPH_URL at it, and stop it with Ctrl-C")
            async for _ in signals:
                return
