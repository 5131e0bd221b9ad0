"""The only writer of outcomes: all durable writes of a relay, one statement at a time, grouped.

    submitted -> [pending] -> gather -> [sealed] -> under way -> [untold] -> told
                 the next statement     made up     one at a time  where the next one is full, it goes out first

What becomes ready while a statement is under way, or within a few milliseconds, goes into the next one: under load a
commit carries hundreds of receipts, at rest a single one leaves at once. Receipts for which nobody waits gather longer.
An outcome that can't be written ends this incarnation; the next one finds the event where it was.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

import anyio
import structlog
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.batch import StepRow, Wait
from outbox.errors import (
    DeadlinePassed,
    EventCancelled,
    EventHeld,
    EventResolved,
    LeaseTooShort,
    Unwritable,
    VerifyOnly,
)
from outbox.event import Event, EventId, Lane, RelayId
from outbox.ledger import Step
from outbox.low_water import Cursor
from outbox.outcome import Cancelled, Outcome, Reason
from outbox.settle import promote, release, save_cursor, settle
from outbox.take_over import Doubt, hold_doubts, promote_orphans, put_doubts_first
from relay.decide import RECONCILE_FIRST_SECONDS, Policy, decide, decide_unwritable
from relay.delivery import Delivery, GiveUp, Park
from relay.holds import Holds
from relay.metrics import RelayMetrics
from relay.pending import Pending, PendingStep
from relay.report import report
from relay.scheduler import Scheduler

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(slots=True)
class Settler:
    """Writes outcomes, steps and cursors, and tells the relay when they are durable.

    Attributes:
        connection: Used by nothing else.
        relay_id: The incarnation that fences all writes.
        policy: How failing events are retried.
        scheduler: Told which sequences move on.
        holds: Told which keys pause.
        metrics: Counted when durable, not before.
        on_durable: Called with the deliveries that have a receipt or a waiting row now.
        on_waiting: Called with the seconds until a new waiting row is due.
        renew_lease: Renews the lease at once, for a call that it would not outlive.
        gather_seconds: What comes sooner after the beginning of the last statement goes together with the next one.
        gather_receipts_seconds: The same, while nothing comes but receipts for which nobody waits.
        gather_max: So many outcomes wait for no more: half of `relay.worker.IN_DOUBT_MAX`, where handlers stand still.
        settled_count: How many events it has settled.
        in_doubt_count: How many outcomes are submitted and not known to be durable.
    """

    connection: AsyncConnection[TupleRow]
    relay_id: RelayId
    policy: Policy
    scheduler: Scheduler
    holds: Holds
    metrics: RelayMetrics
    on_durable: Callable[[Sequence[Delivery]], None]
    on_waiting: Callable[[float], None]
    renew_lease: Callable[[], Awaitable[object]]
    gather_seconds: float = 0.004
    gather_receipts_seconds: float = 0.02
    gather_max: int = 250
    settled_count: int = 0
    in_doubt_count: int = 0
    _pending: Pending = field(default_factory=Pending)
    _has_work: bool = False
    _work: anyio.Event = field(default_factory=anyio.Event)
    _is_awaited: bool = False
    _must_look: anyio.Event = field(default_factory=anyio.Event)
    _gathering: anyio.Lock = field(default_factory=lambda: anyio.Lock(fast_acquire=True))
    _writing: anyio.Lock = field(default_factory=lambda: anyio.Lock(fast_acquire=True))
    _sealed: deque[Pending] = field(default_factory=deque)
    _untold: list[Pending] = field(default_factory=list)
    _began_at: float = -math.inf
    _is_over: bool = False

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write what is submitted, until cancelled; two of it at once, so that the server is not kept waiting.

        While the statement of one is under way, the other makes the next one up; where that is full, it goes out before
        anything is told of the one that came back.

        Raises:
            LeaseLost: This incarnation may write no more.
            psycopg.Error: Whether the last statement was written is not known.
        """
        task_status.started()
        while True:
            async with self._gathering:
                await self._work.wait()
                await self._gather()
                self._seal()
            await self._write_sealed()

    def settle(self, delivery: Delivery, outcome: Outcome | Park | GiveUp) -> None:
        """Submit what became of a delivery; it goes with the next statement."""
        rows = decide(delivery, outcome, self.policy)
        self._pending.add(delivery, rows)
        self.in_doubt_count += 1
        if len(self._pending.settled) == self.gather_max:
            self._must_look.set()
        if rows.wait is not None:
            self._park_followers(delivery)
        if rows.hold is not None:
            self.holds.hold(rows.hold.key or None, time.monotonic() + rows.hold.delay_seconds)
        self._wake(is_awaited=rows.wait is not None or delivery.event.sequence is not None)

    def _park_followers(self, delivery: Delivery) -> None:
        """Have what is behind a delivery in its sequence wait too, or end where it was cancelled and is not live."""
        for follower in self.scheduler.waits(delivery):
            ends = follower.cancelled and not (follower.may_be_live or follower.is_in_doubt)
            self.settle(follower, Cancelled() if ends else Park(Reason.PARKED, math.inf))

    async def write_step(self, event: Event, step: Step, call_seconds: float | None) -> datetime:
        """Make a step durable and return its `created_at`; see `outbox.ledger.WriteStep`."""
        for _ in range(2):
            written = PendingStep(StepRow(event, step, call_seconds))
            self._pending.add_step(written)
            self._wake(is_awaited=True)
            await self._pending.wait()
            if written.unwritable is not None:
                raise written.unwritable
            match written.verdict:
                case "written":
                    assert written.created_at is not None
                    return written.created_at
                case "cancelled":
                    raise EventCancelled(f"event {event.id} was cancelled by an operator")
                case "resolved":
                    raise EventResolved(f"a person says that event {event.id} is published: no other call is made")
                case "expired":
                    raise DeadlinePassed(f"event {event.id} expired before it could be published")
                case "held":
                    raise EventHeld(f"event {event.id} is held: its call is not made once more before the hold ends")
                case "verify_only":
                    raise VerifyOnly("relays may only verify since the cluster changed: run outbox recover")
                case _:
                    await self.renew_lease()
        raise LeaseTooShort(
            f"the lease of this relay can't outlive a call of {call_seconds:g} s: raise OUTBOX_LEASE_SECONDS"
        )

    async def record_dispatch(self, event: Event) -> None:
        """Make durable that a suspect is about to be handled."""
        self._pending.add_suspect(event)
        self._wake(is_awaited=True)
        await self._pending.wait()

    def acquit(self, delivery: Delivery) -> None:
        """Clear a suspect that was dispatched and came back without an outcome."""
        if delivery.on_record:
            self._pending.batch.acquitted.append(delivery.event.id)
            self._wake(is_awaited=False)

    def is_ready(self) -> bool:
        """Tell whether the next statement is full: made up, it goes out as soon as the server is free."""
        return len(self._pending.settled) >= self.gather_max and not self._sealed

    async def flush(self) -> None:
        """Write all that was submitted until now. Raises what `run` raises."""
        self._seal()
        await self._write_sealed()

    def _seal(self) -> None:
        """Make up a statement of what was submitted until now: they go out in the order in which they are sealed."""
        self._pending.seal()
        self._sealed.append(self._pending)
        self._pending = Pending()
        self._is_awaited = False
        if self._has_work:  # else somebody waits for the event
            self._has_work, self._work = False, anyio.Event()

    async def _write_sealed(self) -> None:
        """Write what the caller has sealed just now, when all that was sealed before is written, and tell of it."""
        async with self._alone():
            pending = self._sealed.popleft()
            if pending.batch:
                self._began_at = time.monotonic()
                written = await self._write(pending)
                if pending.written is not None:
                    pending.written.set()
                self._untold += written
                if not self._is_next_full or any(part.has_sequences for part in written):
                    self._tell_all()
                    for part in written:
                        await self._move_sequences(part)
        if self._untold:
            await checkpoint()  # the next statement goes out
            self._tell_all()

    @property
    def _is_next_full(self) -> bool:
        """Whether the statement that goes out next waits for nothing but this one."""
        return bool(self._sealed) and len(self._sealed[0].settled) >= self.gather_max

    def _tell_all(self) -> None:
        """Tell the relay what is durable now, in the order in which it was written."""
        untold, self._untold = self._untold, []
        for part in untold:
            self._tell(part)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Have the connection: one statement at a time, and whoever gathers looks again afterwards.

        Where one was not written, or it is not known whether, none comes after it: what is parked behind an event must
        not be durable where that event's own wait is not. Who waits for his turn is about to be cancelled.
        """
        try:
            async with self._writing:
                if self._is_over:
                    await anyio.sleep_forever()
                try:
                    yield
                except BaseException:
                    self._is_over = True
                    raise
        finally:
            self._must_look.set()

    async def _gather(self) -> None:
        """Wait for what goes together with what is there, for as long as that may wait."""
        while len(self._pending.settled) < self.gather_max:
            early_seconds = math.inf  # what is under way ends first
            if not self._writing.locked():
                gather_seconds = self.gather_seconds if self._is_awaited else self.gather_receipts_seconds
                early_seconds = self._began_at + gather_seconds - time.monotonic()
            if early_seconds <= 0:
                return
            self._must_look = anyio.Event()
            with anyio.move_on_after(early_seconds):
                await self._must_look.wait()

    def _wake(self, *, is_awaited: bool) -> None:
        if is_awaited and not self._is_awaited:
            self._is_awaited = True
            self._must_look.set()
        if not self._has_work:
            self._has_work = True
            self._work.set()

    async def save_cursors(self, low_waters: Callable[[], Iterable[tuple[Sequence[Lane], Cursor]]]) -> None:
        """Save low-water marks, as they are when it is their turn: lanes may be released before. Raises as `run`."""
        async with self._alone():
            for lanes, cursor in low_waters():
                await save_cursor(self.connection, self.relay_id, lanes, cursor)

    async def release(self, low_waters: Callable[[], Mapping[Lane, Cursor]]) -> None:
        """Give lanes up once all that was submitted until now is written. Raises what `run` raises."""
        await self.flush()
        async with self._alone():
            await release(self.connection, self.relay_id, low_waters())

    async def take_over(self, lanes: Sequence[Lane], in_doubt: Sequence[EventId]) -> list[Doubt]:
        """Let go on what a dead relay left parked in lanes that were just taken; hold what comes after a doubt.

        Returns the events in doubt, which wait for a look now. Raises what `run` raises.
        """
        doubts: list[Doubt] = []
        async with self._alone():
            if in_doubt:
                doubts = await put_doubts_first(self.connection, self.relay_id, lanes, in_doubt)
            await hold_doubts(self.connection, self.relay_id, lanes, RECONCILE_FIRST_SECONDS)
            await promote_orphans(self.connection, self.relay_id, lanes)
        for doubt in doubts:
            log.info("event.in_doubt", event_id=doubt.event_id, key=doubt.key)
        return doubts

    async def _write(self, pending: Pending) -> list[Pending]:
        """Write it whole, or where PostgreSQL refuses a row of it, each half: only the event at fault fails.

        Returns what was written.
        """
        try:
            verdicts = await settle(self.connection, self.relay_id, pending.batch, pending.arguments)
        except Unwritable as unwritable:
            halves = pending.halves() or [self._without_unwritable(pending, unwritable)]
            return [part for half in halves if half.batch for part in await self._write(half)]
        for step in pending.steps:
            step.verdict, step.created_at = verdicts[step.row.event.id, step.row.step.position]
        return [pending]

    def _tell(self, pending: Pending) -> None:
        """Tell the relay what is durable now."""
        self.holds.written([hold.key or None for hold in pending.batch.holds])
        if pending.settled:
            for delivery, rows in pending.settled:
                if rows.receipt is not None and delivery.event.sequence is not None:
                    self.scheduler.ended(delivery)  # not before: what follows must not be done where this is lost
            self.in_doubt_count -= len(pending.settled)
            self.on_durable([delivery for delivery, _ in pending.settled])
            self.settled_count += len(pending.settled)
            if pending.batch.waits:
                self._expect(pending.batch.waits)
            report(pending, self.metrics)

    def _without_unwritable(self, pending: Pending, unwritable: Unwritable) -> Pending:
        """Return what is written instead of one outcome, or one step, that can't be.

        Raises:
            Unwritable: That was such a replacement already.
        """
        instead = Pending()
        instead.batch.suspects = pending.batch.suspects
        instead.batch.acquitted = [*pending.batch.acquitted]
        for step in pending.steps:
            step.unwritable = unwritable
        for delivery, rows in pending.settled:
            if rows.replaces_unwritable:
                raise unwritable
            log.error("outcome.unwritable", event_id=delivery.event.id, error=str(unwritable))
            replaced = decide_unwritable(delivery, rows, str(unwritable))
            instead.add(delivery, replaced)
            if rows.wait is None and replaced.wait is not None:
                self._park_followers(delivery)
            if rows.hold is not None:  # it is not written: the next look finds none, and that counts
                self.holds.written([rows.hold.key or None])
        return instead

    async def _move_sequences(self, pending: Pending) -> None:
        """Let the next events of the sequences go on of which one ended, or parked behind one that has ended since."""
        moved: set[tuple[str, str]] = set()
        for delivery, rows in pending.settled:
            if delivery.event.sequence is None or (sequence := delivery.sequence) is None:
                continue
            ended = rows.receipt is not None and self.scheduler.is_blocked(sequence)
            parked = rows.wait is not None and rows.wait.reason is Reason.PARKED
            if ended or parked:
                moved.add(sequence)
        if moved:
            free = await promote(self.connection, self.relay_id, list(moved))
            # One that parks with a later statement was not there to be seen.
            later = (*self._sealed, self._pending)
            parking = {wait.event.sequence_key for pending in later for wait in pending.batch.waits}
            self.scheduler.unblock(sequence for sequence in free if sequence not in parking)
            self.on_waiting(0)

    def _expect(self, waits: Sequence[Wait]) -> None:
        """Have the timers look when the first of these is due."""
        # The database knows which comes first, the wait's end or a deadline, when a hold ends, and whether a person
        # has decided meanwhile.
        must_ask = any(
            wait.for_hold or wait.event.expires_at is not None or wait.reason is Reason.UNKNOWN for wait in waits
        )
        self.on_waiting(0 if must_ask else min(wait.delay_seconds for wait in waits))
