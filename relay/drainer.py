"""Drains lanes that this relay gives up, and frees each of them as soon as nothing of it is in flight.

    give up -> nothing new is dispatched -> what is in flight ends -> cursor saved, lane free, the others told
                  what was read is            or is put back
                  forgotten                   at the deadline

A handler that takes long holds up its own lane and no other one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import anyio
import structlog
from anyio.abc import TaskStatus

from outbox.event import Lane

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Services(Protocol):
    """What works on lanes, and must stop."""

    def stop(self, lanes: Collection[Lane]) -> None:
        """Dispatch nothing more of these lanes, and forget what is not in flight."""

    def busy_lanes(self) -> set[Lane]:
        """Return the lanes of which an event is in flight."""

    def put_back(self, lanes: Collection[Lane]) -> None:
        """End the handlers that work on events of these lanes; nothing is written of it."""

    async def release(self, lanes: Sequence[Lane]) -> None:
        """Write what is left to write of these lanes, and free them."""


@dataclass(slots=True)
class Drainer:
    """Frees lanes.

    Attributes:
        services: What works on them.
        patience_seconds: What handlers get to finish in.
    """

    services: Services
    patience_seconds: float
    _deadlines: dict[Lane, float] = field(default_factory=dict)
    _progressed: anyio.Event = field(default_factory=anyio.Event)
    _drained: anyio.Event = field(default_factory=anyio.Event)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Free what is drained, until cancelled. Raises LeaseLost, psycopg.Error."""
        task_status.started()
        while True:
            self._progressed = anyio.Event()
            await self._release_idle()
            with anyio.move_on_after(min(self._deadlines.values(), default=math.inf) - time.monotonic()):
                await self._progressed.wait()
            now = time.monotonic()
            overdue = [lane for lane, deadline in self._deadlines.items() if deadline <= now]
            if overdue:
                self._deadlines.update(dict.fromkeys(overdue, math.inf))
                self.services.put_back(overdue)

    def drain(self, lanes: Collection[Lane]) -> None:
        """Begin to drain lanes."""
        if lanes:
            self._deadlines.update(dict.fromkeys(lanes, time.monotonic() + self.patience_seconds))
            self.services.stop(lanes)
            self._progressed.set()

    def progressed(self) -> None:
        """Something that was in flight has ended: a lane may be drained."""
        if self._deadlines:
            self._progressed.set()

    async def drained(self) -> None:
        """Return when all lanes are free that were to be drained."""
        while self._deadlines:
            self._drained = anyio.Event()
            await self._drained.wait()

    @property
    def count(self) -> int:
        """How many lanes are ours and being drained."""
        return len(self._deadlines)

    async def _release_idle(self) -> None:
        busy = self.services.busy_lanes()
        idle = [lane for lane in self._deadlines if lane not in busy]
        if idle:
            await self.services.release(idle)
            for lane in idle:
                del self._deadlines[lane]
            log.info("lanes.released", count=len(idle), draining=len(self._deadlines))
            if not self._deadlines:
                self._drained.set()
