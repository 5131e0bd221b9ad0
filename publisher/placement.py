"""What a placement can do: the surface on which the saga works.

    parts                       what is made first, in order, and nobody sees: containers, unpublished photos, videos
      create(before, file) -> Prepared
      send(...)                 where the bytes come from us, and later
      status(prepared)          whether it can be published
    live_ids(now)               what is live before the call, where that is needed to know ours afterwards
    publish(prepared)           irreversible
    look(handles, since)        what became of it
    live(since)                 what is live, whoever published it
    read_back(remote_id)        for people

Every method that calls may raise GraphError or NoAnswer.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

import orjson

from outbox.event import JsonObject


class Endpoint(StrEnum):
    """The calls that are made: the closed set of names in metrics and errors."""

    CREATE_CONTAINER = "create_container"
    CONTAINER = "container"
    MEDIA_PUBLISH = "media_publish"
    INSTAGRAM_STORIES = "instagram_stories"
    INSTAGRAM_MEDIA = "instagram_media"
    MEDIA = "media"
    PHOTOS = "photos"
    PHOTO = "photo"
    PHOTO_STORIES = "photo_stories"
    VIDEO_START = "video_start"
    VIDEO_UPLOAD = "video_upload"
    VIDEO_FINISH = "video_finish"
    VIDEO = "video"
    PAGE_STORIES = "page_stories"
    FEED_POST = "feed_post"
    PAGE_FEED = "page_feed"
    PAGE_REELS = "page_reels"
    POST = "post"
    PUBLISHING_LIMIT = "publishing_limit"
    ACCOUNT = "account"
    DEBUG_TOKEN = "debug_token"  # noqa: S105 (the name of a call)
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 (the name of a call)


CLOCK_SLACK = timedelta(hours=1)
"""How far Meta's clock and the database's differ at most: what is older by more than a call is not ours."""

STORY_LIFE = timedelta(hours=24)
"""How long a story is live (Meta: IG User Stories)."""

IRREVERSIBLE = frozenset({Endpoint.MEDIA_PUBLISH, Endpoint.PHOTO_STORIES, Endpoint.VIDEO_FINISH, Endpoint.FEED_POST})

READS = frozenset(
    {
        Endpoint.CONTAINER,
        Endpoint.INSTAGRAM_STORIES,
        Endpoint.INSTAGRAM_MEDIA,
        Endpoint.MEDIA,
        Endpoint.PHOTO,
        Endpoint.VIDEO,
        Endpoint.PAGE_STORIES,
        Endpoint.PAGE_FEED,
        Endpoint.PAGE_REELS,
        Endpoint.POST,
        Endpoint.PUBLISHING_LIMIT,
        Endpoint.ACCOUNT,
        Endpoint.DEBUG_TOKEN,
        Endpoint.REFRESH_TOKEN,
    }
)


ACCOUNT_READS = frozenset(
    {
        Endpoint.INSTAGRAM_STORIES,
        Endpoint.INSTAGRAM_MEDIA,
        Endpoint.PAGE_STORIES,
        Endpoint.PAGE_FEED,
        Endpoint.PAGE_REELS,
        Endpoint.ACCOUNT,
    }
)
"""Those of the account itself and of its lists: that it does not exist for the token is its own trouble (sheet 4.3)."""


class MediaType(StrEnum):
    """What a medium is; the values of `social.content_variants.media_type` and of `kind` in a list of media."""

    IMAGE = "image"
    VIDEO = "video"


class PostType(StrEnum):
    """What a live post shows."""

    IMAGE = "image"
    VIDEO = "video"
    CAROUSEL = "carousel"
    TEXT = "text"


class Medium(NamedTuple):
    """One image or video of a variant.

    Attributes:
        media_type: What it is.
        url: Where it is fetched.
        upload: The bytes are sent by us, instead of Meta fetching the URL.
        alt_text: What it shows, for people who do not see it.
        user_tags: Instagram users in it, as Meta takes them.
    """

    media_type: MediaType
    url: str
    upload: bool = False
    alt_text: str | None = None
    user_tags: list[JsonObject] | None = None


@dataclass(frozen=True, slots=True)
class File:
    """What is known of a medium before its bytes are sent: how many they are, and of a photo the bytes themselves."""

    size_bytes: int
    content: bytes = b""


class HandleState(StrEnum):
    """How a handle stands. GONE is also what Graph answers when it can't read one just now (100/33)."""

    PROCESSING = "processing"
    READY = "ready"
    PUBLISHED = "published"
    FAILED = "failed"
    EXPIRED = "expired"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class HandleStatus:
    """How a handle stands, with what Graph says of a failure, and how much of an upload has arrived."""

    state: HandleState
    text: str = ""
    received_bytes: int | None = None
    is_uploaded: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `create` made: its handle, and what later calls need beside it (an upload address, a session)."""

    handle: str
    more: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LivePost:
    """A post that is live: its id, the handle that it was made from where that is told, what it shows, and when."""

    id: str
    handle: str | None = None
    post_type: PostType | None = None
    text_digest: str | None = None
    published_at: datetime | None = None
    permalink: str | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look found: how the handle stands, and what is live now.

    Attributes:
        status: How the handle stands.
        live: What is live.
        is_exact: What was made from the handle would be in `live`, whatever its status says.
        forgets: What is live no more is not in `live`, and the status tells nothing of it.
        only_listed: Nothing but `live` tells of a call that went through, and that list may lag.
    """

    status: HandleStatus
    live: tuple[LivePost, ...]
    is_exact: bool = False
    forgets: bool = False
    only_listed: bool = False


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What a live post says of itself: where people see it, and how many of its media did not go live with it."""

    permalink: str | None = None
    missing_count: int = 0


class Part(Protocol):
    """One thing that has to be made before the irreversible call. Making it again leaves an orphan that nobody sees."""

    @property
    def name(self) -> str:
        """The name of its step: container, child 2, photo 1, video."""

    @property
    def media_type(self) -> MediaType:
        """What it shows: images are looked after more often."""

    @property
    def rests_on_others(self) -> bool:
        """Whether those before it have to be ready first: the container of a carousel."""

    @property
    def upload(self) -> Medium | None:
        """The medium whose bytes have to be sent after `create`; None where Meta fetches the URL."""

    @property
    def attached(self) -> Medium | None:
        """The medium whose bytes `create` sends itself: a photo's."""

    def fingerprint(self, before: Sequence[Prepared]) -> str:
        """A digest of what is made: another variant, another digest."""

    async def create(self, before: Sequence[Prepared], file: File | None) -> Prepared:
        """Make it; `file` is there where bytes are sent."""

    async def send(self, prepared: Prepared, body: AsyncIterator[bytes], offset: int, size_bytes: int) -> None:
        """Send the bytes of `upload` from an offset on."""

    async def status(self, prepared: Prepared) -> HandleStatus:
        """Read how it stands."""


