"""The doorbell: when to look at the log.

A transaction that issued NOTIFY holds a lock of the whole cluster through its commit, so the bell rings only while the
relay sleeps:

    RINGING    wait for a notification, and look now and then without one
       | more rings a second than the threshold
       v
    MUTED      writers see `awake_until` and don't ring; look every few milliseconds
       | a quiet while: let it ring again, and commit
       v
    LINGERING  look as often until no session remembers the muted bell; take a horizon, and look until every transaction
               that may have found it muted has ended; then RINGING

Whenever lanes are taken, the relay lingers: their bell may have been muted before. Where no relay has had its bell
muted lately, no session can remember that, and the horizon is taken at once. NOTIFY is a hint, the log is the truth:
whatever the bell does, the fallback poll finds every event. All relays hear all bells, and each obeys its own.

LISTEN can be lost without an error, so the listener notifies itself now and then, and is built anew where it does not
hear that. Where the server's queue of notifications fills, for some session listens and does not read, the bell is
muted too: who rings when it is full fails, and with it the application's transaction.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random

import anyio
import psycopg
import structlog
from anyio.abc import TaskStatus
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox import database, lease, pooled
from outbox.errors import DatabaseUnsuitable
from outbox.event import LANE_COUNT, Lane, RelayId
from relay.metrics import RelayMetrics
from relay.settings import RelaySettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_MUTE_SECONDS = 30.0
_RENEW_MUTE_SECONDS = 10.0
_QUIET_SECONDS = 2.0
_LINGER_MAX_SECONDS = 0.1

_REMEMBERED_SECONDS = 2.0
"""outbox.ring() remembers a muted bell for a second of its clock, which takes two where that is set back in it."""

_ECHO = "echo "
"""What a listener notifies itself of, to see whether it hears; other listeners pass it over."""

_LANES = {str(lane): Lane(lane) for lane in range(LANE_COUNT)}

_QUEUE_FULL_RATIO = 0.5
_QUEUE_ROOM_RATIO = 0.25


class Bell(Enum):
    """What the relay does about the bell."""

    RINGING = auto()
    MUTED = auto()
    LINGERING = auto()


@dataclass(slots=True)
class Rate:
    """Whether something happens more often than a threshold, over a second."""

    per_second: float
    _since: float = 0
    _count: int = 0
    high: bool = False

    def count(self, now: float, number: int = 1) -> None:
        """Count so many, and judge the last second once it is over."""
        if now - self._since >= 1:
            self.high = self._count >= self.per_second * (now - self._since)
            self._since, self._count = now, 0
        self._count += number


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
        listening: It hears the bell; if not, the relay polls.
        has_pooler: It can't hear it, for a pooler stands between.
    """

    settings: RelaySettings
    control: AsyncConnection[TupleRow]
    relay_id: RelayId
    metrics: RelayMetrics
    lanes: Collection[Lane]
    on_waiting_changed: Callable[[], None]
    on_lanes_changed: Callable[[], None]
    listening: bool = False
    has_pooler: bool = False
    bell: Bell = Bell.LINGERING
    _queue_fills: bool = False
    _horizon: str | None = None
    _lingering_since: float = field(default_factory=time.monotonic)
    _taken_count: int = 0
    _linger_seconds: float = 0.002
    _has_asked: bool = False
    _rung: anyio.Event = field(default_factory=anyio.Event)
    _rings: Rate = field(init=False)
    _events: Rate = field(init=False)
    _busy_at: float = 0
    _muted_at: float = 0

    def __post_init__(self) -> None:
        self._rings = Rate(self.settings.mute_rings_per_second)
        self._events = Rate(self.settings.mute_rings_per_second)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Listen on a connection of our own until cancelled, and build it anew, with jitter, when it breaks.

        Behind a pooler it ends at once: there is nothing to listen to, and the relay polls.
        """
        try:
            await self._stay_connected(task_status)
        finally:
            self.metrics.listener_connected.set(0)

    @property
    def will_be_back(self) -> bool:
        """Whether what commits after a look that found something need not be looked for at once.

        It is heard of, or, while the bell is muted, found in a moment, and much of it with one look.
        """
        return self.bell is Bell.MUTED or (self.bell is Bell.RINGING and self.listening)

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

    async def _stay_connected(self, task_status: TaskStatus[None]) -> None:
        task_status.started()  # deaf until connected, and polling on purpose
        random = Random()
        failures, lost_at, is_told = 0, time.monotonic(), False
        while True:
            with suppress(psycopg.Error, DatabaseUnsuitable):
                async with await database.connect(
                    self.settings.listener_dsn.get_secret_value(), application_name="outbox-listener"
                ) as connection:
                    if pooled.leaves_nothing_behind(connection):
                        self._do_without()
                        return
                    await connection.execute("listen outbox")
                    await self._listen(connection)
            if self.listening:
                failures, lost_at, is_told = 0, time.monotonic(), False
            if not is_told and time.monotonic() - lost_at > self.settings.lease_seconds:
                # An outage of the database would have ended the incarnation by now, and said so.
                log.warning("listener.lost", poll_seconds=self.settings.poll_unlistened_seconds)
                is_told = True
            self._set_listening(False)
            failures += 1
            await anyio.sleep(random.uniform(0.1, min(10.0, 0.5 * 2 ** min(failures, 5))))

    def _do_without(self) -> None:
        """Say that the bell can't be heard: behind a pooler another session than ours would listen."""
        self.has_pooler = True
        log.warning(
            "listener.unavailable",
            reason="a pooler stands between the listener and PostgreSQL",
            poll_seconds=self.settings.poll_unlistened_seconds,
            what_to_do="poll, or name the server itself in OUTBOX_LISTEN_DSN",
        )

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
        if is_quiet and not self._queue_fills:
            # In this order: ring again, commit; then the horizon, in a transaction of its own.
            await lease.mute(self.control, self.relay_id, 0)
            self.metrics.bell_muted.set(0)
            self._begin_lingering()
            return
        if now - self._muted_at > _RENEW_MUTE_SECONDS:
            await lease.mute(self.control, self.relay_id, _MUTE_SECONDS)
            self._muted_at = now
        await anyio.sleep(self.settings.poll_unlistened_seconds if is_quiet else self.settings.muted_poll_seconds)
        self.metrics.polls.inc()

    def _begin_lingering(self) -> None:
        self.bell, self._horizon, self._lingering_since = Bell.LINGERING, None, time.monotonic()
        self._has_asked = False

    async def _linger(self) -> None:
        taken_count = self._taken_count
        horizon = self._horizon
        is_forgotten = time.monotonic() - self._lingering_since > _REMEMBERED_SECONDS
        if horizon is None and (is_forgotten or not self._has_asked):
            self._has_asked = True
            horizon = await lease.take_horizon(self.control, is_forgotten=is_forgotten)
            self._linger_seconds = 0.002
        passed = horizon is not None and await lease.horizon_passed(self.control, horizon)
        if taken_count != self._taken_count:
            return  # this horizon was taken before the lanes were
        self._horizon = horizon
        if passed:
            # No sleep: what those transactions wrote is read by the look that follows.
            self.bell, self._horizon = Bell.RINGING, None
            return
        with anyio.move_on_after(self.settings.muted_poll_seconds if horizon is None else self._linger_seconds):
            await self._rung.wait()
        self._linger_seconds = min(_LINGER_MAX_SECONDS, self._linger_seconds * 1.5)
        self.metrics.polls.inc()

    async def _mute(self) -> None:
        await lease.mute(self.control, self.relay_id, _MUTE_SECONDS)
        self._muted_at = self._busy_at = time.monotonic()
        self._rings.high = False
        self.bell = Bell.MUTED
        self.metrics.bell_muted.set(1)

    async def _listen(self, connection: AsyncConnection[TupleRow]) -> None:
        """Listen for as long as it is certain that we hear. Raises psycopg.Error."""
        while await self._hears(connection):
            if not self.listening:
                self._set_listening(True)
            async for notification in connection.notifies(timeout=self.settings.listen_check_seconds):
                self._hear(notification.payload)
        await connection.close()  # without a farewell, which nobody may hear
        if self.listening:
            self.metrics.listener_deaf.inc()
            log.warning("listener.deaf", next="listens on a new connection, and polls until then")

    async def _hears(self, connection: AsyncConnection[TupleRow]) -> bool:
        """Notify ourselves, and tell whether that is heard: LISTEN may be lost, and a half-open socket, in silence."""
        token = f"{_ECHO}{secrets.token_hex(8)}"
        # An outage of the whole database ends the incarnation sooner than that, and says so.
        with anyio.move_on_after(self.settings.lease_seconds):
            await lease.notify(connection, token)
            async with aclosing(connection.notifies()) as notifications:
                async for notification in notifications:
                    if notification.payload == token:
                        return True
                    self._hear(notification.payload)
        return False

    def _hear(self, payload: str) -> None:
        if payload.startswith(_ECHO):
            return
        if payload == "lanes":
            self.on_lanes_changed()
        elif (lane := _LANES.get(payload)) is None:  # anybody may notify, of anything
            self.on_waiting_changed()
        elif lane in self.lanes:
            self.metrics.rings.inc()
            self._rings.count(time.monotonic())
            self.ring()

    def _set_listening(self, listening: bool) -> None:
        changed, self.listening = listening != self.listening, listening
        if changed:
            # Waits that are under way are as long as they were before, and what was notified meanwhile was not heard.
            self.ring()
            self.on_waiting_changed()
            self.on_lanes_changed()
        self.metrics.listener_connected.set(listening)
