"""What Graph's errors mean and what follows: one row for each (code, subcode), as data.

Sources: "guide" is Meta's error-handling guide, "rates" its rate-limiting page, "codes" Instagram's error-code page,
"video" the Video API error codes, "photos" and "videos" the Page reference pages. Where Meta prints nothing, the row
names the public thread or project that recorded the error; what only projects report is marked "reported".

A row is `definite` when it certainly came before anything was published. Only these are, whatever the call: 100,
190, 10, 200 to 299, 9007/2207027, 24/2207006, 24/2207008, 9/2207042, 25/2207050. An error from `media_publish`
proves nothing by itself: 4/2207051 and 2 have been recorded with the post live (postiz-app#1681, koala#699).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

HOUR = 3600.0
DAY = 24 * HOUR


class Reaction(StrEnum):
    """What follows an error."""

    RETRY = "retry"
    RECONCILE = "reconcile"
    NEW_CONTAINER = "new_container"
    WAIT = "wait"
    DEFER = "defer"
    TOKEN = "token"  # noqa: S105 (the name of a reaction)
    ACCOUNT = "account"
    DEAD = "dead"


HOLDING = frozenset({Reaction.DEFER, Reaction.TOKEN, Reaction.ACCOUNT})
"""What follows is a pause of the account or of the app: nothing is said against the event, and it costs no attempt."""


@dataclass(frozen=True, slots=True)
class Row:
    """One error.

    Attributes:
        code: `error.code`, None where only the subcode is known.
        subcode: `error.error_subcode`, None for all subcodes without a row of their own.
        reaction: What follows, once it is certain that nothing was published.
        meaning: In a few words.
        source: Who says so.
        definite: It certainly came before anything was published.
        tries: How often the reaction is repeated before `then`; None leaves it to the usual bounds.
        then: What follows when the tries are used up.
        wait_seconds: For DEFER: how long, where Graph names no time; None leaves it to the settings.
        scope: For DEFER: who pauses.
        hold: For DEFER: the reason of the hold.
        is_outage: Meta fails by itself: no content and no account is to blame for it.
    """

    code: int | None
    subcode: int | None
    reaction: Reaction
    meaning: str
    source: str
    definite: bool = False
    tries: int | None = None
    then: Reaction = Reaction.DEAD
    wait_seconds: float | None = None
    scope: Literal["key", "app"] = "key"
    hold: Literal["rate_limited", "account"] = "rate_limited"
    is_outage: bool = False


RETRY, RECONCILE, NEW_CONTAINER, WAIT = Reaction.RETRY, Reaction.RECONCILE, Reaction.NEW_CONTAINER, Reaction.WAIT
DEFER, TOKEN, ACCOUNT, DEAD = Reaction.DEFER, Reaction.TOKEN, Reaction.ACCOUNT, Reaction.DEAD

GENERAL = (
    Row(1, None, RETRY, "unknown error, perhaps of down time", "guide", is_outage=True),
    Row(2, None, RETRY, "service error; seven copies were live after seven of them", "guide, koala#699",
        is_outage=True),
    Row(3, None, DEAD, "the app lacks the capability", "guide"),
    Row(4, None, DEFER, "the app's rate limit", "rates", scope="app"),
    Row(4, 2207051, DEFER, "action blocked as spam; seen with the post live", "codes, postiz-app#1681",
        wait_seconds=DAY, hold="account"),
    Row(9, 2207042, DEFER, "publishing quota used up", "codes", definite=True),
    Row(10, None, TOKEN, "permission missing or removed, or not a professional account", "guide", definite=True),
    # Of a token: an account has one of its own, and others of the same user pause when they meet it.
    Row(17, None, DEFER, "the user's rate limit", "rates"),
    Row(24, 2207006, NEW_CONTAINER, "media not found", "codes", definite=True, tries=2, then=TOKEN),
    Row(24, 2207008, WAIT, "unknown or expired container", "codes", definite=True, tries=2, then=NEW_CONTAINER),
    Row(25, 2207050, ACCOUNT, "account restricted", "codes", definite=True),
    Row(32, None, DEFER, "the Page's call limit", "rates"),
    Row(80001, None, DEFER, "the Page's business use case limit", "rates"),
    Row(80002, None, DEFER, "the Instagram account's business use case limit", "rates"),
    Row(100, None, DEAD, "bad parameter", "guide", definite=True),
    Row(100, 33, ACCOUNT, "the object does not exist for this token", "guide, postiz-app#1562", definite=True),
    Row(102, None, TOKEN, "session invalid", "guide"),
    Row(190, None, TOKEN, "access token invalid", "guide", definite=True),
    Row(190, 458, TOKEN, "app removed by the user", "guide", definite=True),
    Row(190, 459, ACCOUNT, "checkpoint: the user must log in", "guide", definite=True),
    Row(190, 460, TOKEN, "password changed", "guide", definite=True),
    Row(190, 463, TOKEN, "token expired", "guide", definite=True),
    Row(190, 464, ACCOUNT, "user not confirmed", "guide", definite=True),
    Row(190, 467, TOKEN, "token invalid", "guide", definite=True),
    Row(190, 492, ACCOUNT, "no role on the Page, or two-factor authentication missing", "guide", definite=True),
    Row(324, 2069019, RETRY, "image missing or invalid; called transient even when it is not", "reported", tries=2),
    Row(341, None, DEFER, "the app's limit", "guide", scope="app"),
    Row(352, 2207026, DEAD, "video format not supported", "codes"),
    Row(368, None, ACCOUNT, "blocked by policy", "guide"),
    Row(368, 1404006, ACCOUNT, "security check required", "reported"),
    Row(368, 1404078, ACCOUNT, "Page publishing authorization required", "reported"),
    Row(368, 1390008, DEFER, "posting too fast", "reported", wait_seconds=4 * HOUR),
    Row(368, 1404102, DEAD, "against community standards", "reported"),
    Row(368, 1346003, DEAD, "content called abusive", "reported"),
    Row(368, 1404112, ACCOUNT, "restricted for days", "reported"),
    Row(506, None, RECONCILE, "duplicate post: perhaps our own", "guide", tries=0),
    Row(613, None, DEFER, "a custom limit", "rates"),
    Row(613, 1996, DEFER, "inconsistent volume of calls", "rates"),
    Row(1609005, None, DEAD, "link can't be scraped", "reported"),
    Row(1500, None, DEAD, "link invalid", "reported"),
    Row(200, 1609008, DEAD, "links to facebook.com are not allowed", "reported", definite=True),
)  # fmt: skip

INSTAGRAM = (
    Row(-2, 2207003, RETRY, "media download timed out", "codes", tries=3),
    Row(-2, 2207020, NEW_CONTAINER, "media expired", "codes"),
    Row(-1, 2207001, RETRY, "Instagram server error", "codes", is_outage=True),
    Row(-1, 2207032, NEW_CONTAINER, "media could not be created", "codes"),
    Row(-1, 2207053, NEW_CONTAINER, "unknown upload error of a video", "codes"),
    Row(1, 2207057, DEAD, "thumbnail offset out of range", "codes"),
    Row(100, 2207023, DEAD, "unknown media type", "codes", definite=True),
    Row(100, 2207028, DEAD, "a carousel has 2 to 10 items", "codes", definite=True),
    Row(100, 2207035, DEAD, "product tag invalid", "codes", definite=True),
    Row(100, 2207036, DEAD, "product tag invalid", "codes", definite=True),
    Row(100, 2207037, DEAD, "product tag invalid", "codes", definite=True),
    Row(100, 2207040, DEAD, "too many tags", "codes", definite=True),
    Row(9004, 2207052, RETRY, "media could not be fetched; one of six equal images failed", "codes, postiz-app#1900",
        tries=3),
    Row(9007, 2207027, WAIT, "media not ready; seen right after FINISHED", "codes", definite=True, tries=12,
        then=NEW_CONTAINER),
    Row(36000, 2207004, DEAD, "image larger than 8 MiB", "codes"),
    Row(36001, 2207005, DEAD, "image format not supported", "codes"),
    Row(36003, 2207009, DEAD, "aspect ratio not supported", "codes"),
    Row(36004, 2207010, DEAD, "caption too long", "codes"),
    Row(36002, None, DEAD, "image resolution not supported", "reported"),
    Row(None, 2207013, TOKEN, "permission error", "reported"),
    Row(None, 2207065, DEAD, "user tags on a carousel", "reported"),
    Row(None, 2207076, NEW_CONTAINER, "upload failed: not directly downloadable", "reported", tries=1),
    Row(None, 2207077, NEW_CONTAINER, "video could not be downloaded or processed", "reported", tries=1),
    Row(None, 2207078, DEFER, "trial reel limit", "reported"),
    Row(None, 2207081, DEAD, "the account can't publish trial reels", "reported"),
    Row(None, 2207082, NEW_CONTAINER, "upload failed: file too heavy", "reported", tries=2),
    Row(None, 2207085, NEW_CONTAINER, "container locked or invalid; readings differ", "reported", tries=1),
)  # fmt: skip

PAGE = (
    Row(6000, None, RETRY, "problem with the file, or finished before it was uploaded", "video", tries=3),
    Row(6001, None, RETRY, "problem uploading", "video"),
    Row(382, None, DEAD, "video file too small", "videos"),
    Row(389, None, RETRY, "video could not be fetched", "videos", tries=3),
    Row(1363005, None, TOKEN, "no permission to publish video", "video"),
    Row(1363042, None, TOKEN, "no permission to publish video", "video"),
    Row(1363019, None, RETRY, "problem uploading", "video"),
    Row(1363020, None, DEAD, "no file chosen", "video"),
    Row(1363021, None, RETRY, "problem uploading", "video"),
    Row(1363022, None, DEAD, "video smaller than 1 KB", "video"),
    Row(1363023, None, DEAD, "video larger than 2 GB", "video"),
    Row(1363024, None, DEAD, "video format not supported", "video"),
    Row(1363025, None, DEAD, "video shorter than a second", "video"),
    Row(1363026, None, DEAD, "video longer than 40 minutes", "video"),
    Row(1363030, None, RETRY, "upload timed out", "video"),
    Row(1363031, None, DEAD, "not a video", "video"),
    Row(1363032, None, DEAD, "not a video", "video"),
    Row(1363033, None, RETRY, "upload interrupted", "video"),
    Row(1363037, None, NEW_CONTAINER, "wrong start offset: resumed where the error says, else a new session", "video"),
    Row(1363041, None, NEW_CONTAINER, "upload session expired", "video"),
    Row(1363045, None, NEW_CONTAINER, "size mismatch", "video"),
    Row(1363047, None, RETRY, "encoding, or temporarily unavailable; readings differ", "reported", tries=1),
    Row(1366046, None, DEAD, "file can't be read, or not of this kind; readings differ", "reported"),
    Row(1366051, None, RECONCILE, "these photos were posted already: perhaps by us", "reported", tries=0),
    Row(1390008, None, DEFER, "posting too fast", "reported", wait_seconds=4 * HOUR),
    Row(1349125, None, DEFER, "rate limit, or invalid content; readings differ", "reported", tries=1),
    Row(1609008, None, DEAD, "links to facebook.com are not allowed", "reported"),
    Row(1609010, None, RETRY, "encoding, or temporarily unavailable; readings differ", "reported", tries=1),
    Row(2061006, None, DEAD, "URL invalid, or video too short; readings differ", "reported"),
    Row(4854002, None, ACCOUNT, "identity must be confirmed before publishing as the Page", "reported"),
)  # fmt: skip

PERMISSION = Row(None, None, TOKEN, "permission missing (200 to 299)", "guide", definite=True)
UNLISTED = Row(None, None, RETRY, "an error that the table does not know", "this project")
SILENCE = Row(None, None, RETRY, "no definite answer: time-out, reset, 5xx, HTML", "postiz-app#1813", is_outage=True)
NOT_SENT = Row(None, None, RETRY, "nothing was sent", "this project", definite=True, is_outage=True)

TABLE = GENERAL + INSTAGRAM + PAGE
