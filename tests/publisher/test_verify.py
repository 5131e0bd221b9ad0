"""From what is live to what a restored log may publish: pure decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from publisher.placement import LivePost, PostType, text_digest
from publisher.reconcile import Absent, Live, Person
from publisher.verify import Candidate, Continues, Surroundings, Verdict, verify

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
KNOWN_UNTIL = NOW - timedelta(hours=2)


def candidate(
    *,
    due_hours_ago: float = 3,
    handles: frozenset[str] = frozenset(),
    is_done: bool = False,
    is_prepared_published: bool = False,
    intent_hours_ago: float = 0,
    is_story: bool = True,
) -> Candidate:
    return Candidate(
        account="instagram:1",
        is_story=is_story,
        post_type=PostType.IMAGE,
        text_digest=text_digest("Ripe"),
        due_at=NOW - timedelta(hours=due_hours_ago),
        handles=handles,
        is_done=is_done,
        is_prepared_published=is_prepared_published,
        intent_at=NOW - timedelta(hours=intent_hours_ago) if intent_hours_ago else None,
    )


def story(
    identity: str = "9",
    *,
    hours_ago: float = 1,
    handle: str | None = None,
    video: bool = False,
    text: str | None = None,
) -> LivePost:
    post_type = PostType.VIDEO if video else PostType.IMAGE
    return LivePost(
        identity, handle, post_type, None if text is None else text_digest(text), NOW - timedelta(hours=hours_ago)
    )


def around(
    *live: LivePost,
    known_until: datetime = KNOWN_UNTIL,
    known_ids: frozenset[str] = frozenset(),
    known_handles: frozenset[str] = frozenset(),
) -> Surroundings:
    return Surroundings(NOW, known_until, live, known_ids, known_handles)


@pytest.mark.parametrize(
    ("event", "world", "verdict"),
    [
        (candidate(), around(), Absent),
        (candidate(), around(story()), Person),
        (candidate(due_hours_ago=-1), around(story()), Absent),
        (candidate(), around(story(), known_ids=frozenset({"9"})), Absent),
        (candidate(), around(story(handle="h"), known_handles=frozenset({"h"})), Absent),
        (candidate(), around(story(video=True)), Absent),
        (candidate(), around(story(text="Ripe")), Person),
        (candidate(), around(story(text="Green")), Absent),
        (candidate(due_hours_ago=30, is_story=False), around(known_until=NOW - timedelta(hours=26)), Absent),
        (candidate(), around(story(hours_ago=2.5)), Absent),
        (candidate(due_hours_ago=0.5), around(story(hours_ago=1)), Absent),
        (candidate(), around(LivePost("9")), Person),
        (candidate(handles=frozenset({"h"})), around(story(handle="h")), Live),
        (candidate(handles=frozenset({"h"})), around(story(handle="other")), Person),
        (candidate(is_done=True), around(story()), Continues),
        (candidate(is_done=True, is_prepared_published=True), around(), Continues),
        (candidate(is_prepared_published=True), around(story()), Live),
        (candidate(is_prepared_published=True, intent_hours_ago=1), around(), Continues),
        (candidate(intent_hours_ago=1), around(story(hours_ago=1)), Continues),
        (candidate(intent_hours_ago=2), around(story(hours_ago=1)), Person),
        (candidate(intent_hours_ago=2), around(), Continues),
        (candidate(due_hours_ago=30), around(known_until=NOW - timedelta(hours=26)), Person),
        (candidate(due_hours_ago=3), around(known_until=NOW - timedelta(hours=26)), Absent),
    ],
)
def test_a_verdict(event: Candidate, world: Surroundings, verdict: type[Verdict]) -> None:
    """The table in `publisher.verify`, row by row."""
    assert isinstance(verify(event, world), verdict)


def test_a_person_is_told_which_stories_to_look_at() -> None:
    """At most five of them, and from when on the log is not whole."""
    verdict = verify(candidate(), around(*(story(str(number)) for number in range(7))))
    assert isinstance(verdict, Person)
    assert verdict.why == (
        "it may be live: the log is whole until 2026-11-25T10:00:00Z, and posts on instagram:1 that it does not know "
        "went live since: 0, 1, 2, 3, 4 and 2 more"
    )
