"""From an outcome to rows: pure."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from random import Random
from typing import assert_never

from outbox.batch import Ended, HoldRow, Receipt, Try, Wait
from outbox.ledger import live_step
from outbox.outcome import Cancelled, Dead, Defer, Expired, Hold, Outcome, Published, Reason, Retry, Unknown
from relay.backoff import Backoff
from relay.delivery import Delivery, GiveUp, Park

RECONCILE_FIRST_SECONDS = 5.0
"""The hold of an unknown outcome outlasts its wait: nothing else of the key may be dispatched before the reconcile."""


@dataclass(slots=True)  # frozen, it would cost five times as much to make
class Rows:
    """What one outcome writes: a receipt, or a waiting row with what goes beside it.

    `replaces_unwritable`: it stands for an outcome that PostgreSQL did not take.
    """

    receipt: Receipt | None = None
    wait: Wait | None = None
    tried: Try | None = None
    hold: HoldRow | None = None
    replaces_unwritable: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """How often a failing event is tried, and how long between two tries."""

    attempts_max: int
    backoff: Backoff
    random: Random


def decide(delivery: Delivery, outcome: Outcome | Park | GiveUp, policy: Policy) -> Rows:
    """Turn what became of a delivery into the rows that say so."""
    event = delivery.event
    match outcome:
        case Published():  # the one that is common: Python 3.11 takes long to take one apart by position
            return Rows(_receipt(delivery, "published", None, outcome.result, None))
        case Dead(error, reason, context):
            tried = None if context is None else Try(event, reason, error, context)
            return Rows(_receipt(delivery, "dead", reason, None, error), tried=tried)
        case Expired(error):
            return Rows(_receipt(delivery, "expired", None, None, error))
        case Cancelled(error):
            return Rows(_receipt(delivery, "cancelled", None, None, error))
        case Retry():
            return _retry(delivery, outcome, policy)
        case Defer(delay_seconds, reason, error, context):
            delivery.deferrals += 1
            tried = None if error is None else Try(event, reason, error, context)
            return Rows(wait=_wait(delivery, reason, delay_seconds, error), tried=tried)
        case Hold(delay_seconds, hold_reason, error, scope, context):
            delivery.deferrals += 1
            reason = Reason.RATE_LIMITED if hold_reason == Reason.RATE_LIMITED else Reason.HELD
            # An event without a key has nothing but itself to hold.
            held = scope == "app" or event.key is not None
            key = event.key if scope == "key" and event.key is not None else ""
            return Rows(
                wait=_wait(delivery, reason, delay_seconds, error),
                tried=Try(event, reason, error, context),
                hold=HoldRow(scope, key, delay_seconds, hold_reason) if held else None,
            )
        case Unknown(error, unknown_seconds, context, hold_reason):
            delivery.deferrals += 1
            hold = None
            if unknown_seconds is not None and event.key is not None:
                hold = HoldRow("key", event.key, unknown_seconds + RECONCILE_FIRST_SECONDS, hold_reason)
            return Rows(
                wait=_wait(delivery, Reason.UNKNOWN, math.inf if unknown_seconds is None else unknown_seconds, error),
                tried=Try(event, Reason.UNKNOWN, error, context),
                hold=hold,
            )
        case Park(reason, delay_seconds):
            return Rows(wait=_wait(delivery, reason, delay_seconds, None, for_hold=reason is Reason.HELD))
        case GiveUp(error, reason):
            return _give_up(delivery, error, reason)
        case _:
            assert_never(outcome)


def _retry(delivery: Delivery, outcome: Retry, policy: Policy) -> Rows:
    delivery.attempts += 1
    tried = Try(delivery.event, Reason.RETRY, outcome.error, outcome.context)
    if delivery.attempts >= policy.attempts_max:
        sentence = f"gave up after {delivery.attempts} attempts: {outcome.error}"
        return replace(_give_up(delivery, sentence, "attempts_exhausted"), tried=tried)
    delay = max(policy.backoff.delay_seconds(delivery.attempts, policy.random), outcome.after_seconds or 0)
    return Rows(wait=_wait(delivery, Reason.RETRY, delay, outcome.error), tried=tried)


def decide_unwritable(delivery: Delivery, rows: Rows, error: str) -> Rows:
    """Return what is written of an outcome that PostgreSQL does not take: what it says, without what it brings.

    Args:
        delivery: The delivery.
        rows: What could not be written.
        error: What is wrong with it.
    """
    sentence = f"what the handler returned can't be kept: {error}"
    receipt = rows.receipt
    if receipt is not None and receipt.outcome != "dead":  # it has ended so, whatever there was to tell of it
        return Rows(replace(receipt, result=None, error=sentence), replaces_unwritable=True)
    if rows.wait is not None and rows.wait.reason is Reason.UNKNOWN:
        return Rows(wait=_wait(delivery, Reason.UNKNOWN, math.inf, sentence), replaces_unwritable=True)
    return replace(_give_up(delivery, sentence, "invalid_outcome"), replaces_unwritable=True)


def _give_up(delivery: Delivery, error: str, reason: str) -> Rows:
    """End a delivery that is tried no more: what is live is not dead, and what may be waits for a person."""
    if delivery.has_open_intent:
        wait = _wait(delivery, Reason.UNKNOWN, math.inf, error)
        return Rows(wait=wait, tried=Try(delivery.event, Reason.UNKNOWN, error, None))
    live = live_step(delivery.steps)
    if live is not None:
        return Rows(_receipt(delivery, "published", None, live.detail, error))
    return Rows(_receipt(delivery, "dead", reason, None, error))


def _receipt(
    delivery: Delivery,
    outcome: Ended,
    reason: str | None,
    result: dict[str, object] | None,
    error: str | None,
) -> Receipt:
    first = delivery.first_dispatched_at
    seconds_ago = time.monotonic() - first if first else None
    attempts, deferrals = delivery.attempts, delivery.deferrals
    # By position: names cost as much as all the rest.
    return Receipt(delivery.event, outcome, reason, attempts, deferrals, result, error, seconds_ago, delivery.waiting)


def _wait(
    delivery: Delivery, reason: Reason, delay_seconds: float, error: str | None, *, for_hold: bool = False
) -> Wait:
    return Wait(delivery.event, reason, delay_seconds, delivery.attempts, delivery.deferrals, error, for_hold)
