"""The lease of this relay incarnation: joined, renewed, left, and given up before it ends where it can't be renewed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import anyio
import structlog
from anyio.abc import TaskStatus
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox import lease, suspects
from outbox.errors import LeaseLost
from outbox.event import RelayId
from relay.clock import DatabaseClock
from relay.metrics import RelayMetrics

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(slots=True)
class Lease:
    """Joins, renews at a third of the time to live, and ends the incarnation before the lease where it can't renew.

    Attributes:
        connection: Used by nothing else once it has joined; a query that is cancelled may cost it.
        name: Host and process, for people.
        version: This release.
        lease_seconds: The time to live.
        clock: Set by every renewal.
        metrics: Database up.
        relay_id: The incarnation, after `join`.
        stalled: The lease ran out while this process stood still, and not its database.
    """

    connection: AsyncConnection[TupleRow]
    name: str
    version: str
    lease_seconds: float
    clock: DatabaseClock
    metrics: RelayMetrics
    relay_id: RelayId = field(init=False)
    stalled: bool = False
    _ends_at: float = 0
    _asked: anyio.Event = field(default_factory=anyio.Event)
    _renewed: anyio.Event = field(default_factory=anyio.Event)

    async def join(self, previous: Lease | None) -> None:
        """Join as a new incarnation, and retire our previous one: it writes nothing any more, and killed nobody."""
        self.relay_id = await lease.join(
            self.connection, name=self.name, version=self.version, lease_seconds=self.lease_seconds
        )
        if previous is not None:
            await lease.retire(self.connection, previous.relay_id)
            if not previous.stalled:
                await suspects.acquit(self.connection, previous.relay_id)
        await self._renew()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Renew until cancelled.

        Raises:
            LeaseLost: The lease was taken, or could not be renewed in time: it is given up before it ends.
            psycopg.Error: The connection is gone.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            task_status.started()
            while True:
                with anyio.move_on_after(self.lease_seconds / 3):
                    await self._asked.wait()
                await self._renew()

    async def renewed(self) -> None:
        """Have the lease renewed now, and return when it is."""
        renewed = self._renewed
        self._asked.set()
        await renewed.wait()

    async def _watch(self) -> None:
        """End the incarnation in time, whatever a renewal waits for: a half-open socket may not even be cancelled."""
        while (left_seconds := self._ends_at - self.lease_seconds / 10 - time.monotonic()) > 0:  # noqa: ASYNC110 (a clock)
            await anyio.sleep(left_seconds)
        self.stalled = not self.held  # it should have been woken a tenth of the lease ago
        raise LeaseLost("the lease could not be renewed in time: the database does not answer")

    async def _renew(self) -> None:
        self._asked = anyio.Event()
        sent_at = time.monotonic()
        self.clock.read(await lease.renew(self.connection, self.relay_id, lease_seconds=self.lease_seconds))
        # Counted from before the statement left: the server's lease can only end later.
        self._ends_at = sent_at + self.lease_seconds
        self.metrics.database_up.set(1)
        self._renewed.set()
        self._renewed = anyio.Event()

    async def begin_leaving(self) -> None:
        """Have the other relays take our lanes as they are drained."""
        await lease.begin_leaving(self.connection, self.relay_id)

    async def leave(self) -> None:
        """Retire, and free the lanes that are still ours."""
        await lease.leave(self.connection, self.relay_id)

    @property
    def leased_until(self) -> float:
        """Until when the lease was renewed at least, by the database's clock, in seconds of the epoch."""
        return self.clock.now() + self._ends_at - time.monotonic()

    @property
    def ends_at(self) -> float:
        """When the lease ends at the earliest, by `time.monotonic()`."""
        return self._ends_at

    @property
    def held(self) -> bool:
        """Whether the lease is in force, as far as we know."""
        return time.monotonic() < self._ends_at
