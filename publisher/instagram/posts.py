"""Posts of an Instagram account.

A placement is data: the parameters of its container and of its children (`placements.py`), and the list that shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from outbox.event import JsonObject
from publisher.edges import instant, read_edge
from publisher.envelope import required_id
from publisher.instagram.account import InstagramAccount
from publisher.instagram.containers import Container, container_status
from publisher.placement import (
    CLOCK_SLACK,
    Endpoint,
    LivePost,
    Medium,
    PostType,
    Prepared,
    ReadBack,
    Sight,
    text_digest,
)

_POST_TYPES = {"IMAGE": PostType.IMAGE, "VIDEO": PostType.VIDEO, "CAROUSEL_ALBUM": PostType.CAROUSEL}


@dataclass(frozen=True, slots=True)
class InstagramPost:
    """A story, a feed image, a carousel or a reel.

    Attributes:
        account: Whose it is.
        name: The placement.
        media: What it shows.
        parts: Its containers; the last one is published.
        post_type: What the post shows in the account's list.
        text: The caption.
        cover: A reel's.
    """

    account: InstagramAccount
    name: str
    media: tuple[Medium, ...]
    parts: tuple[Container, ...]
    post_type: PostType
    text: str = ""
    cover: Medium | None = None

    @property
    def platform(self) -> str:
        """Instagram."""
        return "instagram"

    @property
    def published_parts(self) -> Sequence[Container]:
        """The last container: children stay good for another one (sheet 6.3)."""
        return self.parts[-1:]

    @property
    def names_its_handle(self) -> bool:
        """Neither list names the container."""
        return False

    def handles(self, prepared: Sequence[Prepared]) -> list[str]:
        """Return the container that is published."""
        return [prepared[-1].handle]

    async def live_ids(self, now: datetime) -> list[str]:
        """Return the ids of the account's live stories, or of its young posts."""
        fields = "id" if self._list is Endpoint.INSTAGRAM_STORIES else "id,timestamp"
        return [required_id(self._list, item, "id") for item in await self._listed(now, fields)]

    async def publish(self, prepared: Sequence[Prepared]) -> str | None:
        """Publish the container."""
        account = self.account
        parameters = {"creation_id": prepared[-1].handle}
        path = f"{account.id}/media_publish"
        answer = await account.graph.post(Endpoint.MEDIA_PUBLISH, path, account.token, parameters)
        return required_id(Endpoint.MEDIA_PUBLISH, answer, "id")

    async def look(self, handles: Sequence[str], since: datetime) -> Sight:
        """Read the container, then what is live: what is published in between is in the list."""
        status = await container_status(self.account, handles[0])
        return Sight(status, await self.live(since))

    async def read_back(self, remote_id: str) -> ReadBack:
        """Read the post's permalink; of a carousel also its children: one has gone live without one (sheet 6.1)."""
        account, is_carousel = self.account, self.post_type is PostType.CAROUSEL
        fields = "permalink,children" if is_carousel else "permalink"
        answer = await account.graph.get(Endpoint.MEDIA, remote_id, account.token, {"fields": fields})
        permalink, children = answer.get("permalink"), answer.get("children")
        shown = children.get("data") if isinstance(children, dict) else None
        missing_count = max(len(self.media) - len(shown), 0) if is_carousel and isinstance(shown, list) else 0
        return ReadBack(permalink if isinstance(permalink, str) else None, missing_count)

    async def live(self, since: datetime) -> tuple[LivePost, ...]:
        """Read the account's live stories, or its posts back to an instant and an hour more."""
        is_story = self._list is Endpoint.INSTAGRAM_STORIES
        fields = "id,timestamp,media_type" if is_story else "id,timestamp,media_type,caption"
        items = await self._listed(since, fields)
        return tuple(_live_post(self._list, item, has_text=not is_story) for item in items)

    @property
    def _list(self) -> Endpoint:
        """The list that shows it."""
        return Endpoint.INSTAGRAM_STORIES if self.name == "story" else Endpoint.INSTAGRAM_MEDIA

    async def _listed(self, since: datetime, fields: str) -> list[JsonObject]:
        """Read fields of the live stories, or of posts back to an instant: to know these they need their timestamp."""
        graph, account_id, token = self.account.graph, self.account.id, self.account.token
        query = {"fields": fields}
        if self._list is Endpoint.INSTAGRAM_STORIES:
            return await read_edge(graph, self._list, f"{account_id}/stories", token, query)
        back_to = since - CLOCK_SLACK
        return await read_edge(
            graph, self._list, f"{account_id}/media", token, query, back_to=back_to, time_field="timestamp"
        )


def _live_post(endpoint: Endpoint, item: JsonObject, *, has_text: bool) -> LivePost:
    return LivePost(
        id=required_id(endpoint, item, "id"),
        post_type=_POST_TYPES.get(str(item.get("media_type"))),
        text_digest=text_digest(item.get("caption")) if has_text else None,
        published_at=instant(item.get("timestamp")),
    )
