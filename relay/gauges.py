"""The gauges that only the database can tell: what waits, by reason, and how old it is."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
from anyio.abc import TaskStatus
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.outcome import Reason
from outbox.waiting import count_waiting, estimate_waiting_count
from relay.clock import DatabaseClock
from relay.metrics import RelayMetrics
from relay.reader import Reader

WAITING_COUNT_MAX = 10_000
"""Waiting events are counted so far for each reason: a million must not be read every few seconds."""


@dataclass(slots=True)
class Gauges:
    """Reads them every few seconds, so that a scrape costs the database nothing.

    Attributes:
        connection: Used by nothing else.
        reader: Knows the oldest event in hand.
        clock: The database's.
        metrics: Where they are set.
        every_seconds: How often.
    """

    connection: AsyncConnection[TupleRow]
    reader: Reader
    clock: DatabaseClock
    metrics: RelayMetrics
    every_seconds: float
    _waiting_since: float | None = None

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read until cancelled. Raises psycopg.Error."""
        self.metrics.oldest_unsettled.set_function(self._oldest_unsettled_seconds)
        task_status.started()
        while True:
            waiting = await count_waiting(self.connection, count_max=WAITING_COUNT_MAX)
            for reason, found in waiting.items():
                self.metrics.waiting.labels(reason.value).set(found.count)
            self.metrics.waiting_estimate.set(await estimate_waiting_count(self.connection))
            # What waits for its time is not late, and a row of an older release does not say since when it is.
            late = [found.oldest_seconds or 0.0 for reason, found in waiting.items() if reason is not Reason.SCHEDULED]
            self._waiting_since = self.clock.now() - max(late) if max(late) > 0 else None
            await anyio.sleep(self.every_seconds)

    def _oldest_unsettled_seconds(self) -> float:
        """Grows between two looks too, and goes on growing while the database is away."""
        in_hand_at = self.reader.oldest_in_hand_at()
        since = [at for at in (in_hand_at, self._waiting_since) if at is not None]
        return max(0.0, self.clock.now() - min(since)) if since else 0.0
