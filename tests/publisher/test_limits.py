"""How long to wait, and who waits."""

from __future__ import annotations

import math
from functools import partial

import pytest

from outbox.outcome import Dead, Defer, Hold, Retry
from publisher.errors import GraphError, NoAnswer
from publisher.limits import Failure, growing, outcome_of, read_outcome_of
from publisher.placement import Endpoint
from publisher.usage import regain_seconds


def failure(code: int, subcode: int | None = None, regain: float | None = None) -> Failure:
    return Failure.of(GraphError("media", "Something", code=code, subcode=subcode, regain_seconds=regain))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"X-Business-Use-Case-Usage": '{"1":[{"estimated_time_to_regain_access":0}]}'}, None),
        ({"X-Business-Use-Case-Usage": '{"1":[{"estimated_time_to_regain_access":3}]}'}, 180.0),
        (
            {
                "X-Business-Use-Case-Usage": '{"1":[{"estimated_time_to_regain_access":3}],'
                '"2":[{"estimated_time_to_regain_access":19}]}'
            },
            1140.0,
        ),
        ({"X-Business-Use-Case-Usage": "{not json"}, None),
        ({"X-Business-Use-Case-Usage": '["what"]'}, None),
        ({"X-Business-Use-Case-Usage": '{"1":[{"estimated_time_to_regain_access":9999999}]}'}, 86_400.0),
        ({"X-Business-Use-Case-Usage": '{"1":[{"estimated_time_to_regain_access":true}]}'}, None),
        ({"Retry-After": "30"}, 30.0),
        ({"Retry-After": "30", "X-Business-Use-Case-Usage": '{"1":[{"estimated_time_to_regain_access":3}]}'}, 180.0),
        ({"Retry-After": "9" * 400}, 86_400.0),
        ({"Retry-After": "soon"}, None),
    ],
)
def test_the_regain_time_is_in_minutes_and_the_longest_counts(headers: dict[str, str], seconds: float | None) -> None:
    """Zero and nonsense say nothing."""
    assert regain_seconds(headers) == seconds


def test_a_limit_without_a_regain_time_holds_for_an_hour() -> None:
    """The default of the table."""
    outcome = outcome_of(failure(80002), tried=0)
    assert isinstance(outcome, Hold)
    assert (outcome.delay_seconds, outcome.scope) == (3600.0, "key")


def test_the_hour_is_a_setting() -> None:
    """An operator who knows better says how long; a time that Graph names still counts before it."""
    assert outcome_of(failure(80002), tried=0, limit_seconds=4.0).delay_seconds == 4.0  # type: ignore[union-attr]
    assert outcome_of(failure(80002, regain=60.0), tried=0, limit_seconds=4.0).delay_seconds == 60.0  # type: ignore[union-attr]


def test_a_hold_counts_from_the_answer() -> None:
    """Time that reconciling took is not waited again."""
    outcome = outcome_of(failure(80002, regain=120.0), tried=0, elapsed_seconds=61.0)
    assert isinstance(outcome, Hold)
    assert outcome.delay_seconds == 59.0


def test_a_blocked_action_holds_for_a_day_at_least() -> None:
    """A short regain time in the headers does not shorten it."""
    outcome = outcome_of(failure(4, 2207051, regain=60.0), tried=0)
    assert isinstance(outcome, Hold)
    assert (outcome.delay_seconds, outcome.reason) == (86_400.0, "account")


@pytest.mark.parametrize(("code", "subcode", "reason"), [(190, 463, "token"), (25, 2207050, "account")])
def test_what_only_a_person_can_mend_holds_without_end(code: int, subcode: int, reason: str) -> None:
    """Until the account is released."""
    outcome = outcome_of(failure(code, subcode), tried=0)
    assert isinstance(outcome, Hold)
    assert (outcome.delay_seconds, outcome.reason) == (math.inf, reason)


def test_tries_are_counted_before_it_is_dead() -> None:
    """Media that can't be fetched is tried three times more."""
    assert [type(outcome_of(failure(9004, 2207052), tried=n)) for n in range(5)] == [Retry, Retry, Retry, Dead, Dead]


@pytest.mark.parametrize(("code", "subcode"), [(100, 33), (100, None), (36000, 2207004), (3, None)])
def test_a_read_that_fails_is_never_the_end(code: int, subcode: int | None) -> None:
    """It is waited for, longer each time; after a day it costs attempts, which are bounded."""
    of_read = partial(read_outcome_of, failure(code, subcode), Endpoint.VIDEO, tried=99)
    delays = [of_read(waited_seconds=waited).delay_seconds for waited in (0.0, 100.0, 80_000.0)]  # type: ignore[union-attr]
    assert delays == [30.0, 130.0, 900.0]
    assert isinstance(of_read(waited_seconds=0.0), Defer)
    assert isinstance(of_read(waited_seconds=90_000.0), Retry)
    # What the table says of other errors holds for reads as well.
    assert isinstance(read_outcome_of(failure(190), Endpoint.VIDEO, tried=0, waited_seconds=0.0), Hold)


def test_an_account_that_is_not_there_pauses_and_is_asked_again() -> None:
    """Of its own list 100/33 is about the account, and may pass all the same (postiz-app#1562)."""
    outcome = read_outcome_of(failure(100, 33), Endpoint.PAGE_FEED, tried=0, waited_seconds=90_000.0)
    assert isinstance(outcome, Hold)
    assert (outcome.delay_seconds, outcome.reason, outcome.scope) == (3600.0, "account", "key")


@pytest.mark.parametrize(("code", "subcode"), [(4, 2207051), (190, 460), (2, None), (424242, None)])
def test_a_failure_comes_back_from_the_ledger_as_it_was(code: int, subcode: int | None) -> None:
    """What was answered holds later, in another process."""
    before = failure(code, subcode, regain=60.0)
    assert Failure.read({"look": 0, **before.detail}) == Failure(
        before.row, before.message, {"look": 0, **before.detail}
    )


def test_silence_comes_back_from_the_ledger_too() -> None:
    """As an error without a code."""
    assert Failure.read(Failure.of(NoAnswer("nothing came")).detail).row is Failure.of(NoAnswer("x")).row


def test_waits_double_without_a_counter() -> None:
    """Each wait is as long as all before, plus the first."""
    elapsed, waits = 0.0, []
    for _ in range(7):
        waits.append(growing((1, 15), elapsed))
        elapsed += waits[-1]
    assert waits == [1, 2, 4, 8, 15, 15, 15]
