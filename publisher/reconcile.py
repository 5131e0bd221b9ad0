"""What became of an irreversible call whose answer is unknown: from evidence to a verdict. Pure.

| handle            | live stories say       | verdict                                                  |
|-------------------|------------------------|----------------------------------------------------------|
| any               | one names the handle   | Live with its id (Facebook)                              |
| PUBLISHED         | exactly one fits       | Live with its id                                         |
| PUBLISHED         | anything else          | Live, id unknown                                         |
| ready             | one fits               | Live with its id                                         |
|                   | several fit            | Person                                                   |
|                   | none, for the 2nd time | Absent: the same handle may be published again           |
| processing        | as ready, but none     | Undecided: what was accepted may still go live           |
| failed, expired,  | one fits               | Live with its id                                         |
| gone              | several, or twice none | Person (Facebook, where the list is exact: Absent)       |
| any               | none, too early        | Undecided: look again                                    |

The container's word comes from Meta (IG Container reference): PUBLISHED is proof. A live Instagram story does not
name its container, so a story fits when it was not live before the call, appeared in the window around it, shows the
same kind of media, and is not known to the outbox as another event's. One event an account in flight makes that
sound, but for what a person posts by hand meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from publisher.story import HandleState, LiveStory, MediaType, Sight

WINDOW_BEFORE = timedelta(minutes=5)
WINDOW_AFTER = timedelta(minutes=15)
NEGATIVE_LOOKS_MIN = 2


@dataclass(frozen=True, slots=True)
class Live:
    """It is live; None where its id can't be told from others."""

    remote_id: str | None


@dataclass(frozen=True, slots=True)
class Absent:
    """It is not live: the call never took effect."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """Nothing was found, and it is too early to believe that: look again."""


@dataclass(frozen=True, slots=True)
class Person:
    """Only a person who looks at the account can tell."""

    why: str


Verdict: TypeAlias = Live | Absent | Undecided | Person
VERDICTS = ("live", "absent", "undecided", "person")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one irreversible call.

    Attributes:
        handle: What was to be published.
        names_its_handle: Whether live stories name the handle that they were made from.
        media_type: What it shows.
        intent_at: When the intent was written, by the database's clock.
        seconds_after_intent: How long after it this look began.
        live_before: The ids that were live before the call.
        known_elsewhere: The ids that other events of the outbox published.
        sight: What this look found.
        negative_looks: Looks before this one that found nothing.
    """

    handle: str
    names_its_handle: bool
    media_type: MediaType
    intent_at: datetime
    seconds_after_intent: float
    live_before: frozenset[str]
    known_elsewhere: frozenset[str]
    sight: Sight
    negative_looks: int


def decide(evidence: Evidence, reconcile_seconds: float) -> Verdict:
    """Return the verdict; a second negative look counts only `reconcile_seconds` after the intent."""
    state = evidence.sight.status.state
    fitting = candidates(evidence)
    if state is HandleState.PUBLISHED:
        return Live(fitting[0] if len(fitting) == 1 else None)
    if len(fitting) == 1:
        return Live(fitting[0])
    if fitting:
        return Person(f"{len(fitting)} new stories fit, and the API does not tell which is this event's")
    looks = evidence.negative_looks + 1
    if (
        state is HandleState.PROCESSING
        or looks < NEGATIVE_LOOKS_MIN
        or evidence.seconds_after_intent < reconcile_seconds
    ):
        return Undecided()
    if evidence.names_its_handle or state is HandleState.READY:
        return Absent()
    return Person(f"the container is {state} and no new story fits: it may have been published and removed, or never")


def candidates(evidence: Evidence) -> list[str]:
    """Return the ids of the live stories that may be this event's."""
    if evidence.names_its_handle:
        # Several posts of one handle are all this event's: the first is as good as any.
        return [story.id for story in evidence.sight.live if story.handle == evidence.handle][:1]
    return [story.id for story in evidence.sight.live if _fits(story, evidence)]


def _fits(story: LiveStory, evidence: Evidence) -> bool:
    """A time or kind that the answer leaves out excludes nothing: being new is the main evidence."""
    if story.id in evidence.live_before or story.id in evidence.known_elsewhere:
        return False
    if story.media_type is not None and story.media_type is not evidence.media_type:
        return False
    if story.published_at is None:
        return True
    return evidence.intent_at - WINDOW_BEFORE <= story.published_at <= evidence.intent_at + WINDOW_AFTER
