"""What a story of any kind can do: the surface on which the saga works.

    prepare() -> handle        a container, an unpublished photo, an uploaded video: nobody sees it
    status(handle)             whether it can be published
    live_ids()                 what is live before the call, where that is needed to know ours afterwards
    publish(handle)            irreversible
    look(handle, since)        what became of it
    live(since)                what is live, whoever published it
    permalink(remote_id)       for people

Every method may raise GraphError or NoAnswer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Endpoint(StrEnum):
    """The calls that are made: the closed set of names in metrics and errors."""

    CREATE_CONTAINER = "create_container"
    CONTAINER = "container"
    MEDIA_PUBLISH = "media_publish"
    INSTAGRAM_STORIES = "instagram_stories"
    MEDIA = "media"
    PHOTOS = "photos"
    PHOTO_STORIES = "photo_stories"
    VIDEO_START = "video_start"
    VIDEO_UPLOAD = "video_upload"
    VIDEO_FINISH = "video_finish"
    VIDEO = "video"
    PAGE_STORIES = "page_stories"


IRREVERSIBLE = frozenset({Endpoint.MEDIA_PUBLISH, Endpoint.PHOTO_STORIES, Endpoint.VIDEO_FINISH})

READS = frozenset(
    {Endpoint.CONTAINER, Endpoint.INSTAGRAM_STORIES, Endpoint.MEDIA, Endpoint.VIDEO, Endpoint.PAGE_STORIES}
)


class MediaType(StrEnum):
    """What a story shows; the values of `social.content_variants.media_type`."""

    IMAGE = "image"
    VIDEO = "video"


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
    """How a handle stands, with what Graph says of a failure."""

    state: HandleState
    text: str = ""


@dataclass(frozen=True, slots=True)
class LiveStory:
    """A story that is live: its id, the handle that it was made from where that is told, and when."""

    id: str
    handle: str | None = None
    media_type: MediaType | None = None
    published_at: datetime | None = None
    permalink: str | None = None


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look found: how the handle stands, and what is live now."""

    status: HandleStatus
    live: tuple[LiveStory, ...]


class Story(Protocol):
    """One story of one account."""

    @property
    def handle_name(self) -> str:
        """The name of the step that prepares: container, photo or video."""

    @property
    def media_type(self) -> MediaType:
        """What it shows."""

    @property
    def names_its_handle(self) -> bool:
        """Whether a live story names the handle that it was made from."""

    @property
    def fingerprint(self) -> str:
        """A digest of what is prepared: another variant, another digest."""

    async def prepare(self) -> str:
        """Make what can be published and return its handle. Repeating it leaves an orphan that nobody sees."""

    async def status(self, handle: str) -> HandleStatus:
        """Read how the handle stands."""

    async def live_ids(self) -> list[str]:
        """Return the ids of the stories that are live now; empty where `names_its_handle`."""

    async def publish(self, handle: str) -> str | None:
        """Publish. Irreversible. Returns the id of what went live, None where the answer names none."""

    async def look(self, handle: str, since: datetime) -> Sight:
        """Read what became of a handle that may have been published at or after `since`."""

    async def live(self, since: datetime) -> tuple[LiveStory, ...]:
        """Read what is live; Facebook leaves out what is older than `since`."""

    async def permalink(self, remote_id: str) -> str | None:
        """Read where people see it."""
