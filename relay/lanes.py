"""The lease of this relay incarnation, and the lanes that it owns by it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import anyio
import structlog
from anyio.abc import TaskStatus
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox import lease
from outbox.errors import LeaseLost
from outbox.event import LANE_COUNT, Lane, RelayId
from relay.clock import DatabaseClock
from relay.metrics import RelayMetrics

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_STANDBY_SECONDS = 1.0
"""How often a relay that owns no lane looks for a dead one's."""


@dataclass(slots=True)
class Lease:
    """Joins, renews at a third of the time to live, and stops before the lease ends where it can't renew.

    Attributes:
        connection: Used by nothing else, and only by the lease's own task: a cancelled query may cost the connection.
        name: Host and process, for people.
        version: This release.
        lease_seconds: The time to live.
        clock: Set by every renewal.
        metrics: Lanes owned, database up.
        relay_id: The incarnation, after `join`.
        lanes: What it owns, after `take_all`.
    """

    connection: AsyncConnection[TupleRow]
    name: str
    version: str
    lease_seconds: float
    clock: DatabaseClock
    metrics: RelayMetrics
    relay_id: RelayId = field(init=False)
    lanes: list[Lane] = field(default_factory=list)
    _ends_at: float = 0
    _asked: anyio.Event = field(default_factory=anyio.Event)
    _renewed: anyio.Event = field(default_factory=anyio.Event)

    async def join(self, previous: RelayId | None) -> None:
        """Join as a new incarnation, and retire our previous one: it writes nothing any more."""
        self.relay_id = await lease.join(
            self.connection, name=self.name, version=self.version, lease_seconds=self.lease_seconds
        )
        if previous is not None:
            await lease.retire_dead(self.connection, previous=previous)
        await self._renew()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Renew until cancelled.

        Raises:
            LeaseLost: The lease was taken, or could not be renewed in time: it is given up before it ends.
            psycopg.Error: The connection is gone.
        """
        task_status.started()
        while True:
            with anyio.move_on_after(self.lease_seconds / 3):
                await self._asked.wait()
            margin = self.lease_seconds / 10
            with anyio.move_on_after(self._ends_at - time.monotonic() - margin) as scope:
                await self._renew()
            if scope.cancelled_caught:
                raise LeaseLost("the lease could not be renewed in time: the database does not answer")

    async def renewed(self) -> None:
        """Have the lease renewed now, and return when it is."""
        renewed = self._renewed
        self._asked.set()
        await renewed.wait()

    async def _renew(self) -> None:
        self._asked = anyio.Event()
        sent_at = time.monotonic()
        self.clock.read(await lease.renew(self.connection, self.relay_id, lease_seconds=self.lease_seconds))
        # Counted from before the statement left: the server's lease can only end later.
        self._ends_at = sent_at + self.lease_seconds
        self.metrics.database_up.set(1)
        self._renewed.set()
        self._renewed = anyio.Event()

    async def take_all(self, stop: anyio.Event) -> bool:
        """Wait until all lanes are ours, retiring the relays whose lease has run out. False: `stop` came first."""
        standing_by = False
        while not stop.is_set():
            for dead in await lease.retire_dead(self.connection):
                log.warning("relay.retired", relay_id=dead.id, name=dead.name)
            self.lanes = sorted({*self.lanes, *await lease.take_lanes(self.connection, self.relay_id)})
            if len(self.lanes) == LANE_COUNT:
                self.metrics.lanes_owned.set(LANE_COUNT)
                return True
            if not standing_by:
                log.info("relay.stands_by", relay_id=self.relay_id, lanes_owned=len(self.lanes))
                standing_by = True
            with anyio.move_on_after(_STANDBY_SECONDS):
                await stop.wait()
        return False

    async def leave(self) -> None:
        """Give the lanes back and retire."""
        await lease.leave(self.connection, self.relay_id)

    @property
    def leased_until(self) -> float:
        """Until when the lease was renewed at least, by the database's clock, in seconds of the epoch."""
        return self.clock.now() + self._ends_at - time.monotonic()

    @property
    def held(self) -> bool:
        """Whether the lease is in force, as far as we know."""
        return time.monotonic() < self._ends_at
