"""Calls handlers: takes a delivery that may run, and brings back what became of it.

take -> cancelled? expired? not yet? -> handler -> outcome
   (an event that killed a relay: alone)
                   |                                  |
                   +-------------> conclude <---------+
                                      |
                    a short deferral stays in memory, all else is settled

Where its lane is given up and it takes too long, a handler is ended and its event put back: nothing is written.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import assert_never

import anyio
import structlog
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint

from outbox import trace
from outbox.errors import DeadlinePassed, EventCancelled, EventHeld, EventResolved, LeaseLost
from outbox.event import Event, Lane
from outbox.handler import Handler
from outbox.ledger import Ledger, WriteStep
from outbox.outcome import Cancelled, Defer, DeferReason, Expired, Outcome, Published, Reason, Retry, Unknown, flaw
from outbox.resolution import Resolution
from relay.clock import DatabaseClock
from relay.delivery import Delivery, GiveUp, Park, PutBack
from relay.holds import Holds
from relay.metrics import RelayMetrics
from relay.redaction import redact
from relay.scheduler import Scheduler, admit, has_expired

log: structlog.stdlib.BoundLogger = structlog.get_logger()

IN_DOUBT_MAX = 500
"""Events in flight, or with an outcome that is not durable: where relay or server dies, all of them are handled once
more. Twice the concurrency, where that is more."""

_PAUSE_SECONDS_MIN = 0.1
"""A handler that asks to be called again at once must not keep a core busy."""

_PROMPT = (None, Reason.SCHEDULED)
"""What an event waited for that is dispatched for the first time, and should be when it is emitted or published."""

_TURNS_MAX = 100
"""Deliveries in a row after which a worker lets others run, where its handler never waits. It lets the settler run
sooner: of 500 in doubt, 250 are to be under way while the other 250 are handled."""


@dataclass(slots=True)
class Workers:
    """So many handlers at once.

    Attributes:
        scheduler: Where deliveries come from.
        handlers: By event type.
        write_step: Makes the steps of ledgers durable.
        settle: Takes an outcome that is to be written.
        record_dispatch: Makes durable that a suspect of having killed a relay is about to be handled.
        put_back: Takes a delivery that was ended and leaves no trace.
        settler_is_ready: Tells whether the settler has a full statement, to make up while the one before is under way.
        pause: Takes a delivery that stays in memory for some seconds.
        in_doubt_count: Tells how many outcomes are not durable yet; `wake` is called when some are.
        clock: The database's.
        holds: Which keys pause.
        metrics: In flight, delays.
        concurrency: How many.
        handler_seconds: A handler that takes longer is cancelled.
        short_deferral_seconds: Shorter deferrals are paused in memory.
        unknown_seconds: When to reconcile after a handler broke off between an intent and its answer.
        crashes_max: An event that has killed so many relays is given up.
    """

    scheduler: Scheduler
    handlers: Mapping[str, Handler]
    write_step: WriteStep
    settle: Callable[[Delivery, Outcome | Park | GiveUp], None]
    record_dispatch: Callable[[Event], Awaitable[None]]
    put_back: Callable[[Delivery], None]
    pause: Callable[[Delivery, float, DeferReason], None]
    in_doubt_count: Callable[[], int]
    settler_is_ready: Callable[[], bool]
    clock: DatabaseClock
    holds: Holds
    metrics: RelayMetrics
    concurrency: int
    handler_seconds: float
    short_deferral_seconds: float
    unknown_seconds: float
    crashes_max: int
    _alone: deque[Delivery] = field(default_factory=deque)
    _alone_now: Delivery | None = None
    _idle: deque[anyio.Event] = field(default_factory=deque)
    _one_is_waking: bool = False
    _running: dict[Delivery, anyio.CancelScope] = field(default_factory=dict)
    _overdue: set[Delivery] = field(default_factory=set)
    _resolving: set[Delivery] = field(default_factory=set)
    _given_up: set[Delivery] = field(default_factory=set)
    _scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _in_doubt_max: int = field(init=False)

    def __post_init__(self) -> None:
        self._in_doubt_max = max(IN_DOUBT_MAX, 2 * self.concurrency)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled or ended. Raises LeaseLost."""
        self.metrics.in_flight.set_function(lambda: len(self._running))
        with self._scope:
            async with anyio.create_task_group() as group:
                for _ in range(self.concurrency):
                    group.start_soon(self._work)
                group.start_soon(self._watch)
                task_status.started()

    def wake(self) -> None:
        """Deliveries may have become ready: let an idle worker take one, and wake the next one for the others.

        One at a time: where handlers are short, the first has taken all of them before a second one runs.
        """
        if self._idle and not self._one_is_waking and (self.scheduler.ready_count or self._alone):
            self._one_is_waking = True
            self._idle.popleft().set()

    def falls_behind(self) -> bool:
        """Tell whether more could run at once than does: no handler is slow, and no key, but we or the database."""
        return self.scheduler.ready_count >= self.concurrency > len(self._running)

    def busy_lanes(self) -> set[Lane]:
        """Return the lanes of which an event is in flight."""
        return {delivery.event.lane for delivery in (*self._running, *self._resolving)}

    def forget(self, lanes: Collection[Lane]) -> None:
        """Forget what waits to be alone of these lanes."""
        forgotten = [delivery for delivery in self._alone if delivery.event.lane in lanes]
        for delivery in forgotten:
            self._alone.remove(delivery)
            self.scheduler.finished(delivery)
            self.put_back(delivery)

    def give_up(self, lanes: Collection[Lane]) -> None:
        """End the handlers that work on events of these lanes, begin none more, and put the events back."""
        self._given_up.update([delivery for delivery in self._resolving if delivery.event.lane in lanes])
        for delivery, scope in self._running.items():
            if delivery.event.lane in lanes:
                self._given_up.add(delivery)
                scope.cancel()

    def end(self) -> None:
        """Cancel what is in flight: it stays in the log, with the steps that are durable."""
        self._scope.cancel()

    async def _work(self) -> None:
        while True:
            # One scope for as long as nothing takes too long: a scope for each event costs more than a short handler.
            with anyio.CancelScope() as scope:
                await self._work_in(scope)

    async def _work_in(self, scope: anyio.CancelScope) -> None:
        turns = 0
        while not scope.cancel_called:
            delivery = self._take()
            if delivery is None:
                turns = 0
                woken = anyio.Event()
                self._idle.append(woken)
                await woken.wait()
                self._one_is_waking = False
                continue
            self.wake()
            if delivery.resolution is not None:
                instead = await self._obey(delivery, delivery.resolution)
            else:
                instead = self._without_handler(delivery)
            self._conclude(delivery, instead or await self._handle(delivery, scope))
            turns += 1
            if turns >= _TURNS_MAX or self.settler_is_ready():
                turns = 0
                await checkpoint()

    async def _obey(self, delivery: Delivery, resolution: Resolution) -> Outcome | Park | GiveUp | PutBack | None:
        """Have a person's decision written, and return what becomes of the delivery; None: it is dispatched."""
        is_live = await self._resolve(delivery, resolution)
        if delivery in self._given_up:
            self._given_up.discard(delivery)
            return PutBack()
        return self._at_a_persons_word(delivery, resolution) if is_live else self._without_handler(delivery)

    async def _resolve(self, delivery: Delivery, resolution: Resolution) -> bool:
        """Make the step that a person's decision says, and tell whether it is that something is live."""
        if not resolution.applies_to(delivery.steps):
            return resolution.published
        ledger = Ledger(delivery.event, self.write_step, delivery.steps)
        self._resolving.add(delivery)
        try:
            if resolution.published:
                await ledger.done(resolution.name, resolution.detail)
            else:
                await ledger.refused(resolution.name, resolution.detail)
        finally:
            self._resolving.discard(delivery)
        log.info(
            "event.resolved",
            event_id=delivery.event.id,
            published=resolution.published,
            requested_by=resolution.requested_by,
        )
        return resolution.published

    def _take(self) -> Delivery | None:
        """Take a delivery that may run now: any, or, once nothing is in flight, one that killed a relay, alone."""
        if self.in_doubt_count() + len(self._running) >= self._in_doubt_max:
            return None
        if not self._alone and self._alone_now is None:
            delivery = self.scheduler.take()
            if delivery is None or not delivery.crash_count:
                return delivery
            log.warning("event.suspected", event_id=delivery.event.id, crash_count=delivery.crash_count)
            self._alone.append(delivery)
        # What can't be ended is not waited for: everything would stand still.
        if self._alone_now is not None or len(self._running) > len(self._overdue) or self._resolving:
            return None
        self._alone_now = self._alone.popleft()
        return self._alone_now

    async def _watch(self) -> None:
        """End the handlers that take too long, and tell of those that don't let themselves be ended."""
        while True:
            await anyio.sleep(min(1.0, self.handler_seconds / 4))
            overdue = time.monotonic() - self.handler_seconds
            for delivery, scope in list(self._running.items()):
                if delivery.dispatched_at >= overdue or delivery in self._overdue:
                    continue
                if not scope.cancel_called:
                    scope.cancel()
                    continue
                self._overdue.add(delivery)
                if delivery is self._alone_now:
                    self._alone_now = None
                log.error(
                    "handler.overdue",
                    event_id=delivery.event.id,
                    type=delivery.event.type,
                    handled_seconds=round(time.monotonic() - delivery.dispatched_at, 3),
                    what_to_do="restart the relay; have it obey its cancellation, as a thread does not",
                )
                self.wake()

    def _at_a_persons_word(self, delivery: Delivery, resolution: Resolution) -> Outcome | None:
        """Return how an event ends that a person says is live, where no handler may be called; None where one may."""
        if delivery.event.type in self.handlers and delivery.crash_count < self.crashes_max:
            return None
        return Published(resolution.detail)

    def _without_handler(self, delivery: Delivery) -> Outcome | Park | GiveUp | None:
        """Return what becomes of a delivery that is not dispatched; None for one that is."""
        event = delivery.event
        ends: Outcome | None = Cancelled() if delivery.cancelled and not delivery.may_be_live else None
        if ends is None and event.expires_at is not None and has_expired(delivery, database_now=self.clock.now()):
            ends = Expired()
        if ends is not None:
            return Unknown("a person has to look at the account before it ends", None) if delivery.is_in_doubt else ends
        if event.type not in self.handlers:
            known = ", ".join(sorted(self.handlers)) or "none is installed"
            return GiveUp(f"no handler for events of type {event.type!r}: expected one of {known}", "unknown_type")
        if delivery.crash_count >= self.crashes_max:
            return GiveUp(f"{delivery.crash_count} relays died while they handled it", "crashed_relay")
        if event.publish_at is None and not self.holds:
            return None
        return admit(delivery, now=time.monotonic(), database_now=self.clock.now(), holds=self.holds)

    async def _handle(self, delivery: Delivery, scope: anyio.CancelScope) -> Outcome | Park | PutBack:
        now = time.monotonic()
        if not delivery.dispatched_at and delivery.reason in _PROMPT:
            self.metrics.dispatch_delay.observe(self.clock.at(now) - delivery.event.owed_since.timestamp())
        delivery.dispatched_at = now
        delivery.first_dispatched_at = delivery.first_dispatched_at or now
        self._running[delivery] = scope
        try:
            outcome = await (self._traced(delivery, scope) if trace.is_on() else self._call(delivery, scope))
        finally:
            del self._running[delivery]
            self._overdue.discard(delivery)
        self._given_up.discard(delivery)
        if not isinstance(outcome, str):
            return outcome
        return Unknown(outcome, self.unknown_seconds) if delivery.has_open_intent else Retry(outcome)

    async def _traced(self, delivery: Delivery, scope: anyio.CancelScope) -> Outcome | Park | PutBack | str:
        """Call the handler in a span of the event's trace."""
        with trace.dispatch(delivery.event) as span:
            outcome = await self._call(delivery, scope)
            span.set_attribute("outbox.outcome", "broken off" if isinstance(outcome, str) else type(outcome).__name__)
        delivery.traced = (span.get_span_context(), time.monotonic())
        return outcome

    async def _call(self, delivery: Delivery, scope: anyio.CancelScope) -> Outcome | Park | PutBack | str:
        """Call the handler, and return its outcome or what went wrong with it."""
        event = delivery.event
        ledger = Ledger(event, self.write_step, delivery.steps, delivery.attempts, delivery.deferrals)
        try:
            if delivery.suspect:
                await self.record_dispatch(event)
                delivery.on_record = True
            outcome: object = await self.handlers[event.type](event, ledger)  # others write handlers, not all typed
        except LeaseLost:
            raise
        except (EventCancelled, EventResolved, DeadlinePassed, EventHeld) as refusal:
            return _of_refusal(refusal)
        except anyio.get_cancelled_exc_class():
            if delivery in self._given_up:
                return PutBack()
            if scope.cancel_called:
                return f"the handler took longer than {self.handler_seconds:g} s"
            if anyio.current_effective_deadline() == -math.inf:
                raise  # the relay shuts down, or has lost its lease
            return "the handler cancelled itself"
        except Exception as raised:  # one event suffers, not the relay
            log.exception("handler.raised", event_id=event.id, type=event.type)
            return redact(f"the handler raised {type(raised).__name__}: {raised}")
        if not isinstance(outcome, Outcome):
            return f"the handler returned {type(outcome).__name__}, expected an outcome"
        wrong = flaw(outcome)
        return outcome if wrong is None else f"the handler returned a flawed {type(outcome).__name__}: {wrong}"

    def _conclude(self, delivery: Delivery, outcome: Outcome | Park | GiveUp | PutBack) -> None:
        self.scheduler.finished(delivery)
        if delivery is self._alone_now:
            self._alone_now = None
        match outcome:
            case Published():  # first, for most are
                self.settle(delivery, outcome)
            case PutBack():
                self.put_back(delivery)
            case Defer() if self._stays_in_memory(delivery, outcome):
                delivery.deferrals += 1
                self.pause(delivery, max(outcome.delay_seconds, _PAUSE_SECONDS_MIN), outcome.reason)
            case _:
                self.settle(delivery, outcome)

    def _stays_in_memory(self, delivery: Delivery, outcome: Defer) -> bool:
        # What a suspect is cleared of must be durable.
        return outcome.error is None and outcome.delay_seconds < self.short_deferral_seconds and not delivery.suspect


def _of_refusal(refusal: EventCancelled | EventResolved | DeadlinePassed | EventHeld) -> Outcome | Park:
    """Return what becomes of an event whose intent was refused."""
    match refusal:
        case EventCancelled():
            return Cancelled(str(refusal))
        case EventResolved():
            return Unknown(str(refusal), 0.0)
        case DeadlinePassed():
            return Expired(str(refusal))
        case EventHeld():
            return Park(Reason.HELD, 0.0)  # until the hold ends, as the database knows
        case _:
            assert_never(refusal)
