"""Whether a verdict sees what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from outbox.event import EventId
from relay.demo.script import STORIES, TROUBLES, Fate, Story
from relay.demo.verdict import Evidence, Post, judge
from relay.demo.watch import Job

BEGAN_AT = datetime(2026, 1, 1, tzinfo=UTC)


def good() -> Evidence:
    """What a run finds in which everything came out as expected."""
    return Evidence(
        posts=[
            Post(story.file_name, (due_at(story) + timedelta(seconds=story.number)).timestamp())
            for story in STORIES
            if story.fate is Fate.PUBLISHED
        ],
        jobs={story.number: job(story) for story in STORIES if story.fate is not Fate.ROLLED_BACK},
        fault_hits=[1] * len(TROUBLES),
        settled={"published": 38, "dead": 1, "expired": 0},
    )


def due_at(story: Story) -> datetime:
    """When a story is due."""
    return BEGAN_AT + timedelta(seconds=story.ahead_seconds or 0)


def job(story: Story) -> Job:
    """Return the event of a story as it should have ended."""
    lost = {trouble.number for trouble in TROUBLES if trouble.loses_answer}
    return Job(
        id=EventId(story.number),
        variant_id=UUID(int=story.number),
        key=story.account.name,
        status=story.fate.value,
        reason=None,
        attempts=0,
        deferrals=0,
        error=None,
        sequence=story.sequence,
        publish_at=None if story.ahead_seconds is None else due_at(story),
        due_at=due_at(story),
        settled_at=BEGAN_AT + timedelta(minutes=1),
        committed_at=BEGAN_AT,
        is_reconciled=story.number in lost,
    )


def moved(evidence: Evidence, name: str, seconds: float) -> Evidence:
    """Say that something went live at another time."""
    return replace(
        evidence,
        posts=[
            replace(post, published_at=post.published_at + seconds) if post.file_name == name else post
            for post in evidence.posts
        ],
    )


def with_job(evidence: Evidence, number: int, **changes: object) -> Evidence:
    """Say that an event ended otherwise."""
    changed = replace(evidence.jobs[number], **changes)  # type: ignore[arg-type]  # by name, as the test says
    return replace(evidence, jobs={**evidence.jobs, number: changed})


def test_nothing_differs_in_a_good_run() -> None:
    """All checks hold when everything is as the script says."""
    assert [check for check in judge(good()) if not check.holds] == []


@pytest.mark.parametrize(
    ("spoil", "check", "found"),
    [
        (lambda e: replace(e, posts=[*e.posts, e.posts[0]]), "exactly once", "story 01 2 times, published"),
        (lambda e: replace(e, posts=e.posts[1:]), "exactly once", "story 01 0 times, published"),
        (lambda e: with_job(e, 2, status="waiting"), "exactly once", "story 02 1 times, waiting"),
        (lambda e: replace(e, posts=[*e.posts, Post("other.jpg", 0)]), "nothing else", "other.jpg"),
        (lambda e: replace(e, posts=[*e.posts, Post("story-22.jpg", 0)]), "rolled back", "story 22"),
        (lambda e: replace(e, jobs={**e.jobs, 22: e.jobs[1]}), "rolled back", "story 22"),
        (lambda e: with_job(e, 27, status="published"), "media is missing", "story 27 published"),
        (lambda e: replace(e, posts=[*e.posts, Post("missing-27.jpg", 0)]), "media is missing", "story 27 live"),
        (lambda e: moved(e, "story-07.jpg", 5), "in their order", "opening day as [11, 7, 15]"),
        (lambda e: moved(e, "story-05.jpg", -60), "before its time", "story 05"),
        (lambda e: with_job(e, 3, is_reconciled=False), "answer was lost", "story 03"),
        (lambda e: with_job(e, 4, is_reconciled=True), "answer was lost", "story 04"),
        (lambda e: replace(e, fault_hits=[0, *e.fault_hits[1:]]), "faults", "story 03 0 times"),
        (lambda e: replace(e, settled={"published": 39, "dead": 1}), "/metrics", "39 published, 1 dead"),
    ],
)
def test_a_difference_is_found_and_named(spoil: Callable[[Evidence], Evidence], check: str, found: str) -> None:
    """Each thing that can go wrong fails the check that is about it, with what was found."""
    failed = [each for each in judge(spoil(good())) if not each.holds]
    assert any(check in each.expected and found in each.found for each in failed), failed
