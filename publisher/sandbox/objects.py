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
    """What a post shows."""

    PHOTO = "photo"
    VIDEO = "video"
    CAROUSEL = "carousel"
    TEXT = "text"


class Placement(StrEnum):
    """Where a post appears; an item appears inside a carousel."""

    STORY = "story"
    FEED = "feed"
    REEL = "reel"
    ITEM = "item"


class MediaProblem(StrEnum):
    """Why a file can't be used."""

    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    TOO_SMALL = "too_small"
    ASPECT_RATIO = "aspect_ratio"
    THUMBNAIL_OFFSET = "thumbnail_offset"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look into a file found; a duration only of a video that is good."""

    problem: MediaProblem | None = None
    duration_seconds: float | None = None
    is_jpeg: bool = True


StatusCode = Literal["IN_PROGRESS", "FINISHED", "PUBLISHED", "ERROR", "EXPIRED"]
TokenState = Literal["valid", "expired", "password_changed", "unconfirmed", "role_lost"]
TokenKind = Literal["page", "user", "instagram"]


@dataclass(slots=True, eq=False)
class Token:
    """An access token, good for one account or for several; `expires_at` null: never."""

    value: str
    issued_at: float
    kind: TokenKind = "page"
    expires_at: float | None = None
    state: TokenState = "valid"
    user_id: str | None = None
    accounts: dict[str, Account] = field(default_factory=dict)

    def state_at(self, now: float) -> TokenState:
        """Return its state: time alone makes it expire."""
        is_over = self.expires_at is not None and now >= self.expires_at
        return "expired" if self.state == "valid" and is_over else self.state


@dataclass(slots=True, eq=False)
class Account:
    """An Instagram professional account or a Facebook Page.

    `scoped_id` is the second id that an account of Instagram Login has. `missing_scopes` are permissions that its token
    was not given, or has lost. Both lists of posts are in the order of
    their publishing.
    """

    id: str
    platform: Platform
    name: str
    token: Token
    business_id: str
    scoped_id: str | None = None
    quota_total: int | None = None
    usage: dict[str, int] = field(default_factory=dict)
    missing_scopes: list[str] = field(default_factory=list)
    containers_created_at: deque[float] = field(default_factory=deque)
    published_at: deque[float] = field(default_factory=deque)
    reels_at: deque[float] = field(default_factory=deque)
    stories: list[Post] = field(default_factory=list)
    feed: list[Post] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Details:
    """What goes with the media: text, places and people."""

    caption: str | None = None
    title: str | None = None
    link: str | None = None
    alt_text: str | None = None
    location_id: str | None = None
    user_tags: tuple[dict[str, object], ...] = ()
    collaborators: tuple[str, ...] = ()
    share_to_feed: bool = True
    cover_url: str | None = None
    thumb_offset: int | None = None


@dataclass(slots=True, eq=False)
class Post:
    """Something that went live: one object each time that it did.

    `published_at` lies ahead for what is scheduled, and is infinite for what is not published. A carousel's
    `items` are posts of their own, which no list shows.
    """

    id: str
    account: Account
    medium: Medium
    placement: Placement
    source_urls: tuple[str, ...]
    made_from: tuple[Container | Photo | Video, ...]
    published_at: float
    visible_at: float
    permalink_number: str
    details: Details = field(default_factory=Details)
    items: tuple[Post, ...] = ()

    def is_live(self, now: float) -> bool:
        """Tell whether it is published; a story stays so for 24 hours."""
        ended = self.placement is Placement.STORY and now >= self.published_at + DAY_SECONDS
        return self.published_at <= now and not ended

    def is_listed(self, now: float) -> bool:
        """Tell whether a reader of a list sees it, which may be later."""
        return self.is_live(now) and self.visible_at <= now


@dataclass(slots=True, eq=False)
class Container:
    """Media on its way to an Instagram account.

    One that awaits an upload is in progress until its file is here; a carousel's is ready when its children are.
    """

    id: str
    account: Account
    placement: Placement
    medium: Medium
    created_at: float
    ready_at: float
    checked: bool
    source_url: str | None = None
    details: Details = field(default_factory=Details)
    children: tuple[Container, ...] = ()
    awaits_upload: bool = False
    received_bytes: int = 0
    uploaded_at: float | None = None
    problem: MediaProblem | None = None
    subcode: int | None = None
    is_jpeg: bool = True
    posts: list[Post] = field(default_factory=list)

    @property
    def source_urls(self) -> tuple[str, ...]:
        """The URLs of its media; a carousel has its children's."""
        if self.children:
            return tuple(url for child in self.children for url in child.source_urls)
        return (self.source_url,) if self.source_url else ()

    def is_expired(self, now: float) -> bool:
        """Tell whether its 24 hours are over."""
        return now >= self.created_at + DAY_SECONDS

    def status_code(self, now: float) -> StatusCode:
        """Return what `status_code` reads (Meta: IG Container reference)."""
        if self.posts:
            return "PUBLISHED"
        if self.is_expired(now):
            return "EXPIRED"
        states = {child.status_code(now) for child in self.children}
        if self.problem is not None or self.subcode is not None or states & {"ERROR", "EXPIRED"}:
            return "ERROR"
        return "FINISHED" if self.checked and now >= self.ready_at and "IN_PROGRESS" not in states else "IN_PROGRESS"


@dataclass(slots=True, eq=False)
class Photo:
    """A photo of a Page."""

    id: str
    account: Account
    source_url: str | None
    created_at: float
    details: Details = field(default_factory=Details)
    posts: list[Post] = field(default_factory=list)

    @property
    def source_urls(self) -> tuple[str, ...]:
        """The URL of its file, or the file's name."""
        return (self.source_url,) if self.source_url else ()

    def is_gone(self, now: float) -> bool:
        """Tell whether Meta deleted it: an unpublished photo lives for 24 hours."""
        return not self.posts and now >= self.created_at + DAY_SECONDS


@dataclass(slots=True, eq=False)
class Video:
    """A video of a Page, from `start` on; `due_at` when it is to be published by itself, once it is ready."""

    id: str
    account: Account
    created_at: float
    placement: Placement = Placement.STORY
    source_url: str | None = None
    details: Details = field(default_factory=Details)
    due_at: float | None = None
    session_id: str | None = None
    file_bytes: int | None = None
    received_bytes: int = 0
    uploaded_at: float | None = None
    ready_at: float = 0
    problem: MediaProblem | None = None
    subcode: int | None = None
    posts: list[Post] = field(default_factory=list)

    @property
    def source_urls(self) -> tuple[str, ...]:
        """The URL of its file."""
        return (self.source_url,) if self.source_url else ()


@dataclass(slots=True, eq=False)
class User:
    """A person who logged in: `me` of a User token."""

    id: str
    name: str


Made = Container | Photo | Video
Node = Account | User | Container | Photo | Video | Post
