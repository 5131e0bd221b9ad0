"""The services of an incarnation, wired: each knows the others only by what it calls.

The keeper takes lanes, `Relay.begin` has them worked on; the drainer has them stopped, put back and released.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Protocol

import anyio
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox import database
from outbox.event import Event, Lane
from outbox.handler import Handler
from outbox.holds import load_holds
from outbox.ledger import Step
from outbox.log import load_cursors
from outbox.outcome import Defer, DeferReason, Reason
from outbox.take_over import find_doubts
from outbox.waiting import load_blocked_sequences
from relay.backoff import Backoff
from relay.clock import DatabaseClock
from relay.decide import Policy
from relay.delivery import Delivery, Park
from relay.doorbell import Doorbell
from relay.drainer import Drainer
from relay.gauges import Gauges
from relay.guard import Guard
from relay.holds import Holds
from relay.keeper import Keeper
from relay.lease import Lease
from relay.metrics import RelayMetrics
from relay.reader import Reader
from relay.scheduler import Scheduler
from relay.settings import RelaySettings
from relay.settler import Settler
from relay.spill import Spill
from relay.timers import Timers
from relay.worker import Workers

_IDLE_SAVE_SECONDS = 60.0

_ENDING_SECONDS = 2.0
"""What handlers get to obey in when they are ended at a shutdown."""


class Connect(Protocol):
    """Opens a connection that closes with the incarnation."""

    async def __call__(
        self, application_name: str, session: Mapping[str, str] | None = None, /
    ) -> AsyncConnection[TupleRow]:
        """Open it, under a name that pg_stat_activity shows, with settings of its session."""


@dataclass(slots=True)
class Relay:
    """The services of an incarnation, and what they tell one another."""

    guard: Guard
    lanes: set[Lane]
    scheduler: Scheduler = field(default_factory=Scheduler)
    holds: Holds = field(default_factory=Holds)
    doorbell: Doorbell = field(init=False)
    spill: Spill = field(init=False)
    reader: Reader = field(init=False)
    timers: Timers = field(init=False)
    workers: Workers = field(init=False)
    settler: Settler = field(init=False)
    drainer: Drainer = field(init=False)
    keeper: Keeper = field(init=False)
    gauges: Gauges = field(init=False)

    @classmethod
    async def build(
        cls,
        *,
        settings: RelaySettings,
        handlers: Mapping[str, Handler],
        metrics: RelayMetrics,
        guard: Guard,
        clock: DatabaseClock,
        lease: Lease,
        lanes: set[Lane],
        connect: Connect,
    ) -> Relay:
        """Wire the services; none of them has a lane yet."""
        reading = await connect("outbox-reader", database.PLANNER_SETTINGS)
        aside = await connect("outbox-reader-aside", database.PLANNER_SETTINGS)
        relay = cls(guard, lanes)
        relay.settler = Settler(
            connection=await connect("outbox-settler"),
            relay_id=lease.relay_id,
            policy=Policy(
                settings.attempts_max, Backoff(settings.backoff_base_seconds, settings.backoff_cap_seconds), Random()
            ),
            scheduler=relay.scheduler,
            holds=relay.holds,
            metrics=metrics,
            on_durable=relay.settled,
            on_waiting=relay.waiting_changed,
            renew_lease=lease.renewed,
        )
        relay.timers = Timers(
            connection=await connect("outbox-timers", database.PLANNER_SETTINGS),
            holds=relay.holds,
            offer=relay.offer,
            park=relay.settler.settle,
            resume=relay.resume,
            is_listening=lambda: relay.doorbell.listening,
        )
        relay.drainer = Drainer(relay, settings.shutdown_seconds)
        relay.doorbell = Doorbell(
            settings, reading, lease.relay_id, metrics, lanes, relay.timers.look, relay.lanes_changed
        )
        relay.spill = Spill(
            connection=aside,
            scheduler=relay.scheduler,
            offer=relay.offer,
            in_hand_max=settings.in_hand_max,
            on_room=relay.make_room,
            metrics=metrics,
        )
        relay.reader = Reader(
            connection=reading,
            aside=aside,
            slice_count=settings.slice_count,
            doorbell=relay.doorbell,
            offer=relay.offer,
            in_hand_max=settings.in_hand_max,
            metrics=metrics,
            spill=relay.spill,
            falls_behind=relay.falls_behind,
        )
        relay.workers = Workers(
            scheduler=relay.scheduler,
            handlers=handlers,
            write_step=relay.write_step,
            settle=relay.settler.settle,
            record_dispatch=relay.settler.record_dispatch,
            put_back=relay.was_put_back,
            pause=relay.pause,
            in_doubt_count=lambda: relay.settler.in_doubt_count,
            settler_is_ready=relay.settler.is_ready,
            clock=clock,
            holds=relay.holds,
            metrics=metrics,
            concurrency=settings.concurrency,
            handler_seconds=settings.handler_seconds,
            short_deferral_seconds=settings.short_deferral_seconds,
            unknown_seconds=settings.unknown_seconds,
            crashes_max=settings.crashes_max,
        )
        relay.keeper = Keeper(
            connection=await connect("outbox-lanes", database.PLANNER_SETTINGS),
            relay_id=lease.relay_id,
            lanes=lanes,
            drainer=relay.drainer,
            begin=relay.begin,
            busy_lanes=relay.busy_lanes,
            is_listening=lambda: relay.doorbell.listening,
            lease_seconds=settings.lease_seconds,
            metrics=metrics,
        )
        relay.gauges = Gauges(
            await connect("outbox-gauges", database.PLANNER_SETTINGS),
            relay.reader,
            clock,
            metrics,
            settings.gauge_seconds,
            relay.doorbell.queue_usage_is,
        )
        return relay

    async def begin(self, connection: AsyncConnection[TupleRow], lanes: Sequence[Lane]) -> None:
        """Work on lanes that were just taken, from where their owner before us has left them."""
        cursors = await load_cursors(connection, lanes)
        doubts = await self.settler.take_over(lanes, await find_doubts(connection, cursors))
        blocked = await load_blocked_sequences(connection, lanes)
        look = self.holds.begin_look()
        held = await load_holds(connection)
        self.holds.looked(look, [(hold.key, time.monotonic() + hold.seconds) for hold in held])
        self.scheduler.block(blocked)
        self.scheduler.await_first(doubts)
        self.timers.take(lanes)
        self.reader.take(cursors)
        self.doorbell.taken()

    def stop(self, lanes: Collection[Lane]) -> None:
        """Dispatch nothing more of lanes that are not ours for long, and forget what is not in flight."""
        self.reader.give_up(lanes)
        self.scheduler.forget(lanes)
        self.workers.forget(lanes)
        for delivery, left_seconds, reason in self.timers.give_up(lanes):
            self._write_pause(delivery, left_seconds, reason)

    def busy_lanes(self) -> set[Lane]:
        """Return the lanes of which an event is in flight."""
        return self.workers.busy_lanes()

    def falls_behind(self) -> bool:
        """Tell whether more could run at once than does."""
        return self.workers.falls_behind()

    def put_back(self, lanes: Collection[Lane]) -> None:
        """End the handlers that work on events of these lanes."""
        self.workers.give_up(lanes)

    async def release(self, lanes: Sequence[Lane]) -> None:
        """Write what is left to write of lanes of which nothing is in flight, and free them."""
        await self.settler.release(lambda: self.reader.departed(lanes))

    def offer(self, deliveries: Sequence[Delivery]) -> None:
        """Deliveries have come from the log or from their wait: queue each, or park it behind its sequence."""
        for delivery in deliveries:
            if not self.scheduler.offer(delivery):
                self.settler.settle(delivery, Park(Reason.PARKED, math.inf))
        self.workers.wake()

    def pause(self, delivery: Delivery, seconds: float, reason: DeferReason) -> None:
        """A delivery stays in memory for a while, unless its lane is given up."""
        if delivery.event.lane in self.lanes:
            self.timers.pause(delivery, seconds, reason)
        else:
            self._write_pause(delivery, seconds, reason)

    def resume(self, delivery: Delivery, reason: DeferReason) -> None:
        """A delivery that was paused in memory goes on: one wait more, which no row tells of."""
        metrics = self.workers.metrics
        metrics.deferrals.labels(metrics.type_label(delivery.event.type), reason.value).inc()
        self.scheduler.resume(delivery)
        self.workers.wake()

    async def write_step(self, event: Event, step: Step, call_seconds: float | None) -> datetime:
        """Make a step durable; see `outbox.ledger.WriteStep`."""
        created_at = await self.settler.write_step(event, step, call_seconds)
        self.guard.stepped(event.id, step.position)
        return created_at

    def was_put_back(self, delivery: Delivery) -> None:
        """A handler was ended, and nothing is written of it."""
        self.scheduler.put_back(delivery)
        self.settler.acquit(delivery)
        self.drainer.progressed()

    def settled(self, deliveries: Sequence[Delivery]) -> None:
        """These have a receipt or a waiting row, durably: let them go, and let what was behind them run."""
        event_ids = [delivery.event.id for delivery in deliveries]
        self.guard.settled(event_ids)
        self.reader.settled(event_ids)
        self.timers.settled(deliveries)
        self.workers.wake()
        self.drainer.progressed()

    def make_room(self) -> None:
        """Events of hot keys were brought back: there may be room for others."""
        self.reader.make_room()

    def waiting_changed(self, due_seconds: float) -> None:
        """A waiting row is due in so many seconds."""
        self.timers.expect(due_seconds)

    def lanes_changed(self) -> None:
        """Another relay has joined, or lanes are free."""
        self.keeper.look()

    async def save_cursors(self, every_seconds: float) -> None:
        """Save what moved, every few seconds: with every batch, 64 rows would be the hottest of the database."""
        saved_count, saved_at = 0, time.monotonic()
        while True:
            await anyio.sleep(every_seconds)
            # Windows move on by themselves; without events there is little to gain by saving them.
            moved = self.settler.settled_count != saved_count
            if moved or time.monotonic() - saved_at > _IDLE_SAVE_SECONDS:
                saved_count, saved_at = self.settler.settled_count, time.monotonic()
                await self.settler.save_cursors(self.reader.low_waters)

    async def shut_down(self, seconds: float) -> None:
        """Give up all lanes: each is free as soon as its handlers have finished, or are out of time."""
        self.keeper.give_up(list(self.lanes))
        with anyio.move_on_after(seconds + _ENDING_SECONDS):
            await self.drainer.drained()
        self.workers.end()
        await self.settler.flush()

    def _write_pause(self, delivery: Delivery, left_seconds: float, reason: DeferReason) -> None:
        delivery.deferrals -= 1  # it was counted when it was paused
        self.settler.settle(delivery, Defer(left_seconds, reason))
