"""The doorbell: when to look at the log.

A transaction that issued NOTIFY holds a lock of the whole cluster through its commit, so the bell rings only while the
relay sleeps:

    RINGING    wait for a notification, and look now and then without one
       | more rings a second than the threshold, or nobody here hears them
       v
    MUTED      writers see `awake_until` and don't ring; look every few milliseconds, or now and then where little comes
       | it is heard, and a quiet while: let it ring again, and commit
       v
    LINGERING  look as often until no session remembers the muted bell; take a horizon, and look until every transaction
               that may have found it muted has ended; then RINGING. Where much comes meanwhile: MUTED

Whenever lanes are taken, the relay lingers: their bell may have been muted before. Where no relay has had its bell
muted lately, no session can remember that, and the horizon is taken at once. NOTIFY is a hint, the log is the truth:
whatever the bell does, the fallback poll finds every event. All relays hear all bells, and each obeys its own.

Behind a pooler, or while LISTEN is lost, the bell stays muted: writers would pay for what nobody hears. Where the
server's queue of notifications fills, for some session listens and does not read, it is muted too: who rings when it is
full fails, and with it the application's transaction. Whether the reader comes by or not, a task of its own sees to
both, and to it that a muted bell stays so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum, auto

import anyio
import structlog
from anyio.abc import TaskStatus
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox import lease
from outbox.event import LANE_COUNT, Lane, RelayId
from relay.listener import Listener
from relay.metrics import RelayMetrics
from relay.settings import RelaySettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_MUTE_SECONDS = 30.0
_RENEW_MUTE_SECONDS = 10.0
_QUIET_SECONDS = 2.0
_WATCH_SECONDS = 1.0
_LINGER_MAX_SECONDS = 0.1

_DEAF_SECONDS = 2.0
"""A listener that is being built, at the start or anew, mostly hears sooner."""

_REMEMBERED_SECONDS = 2.0
"""outbox.ring() remembers a muted bell for a second of its clock, which takes two where that is set back in it."""

_LANES = {str(lane): Lane(lane) for lane in range(LANE_COUNT)}

_QUEUE_FULL_RATIO = 0.5
_QUEUE_ROOM_RATIO = 0.25


_MANY = 100
_MANY_SECONDS = 0.02
"""Where looks find so many events, as from 5,000 a second on, the next one finds more and costs little more."""

_BURST_SECONDS = 0.1
"""What is over sooner is a burst, however many there are: it is no reason to poll for seconds."""


class Bell(Enum):
    """What the relay does about the bell."""

    RINGING = auto()
    MUTED = auto()
    LINGERING = auto()


@dataclass(slots=True)
class Rate:
    """Whether something happens more often than a threshold, over a second, or as soon as that is certain."""

    per_second: float
    _since: float = 0
    _count: int = 0
    high: bool = False

    def count(self, now: float, number: int = 1) -> None:
        """Count so many, and judge the second when it is over, or when there were enough for a whole one."""
        seconds = now - self._since
        if seconds >= 1:
            self.high = self._count >= self.per_second * seconds
            self._since, self._count = now, 0
        self._count += number
        if self._count >= self.per_second and _BURST_SECONDS <= seconds < 1:
            self.high = True

    def forget(self) -> None:
        """Count anew: what was counted tells nothing of what comes."""
        self._since, self._count, self.high = 0, 0, False


def seconds_to_next_look(muted_poll_seconds: float, found_count: int) -> float:
    """Return how long a muted relay waits after a look that found so many events."""
    return max(muted_poll_seconds, _MANY_SECONDS) if found_count >= _MANY else muted_poll_seconds


@dataclass(slots=True)
class Doorbell:
    """Tells the reader when to look.

    Attributes:
        settings: The relay's.
        control: The reader's connection: it waits here while it does not read.
        relay_id: Whose bell it is.
        metrics: Rings, polls, listener.
        lanes: Whose bells are ours: a set that others change.
        on_waiting_changed: Called when what waits, or a hold, was changed by others.
        on_lanes_changed: Called when another relay joined or gave up lanes.
    """

    settings: RelaySettings
    control: AsyncConnection[TupleRow]
    relay_id: RelayId
    metrics: RelayMetrics
    lanes: Collection[Lane]
    on_waiting_changed: Callable[[], None]
    on_lanes_changed: Callable[[], None]
    bell: Bell = Bell.LINGERING
    _queue_fills: bool = False
    _deaf_since: float = field(default_factory=time.monotonic)
    _horizon: str | None = None
    _lingering_since: float = field(default_factory=time.monotonic)
    _taken_count: int = 0
    _linger_seconds: float = 0.002
    _has_asked: bool = False
    _rung: anyio.Event = field(default_factory=anyio.Event)
    _listener: Listener = field(init=False)
    _rings: Rate = field(init=False)
    _events: Rate = field(init=False)
    _busy_at: float = 0
    _found_count: int = 0
    _muting: anyio.Lock = field(default_factory=anyio.Lock)
    _muted_at: float = 0

    def __post_init__(self) -> None:
        self._listener = Listener(self.settings, self.metrics, self._hear, self._hearing_changed)
        self._rings = Rate(self.settings.mute_rings_per_second)
        self._events = Rate(self.settings.mute_rings_per_second)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Listen, and mute the bell that nobody hears, until cancelled. Raises LeaseLost, psycopg.Error."""
        task_status.started()  # deaf until connected, and polling on purpose
        async with anyio.create_task_group() as group:
            group.start_soon(self._listener.run)
            group.start_soon(self._keep_muted)

    @property
    def listening(self) -> bool:
        """Whether it hears the bell; if not, the relay polls."""
        return self._listener.listening

    @property
    def has_pooler(self) -> bool:
        """Whether it can't hear it, for a pooler stands between."""
        return self._listener.has_pooler

    @property
    def will_be_back(self) -> bool:
        """Whether what commits after a look that found something need not be looked for at once.

        It is heard of, or, while the bell is muted, found in a moment, and much of it with one look.
        """
        match self.bell:
            case Bell.MUTED:
                return True
            case Bell.RINGING:
                return self.listening
            case Bell.LINGERING:
                return self._events.high  # it is muted in a moment

    def ring(self) -> None:
        """Have the reader look now."""
        self._rung.set()

    def taken(self) -> None:
        """Lanes were taken: whoever is writing at this moment may have found another relay's bell muted."""
        self._taken_count += 1
        if self.bell is not Bell.MUTED:  # it will linger when it rings again
            self._begin_lingering()
        self.ring()

    async def wait(self) -> None:
        """Return when it is time to look at the log. Raises LeaseLost, psycopg.Error."""
        match self.bell:
            case Bell.RINGING:
                await self._wait_for_ring()
            case Bell.MUTED:
                await self._wait_muted()
            case Bell.LINGERING:
                await self._linger()
        self._rung = anyio.Event()

    def found(self, count: int) -> None:
        """Take note of how many events a look found: the muted bell stays so while they keep coming."""
        now = time.monotonic()
        self._found_count = count
        self._events.count(now, count)
        if self._events.high:
            self._busy_at = now

    def queue_usage_is(self, ratio: float) -> None:
        """Take note of how full the server's queue of notifications is: when it is full, whoever rings fails.

        So the bell is muted until somebody has ended the session that listens and does not read.
        """
        if not self._queue_fills and ratio > _QUEUE_FULL_RATIO:
            self._queue_fills = True
            log.warning(
                "notifications.filling",
                queue_usage=round(ratio, 3),
                next="mutes the bell, and polls",
                what_to_do="end the session that listens inside a long transaction",
            )
            self.ring()
        elif self._queue_fills and ratio < _QUEUE_ROOM_RATIO:
            self._queue_fills = False
            log.info("notifications.drained", queue_usage=round(ratio, 3))

    async def _wait_for_ring(self) -> None:
        if self._rings.high or self._queue_fills:
            await self._mute()
            return
        seconds = self.settings.poll_seconds if self.listening else self.settings.poll_unlistened_seconds
        with anyio.move_on_after(seconds) as scope:
            await self._rung.wait()
        if scope.cancelled_caught:
            self.metrics.polls.inc()

    async def _wait_muted(self) -> None:
        now = time.monotonic()
        is_quiet = now - self._busy_at > _QUIET_SECONDS
        if is_quiet and self.listening and not self._queue_fills:
            async with self._muting:
                # In this order: ring again, commit; then the horizon, in a transaction of its own.
                await lease.mute(self.control, self.relay_id, 0)
                self.metrics.bell_muted.set(0)
                self._rings.forget()  # sessions that did not know yet rang for a moment after it was muted
                self._begin_lingering()
            return
        if is_quiet and not self._found_count:
            with anyio.move_on_after(self.settings.poll_unlistened_seconds):
                await self._rung.wait()  # it is heard again, or lanes were taken
        else:
            # Whoever still rings need not be obeyed.
            await anyio.sleep(seconds_to_next_look(self.settings.muted_poll_seconds, self._found_count))
        self.metrics.polls.inc()

    def _begin_lingering(self) -> None:
        self.bell, self._horizon, self._lingering_since = Bell.LINGERING, None, time.monotonic()
        self._has_asked = False

    async def _linger(self) -> None:
        if self._events.high:
            await self._mute()
            return
        taken_count = self._taken_count
        horizon = self._horizon
        is_forgotten = time.monotonic() - self._lingering_since > _REMEMBERED_SECONDS
        if horizon is None and (is_forgotten or not self._has_asked):
            self._has_asked = True
            horizon = await lease.take_horizon(self.control, is_forgotten=is_forgotten)
            self._linger_seconds = 0.002
        passed = horizon is not None and await lease.horizon_passed(self.control, horizon)
        if taken_count != self._taken_count or self.bell is not Bell.LINGERING:
            return  # this horizon was taken before the lanes were, or the bell is muted again
        self._horizon = horizon
        if passed:
            # No sleep: what those transactions wrote is read by the look that follows.
            self.bell, self._horizon = Bell.RINGING, None
            return
        with anyio.move_on_after(self.settings.muted_poll_seconds if horizon is None else self._linger_seconds):
            await self._rung.wait()
        self._linger_seconds = min(_LINGER_MAX_SECONDS, self._linger_seconds * 1.5)
        self.metrics.polls.inc()

    async def _keep_muted(self) -> None:
        """Mute the bell that nobody hears, and keep a muted one from ringing again by itself."""
        while True:
            await anyio.sleep(_WATCH_SECONDS)
            if not self.lanes:
                continue  # nobody rings for us; and we may be leaving
            if self.bell is not Bell.MUTED:
                if self._is_deaf or self._queue_fills:
                    await self._mute()
            elif time.monotonic() - self._muted_at > _RENEW_MUTE_SECONDS:
                async with self._muting:
                    if self.bell is Bell.MUTED:  # it may have been let ring while we waited
                        await self._ask_for_silence()

    @property
    def _is_deaf(self) -> bool:
        """Whether writers ring for nobody: no listener hears, or is about to."""
        return not self.listening and (self.has_pooler or time.monotonic() - self._deaf_since > _DEAF_SECONDS)

    async def _mute(self) -> None:
        async with self._muting:
            await self._ask_for_silence()
            if self._rings.high:
                self._rings.high, self._busy_at = False, self._muted_at
            self.bell = Bell.MUTED
            self.metrics.bell_muted.set(1)

    async def _ask_for_silence(self) -> None:
        await lease.mute(self.control, self.relay_id, _MUTE_SECONDS)
        self._muted_at = time.monotonic()

    def _hear(self, payload: str) -> None:
        if payload == "lanes":
            self.on_lanes_changed()
        elif (lane := _LANES.get(payload)) is None:  # anybody may notify, of anything
            self.on_waiting_changed()
        elif lane in self.lanes:
            self.metrics.rings.inc()
            self._rings.count(time.monotonic())
            self.ring()

    def _hearing_changed(self) -> None:
        """Waits under way are as long as they were before, and what was notified meanwhile was not heard."""
        self._deaf_since = time.monotonic()
        self.ring()
        self.on_waiting_changed()
        self.on_lanes_changed()
