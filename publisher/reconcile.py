"""What became of an irreversible call whose answer is unknown: from evidence to a verdict. Pure.

| handle            | live posts say         | verdict                                                  |
|-------------------|------------------------|----------------------------------------------------------|
| any               | one names the handle   | Live with its id (Facebook)                              |
| PUBLISHED         | exactly one fits       | Live with its id                                         |
| PUBLISHED         | anything else          | Live, id unknown                                         |
| ready             | one fits               | Live with its id                                         |
|                   | one fits that may be   | Person: a list that lags shows it only now               |
|                   | an unnamed neighbour's |                                                          |
|                   | several fit            | Person                                                   |
|                   | none, for the 2nd time | Absent: the same handle may be published again           |
| processing        | as ready, but none     | Undecided: what was accepted may still go live           |
| failed, expired,  | one fits               | Live with its id                                         |
| gone              | several, or twice none | Person (Facebook, where the look is exact: Absent)       |
| gone              | none, not long enough  | Undecided: for now it may be only its status that can't  |
|                   |                        | be read                                                  |
| there is none     | as ready, but          | Person where another new post is there: it may be ours,  |
|                   |                        | with a text that Meta has changed                        |
| any               | none, too early        | Undecided: look again                                    |
| any               | one would fit, but     | Person: Meta's clock and ours differ, or somebody posted |
|                   | appeared up to an hour | it                                                       |
|                   | outside the window     |                                                          |
| any               | none, 23 hours later   | Person: a story has left every list, what was to be      |
|                   |                        | published has expired                                    |

The container's word comes from Meta (IG Container reference): PUBLISHED is proof. A live post of Instagram does not
name its container, so a post fits when it was not live before the call, appeared in the window around it, shows the
same kind of media and the same text, and is not known to the outbox as another event's. One event an account in flight
makes that sound, but for what a person posts by hand meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from publisher.placement import CLOCK_SLACK, HandleState, LivePost, PostType, Sight, text_digest

WINDOW_BEFORE = timedelta(minutes=5)
WINDOW_AFTER = timedelta(minutes=15)
NO_TEXT = text_digest("")
NEGATIVE_LOOKS_MIN = 2
LOOKING_SECONDS_MAX = 23 * 3600.0
"""So long after an intent looking ends: a story is live for 24 hours, containers and unpublished photos last as long
(Meta: IG User Stories, IG User Media, Page Photos), and the hour is for clocks that differ."""


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
        handles: What was to be published; empty where nothing is made first.
        names_its_handle: Whether live posts name the handle that they were made from.
        post_type: What it shows.
        text_digest: Of its text.
        intent_at: When the intent was written, by the database's clock.
        seconds_after_intent: How long after it this look began.
        live_before: The ids that were live before the call.
        known_elsewhere: The ids that other events of the outbox published.
        sight: What this look found.
        negative_looks: Looks before this one that found nothing.
        unnamed_elsewhere: Other events of the account that were published since shortly before, nobody knows as what.
        gone_seconds: For how long every look, up to this one, has found the handle gone.
    """

    handles: tuple[str, ...]
    names_its_handle: bool
    post_type: PostType
    text_digest: str | None
    intent_at: datetime
    seconds_after_intent: float
    live_before: frozenset[str]
    known_elsewhere: frozenset[str]
    sight: Sight
    negative_looks: int
    unnamed_elsewhere: int = 0
    gone_seconds: float = 0.0


def decide(evidence: Evidence, reconcile_seconds: float, gone_seconds: float) -> Verdict:
    """Return the verdict.

    Args:
        evidence: What is known.
        reconcile_seconds: A second look that finds nothing counts only so long after the intent; longer where nothing
            but a list tells, which may lag (how long, Meta does not say: sheet 11, 5).
        gone_seconds: A handle is believed to be gone when it was for so long: for weeks in 2026 reads answered 100/33
            while publishing worked (postiz-app#1562), and a person can do no more than look again.
    """
    state = evidence.sight.status.state
    fitting = candidates(evidence)
    may_be_another = evidence.unnamed_elsewhere > 0 and not evidence.names_its_handle
    if state is HandleState.PUBLISHED:
        return Live(fitting[0] if len(fitting) == 1 and not may_be_another else None)
    if fitting and may_be_another:
        return Person("a new post fits, but it may be another event's that was published without a word on which it is")
    if len(fitting) == 1:
        return Live(fitting[0])
    if fitting:
        return Person(f"{len(fitting)} new posts fit, and the API does not tell which is this event's")
    if not evidence.handles and (others := _of_its_type(evidence)):
        return Person(f"{len(others)} new posts are live with another text, and the API does not tell whose they are")
    looks = evidence.negative_looks + 1
    if looks < NEGATIVE_LOOKS_MIN or evidence.seconds_after_intent < reconcile_seconds:
        return Undecided()
    if strays := [] if evidence.names_its_handle else _strays(evidence):
        return Person(
            f"{len(strays)} new posts fit but for the time of the call: their clock may be off, or somebody posted them"
        )
    if evidence.seconds_after_intent <= LOOKING_SECONDS_MAX:
        if state is HandleState.PROCESSING:
            return Undecided()
        if evidence.sight.is_exact or state is HandleState.READY:
            return Absent()
    if state is HandleState.GONE and evidence.gone_seconds < gone_seconds:
        return Undecided()
    return Person(f"what was published is {state} now and no new post fits: it may be live and removed, or never was")


def candidates(evidence: Evidence) -> list[str]:
    """Return the ids of the live posts that may be this event's."""
    if evidence.names_its_handle:
        # Several posts of one handle are all this event's: the first is as good as any.
        return [post.id for post in evidence.sight.live if post.handle in evidence.handles][:1]
    return [post.id for post in _new_posts(evidence) if _shows_the_same(post, evidence)]


def _strays(evidence: Evidence) -> list[LivePost]:
    """What would fit but for its time; of a text without a handle, whatever Meta has made of it."""
    if not evidence.handles:
        return _of_its_type(evidence, CLOCK_SLACK)
    return [post for post in _new_posts(evidence, CLOCK_SLACK) if _shows_the_same(post, evidence)]


def _of_its_type(evidence: Evidence, slack: timedelta = timedelta()) -> list[LivePost]:
    return [post for post in _new_posts(evidence, slack) if post.post_type in {None, evidence.post_type}]


def _new_posts(evidence: Evidence, slack: timedelta = timedelta()) -> list[LivePost]:
    return [post for post in evidence.sight.live if _is_new(post, evidence, slack)]


def _is_new(post: LivePost, evidence: Evidence, slack: timedelta) -> bool:
    """A time that the answer leaves out excludes nothing: not having been live is the main evidence."""
    if post.id in evidence.live_before or post.id in evidence.known_elsewhere:
        return False
    if post.published_at is None:
        return True
    since, until = evidence.intent_at - WINDOW_BEFORE - slack, evidence.intent_at + WINDOW_AFTER + slack
    return since <= post.published_at <= until


def _shows_the_same(post: LivePost, evidence: Evidence) -> bool:
    """A kind or a text that the answer leaves out excludes nothing either."""
    if post.post_type is not None and post.post_type is not evidence.post_type:
        return False
    if post.post_type is None and not evidence.handles and evidence.text_digest == NO_TEXT:
        return False  # Without a text nor a handle a post is known by nothing: any photo without a caption would do.
    return None in (post.text_digest, evidence.text_digest) or post.text_digest == evidence.text_digest
