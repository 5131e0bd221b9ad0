"""How long a commit takes to reach the handler."""

from __future__ import annotations

import pytest

from outbox.event import EventId
from relay.demo.dispatches import Dispatch, Dispatches, percentile
from relay.demo.play import settled_counts


def test_the_delay_is_from_the_commit_to_the_first_call() -> None:
    """Later calls of the same event don't count."""
    dispatches = Dispatches([Dispatch(EventId(1), "a", 15.0, 16.0), Dispatch(EventId(1), "a", 10.5, 11.0)])
    assert dispatches.delay_seconds(EventId(1), 10.0) == 0.5


def test_a_delay_behind_another_story_of_the_account_is_left_out() -> None:
    """One event of an account is in flight at a time: what waits for that says nothing of the relay."""
    dispatches = Dispatches([Dispatch(EventId(1), "a", 9.0, 10.2), Dispatch(EventId(2), "a", 10.2, 10.3)])
    assert dispatches.delay_seconds(EventId(2), 10.0) is None


def test_another_account_at_work_is_no_reason() -> None:
    """Accounts don't wait for each other."""
    dispatches = Dispatches([Dispatch(EventId(1), "b", 9.0, 10.2), Dispatch(EventId(2), "a", 10.25, 10.3)])
    assert dispatches.delay_seconds(EventId(2), 10.0) == 0.25


def test_an_event_that_was_never_dispatched_has_no_delay() -> None:
    """Nothing is made up for it."""
    assert Dispatches().delay_seconds(EventId(1), 10.0) is None


@pytest.mark.parametrize(("percent", "expected"), [(50, 2.0), (99, 4.0), (100, 4.0), (1, 1.0)])
def test_a_percentile_is_one_of_the_values(percent: float, expected: float) -> None:
    """The smallest value that so many percent are not above."""
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == expected


def test_settled_events_are_read_from_the_exposition() -> None:
    """Only the demo's event type counts."""
    exposition = """
# TYPE outbox_events_settled counter
outbox_events_settled_total{outcome="published",type="variant.created"} 38.0
outbox_events_settled_total{outcome="dead",type="variant.created"} 1.0
outbox_events_settled_total{outcome="dead",type="other"} 5.0
"""
    assert settled_counts(exposition) == {"published": 38, "dead": 1}
