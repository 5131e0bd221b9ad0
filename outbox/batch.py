"""What a relay has to write, as values, and as the arguments of the statement that writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from outbox.encode import encode, encode_numbers
from outbox.event import Event, EventId, JsonObject, Lane
from outbox.ledger import Step
from outbox.outcome import Reason

_CENTURY_SECONDS = 100 * 365.25 * 86_400

Ended = Literal["published", "dead", "cancelled", "expired"]
"""The values of `outbox.receipts.outcome`."""


@dataclass(slots=True)  # frozen, it would cost five times as much to make
class Receipt:
    """An event's end. `dispatched_seconds_ago`, the first time, is None for one that never was."""

    event: Event
    outcome: Ended
    reason: str | None
    attempts: int
    deferrals: int
    result: JsonObject | None
    error: str | None
    dispatched_seconds_ago: float | None
    was_waiting: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """A waiting row. `delay_seconds` may be `math.inf`: for another event, or for a person.

    It is due at the event's deadline at the latest, to expire then; but what may be live does not expire.

    `for_hold`: it waits for the holds on its key and on the app, and is due when the database says that they end, to
    the instant; at once where none stands any more.
    """

    event: Event
    reason: Reason
    delay_seconds: float
    attempts: int
    deferrals: int
    error: str | None
    for_hold: bool = False


@dataclass(frozen=True, slots=True)
class Try:
    """A row of `outbox.attempts`: a try that failed, or had the event wait, and has something to tell."""

    event: Event
    reason: str
    error: str
    context: JsonObject | None


@dataclass(frozen=True, slots=True)
class HoldRow:
    """A row of `outbox.holds`. `delay_seconds` may be `math.inf`."""

    scope: Literal["key", "app"]
    key: str
    delay_seconds: float
    reason: str


class StepRow(NamedTuple):
    """A row of `outbox.steps`. `call_seconds`: how long the lease must outlive now, for an intent."""

    event: Event
    step: Step
    call_seconds: float | None


@dataclass(slots=True)
class Batch:
    """What one statement writes; `suspects` are about to be dispatched, `acquitted` have come back from it."""

    receipts: list[Receipt] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    tries: list[Try] = field(default_factory=list)
    holds: list[HoldRow] = field(default_factory=list)
    steps: list[StepRow] = field(default_factory=list)
    suspects: list[Event] = field(default_factory=list)
    acquitted: list[EventId] = field(default_factory=list)

    def __bool__(self) -> bool:
        outcomes = self.receipts or self.waits or self.tries or self.holds
        return bool(outcomes or self.steps or self.suspects or self.acquitted)

    @property
    def is_plain(self) -> bool:
        """Whether it has receipts and steps alone, of events that did not wait: inserts."""
        others = self.waits or self.tries or self.holds or self.suspects or self.acquitted
        return not others and not any(row.was_waiting for row in self.receipts)

    @property
    def lanes(self) -> list[Lane]:
        """The lanes that this batch touches."""
        touched = {row.event.lane for row in self.receipts}
        touched.update(row.event.lane for row in self.waits)
        touched.update(row.event.lane for row in self.steps)
        touched.update(event.lane for event in self.suspects)
        return list(touched)


def arguments_of(batch: Batch) -> list[Any]:
    """Return the arguments of `outbox.settle.SETTLE` from $2 on; for a plain batch, those of `SETTLE_PLAIN`."""
    plain = [
        encode_numbers(batch.lanes),
        encode([_receipt_record(row) for row in batch.receipts]),
        encode([_step_record(row) for row in batch.steps]),
    ]
    if batch.is_plain:
        return plain
    return [
        *plain,
        _held_keys(batch.waits),
        encode([_hold_record(row) for row in batch.holds]),
        [row.event.id for row in batch.receipts if row.was_waiting],
        encode([_wait_record(row) for row in batch.waits]),
        encode([_try_record(row) for row in batch.tries]),
        [event.id for event in batch.suspects],
        batch.acquitted,
        [row.event.id for row in batch.waits],
    ]


def _receipt_record(row: Receipt) -> JsonObject:
    """Null or zero is what is left out, as most of it is: the server takes a tenth longer to read all of it."""
    record: JsonObject = {
        "event_id": row.event.id,
        "outcome": row.outcome,
        "dispatched_seconds_ago": row.dispatched_seconds_ago,
    }
    if row.attempts:
        record["attempts"] = row.attempts
    if row.deferrals:
        record["deferrals"] = row.deferrals
    if row.reason is not None:
        record["reason"] = row.reason
    if row.result:
        record["result"] = row.result
    if row.error is not None:
        record["error"] = row.error
    return record


def _wait_record(row: Wait) -> JsonObject:
    return {
        "event_id": row.event.id,
        "lane": row.event.lane,
        "key": row.event.key,
        "sequence": row.event.sequence,
        "reason": row.reason,
        "delay_seconds": _finite(row.delay_seconds),
        "for_hold": row.for_hold,
        "expires_at": None if row.reason is Reason.UNKNOWN else row.event.expires_at,
        "attempts": row.attempts,
        "deferrals": row.deferrals,
        "error": row.error,
        "owed_since": row.event.owed_since,
    }


def _held_keys(waits: Sequence[Wait]) -> list[str]:
    """The keys of the holds that are waited for; the app's is empty."""
    keys = {wait.event.key or "" for wait in waits if wait.for_hold}
    return sorted(keys | {""}) if keys else []


def _try_record(row: Try) -> JsonObject:
    return {"event_id": row.event.id, "reason": row.reason, "error": row.error, "context": row.context}


def _hold_record(row: HoldRow) -> JsonObject:
    return {
        "scope": row.scope,
        "key": row.key,
        "delay_seconds": _finite(row.delay_seconds),
        "reason": row.reason,
    }


def _step_record(row: StepRow) -> JsonObject:
    return {
        "event_id": row.event.id,
        "position": row.step.position,
        "name": row.step.name,
        "state": row.step.state,
        "fingerprint": row.step.fingerprint,
        "detail": row.step.detail,
        "call_seconds": row.call_seconds,
    }


def _finite(seconds: float) -> float | None:
    """JSON has no infinity: null stands for it. An instant that is too late for PostgreSQL is a century from now."""
    return max(-_CENTURY_SECONDS, min(seconds, _CENTURY_SECONDS)) if math.isfinite(seconds) else None
