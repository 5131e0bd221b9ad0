"""What all posts of a Page have in common, and all parts that they are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from outbox.event import JsonObject
from publisher.envelope import required_id
from publisher.errors import NoAnswer
from publisher.page.account import Page
from publisher.placement import (
    Endpoint,
    File,
    HandleStatus,
    LivePost,
    MediaType,
    Medium,
    PostType,
    Prepared,
    ReadBack,
    Sight,
)


@dataclass(frozen=True, slots=True)
class PagePart(ABC):
    """An unpublished photo or video.

    Attributes:
        page: Whose it is.
        name: The name of the step that prepares it.
        medium: What it shows.
    """

    page: Page
    name: str
    medium: Medium

    @property
    def media_type(self) -> MediaType:
        """What it shows."""
        return self.medium.media_type

    @property
    def rests_on_others(self) -> bool:
        """Photos and videos stand alone."""
        return False

    @property
    def upload(self) -> Medium | None:
        """The medium whose bytes are sent after `create`."""
        return None

    @property
    def attached(self) -> Medium | None:
        """The medium whose bytes `create` sends itself."""
        return None

    @abstractmethod
    def fingerprint(self, before: Sequence[Prepared]) -> str:
        """A digest of what is made."""

    @abstractmethod
    async def create(self, before: Sequence[Prepared], file: File | None) -> Prepared:
        """Make it."""

    async def send(self, prepared: Prepared, body: AsyncIterator[bytes], offset: int, size_bytes: int) -> None:
        """Send the bytes of `upload` from an offset on."""
        raise NotImplementedError

    @abstractmethod
    async def status(self, prepared: Prepared) -> HandleStatus:
        """Read how it stands."""


@dataclass(frozen=True, slots=True)
class PagePost(ABC):
    """A post of a Page, made of photos, of a video, or of nothing but text.

    Attributes:
        page: Whose it is.
        name: The placement.
        parts: What is made first; all of it is published.
        text: What it says.
    """

    page: Page
    name: str
    parts: Sequence[PagePart]
    text: str

    @property
    def platform(self) -> str:
        """Facebook."""
        return "facebook"

    @property
    def media(self) -> Sequence[Medium]:
        """What its parts show."""
        return tuple(part.medium for part in self.parts)

    @property
    def cover(self) -> Medium | None:
        """Pages take none."""
        return None

    @property
    def published_parts(self) -> Sequence[PagePart]:
        """All parts."""
        return self.parts

    @property
    def post_type(self) -> PostType:
        """What its first part shows; without parts, a text."""
        return PostType(self.parts[0].media_type.value) if self.parts else PostType.TEXT

    @property
    def names_its_handle(self) -> bool:
        """A photo or a video is found again in what became of it; a text has nothing like it."""
        return bool(self.parts)

    def handles(self, prepared: Sequence[Prepared]) -> list[str]:
        """Return the photos or the video."""
        return [part.handle for part in prepared]

    async def live_ids(self, now: datetime) -> list[str]:
        """Return the ids of young posts, where no handle tells afterwards which is ours."""
        return [] if self.names_its_handle else [post.id for post in await self.live(now)]

    @abstractmethod
    async def publish(self, prepared: Sequence[Prepared]) -> str | None:
        """Publish. Irreversible."""

    @abstractmethod
    async def look(self, handles: Sequence[str], since: datetime) -> Sight:
        """Read what became of the handles."""

    async def live(self, since: datetime) -> tuple[LivePost, ...]:
        """Read the Page's feed."""
        return await self.page.feed(since)

    async def read_back(self, remote_id: str) -> ReadBack:
        """Read the post's address."""
        return ReadBack(await self.page.address(remote_id))


def post_id(endpoint: Endpoint, answer: JsonObject) -> str | None:
    """`success` alone is an answer; Meta prints post_id as a number, live it was text."""
    if answer.get("success") is not True and "post_id" not in answer:
        raise NoAnswer(f"expected success from {endpoint}, found neither success nor an error")
    return required_id(endpoint, answer, "post_id") if "post_id" in answer else None
