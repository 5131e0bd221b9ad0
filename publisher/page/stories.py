"""Stories of a Facebook Page (Meta: Page Stories API; sheet 2.1 to 2.3).

photo   POST /{page}/photos published=false            -> photo
        POST /{page}/photo_stories photo_id            -> post     irreversible
video   a video (`videos.py`), then
        POST /{page}/video_stories upload_phase=finish -> post     irreversible
both    GET  /{page}/stories                           media_id is the photo or the video that was sent
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from outbox.event import JsonObject
from publisher.edges import instant, read_edge
from publisher.envelope import required_id
from publisher.page.post import PagePost, post_id
from publisher.page.videos import PageVideo
from publisher.placement import CLOCK_SLACK, STORY_LIFE, Endpoint, LivePost, Prepared, ReadBack, Sight

# An archived story was published; both spellings of either have been seen.
_WAS_LIVE = frozenset({"published", "archived"})


@dataclass(frozen=True, slots=True)
class PageStory(PagePost):
    """A photo or video story. Stories name the photo or video that they were made from."""

    async def publish(self, prepared: Sequence[Prepared]) -> str | None:
        """Make a story of the photo or of the video."""
        part = self.parts[0]
        if isinstance(part, PageVideo):
            return post_id(Endpoint.VIDEO_FINISH, await part.finish(prepared[0]))
        path, parameters = f"{self.page.id}/photo_stories", {"photo_id": prepared[0].handle}
        answer = await self.page.graph.post(Endpoint.PHOTO_STORIES, path, self.page.token, parameters)
        return post_id(Endpoint.PHOTO_STORIES, answer)

    async def look(self, handles: Sequence[str], since: datetime) -> Sight:
        """Read the photo or video, then the Page's stories."""
        status = await self.parts[0].status(Prepared(handles[0]))
        live, is_photo = await self.live(since), not isinstance(self.parts[0], PageVideo)
        return Sight(status, live, is_exact=True, forgets=True, only_listed=is_photo)

    async def read_back(self, remote_id: str) -> ReadBack:
        """Find the story's address in the list: it is live for a day, and an archive may go back for years."""
        stories = await self.live(datetime.now(UTC) - STORY_LIFE)
        return ReadBack(next((story.permalink for story in stories if story.id == remote_id), None))

    async def live(self, since: datetime) -> tuple[LivePost, ...]:
        """Read the Page's stories since an instant; those that are live no more leave the list after a day."""
        path, parameters = f"{self.page.id}/stories", {"since": str(int((since - CLOCK_SLACK).timestamp()))}
        items = await read_edge(self.page.graph, Endpoint.PAGE_STORIES, path, self.page.token, parameters)
        return tuple(_live_story(item) for item in items if str(item.get("status")).lower() in _WAS_LIVE)


def _live_story(item: JsonObject) -> LivePost:
    url = item.get("url")
    return LivePost(
        id=required_id(Endpoint.PAGE_STORIES, item, "post_id"),
        handle=str(item["media_id"]) if "media_id" in item else None,
        published_at=instant(item.get("creation_time")),
        permalink=url if isinstance(url, str) else None,
    )
