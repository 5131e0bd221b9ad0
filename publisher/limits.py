"""From an error to how long to wait and who waits. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self, assert_never

from outbox.event import JsonObject
from outbox.outcome import Dead, Defer, Hold, Reason, Retry
from publisher.error_table import DAY, HOUR, SILENCE, UNLISTED, Reaction, Row
from publisher.errors import GraphError, NoAnswer, TooLate
from publisher.placement import ACCOUNT_READS
from publisher.reactions import classify, row_for

# "Bad parameter", and with 33 "the object does not exist": of a read neither says anything about the post.
UNREADABLE = 100
UNREADABLE_WAIT_SECONDS = (30.0, 900.0)
"""First and longest wait for what can't be read."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is kept in the ledger, for when it is certain that nothing was published."""

    row: Row
    message: str
    detail: JsonObject

    @classmethod
    def of(cls, error: GraphError | NoAnswer) -> Self:
        """Take what matters from an error."""
        row = classify(error, irreversible=False).row
        detail: JsonObject = {"error": str(error)}
        is_unknown_5xx = row is UNLISTED and isinstance(error, GraphError) and error.status >= 500
        if (row.is_outage or is_unknown_5xx) and not isinstance(error, TooLate):
            detail["is_outage"] = True
        if isinstance(error, GraphError):
            detail |= {
                "code": error.code,
                "subcode": error.subcode,
                "http_status": error.status,
                "fbtrace_id": error.fbtrace_id,
                "regain_seconds": error.regain_seconds,
                "is_transient": error.is_transient,
            }
        return cls(row, f"{error} ({row.meaning})", detail)

    @classmethod
    def read(cls, detail: JsonObject) -> Self:
        """Read it back from the ledger."""
        code = detail.get("code")
        row = SILENCE if code is None else row_for(code, detail.get("subcode"))
        return cls(row, f"{detail.get('error')} ({row.meaning})", detail)

    @property
    def is_outage(self) -> bool:
        """Whether Graph failed by itself, as an answer or the lack of one has shown."""
        return bool(self.detail.get("is_outage"))

    @property
    def regain_seconds(self) -> float | None:
        """How long Graph said that the limit lasts."""
        return self.detail.get("regain_seconds")

    def is_account_missing(self, endpoint: str) -> bool:
        """Tell whether a read says that the account itself does not exist for its token."""
        return (self.row.code, self.row.subcode) == (UNREADABLE, 33) and endpoint in ACCOUNT_READS

    def reaction(self, tried: int) -> Reaction:
        """Return what follows when the reaction was followed `tried` times before."""
        return self.row.reaction if self.row.tries is None or tried < self.row.tries else self.row.then


def outcome_of(
    failure: Failure, *, tried: int, elapsed_seconds: float = 0.0, limit_seconds: float = HOUR
) -> Dead | Hold | Retry:
    """Return what becomes of the event when it is certain that nothing was published.

    Args:
        failure: What went wrong.
        tried: How often the reaction was followed before.
        elapsed_seconds: How long ago that was.
        limit_seconds: How long a limit lasts where neither Graph nor the table says.
    """
    reaction = failure.reaction(tried)
    row, message, context = failure.row, failure.message, failure.detail
    match reaction:
        case Reaction.RETRY | Reaction.RECONCILE | Reaction.NEW_CONTAINER | Reaction.WAIT:
            return Retry(message, context=context)
        case Reaction.DEFER:
            wait = failure.regain_seconds or row.wait_seconds or limit_seconds
            if row.hold == "account":
                wait = max(wait, row.wait_seconds or 0.0)
            return Hold(max(wait - elapsed_seconds, 0.0), row.hold, message, scope=row.scope, context=context)
        case Reaction.TOKEN | Reaction.ACCOUNT:
            return Hold(math.inf, reaction.value, message, context=context)
        case Reaction.DEAD:
            return Dead(message)
        case _:
            assert_never(reaction)


def read_outcome_of(
    failure: Failure, endpoint: str, *, tried: int, waited_seconds: float, limit_seconds: float = HOUR
) -> Defer | Hold | Retry:
    """Return what becomes of the event when a read failed before anything was published.

    What can't be read is waited for, longer each time, and is no end: for weeks in 2026 reads answered 100/33 while
    publishing worked (postiz-app#1562). An account that does not exist for its token pauses, and is asked by the hour.

    Args:
        failure: What went wrong.
        endpoint: The call.
        tried: How often the reaction was followed before.
        waited_seconds: How long the post has been prepared; after a day each read that fails costs an attempt.
        limit_seconds: How long a limit lasts where neither Graph nor the table says.
    """
    outcome = outcome_of(failure, tried=tried, limit_seconds=limit_seconds)
    if failure.row.code != UNREADABLE and not isinstance(outcome, Dead):
        return outcome
    message, context = failure.message, failure.detail
    if failure.is_account_missing(endpoint):
        return Hold(limit_seconds, Reaction.ACCOUNT.value, message, context=context)
    if waited_seconds > DAY:
        return Retry(message, context=context)
    return Defer(growing(UNREADABLE_WAIT_SECONDS, waited_seconds), Reason.PROCESSING, message, context)


@dataclass(frozen=True, slots=True)
class Outage:
    """How long Graph has failed an event by itself, one call after the other.

    Attributes:
        count: How many calls, this one too.
        lasted_seconds: Since the first of them.
        left_seconds: Until the event expires; None where it never does.
    """

    count: int
    lasted_seconds: float
    left_seconds: float | None


def outage_outcome_of(failure: Failure, outage: Outage, first_and_longest: tuple[float, float]) -> Defer | Retry:
    """Return what becomes of the event when Graph failed by itself before anything was published.

    An outage is no fault of the event's, and costs no attempt: it is tried until it expires, and once more before that
    however late Graph comes back. Without a deadline it costs none for a day: what Graph fails with for longer may be
    what it makes of this content.

    Args:
        failure: What went wrong.
        outage: How long that has gone on.
        first_and_longest: The waits, in seconds; doubling.
    """
    if outage.left_seconds is None and outage.lasted_seconds > DAY:
        return Retry(failure.message, context=failure.detail)
    first, longest = first_and_longest
    wait = min(first * 2.0 ** min(outage.count - 1, 32), longest)
    if outage.left_seconds is not None:
        wait = min(wait, max(outage.left_seconds / 2, first))
    return Defer(wait, Reason.RATE_LIMITED, failure.message, failure.detail)


def growing(first_and_longest: tuple[float, float], elapsed_seconds: float) -> float:
    """Return the next wait of a doubling series from how long it has lasted: no counter needs to be kept."""
    first, longest = first_and_longest
    return min(max(elapsed_seconds, 0.0) + first, longest)
