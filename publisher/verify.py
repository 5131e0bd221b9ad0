"""Whether a post that a restored log would publish is live already. Pure.

A restore forgets steps and receipts that Meta remembers. What the log knows of is whole up to an instant; a live post
that is younger, and that no step of the log names, was published by what was forgotten, or by hand:

| the event                                   | live posts say             | verdict                                   |
|---------------------------------------------|----------------------------|-------------------------------------------|
| is not due yet                              | anything                   | Absent                                    |
| has prepared a photo or video               | one names it (Facebook)    | Live with its id                          |
| was published, as its steps say             | anything                   | Continues: it only lacks the receipt      |
| was published, as what it has prepared says,| anything                   | Live, its id unknown where no post names  |
| and has no intent without an answer         |                            | what was prepared                         |
| has an intent without an answer             | no younger stranger        | Continues: the saga looks before it calls |
| a story that may be gone after 24 h         | anything                   | Person                                    |
| any other                                   | a stranger could be it     | Person                                    |
|                                             | no stranger                | Absent: it may be published               |

No post names the variant that it shows: one stranger on an account is enough for a person to look, for each event of
that account that it could be.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from publisher.placement import STORY_LIFE, LivePost, PostType
from publisher.reconcile import WINDOW_AFTER, WINDOW_BEFORE, Absent, Live, Person

MARGIN = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Continues:
    """Its steps lead the saga to look before it repeats anything: let the relay go on with it."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Looking failed: nothing is known. Look again."""

    why: str


Verdict: TypeAlias = Live | Absent | Person | Continues | Unreadable


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the restored log knows of an event.

    Attributes:
        account: The key, for people.
        is_story: It would be gone after a day.
        post_type: What it shows.
        text_digest: Of its text; None excludes no other.
        due_at: When it was to be published: its `publish_at`, or when it was emitted.
        handles: What it has prepared.
        is_done: A step says that it was published.
        is_prepared_published: What it has prepared was published, as Meta says.
        intent_at: When the intent was written of which nobody knows what became; None where there is none.
    """

    account: str
    is_story: bool
    post_type: PostType
    text_digest: str | None
    due_at: datetime
    handles: frozenset[str]
    is_done: bool
    is_prepared_published: bool
    intent_at: datetime | None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside the event.

    Attributes:
        now: The database's clock.
        known_until: What the log knows of is whole up to this instant.
        live: What is live on the account.
        known_ids: Those of the live ids that steps of any event name.
        known_handles: Those of the live posts' handles that other events have prepared.
    """

    now: datetime
    known_until: datetime
    live: tuple[LivePost, ...]
    known_ids: frozenset[str]
    known_handles: frozenset[str]


def verify(candidate: Candidate, around: Surroundings) -> Verdict:
    """Return what is to be done with an event that the restored log would publish."""
    if candidate.is_done:
        return Continues()
    if candidate.is_prepared_published and candidate.intent_at is not None:
        return Continues()
    ours = [post.id for post in around.live if post.handle is not None and post.handle in candidate.handles]
    if candidate.is_prepared_published:
        return Live(ours[0] if ours else None)
    if candidate.due_at > around.now and candidate.intent_at is None:
        return Absent()
    if ours:
        return Live(ours[0])
    strangers = [post for post in around.live if _could_be(post, candidate, around)]
    if candidate.intent_at is not None:
        # What appeared around the call is what the saga itself looks for.
        beyond = candidate.intent_at + WINDOW_AFTER
        strangers = [post for post in strangers if post.published_at is None or post.published_at > beyond]
        return _person(candidate, around, strangers) if strangers else Continues()
    if candidate.is_story and max(candidate.due_at, around.known_until) < around.now - STORY_LIFE + MARGIN:
        return Person(
            f"it was due on {candidate.account} more than a day ago: it may have been live and gone, "
            "and the log has lost what it knew"
        )
    return _person(candidate, around, strangers) if strangers else Absent()


def _could_be(post: LivePost, candidate: Candidate, around: Surroundings) -> bool:
    """A time, kind or text that the answer leaves out excludes nothing."""
    if post.id in around.known_ids or post.handle in around.known_handles:
        return False
    if post.post_type is not None and post.post_type is not candidate.post_type:
        return False
    if None not in (post.text_digest, candidate.text_digest) and post.text_digest != candidate.text_digest:
        return False
    since = max(around.known_until, candidate.due_at) - WINDOW_BEFORE
    return post.published_at is None or post.published_at >= since


def _person(candidate: Candidate, around: Surroundings, strangers: list[LivePost]) -> Person:
    ids = ", ".join(post.id for post in strangers[:5])
    more = f" and {len(strangers) - 5} more" if len(strangers) > 5 else ""
    return Person(
        f"it may be live: the log is whole until {around.known_until:%Y-%m-%dT%H:%M:%SZ}, and posts on "
        f"{candidate.account} that it does not know went live since: {ids}{more}"
    )