class Placement(Protocol):
    """One post of one account."""

    @property
    def platform(self) -> str:
        """Where: instagram or facebook."""

    @property
    def name(self) -> str:
        """As in `social.content_variants.placement`."""

    @property
    def media(self) -> Sequence[Medium]:
        """All that it shows."""

    @property
    def cover(self) -> Medium | None:
        """The picture that stands for its video, where it has one of its own; Meta fetches it."""

    @property
    def parts(self) -> Sequence[Part]:
        """What is made first, in order."""

    @property
    def published_parts(self) -> Sequence[Part]:
        """Those whose handles are published."""

    @property
    def post_type(self) -> PostType:
        """What the post shows."""

    @property
    def text(self) -> str:
        """The text by which a post without a handle, or beside others, is known."""

    @property
    def names_its_handle(self) -> bool:
        """Whether a live post names the handle that it was made from."""

    def handles(self, prepared: Sequence[Prepared]) -> list[str]:
        """Return what is published: the handles by which it is looked for afterwards. Empty where there are none."""

    async def live_ids(self, now: datetime) -> list[str]:
        """Return the ids of the posts that are live now and young; empty where `names_its_handle`."""

    async def publish(self, prepared: Sequence[Prepared]) -> str | None:
        """Publish. Irreversible. Returns the id of what went live, None where the answer names none."""

    async def look(self, handles: Sequence[str], since: datetime) -> Sight:
        """Read what became of handles that may have been published at or after `since`."""

    async def live(self, since: datetime) -> tuple[LivePost, ...]:
        """Read what is live, whoever published it, and is not older than `since`; some that is may be in it too."""

    async def read_back(self, remote_id: str) -> ReadBack:
        """Read where people see it, and whether it is whole."""


def digest(*parts: object) -> str:
    """Return a digest of a request."""
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def text_digest(text: str | None) -> str:
    """Return a digest of a text as two systems would agree on it: white space and Unicode forms don't count."""
    return hashlib.sha256(" ".join(unicodedata.normalize("NFKC", text or "").split()).encode()).hexdigest()
