"""One relay incarnation: everything that lives as long as one lease.

    services    lease, settler,              end last: a statement of theirs that is cancelled costs the connection
                keeper, drainer
    handlers    workers                      finish within shutdown_seconds
    intake      doorbell, reader, spill,     ends first
                timers, gauges, guard,
                pruner

The services (`wiring.py`) work on a set of lanes that changes: all 64 where this relay is alone, its share where there
are others, none where it stands by. A shutdown gives up all.

Whatever breaks (the lease is lost, the database goes away) ends the whole incarnation, and with it all that is in
memory. The next one reads again from the saved cursors: what has a receipt or a waiting row is skipped, what was begun
goes on from its steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import anyio
import structlog
from anyio.abc import TaskGroup
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox import database
from outbox.event import Lane
from outbox.handler import Handler
from relay.clock import DatabaseClock
from relay.doorbell import Doorbell
from relay.guard import Guard
from relay.lease import Lease
from relay.metrics import RelayMetrics
from relay.pruner import Pruner
from relay.settings import RelaySettings
from relay.wiring import Connect, Relay

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(slots=True)
class Incarnation:
    """Joins, works on its share of the lanes until told to stop, and leaves.

    Attributes:
        settings: The relay's.
        handlers: By event type.
        metrics: The process's.
        guard: The process's: whether this cluster may be worked in.
        name: Host and process, for people.
        version: This release.
        lease: Its lease, once it has joined.
        lanes: What it works on now.
        doorbell: Its doorbell, once there is one.
    """

    settings: RelaySettings
    handlers: Mapping[str, Handler]
    metrics: RelayMetrics
    guard: Guard
    name: str
    version: str
    lease: Lease | None = None
    lanes: set[Lane] = field(default_factory=set)
    doorbell: Doorbell | None = None

    async def run(self, stop: anyio.Event, *, previous: Lease | None) -> None:
        """Work until `stop` is set, then shut down in order.

        Args:
            stop: Ends the incarnation.
            previous: The lease of the incarnation before this one in the same process: it is retired at once.

        Raises:
            ExceptionGroup: Of LeaseLost, psycopg.Error, DatabaseUnsuitable: this incarnation is over.
        """
        settings = self.settings
        async with AsyncExitStack() as stack:
            connect = _connector(settings, stack)
            clock = DatabaseClock()
            control = await connect("outbox-lease")
            if not await self.guard.admit(control, stop):
                return
            lease = Lease(control, self.name, self.version, settings.lease_seconds, clock, self.metrics)
            await lease.join(previous)
            self.lease = lease
            self.guard.joined(lease)
            self.metrics.incarnations.inc()
            try:
                async with anyio.create_task_group() as services:
                    await services.start(lease.run)
                    await self._work(stop, lease, clock, connect, services)
                    await lease.leave()
                    log.info("relay.stopped", relay_id=lease.relay_id)
                    services.cancel_scope.cancel()
            finally:
                self.lanes.clear()

    async def _work(
        self, stop: anyio.Event, lease: Lease, clock: DatabaseClock, connect: Connect, services: TaskGroup
    ) -> None:
        """Deliver the events of our lanes until `stop` is set, then finish what is in hand."""
        settings = self.settings
        relay = await Relay.build(
            settings=settings,
            handlers=self.handlers,
            metrics=self.metrics,
            guard=self.guard,
            clock=clock,
            lease=lease,
            lanes=self.lanes,
            connect=connect,
        )
        self.doorbell = relay.doorbell
        for _ in range(2):  # one makes up the next statement while the other's is under way
            await services.start(relay.settler.run)
        await services.start(relay.workers.run)
        await services.start(relay.drainer.run)
        services.start_soon(relay.save_cursors, settings.cursor_seconds)
        async with anyio.create_task_group() as intake:
            await intake.start(relay.doorbell.run)  # on the reader's connection, which does not outlive the intake
            await intake.start(relay.timers.run)
            await intake.start(relay.reader.run)
            await intake.start(relay.spill.run)
            await intake.start(relay.gauges.run)
            await intake.start(self.guard.run, relay.timers.connection)
            await intake.start(Pruner(settings).run)
            await services.start(relay.keeper.run)
            log.info("relay.started", relay_id=lease.relay_id, lanes=len(self.lanes), name=self.name)
            await stop.wait()
            log.info("relay.stopping", relay_id=lease.relay_id)
            intake.cancel_scope.cancel()
        await relay.keeper.close()
        await lease.begin_leaving()
        await relay.shut_down(settings.shutdown_seconds)


def _connector(settings: RelaySettings, stack: AsyncExitStack) -> Connect:
    async def connect(application_name: str, session: Mapping[str, str] | None = None) -> AsyncConnection[TupleRow]:
        connection = await database.connect(
            settings.dsn.get_secret_value(), application_name=application_name, settings=session
        )
        stack.push_async_callback(connection.close)
        return connection

    return connect
