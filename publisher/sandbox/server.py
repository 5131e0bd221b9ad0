"""Serves the sandbox."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

import anyio
from aiohttp import web

from publisher.sandbox.checks import Checks
from publisher.sandbox.clock import Clock
from publisher.sandbox.control import PREFIX, Control
from publisher.sandbox.errors import SandboxError
from publisher.sandbox.faults import Decision, Faults
from publisher.sandbox.front.page import Front
from publisher.sandbox.journal import Journal
from publisher.sandbox.media import Inspector
from publisher.sandbox.operations import Operations
from publisher.sandbox.responder import Responder
from publisher.sandbox.saver import Saver, owned
from publisher.sandbox.settings import SandboxSettings, Switches
from publisher.sandbox.state import load
from publisher.sandbox.uploads import Uploads
from publisher.sandbox.world import World

# How long calls in flight may take to end when the sandbox stops.
SHUTDOWN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox."""

    url: str
    port: int


@asynccontextmanager
async def serve(settings: SandboxSettings) -> AsyncIterator[Sandbox]:
    """Serve a sandbox until the block ends; calls that are held then are dropped, unapplied.

    Raises:
        SandboxError: the port is taken, the host is not ours, or the state file can't be used.
    """
    switches = settings.switches()
    with nullcontext() if settings.state is None else owned(settings.state):
        async with _open(settings, switches) as sandbox:
            yield sandbox


@asynccontextmanager
async def _open(settings: SandboxSettings, switches: Switches) -> AsyncIterator[Sandbox]:
    world, clock, faults = World(seed=settings.seed, switches=switches), Clock(), Faults()
    if settings.state is not None:
        load(settings.state, world, clock)
    journal, inspector = Journal(settings.requests_kept), Inspector()
    checks = Checks(world, inspector)
    uploads = Uploads(world, clock, checks)
    saver = None if settings.state is None else Saver(settings.state, world, clock, lambda: inspector.is_busy)

    def use_switches(changed: Switches) -> None:
        world.switches = changed
        faults.use(changed.chances)

    faults.use(switches.chances)
    responder = Responder(world, clock, Operations(world, clock, checks, uploads), faults, journal)
    control = Control(
        world=world,
        clock=clock,
        faults=faults,
        journal=journal,
        uploads=uploads,
        use_switches=use_switches,
    )
    front = Front(world=world, clock=clock, faults=faults, journal=journal, reset=lambda: control.reset(accounts=False))

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        try:
            if front.is_asked(request):
                return await front.respond(request)
            if request.path.startswith(f"/{PREFIX}/"):
                return await control.respond(request)
            return await responder.respond(request)
        finally:
            if saver is not None:
                saver.touch()

    runner = web.ServerRunner(
        web.Server(answer, access_log=None), shutdown_timeout=SHUTDOWN_SECONDS, handle_signals=False
    )
    saving = None if saver is None else asyncio.create_task(saver.run())
    try:
        port = await _listen(runner, settings)
        uploads.resume()
        yield Sandbox(url=f"http://{_in_url(settings.host)}:{port}", port=port)
    finally:
        faults.clear(Decision(drop=True, apply=False))
        with anyio.CancelScope(shield=True):  # aiohttp bounds it by its shutdown_timeout
            await runner.cleanup()
            await inspector.aclose()
            if saving is not None:
                saving.cancel()
                await asyncio.gather(saving, return_exceptions=True)
        uploads.clear()
        if saver is not None:
            saver.save()


async def _listen(runner: web.ServerRunner, settings: SandboxSettings) -> int:
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
    except OSError as failed:
        address = f"{settings.host}:{settings.port}"
        if failed.errno == errno.EADDRINUSE:
            raise SandboxError(
                f"Expected {address} to be free, found another process listening on it: stop that one, or choose "
                "another port (SANDBOX_PORT; 0 takes a free one)."
            ) from failed
        raise SandboxError(
            f"Expected an address of this machine, found {address}, on which it can't listen "
            f"({failed.strerror}): set SANDBOX_HOST and SANDBOX_PORT."
        ) from failed
    return int(runner.addresses[0][1])


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
