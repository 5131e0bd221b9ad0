"""What others ask the relay over HTTP: /metrics, /healthz, /readyz."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from outbox.errors import OutboxError


class PortTaken(OutboxError):
    """The address of /metrics can't be bound."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the relay does its work.

    Attributes:
        lease_held: Its lease is in force, so the database answered within the lease.
        lanes_owned: How many lanes it owns; none: it stands by.
        listener_connected: It hears the doorbell; if not, it polls.
        verify_only: It stands still until a person has run `outbox recover`.
        has_pooler: It can't hear the doorbell, for a pooler stands between: it polls for good.
    """

    lease_held: bool
    lanes_owned: int
    listener_connected: bool
    verify_only: bool = False
    has_pooler: bool = False

    @property
    def ready(self) -> bool:
        """Ready with a lease and lanes; without the listener the relay polls, slower but on purpose."""
        return self.lease_held and self.lanes_owned > 0


@asynccontextmanager
async def serve(
    host: str, port: int, registry: CollectorRegistry, readiness: Callable[[], Readiness]
) -> AsyncIterator[str]:
    """Serve until the end of the block, and give the base URL.

    Raises:
        PortTaken: Somebody listens there, or it may not be bound; one sentence.
    """

    async def answer_metrics(request: web.Request) -> web.Response:
        return await _metrics(request, registry)

    async def answer_readyz(_request: web.Request) -> web.Response:
        return await _readyz(readiness())

    application = web.Application()
    application.router.add_get("/metrics", answer_metrics)
    application.router.add_get("/healthz", _healthz)
    application.router.add_get("/readyz", answer_readyz)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            why = "it is in use" if error.errno == errno.EADDRINUSE else (error.strerror or "it can't be bound")
            raise PortTaken(
                f"expected to serve /metrics on {host}:{port}, but {why}: set OUTBOX_METRICS_PORT to a free port, or 0"
            ) from error
        address = runner.addresses[0]
        yield f"http://{address[0]}:{address[1]}"
    finally:
        await runner.cleanup()


async def _metrics(request: web.Request, registry: CollectorRegistry) -> web.Response:
    encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encoder(registry), headers={"Content-Type": content_type})


async def _healthz(_request: web.Request) -> web.Response:
    return web.json_response({"alive": True})


async def _readyz(readiness: Readiness) -> web.Response:
    body = {
        "ready": readiness.ready,
        "lease_held": readiness.lease_held,
        "lanes_owned": readiness.lanes_owned,
        "listener": _listener(readiness),
        "verify_only": readiness.verify_only,
    }
    return web.json_response(body, status=200 if readiness.ready else 503)


def _listener(readiness: Readiness) -> str:
    if readiness.has_pooler:
        return "polling behind a pooler"
    return "connected" if readiness.listener_connected else "polling"
