"""The gauges that only the database can tell: what waits, how old it is, what is held, and which lanes nobody owns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio
import structlog
from anyio.abc import TaskStatus
from psycopg import AsyncConnection, errors
from psycopg.rows import TupleRow

from outbox.holds import count_holds
from outbox.lease import notification_queue_usage
from outbox.outcome import Reason
from outbox.ownership import count_unowned_lanes
from outbox.waiting import count_often_deferred, count_waiting, estimate_waiting_count
from relay.clock import DatabaseClock
from relay.metrics import HOLD_SERIES, RelayMetrics
from relay.reader import Reader

log: structlog.stdlib.BoundLogger = structlog.get_logger()

WAITING_COUNT_MAX = 10_000
"""Waiting events are counted so far for each reason: a million must not be read every few seconds."""

OFTEN_DEFERRED_COUNT_MAX = 1_000

OWED = (Reason.SCHEDULED, Reason.RETRY, Reason.MISSING)
"""What waits for one of these and should have ended waits for us; else for Meta, a hold, its sequence or a person."""


@dataclass(slots=True)
class Gauges:
    """Reads them every few seconds, in one transaction, so that a scrape costs the database nothing.

    Attributes:
        connection: Used by nothing else: its transactions would have others' statements in them.
        reader: Knows the oldest event in hand.
        clock: The database's.
        metrics: Where they are set.
        every_seconds: How often.
        on_queue_usage: Told how full the server's queue of notifications is.
    """

    connection: AsyncConnection[TupleRow]
    reader: Reader
    clock: DatabaseClock
    metrics: RelayMetrics
    every_seconds: float
    on_queue_usage: Callable[[float], None]
    _waiting_since: float | None = None
    _ended_at: float | None = None

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read until cancelled; what can't be read in time is NaN. Raises psycopg.Error."""
        self.metrics.oldest_unsettled.set_function(self._oldest_unsettled_seconds)
        task_status.started()
        try:
            await self._read()
        finally:
            self._ended_at = self.clock.now()

    async def _read(self) -> None:
        is_told = False
        while True:
            try:
                async with self.connection.transaction():
                    await self._count_waiting()
                    await self._count_others()
                is_told = False
            except (errors.QueryCanceled, errors.LockNotAvailable) as error:
                # No event waits for a figure that takes too long.
                self.metrics.not_known()
                if not is_told:
                    log.warning(
                        "gauges.unread", error=str(error.diag.message_primary), again_seconds=self.every_seconds
                    )
                    is_told = True
            await anyio.sleep(self.every_seconds)

    async def _count_waiting(self) -> None:
        waiting = await count_waiting(self.connection, count_max=WAITING_COUNT_MAX)
        for reason, found in waiting.items():
            self.metrics.waiting.labels(reason.value).set(found.count)
            self.metrics.oldest_waiting.labels(reason.value).set(max(0.0, found.oldest_seconds or 0.0))
        self.metrics.waiting_estimate.set(await estimate_waiting_count(self.connection))
        # What waits for its time is not late, and a row of an older release does not say since when it is.
        late = [found.oldest_seconds or 0.0 for reason, found in waiting.items() if reason in OWED]
        self._waiting_since = self.clock.now() - max(late) if max(late) > 0 else None

    async def _count_others(self) -> None:
        often = await count_often_deferred(self.connection, count_max=OFTEN_DEFERRED_COUNT_MAX)
        self.metrics.often_deferred.set(often)
        holds = await count_holds(self.connection)
        for series in HOLD_SERIES:
            self.metrics.holds.labels(*series).set(holds.get(series, 0))
        self.metrics.lanes_unowned.set(await count_unowned_lanes(self.connection))
        usage = await notification_queue_usage(self.connection)
        self.metrics.notification_queue_usage.set(usage)
        self.on_queue_usage(usage)

    def _oldest_unsettled_seconds(self) -> float:
        """Grows between two looks, and while the database is away: what is emitted then is as old as that at most."""
        in_hand_at = self.reader.oldest_in_hand_at()
        since = [at for at in (in_hand_at, self._waiting_since, self._ended_at) if at is not None]
        return max(0.0, self.clock.now() - min(since)) if since else 0.0
