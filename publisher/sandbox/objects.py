"""The objects of the simulated graph.

    container   IN_PROGRESS -> FINISHED -> PUBLISHED     or ERROR, or EXPIRED after 24 hours
    photo       unpublished -> published                 or gone after 24 hours
    video       uploading -> processing -> ready         published from finish on, or error

No state is stored that time alone changes: it follows from the instants, given a now.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

DAY_SECONDS = 86_400


class Platform(StrEnum):
    """Whose account it is."""

    INSTAGRAM = "instagram"
    FACEBOOK = "facebook"


class Medium(StrEnum):
    """What a story shows."""

    PHOTO = "photo"
    VIDEO = "video"


class MediaProblem(StrEnum):
    """Why a file can't be used."""

    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    TOO_SMALL = "too_small"


StatusCode = Literal["IN_PROGRESS", "FINISHED", "PUBLISHED", "ERROR", "EXPIRED"]
TokenState = Literal["valid", "expired", "password_changed", "unconfirmed", "role_lost"]


@dataclass(slots=True, eq=False)
class Token:
    """An access token, good for one account or for several."""

    value: str
    issued_at: float
    state: TokenState = "valid"
    accounts: list[Account] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Account:
    """An Instagram professional account or a Facebook Page."""

    id: str
    platform: Platform
    name: str
    token: Token
    business_id: str
    quota_total: int | None = None
    usage: dict[str, int] = field(default_factory=dict)
    containers_created_at: deque[float] = field(default_factory=deque)
    published_at: deque[float] = field(default_factory=deque)
    posts: list[Post] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Post:
    """Something that went live: one object each time that it did."""

    id: str
    account: Account
    medium: Medium
    source_url: str | None
    made_from: Container | Photo | Video
    published_at: float
    visible_at: float
    permalink_number: str
    is_story: bool = True

    def is_live(self, now: float) -> bool:
        """Tell whether a reader of the list of stories sees it."""
        return self.visible_at <= now < self.published_at + DAY_SECONDS


@dataclass(slots=True, eq=False)
class Container:
    """Media on its way to an Instagram account."""

    id: str
    account: Account
    medium: Medium
    source_url: str
    created_at: float
    ready_at: float
    checked: bool
    problem: MediaProblem | None = None
    posts: list[Post] = field(default_factory=list)

    def is_expired(self, now: float) -> bool:
        """Tell whether its 24 hours are over."""
        return now >= self.created_at + DAY_SECONDS

    def status_code(self, now: float) -> StatusCode:
        """Return what `status_code` reads (Meta: IG Container reference)."""
        if self.posts:
            return "PUBLISHED"
        if self.is_expired(now):
            return "EXPIRED"
        if self.problem is not None:
            return "ERROR"
        return "FINISHED" if self.checked and now >= self.ready_at else "IN_PROGRESS"


@dataclass(slots=True, eq=False)
class Photo:
    """A photo of a Page."""

    id: str
    account: Account
    source_url: str | None
    created_at: float
    posts: list[Post] = field(default_factory=list)

    def is_gone(self, now: float) -> bool:
        """Tell whether Meta deleted it: an unpublished photo lives for 24 hours."""
        return not self.posts and now >= self.created_at + DAY_SECONDS


@dataclass(slots=True, eq=False)
class Video:
    """A video story of a Page, from `start` on."""

    id: str
    account: Account
    created_at: float
    source_url: str | None = None
    received_bytes: int = 0
    uploaded_at: float | None = None
    ready_at: float = 0
    problem: MediaProblem | None = None
    posts: list[Post] = field(default_factory=list)


Node = Account | Container | Photo | Video | Post
