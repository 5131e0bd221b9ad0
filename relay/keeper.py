"""Keeps this relay's share of the lanes: takes what is free below it, gives up what is above it.

With n relays nobody owns more than 64 / n, rounded up, and whoever joins or leaves moves no lane that need not move:
the older relays have the larger shares. A look is a statement; it is made when another relay tells of a change, when
the first lease of the others may have run out, and now and then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio
import structlog
from anyio.abc import TaskStatus
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox import lease
from outbox.errors import LeaseLost
from outbox.event import LANE_COUNT, Lane, RelayId
from relay.drainer import Drainer
from relay.metrics import RelayMetrics

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_UNLISTENED_SECONDS = 0.5
"""How often a relay looks that is told of nothing, as behind a transaction pooler."""

_AGAIN_SECONDS = 0.05
"""When to look again for a relay whose lease ran out, but which was writing when it was to be retired."""


def share_of(relay_id: RelayId, relay_ids: Sequence[RelayId]) -> int:
    """Return how many lanes a relay should own, of relays that are given oldest first."""
    least, left = divmod(LANE_COUNT, len(relay_ids))
    return least + (relay_ids.index(relay_id) < left)


@dataclass(slots=True)
class Keeper:
    """Looks, and takes or gives up lanes.

    Attributes:
        connection: Used by nothing else: a look may wait for another relay's, and a renewal of the lease may not.
        relay_id: Whose share it is.
        lanes: Those at work; the same set as the doorbell's.
        drainer: Takes lanes that are given up.
        begin: Has the services work on lanes that were taken.
        busy_lanes: Tells of which lanes an event is in flight.
        is_listening: Tells whether notifications are heard.
        lease_seconds: A look is made once in it at least.
        metrics: Lanes owned.
    """

    connection: AsyncConnection[TupleRow]
    relay_id: RelayId
    lanes: set[Lane]
    drainer: Drainer
    begin: Callable[[AsyncConnection[TupleRow], Sequence[Lane]], Awaitable[None]]
    busy_lanes: Callable[[], set[Lane]]
    is_listening: Callable[[], bool]
    lease_seconds: float
    metrics: RelayMetrics
    _asked: anyio.Event = field(default_factory=anyio.Event)
    _is_closing: bool = False
    _closed: anyio.Event = field(default_factory=anyio.Event)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep the share until closed or cancelled. Raises LeaseLost, psycopg.Error."""
        seconds = await self._look()
        if not self.lanes:
            log.info("relay.stands_by", relay_id=self.relay_id)
        task_status.started()
        while True:
            with anyio.move_on_after(seconds):
                await self._asked.wait()
            if self._is_closing:
                break
            seconds = await self._look()
        self._closed.set()

    async def close(self) -> None:
        """Look no more, and return once no lane is being taken."""
        self._is_closing = True
        self.look()
        await self._closed.wait()

    def look(self) -> None:
        """Look now: a lane may be free, or another relay may need some."""
        self._asked.set()

    def give_up(self, lanes: Sequence[Lane]) -> None:
        """Work on these lanes no more; they are free for others once they are drained."""
        self.lanes.difference_update(lanes)
        self.metrics.lanes_owned.set(len(self.lanes))
        self.drainer.drain(lanes)

    async def _look(self) -> float:
        """Look, act, and return in how many seconds to look again."""
        self._asked = anyio.Event()
        survey = await lease.survey(self.connection, self.relay_id)
        if survey.seconds_to_next_end is not None and survey.seconds_to_next_end <= 0:
            for dead in await lease.retire_dead(self.connection):
                log.warning("relay.retired", relay_id=dead.id, name=dead.name)
            survey = await lease.survey(self.connection, self.relay_id)
        if self.relay_id not in survey.relay_ids:
            raise LeaseLost(f"relay {self.relay_id} was retired: its lease ran out")
        share = share_of(self.relay_id, survey.relay_ids)
        if len(self.lanes) > share:
            self.give_up(self._idle_first()[: len(self.lanes) - share])
        room = share - len(self.lanes) - self.drainer.count
        if room > 0 and survey.free_count:
            await self._take(room)
        return self._seconds_to_next_look(survey.seconds_to_next_end)

    async def _take(self, count_max: int) -> None:
        taken = await lease.take_lanes(self.connection, self.relay_id, count_max)
        if taken:
            await self.begin(self.connection, taken)
            self.lanes.update(taken)
            self.metrics.lanes_owned.set(len(self.lanes))
            log.info("lanes.taken", relay_id=self.relay_id, count=len(taken), lanes_owned=len(self.lanes))

    def _idle_first(self) -> list[Lane]:
        """Those that are drained at once before those of which a handler works on an event, then the last ones."""
        busy = self.busy_lanes()
        return sorted(self.lanes, key=lambda lane: (lane in busy, -lane))

    def _seconds_to_next_look(self, seconds_to_next_end: float | None) -> float:
        seconds = self.lease_seconds if self.is_listening() else min(_UNLISTENED_SECONDS, self.lease_seconds / 3)
        return seconds if seconds_to_next_end is None else min(seconds, max(_AGAIN_SECONDS, seconds_to_next_end))
