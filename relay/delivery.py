"""An event in the hands of this relay, on its way from the log to a receipt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from outbox.event import Event, EventId
from outbox.ledger import Step, may_be_live, open_intent
from outbox.outcome import Reason
from outbox.resolution import Resolution
from outbox.suspects import Suspicion


@dataclass(slots=True, eq=False)
class Delivery:
    """An event and what has become of it so far.

    Attributes:
        event: The event.
        attempts: Tries that failed so far.
        deferrals: Waits so far that were no failure.
        reason: Why it waited last; None for an event that comes from the log.
        waiting: It has a row in `outbox.waiting`.
        cancelled: An operator asked to cancel it.
        steps: What its handler did before, oldest first.
        resolution: What a person decided about its open intent.
        suspect: A relay that died may have been handling it: its dispatch is recorded before it is made.
        on_record: Its dispatch is recorded: what comes of it clears the event.
        crash_count: How many relays are known to have died while they handled it: it is dispatched alone.
        traced: The span of its last dispatch and when that ended, where it is traced.
        dispatched_at: When the handler was called last, by `time.monotonic()`; 0 before.
        first_dispatched_at: The same, of the first call since the event is in hand.
    """

    event: Event
    attempts: int = 0
    deferrals: int = 0
    reason: Reason | None = None
    waiting: bool = False
    cancelled: bool = False
    steps: list[Step] = field(default_factory=list)
    resolution: Resolution | None = None
    traced: tuple[object, float] | None = None
    dispatched_at: float = 0
    first_dispatched_at: float = 0
    suspect: bool = False
    on_record: bool = False
    crash_count: int = 0

    @property
    def sequence(self) -> tuple[str, str] | None:
        """What orders it: (key, sequence)."""
        return self.event.sequence_key

    @property
    def has_open_intent(self) -> bool:
        """Whether an irreversible call of it may have gone through."""
        return open_intent(self.steps) is not None

    @property
    def may_be_live(self) -> bool:
        """Whether an irreversible call of it went through, or may have: it is seen to its end."""
        return may_be_live(self.steps)

    @property
    def is_in_doubt(self) -> bool:
        """Whether it waited as unknown though no step says why: recovery, or its handler, holds that it may be live."""
        return self.reason is Reason.UNKNOWN and self.resolution is None and not self.may_be_live

    @property
    def is_to_be_looked_at(self) -> bool:
        """Whether its next dispatch finds out what became of a call: no hold keeps it from that, least of all its own.

        Without an intent nothing but that it waits as unknown says so: it may not wait for anything else before.
        """
        return self.has_open_intent or (self.is_in_doubt and not self.dispatched_at)


def from_log(event: Event, steps: Mapping[EventId, list[Step]], known: Suspicion) -> Delivery:
    """Return the delivery of an event that comes from the log, with what predecessors did of it: nearly always none."""
    delivery = Delivery(event)
    if event.id in steps:
        delivery.steps = steps[event.id]
    if known.relay_died or known.crashes:
        delivery.crash_count = known.crashes.get(event.id, 0)
        delivery.suspect = known.relay_died or delivery.crash_count > 0
    return delivery


@dataclass(frozen=True, slots=True)
class Park:
    """Not dispatched: it waits for its time, for a hold to end, or behind another event of its sequence."""

    reason: Reason
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The relay tries it no more: dead, unless something is live, or may be."""

    error: str
    reason: str


@dataclass(frozen=True, slots=True)
class PutBack:
    """Its lane is given up: nothing is written, it stays in the log or in `outbox.waiting` as it is."""
