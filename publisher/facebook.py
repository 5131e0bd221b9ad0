"""Stories of a Facebook Page (Meta: Page Stories API).

photo   POST /{page}/photos published=false            -> photo
        POST /{page}/photo_stories photo_id            -> post     irreversible
video   POST /{page}/video_stories upload_phase=start  -> video, upload address
        POST {upload address} file_url                 Meta fetches the file
        GET  /{video}?fields=status                    until it is uploaded
        POST /{page}/video_stories upload_phase=finish -> post     irreversible
both    GET  /{page}/stories                           media_id is the photo or the video that was sent
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import SecretStr

from outbox.event import JsonObject
from publisher.edges import instant, read_edge
from publisher.errors import GraphError, NoAnswer
from publisher.graph import GraphClient, required_id
from publisher.story import Endpoint, HandleState, HandleStatus, LiveStory, MediaType, Sight

# Between Meta's clock and the database's.
CLOCK_SLACK = timedelta(hours=1)
# An archived story was published; both spellings of either have been seen.
_WAS_LIVE = frozenset({"published", "archived"})


@dataclass(frozen=True, slots=True)
class PageStory:
    """What photo and video stories of a Page share."""

    graph: GraphClient
    account: str
    token: SecretStr
    media_url: str

    @property
    def names_its_handle(self) -> bool:
        """Stories name the photo or video that they were made from."""
        return True

    async def live_ids(self) -> list[str]:
        """Nothing is needed before the call: the handle tells."""
        return []

    async def permalink(self, remote_id: str) -> str | None:
        """Find the story's address in the list."""
        stories = await self._stories({})
        return next((story.permalink for story in stories if story.id == remote_id), None)

    async def live(self, since: datetime) -> tuple[LiveStory, ...]:
        """Read the Page's stories since an instant, those included that are live no more."""
        return await self._stories({"since": str(int((since - CLOCK_SLACK).timestamp()))})

    async def _stories(self, parameters: dict[str, str]) -> tuple[LiveStory, ...]:
        path = f"{self.account}/stories"
        items = await read_edge(self.graph, Endpoint.PAGE_STORIES, path, self.token, parameters)
        return tuple(_live_story(item) for item in items if str(item.get("status")).lower() in _WAS_LIVE)

    def _digest(self, media_type: MediaType) -> str:
        return hashlib.sha256(f"facebook {self.account} {media_type} {self.media_url}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class PhotoStory(PageStory):
    """A photo story."""

    @property
    def handle_name(self) -> str:
        """The name of the step that prepares."""
        return "photo"

    @property
    def media_type(self) -> MediaType:
        """What it shows."""
        return MediaType.IMAGE

    @property
    def fingerprint(self) -> str:
        """A digest of Page and media."""
        return self._digest(self.media_type)

    async def prepare(self) -> str:
        """Upload the photo without publishing it."""
        parameters = {"url": self.media_url, "published": "false"}
        answer = await self.graph.post(Endpoint.PHOTOS, f"{self.account}/photos", self.token, parameters)
        return required_id(Endpoint.PHOTOS, answer, "id")

    async def status(self, handle: str) -> HandleStatus:  # noqa: ARG002
        """A photo is ready when it has been uploaded."""
        return HandleStatus(HandleState.READY)

    async def publish(self, handle: str) -> str | None:
        """Make a story of the photo."""
        path = f"{self.account}/photo_stories"
        answer = await self.graph.post(Endpoint.PHOTO_STORIES, path, self.token, {"photo_id": handle})
        return _post_id(Endpoint.PHOTO_STORIES, answer)

    async def look(self, handle: str, since: datetime) -> Sight:
        """Read the Page's stories."""
        return Sight(await self.status(handle), await self.live(since))


@dataclass(frozen=True, slots=True)
class VideoStory(PageStory):
    """A video story."""

    @property
    def handle_name(self) -> str:
        """The name of the step that prepares."""
        return "video"

    @property
    def media_type(self) -> MediaType:
        """What it shows."""
        return MediaType.VIDEO

    @property
    def fingerprint(self) -> str:
        """A digest of Page and media."""
        return self._digest(self.media_type)

    async def prepare(self) -> str:
        """Start an upload and tell Meta where to fetch the file."""
        path = f"{self.account}/video_stories"
        answer = await self.graph.post(Endpoint.VIDEO_START, path, self.token, {"upload_phase": "start"})
        video = required_id(Endpoint.VIDEO_START, answer, "video_id")
        upload_url = answer.get("upload_url")
        if not isinstance(upload_url, str):
            raise NoAnswer(f"expected upload_url in the answer to {Endpoint.VIDEO_START}, found none")
        await self.graph.upload(upload_url, self.token, self.media_url)
        return video

    async def status(self, handle: str) -> HandleStatus:
        """Read how far upload and processing are."""
        try:
            answer = await self.graph.get(Endpoint.VIDEO, handle, self.token, {"fields": "status"})
        except GraphError as error:
            if (error.code, error.subcode) == (100, 33):
                return HandleStatus(HandleState.GONE, str(error))
            raise
        return video_status(answer.get("status"))

    async def publish(self, handle: str) -> str | None:
        """Finish: the video becomes a story."""
        parameters = {"upload_phase": "finish", "video_id": handle}
        answer = await self.graph.post(Endpoint.VIDEO_FINISH, f"{self.account}/video_stories", self.token, parameters)
        return _post_id(Endpoint.VIDEO_FINISH, answer)

    async def look(self, handle: str, since: datetime) -> Sight:
        """Read the video, then the Page's stories."""
        status = await self.status(handle)
        return Sight(status, await self.live(since))


def video_status(status: Any) -> HandleStatus:
    """Read the `status` object of a video. Pure.

    A video whose processing has begun is not finished before it is through: a failure shows then, not after the
    irreversible call. One that was finished and is at work may still go live.
    """
    if not isinstance(status, dict):
        return HandleStatus(HandleState.GONE, "no status")
    phases = {name: _phase(status, f"{name}_phase") for name in ("uploading", "processing", "publishing")}
    if str(phases["publishing"].get("publish_status")).lower() == "published":
        return HandleStatus(HandleState.PUBLISHED)
    for phase in phases.values():
        # A phase that failed may keep its status and only carry an error (Meta: Reels publishing guide).
        error = phase.get("error")
        if isinstance(error, dict) or str(phase.get("status")).lower() == "error":
            return HandleStatus(HandleState.FAILED, str(error.get("message", "")) if isinstance(error, dict) else "")
    overall = str(status.get("video_status")).lower()
    if overall in {"upload_failed", "error"}:
        return HandleStatus(HandleState.FAILED)
    if overall == "expired":
        return HandleStatus(HandleState.EXPIRED)
    is_at_work = any(str(phases[name].get("status")).lower() == "in_progress" for name in phases)
    is_uploaded = str(phases["uploading"].get("status")).lower() in {"complete", "completed"}
    if overall in {"upload_complete", "ready"} or is_uploaded:
        return HandleStatus(HandleState.PROCESSING if is_at_work else HandleState.READY)
    return HandleStatus(HandleState.PROCESSING)


def _phase(status: dict[str, Any], name: str) -> dict[str, Any]:
    phase = status.get(name)
    return phase if isinstance(phase, dict) else {}


def _post_id(endpoint: Endpoint, answer: JsonObject) -> str | None:
    """`success` alone is an answer; Meta prints post_id as a number, live it was text."""
    if answer.get("success") is not True and "post_id" not in answer:
        raise NoAnswer(f"expected success from {endpoint}, found neither success nor an error")
    return required_id(endpoint, answer, "post_id") if "post_id" in answer else None


def _live_story(item: JsonObject) -> LiveStory:
    url = item.get("url")
    return LiveStory(
        id=required_id(Endpoint.PAGE_STORIES, item, "post_id"),
        handle=str(item["media_id"]) if "media_id" in item else None,
        published_at=instant(item.get("creation_time")),
        permalink=url if isinstance(url, str) else None,
    )
