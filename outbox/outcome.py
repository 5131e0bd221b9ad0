"""What a handler returns. Only the relay's settler turns an outcome into rows.

| outcome   | meaning                                              | rows               |
|-----------|------------------------------------------------------|--------------------|
| Published | done                                                 | receipt            |
| Dead      | will never work                                      | receipt, attempt*  |
| Expired   | the deadline passed before anything irreversible     | receipt            |
| Cancelled | an operator asked, before anything irreversible      | receipt            |
| Retry     | failed before anything irreversible                  | attempt, waiting   |
| Defer     | not our turn yet; costs no attempt                   | waiting            |
| Hold      | the account or the app must pause; costs no attempt  | hold, waiting      |
| Unknown   | an irreversible call may have gone through           | attempt, waiting   |

(*) where it brings a context.

Times are delays in seconds from now, never instants: a handler does not know the database's clock, and the
database's is the only one that counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias, assert_never

from outbox.event import JsonObject


class Reason(StrEnum):
    """Why an event waits; the values of `outbox.waiting.reason`."""

    SCHEDULED = "scheduled"
    RETRY = "retry"
    PROCESSING = "processing"
    MISSING = "missing"
    RATE_LIMITED = "rate_limited"
    HELD = "held"
    PARKED = "parked"
    UNKNOWN = "unknown"


DeferReason: TypeAlias = Literal[Reason.PROCESSING, Reason.MISSING, Reason.RATE_LIMITED]

_DEFER_REASONS = (Reason.PROCESSING, Reason.MISSING, Reason.RATE_LIMITED)


@dataclass(frozen=True, slots=True)
class Published:
    """It is done; `result` is what to remember of it: remote ids, permalink."""

    result: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dead:
    """It will never work.

    Attributes:
        error: One sentence for people.
        reason: One word for filters.
        context: What helps to understand the last try; kept in `outbox.attempts`.
    """

    error: str
    reason: str = "rejected"
    context: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Expired:
    """The deadline passed before anything irreversible was begun."""

    error: str = "the deadline passed before it could be published"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """An operator cancelled it before anything irreversible was begun."""

    error: str = "cancelled by an operator"


@dataclass(frozen=True, slots=True)
class Retry:
    """It failed before anything irreversible, and costs an attempt.

    Attributes:
        error: One sentence.
        after_seconds: At least this long; None leaves it to the relay's backoff alone.
        context: What helps to understand the failure; kept in `outbox.attempts`.
    """

    error: str
    after_seconds: float | None = None
    context: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Defer:
    """Not our turn yet; costs no attempt and ends at the event's deadline only.

    Attributes:
        delay_seconds: How long; under `RelaySettings.short_deferral_seconds` it stays in memory and writes nothing.
        reason: Why.
        error: One sentence where there is something to tell; it makes a row in `outbox.attempts`.
        context: Kept beside the error.
    """

    delay_seconds: float
    reason: DeferReason
    error: str | None = None
    context: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """The event's key, or the whole app, must pause; the event waits with it and costs no attempt.

    Attributes:
        delay_seconds: How long; `math.inf` waits for a person.
        reason: One word: rate_limited, token, account.
        error: One sentence.
        scope: What pauses.
        context: Kept beside the error.
    """

    delay_seconds: float
    reason: str
    error: str
    scope: Literal["key", "app"] = "key"
    context: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """An irreversible call may have gone through. It is never repeated blindly: the next dispatch reconciles.

    The event's key pauses until then, so that what appears meanwhile can only be this event's.

    Attributes:
        error: One sentence: what is known, what is not.
        delay_seconds: When to reconcile (again); None waits for a person, and the key goes on.
        context: Kept beside the error.
        hold_reason: Why the key pauses, for people: that somebody has to act (token, account), or only that.
    """

    error: str
    delay_seconds: float | None
    context: JsonObject | None = None
    hold_reason: str = Reason.UNKNOWN.value


Ending: TypeAlias = Published | Dead | Expired | Cancelled
Waiting: TypeAlias = Retry | Defer | Hold | Unknown
Outcome: TypeAlias = Ending | Waiting


def flaw(outcome: Outcome) -> str | None:
    """Return in what an outcome that a handler made is none, for people; None where it is one: not all are typed."""
    match outcome:
        case Published():  # the one that is common: Python 3.11 takes long to take one apart by position
            return None if type(outcome.result) is dict else _flaw("result", outcome.result, Mapping)
        case Dead(error, reason, context):
            return _flaw("error", error, str) or _flaw("reason", reason, str) or _flaw_of_context(context)
        case Expired(error) | Cancelled(error):
            return _flaw("error", error, str)
        case Retry(error, after_seconds, context):
            delay = None if after_seconds is None else _flaw_of_delay("after_seconds", after_seconds)
            return _flaw("error", error, str) or delay or _flaw_of_context(context)
        case Defer(delay_seconds, reason, error, context):
            if reason not in _DEFER_REASONS:
                return f"expected reason to be one of {', '.join(_DEFER_REASONS)}, found {reason!r}"
            sentence = None if error is None else _flaw("error", error, str)
            return sentence or _flaw_of_delay("delay_seconds", delay_seconds) or _flaw_of_context(context)
        case Hold(delay_seconds, reason, error, scope, context):
            if scope not in ("key", "app"):
                return f"expected scope to be key or app, found {scope!r}"
            words = _flaw("error", error, str) or _flaw("reason", reason, str)
            return words or _flaw_of_delay("delay_seconds", delay_seconds) or _flaw_of_context(context)
        case Unknown(error, unknown_seconds, context, hold_reason):
            delay = None if unknown_seconds is None else _flaw_of_delay("delay_seconds", unknown_seconds)
            words = _flaw("error", error, str) or _flaw("hold_reason", hold_reason, str)
            return words or delay or _flaw_of_context(context)
        case _:
            assert_never(outcome)


def _flaw(name: str, value: object, expected: type) -> str | None:
    if isinstance(value, expected):
        return None
    return f"expected {name} to be a {expected.__name__}, found a {type(value).__name__}"


def _flaw_of_delay(name: str, seconds: object) -> str | None:
    if isinstance(seconds, int | float):
        try:
            is_nan = math.isnan(seconds)
        except OverflowError:
            return f"expected {name} to be a number of seconds, found an integer that no float holds"
        if not is_nan:
            return None
    return f"expected {name} to be a number of seconds, found {seconds!r:.40}"


def _flaw_of_context(context: object) -> str | None:
    return None if context is None else _flaw("context", context, Mapping)
