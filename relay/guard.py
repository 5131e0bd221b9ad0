"""The restore guard: nothing is published from a log that may have forgotten what is live.

Before an incarnation joins, and now and then while it works, the guard compares the cluster with the one that the log
belongs to, and looks for what this process knows to be committed. Where either is not as it was, all relays stand
still, whoever found it, until a person has run `outbox recover`; `outbox.cluster` explains what is told apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio
import structlog
from anyio.abc import TaskStatus
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox import cluster
from outbox.cluster import FOREIGN_XIDS, REASONS, Comparison, Evidence, Finding
from outbox.errors import VerifyOnly
from outbox.event import EventId
from relay.lease import Lease
from relay.metrics import RelayMetrics

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_LOOK_SECONDS = 1.0
"""How often a relay that stands still looks whether it may go on."""

_WATCH_SECONDS = 10.0
"""How often a relay that works looks: a pooler may change the server behind its back."""

_EVIDENCE_SECONDS_MAX = 86_400.0
"""What was committed longer ago may have been pruned; the shortest retention is two days."""

WHAT_TO_DO = "run: outbox recover"

LOST = "what this relay knows to be committed is missing: the cluster was restored, or failed over with a loss"


@dataclass(slots=True)
class Guard:
    """Lives as long as the process, for what an incarnation knew is what the next one looks for.

    Attributes:
        metrics: Shows that it verifies only.
        lease_seconds: How long another relay has to vouch for a failover.
        verify_only: This relay stands still.
        clock: As `time.monotonic`.
    """

    metrics: RelayMetrics
    lease_seconds: float
    verify_only: bool = False
    clock: Callable[[], float] = time.monotonic
    _lease: Lease | None = None
    _event_id: EventId | None = None
    _settled_at: float = 0
    _stepped: tuple[EventId, int] | None = None
    _stepped_at: float = 0

    async def admit(self, connection: AsyncConnection[TupleRow], stop: anyio.Event) -> bool:
        """Wait until a relay may work in this cluster. False: `stop` came first. Raises psycopg.Error."""
        others_vouch_until = time.monotonic() + self.lease_seconds
        while not stop.is_set():
            evidence = self._evidence()
            found = await cluster.compare(connection, evidence)
            has_none = evidence == Evidence()
            if not found.evidence_is_there:
                await self._stand_still(connection, LOST, found)
            elif found.finding is Finding.PROMOTED and has_none and found.verify_only_since is None:
                if time.monotonic() > others_vouch_until:
                    await self._stand_still(connection, REASONS[found.finding], found)
            elif found.finding in REASONS and found.finding is not Finding.PROMOTED:
                await self._stand_still(connection, REASONS[found.finding], found)
            elif found.verify_only_since is not None:
                self._tell(str(found.verify_only_reason))
            else:
                await self._recognise(connection, found.finding)
                return True
            with anyio.move_on_after(_LOOK_SECONDS):
                await stop.wait()
        return False

    async def run(
        self, connection: AsyncConnection[TupleRow], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Look now and then while an incarnation works.

        Raises:
            VerifyOnly: The next incarnation has to be admitted anew.
            psycopg.Error: The connection is gone.
        """
        task_status.started()
        while True:
            await anyio.sleep(_WATCH_SECONDS)
            found = await cluster.compare(connection, self._evidence())
            if found.verify_only_since is not None:
                raise VerifyOnly(f"relays may only verify: {found.verify_only_reason}; {WHAT_TO_DO}")
            if found.finding is not Finding.SAME or not found.evidence_is_there:
                raise VerifyOnly("the cluster is not the one that this relay joined: looking at it anew")

    def joined(self, lease: Lease) -> None:
        """An incarnation has a lease: its renewals are committed."""
        self._lease = lease

    def settled(self, event_ids: Sequence[EventId]) -> None:
        """These events have a receipt or a waiting row, committed."""
        self._event_id = event_ids[-1]
        self._settled_at = self.clock()

    def stepped(self, event_id: EventId, position: int) -> None:
        """A step is committed."""
        self._stepped = event_id, position
        self._stepped_at = self.clock()

    def _evidence(self) -> Evidence:
        if self._lease is None:
            return Evidence()
        fresh_from = self.clock() - _EVIDENCE_SECONDS_MAX
        has_lease = self._lease.ends_at > fresh_from
        return Evidence(
            self._lease.relay_id if has_lease else None,
            self._lease.leased_until if has_lease else None,
            self._event_id if self._settled_at > fresh_from else None,
            self._stepped if self._stepped_at > fresh_from else None,
        )

    async def _stand_still(self, connection: AsyncConnection[TupleRow], reason: str, found: Comparison) -> None:
        """Hold all relays to verifying. What is known to be lost is known to the database now."""
        # AHEAD is found until the log has new xids.
        if found.verify_only_since is None or found.finding is not Finding.AHEAD:
            await cluster.begin_verify_only(connection, reason, must_rebase=found.finding in FOREIGN_XIDS)
        self._lease = self._event_id = self._stepped = None
        self._tell(found.verify_only_reason or reason)

    def _tell(self, reason: str) -> None:
        """Say it once, and let go of what is no evidence any more."""
        if not self.verify_only:
            log.error("relay.verifies_only", reason=reason, what_to_do=WHAT_TO_DO)
        self.verify_only = True
        self._lease = self._event_id = self._stepped = None
        self.metrics.verify_only.set(1)

    async def _recognise(self, connection: AsyncConnection[TupleRow], finding: Finding) -> None:
        if finding is not Finding.SAME:
            await cluster.recognise(connection)
            log.info("cluster.recognised", finding=finding.value)
        if self.verify_only:
            log.info("relay.released")
        self.verify_only = False
        self.metrics.verify_only.set(0)
