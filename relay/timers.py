"""What waits: brings back due events of `outbox.waiting`, and short deferrals that never left memory."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import anyio
from anyio.abc import TaskStatus
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.event import EventId, Lane
from outbox.outcome import Reason
from outbox.waiting import load_due, load_holds, load_steps, seconds_to_next_due
from relay.delivery import Delivery, Park
from relay.holds import Holds

_DUE_MAX = 500
_LOOK_SECONDS_MAX = 10.0
"""Waiting rows change by others' hands too, and a notification may be missed."""


@dataclass(slots=True)
class Timers:
    """Wakes what waits when its time has come.

    Attributes:
        connection: Used by nothing else.
        lanes: Whose waiting events are ours.
        holds: Taken over from the database with every look.
        offer: Takes a delivery.
        park: Takes a due event that must wait behind another one of its sequence.
        resume: Takes a paused delivery.
    """

    connection: AsyncConnection[TupleRow]
    lanes: Sequence[Lane]
    holds: Holds
    offer: Callable[[Delivery], None]
    park: Callable[[Delivery, Park], None]
    resume: Callable[[Delivery], None]
    _paused: list[tuple[float, int, Delivery]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)
    _in_hand: set[EventId] = field(default_factory=set)
    _look_at: float = 0
    _sooner: anyio.Event = field(default_factory=anyio.Event)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Bring back what is due, until cancelled. Raises psycopg.Error."""
        task_status.started()
        while True:
            self._sooner = anyio.Event()
            self._resume_paused()
            if time.monotonic() >= self._look_at:
                await self._look()
            first_paused = self._paused[0][0] if self._paused else math.inf
            with anyio.move_on_after(max(0.0, min(first_paused, self._look_at) - time.monotonic())):
                await self._sooner.wait()

    def pause(self, delivery: Delivery, seconds: float) -> None:
        """Keep a delivery in memory for a while; nothing is written."""
        heapq.heappush(self._paused, (time.monotonic() + seconds, next(self._order), delivery))
        if self._paused[0][2] is delivery:
            self._sooner.set()

    def expect(self, seconds: float) -> None:
        """Take note that a waiting row is due in so many seconds."""
        at = time.monotonic() + seconds
        if at < self._look_at:
            self._look_at = at
            self._sooner.set()

    def settled(self, event_ids: Sequence[EventId]) -> None:
        """Let events go: their waiting rows are gone, or due at another time."""
        if self._in_hand:
            self._in_hand.difference_update(event_ids)

    def put_back(self) -> list[tuple[Delivery, float]]:
        """Return what is paused, with the seconds that are left, and forget it."""
        now = time.monotonic()
        left = [(delivery, max(0.0, at - now)) for at, _, delivery in self._paused]
        self._paused.clear()
        return left

    @property
    def in_hand_count(self) -> int:
        """How many waiting events are in the hands of the relay."""
        return len(self._in_hand)

    def _resume_paused(self) -> None:
        now = time.monotonic()
        while self._paused and self._paused[0][0] <= now:
            self.resume(heapq.heappop(self._paused)[2])

    async def _look(self) -> None:
        self._look_at = time.monotonic() + _LOOK_SECONDS_MAX
        self.holds.replace((hold.key, time.monotonic() + hold.seconds) for hold in await load_holds(self.connection))
        room = _DUE_MAX - len(self._in_hand)
        due = await load_due(self.connection, self.lanes, in_hand=list(self._in_hand), limit=room) if room > 0 else []
        steps = await load_steps(self.connection, [each.event.id for each in due]) if due else {}
        for each in due:
            delivery = Delivery(
                event=each.event,
                attempts=each.attempts,
                deferrals=each.deferrals,
                reason=each.reason,
                waiting=True,
                cancelled=each.cancelled,
                steps=steps.get(each.event.id, []),
            )
            self._in_hand.add(each.event.id)
            if each.blocked and not (each.cancelled or each.expired):
                self.park(delivery, Park(Reason.PARKED, math.inf))
            else:
                self.offer(delivery)
        if len(due) == room:
            # More may be due; a look that finds no room waits until some of these have settled.
            self._look_at = time.monotonic() + (0 if room > 0 else 0.05)
            return
        seconds = await seconds_to_next_due(self.connection, self.lanes, in_hand=list(self._in_hand))
        if seconds is not None:
            self.expect(max(0.001, seconds))
