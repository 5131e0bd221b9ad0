"""Reads the log and offers what it finds to the scheduler, as fast as it may and no faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.event import Event, EventId, Lane
from outbox.log import Cursor, LogReader
from outbox.suspects import Suspicion, load_suspicion
from outbox.waiting import load_steps
from relay.delivery import Delivery
from relay.doorbell import Doorbell
from relay.metrics import RelayMetrics


@dataclass(slots=True)
class Reader:
    """Looks at the log when the doorbell says so.

    Attributes:
        connection: In autocommit, with the planner settings of `outbox.database.PLANNER_SETTINGS`.
        logs: One log reader for each distinct cursor: nearly always one.
        doorbell: When to look.
        offer: Takes a delivery.
        in_hand_max: Reading pauses while so many events are read and not settled: the bound on memory.
        metrics: Events emitted, backlog.
    """

    connection: AsyncConnection[TupleRow]
    logs: list[LogReader]
    doorbell: Doorbell
    offer: Callable[[Delivery], None]
    in_hand_max: int
    metrics: RelayMetrics
    _room: anyio.Event = field(default_factory=anyio.Event)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Read until cancelled. Raises psycopg.Error, LeaseLost."""
        task_status.started()
        while True:
            found = 0
            for log in self.logs:
                found += await self._read_out(log)
            self.doorbell.found(found)
            self.metrics.backlog.set(self.in_hand_count + sum(log.unread_count for log in self.logs))
            if self.in_hand_count >= self.in_hand_max:
                self._room = anyio.Event()
                await self._room.wait()
            elif not found or self.doorbell.will_ring:
                await self.doorbell.wait()

    def settled(self, event_ids: Sequence[EventId]) -> None:
        """Let events go that are settled durably."""
        for log in self.logs:
            log.settled(event_ids)
        # Half empty before it goes on: a slice at a time, not an event at a time.
        if self.in_hand_count <= self.in_hand_max // 2:
            self._room.set()

    def low_waters(self) -> list[tuple[Sequence[Lane], Cursor]]:
        """Return the cursors that may be saved now, with their lanes."""
        return [(log.lanes, log.low_water()) for log in self.logs]

    @property
    def in_hand_count(self) -> int:
        """How many events are read and not settled."""
        return sum(log.in_hand_count for log in self.logs)

    def oldest_in_hand_at(self) -> float | None:
        """Return when the oldest event in hand was emitted, in seconds of the epoch."""
        instants = [at.timestamp() for log in self.logs if (at := log.oldest_in_hand_at()) is not None]
        return min(instants, default=None)

    async def _read_out(self, log: LogReader) -> int:
        """Read a log until its window is read out or there is no room, and return how many events it gave."""
        found = 0
        while self.in_hand_count < self.in_hand_max:
            catching_up = log.catching_up
            events = await log.read()
            if not events:
                break
            found += len(events)
            await self._hand_over(events, catching_up=catching_up)
            await checkpoint()  # handlers begin before the next statement is made
            if not log.unread_count and not log.catching_up:
                break
        return found

    async def _hand_over(self, events: list[Event], *, catching_up: bool) -> None:
        # Only an event that a predecessor may have begun can have steps.
        event_ids = [event.id for event in events] if catching_up else []
        steps = await load_steps(self.connection, event_ids) if catching_up else {}
        known = await load_suspicion(self.connection, event_ids) if catching_up else Suspicion()
        self.metrics.read(event.type for event in events)
        for event in events:
            delivery = Delivery(event, steps=steps.get(event.id, []))
            if catching_up:
                delivery.crash_count = known.crashes.get(event.id, 0)
                delivery.suspect = known.relay_died or delivery.crash_count > 0
            self.offer(delivery)
