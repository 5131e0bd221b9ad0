"""The process: handlers and HTTP for as long as it lives, incarnations one after another, signals.

This is where event types find their handlers: among the entry points `outbox_relay.handlers` of all installed
projects. Nothing else in this package knows who they are.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import EntryPoint, entry_points, version
from random import Random

import anyio
import psycopg
import structlog
from prometheus_client import CollectorRegistry

from outbox import database
from outbox.errors import DatabaseUnsuitable, LeaseLost, OutboxError
from outbox.handler import Handler, HandlerFactory, Runtime
from relay import health
from relay.guard import Guard
from relay.health import Readiness
from relay.incarnation import Incarnation
from relay.installation import require_sole_owner
from relay.metrics import RelayMetrics
from relay.settings import RelaySettings
from relay.watchdog import Watchdog
from schema.migrate import require_current

log: structlog.stdlib.BoundLogger = structlog.get_logger()

ENTRY_POINTS = "outbox_relay.handlers"

_REJOIN_SECONDS_MAX = 5.0

_STEADY_SECONDS = 10.0
"""An incarnation that lasted so long had been working: what ends it is a new outage."""

_HUNG_SECONDS_MIN = 10.0
"""A machine that is busy with something else is not hung."""

_SAY_SECONDS = 60.0
"""Within an outage, another reason is told no sooner after the last one."""

_YOUNG_MAX = 20_000
"""Objects that have come and not gone, after which those are looked through for cycles."""


async def run(settings: RelaySettings) -> None:
    """Run a relay until SIGTERM or SIGINT; a second signal ends it at once.

    Raises:
        OutboxError: It can't start, or a second signal cut it off; one sentence.
        SchemaError: The database's schema is not this release's; one sentence.
    """
    collect_seldom()
    stop = anyio.Event()
    watchdog = Watchdog(max(_HUNG_SECONDS_MIN, 2 * settings.lease_seconds))
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_obey_signals, stop, group.cancel_scope)
            group.start_soon(watchdog.run)
            async with serve(settings, stop, watchdog=watchdog):
                pass
            group.cancel_scope.cancel()
            return
    except ExceptionGroup as errors:
        raise _first(errors) from errors
    finally:
        watchdog.close()
    raise OutboxError("a second signal ended the relay before its handlers: the next one goes on from their steps")


def collect_seldom() -> None:
    """Have a process that is a relay's alone look for garbage in cycles less often.

    What it has of thousands of events in hand is walked at each look, and goes by its reference counts.
    """
    gc.freeze()
    gc.set_threshold(_YOUNG_MAX, 20, 20)


@asynccontextmanager
async def serve(
    settings: RelaySettings,
    stop: anyio.Event,
    *,
    factories: Mapping[str, HandlerFactory] | None = None,
    watchdog: Watchdog | None = None,
) -> AsyncIterator[str]:
    """Run a relay beside the block, give the URL of its HTTP server, and at the end wait until `stop` is obeyed.

    Args:
        settings: The relay's.
        stop: Set by the caller to shut the relay down.
        factories: Handlers by event type; None takes those of the installed projects.
        watchdog: Shown whether the relay is stuck; for a process that is the relay's alone.

    Raises:
        OutboxError: It can't start; one sentence.
    """
    require_sole_owner()
    factories = installed_factories() if factories is None else factories
    dsn = settings.dsn.get_secret_value()
    async with AsyncExitStack() as stack:
        connection = await database.connect(dsn, application_name="outbox-start")
        try:
            await anyio.to_thread.run_sync(require_current, dsn)
            await database.require_suitable(connection)
            if settings.listen_dsn is not None:
                await database.require_same(connection, settings.listen_dsn.get_secret_value())
        finally:
            await connection.close()  # not `async with`: cancelled, that would stop at a rollback
        registry = CollectorRegistry()
        metrics = RelayMetrics(registry, factories)
        supervisor = Supervisor(settings, metrics)
        if watchdog is not None:
            watchdog.is_stuck = supervisor.is_stuck
        url = await stack.enter_async_context(
            health.serve(settings.metrics_host, settings.metrics_port, registry, supervisor.readiness)
        )
        pool = await stack.enter_async_context(
            database.open_pool(dsn, application_name="outbox-handlers", size_max=settings.pool_size_max)
        )
        runtime = Runtime(pool, registry, settings.lease_seconds)
        handlers = {
            event_type: await stack.enter_async_context(factory(runtime)) for event_type, factory in factories.items()
        }
        log.info("http.listening", host=settings.metrics_host, port=int(url.rpartition(":")[2]))
        async with anyio.create_task_group() as group:
            group.start_soon(supervisor.run, handlers, stop)
            yield url


class Supervisor:
    """Runs one incarnation after another: whatever ends one, the next begins from what is durable."""

    def __init__(self, settings: RelaySettings, metrics: RelayMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._guard = Guard(metrics, settings.lease_seconds)
        self._incarnation: Incarnation | None = None
        self._incarnation_runs = False

    async def run(self, handlers: Mapping[str, Handler], stop: anyio.Event) -> None:
        """Run until `stop` is set."""
        random = Random()
        name = f"{socket.gethostname()}:{os.getpid()}"
        failures = 0
        said, said_at = "", 0.0
        while not stop.is_set():
            last = self._incarnation
            previous = last.lease if last is not None else None
            self._incarnation = Incarnation(
                self._settings, handlers, self._metrics, self._guard, name, version("outbox-relay")
            )
            began_at = time.monotonic()
            self._incarnation_runs = True
            try:
                await self._incarnation.run(stop, previous=previous)
            except* (LeaseLost, DatabaseUnsuitable, psycopg.Error) as group:
                self._metrics.database_lost()
                now = time.monotonic()
                if now - began_at > _STEADY_SECONDS:
                    failures = 0
                sentence = _first_sentence(group)
                # One line an outage, not one a try; its end is `relay.started`.
                if failures == 0 or (sentence != said and now - said_at > _SAY_SECONDS):
                    log.warning("incarnation.ended", error=sentence, next="joins again, however long it takes")
                    said, said_at = sentence, now
                if self._incarnation.lease is None and previous is not None:
                    self._incarnation = last  # it never joined: the one to retire is still the one before
                failures += 1
            else:
                return
            finally:
                self._incarnation_runs = False
            with anyio.move_on_after(random.uniform(0.05, min(_REJOIN_SECONDS_MAX, 0.1 * 2 ** min(failures, 10)))):
                await stop.wait()

    def is_stuck(self) -> bool:
        """Tell whether an incarnation has outlived its lease: something in it does not let itself be cancelled."""
        lease = self._incarnation.lease if self._incarnation is not None else None
        return self._incarnation_runs and lease is not None and not lease.held

    def readiness(self) -> Readiness:
        """Tell whether the relay does its work now."""
        incarnation = self._incarnation
        if incarnation is None or incarnation.lease is None:
            return Readiness(
                lease_held=False, lanes_owned=0, listener_connected=False, verify_only=self._guard.verify_only
            )
        return Readiness(
            lease_held=incarnation.lease.held,
            lanes_owned=len(incarnation.lanes),
            listener_connected=incarnation.doorbell is not None and incarnation.doorbell.listening,
            verify_only=self._guard.verify_only,
            has_pooler=incarnation.doorbell is not None and incarnation.doorbell.has_pooler,
        )


def installed_factories() -> dict[str, HandlerFactory]:
    """Find the handlers of all installed projects.

    Raises:
        OutboxError: Two projects handle one event type, or one can't be imported.
    """
    found: dict[str, EntryPoint] = {}
    for entry_point in entry_points(group=ENTRY_POINTS):
        other = found.setdefault(entry_point.name, entry_point)
        if other.value != entry_point.value:
            raise OutboxError(
                f"expected one handler for events of type {entry_point.name!r}, found {other.value} and "
                f"{entry_point.value}: uninstall one of them"
            )
    return {event_type: _load(entry_point) for event_type, entry_point in found.items()}


def _load(entry_point: EntryPoint) -> HandlerFactory:
    try:
        factory: HandlerFactory = entry_point.load()
    except (ImportError, AttributeError) as error:
        raise OutboxError(
            f"the handler {entry_point.value} of {entry_point.name!r} can't be imported: {error}"
        ) from error
    return factory


async def _obey_signals(stop: anyio.Event, scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            if stop.is_set():
                log.warning("relay.interrupted", signal=number.name)
                scope.cancel()
                return
            stop.set()


def _first_sentence(group: BaseExceptionGroup[BaseException]) -> str:
    """Say in one line what ended an incarnation."""
    error = _first(group)
    return " ".join(str(error).split()) or type(error).__name__


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
