"""A Facebook Page: who publishes, and what its lists show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import SecretStr

from publisher.edges import instant, read_edge
from publisher.envelope import required_id
from publisher.graph import GraphClient
from publisher.placement import CLOCK_SLACK, Endpoint, LivePost, PostType, text_digest

_POST_TYPES = {"photo": PostType.IMAGE, "album": PostType.IMAGE, "video": PostType.VIDEO, "link": PostType.TEXT}


@dataclass(frozen=True, slots=True)
class Page:
    """Who publishes, and through what."""

    graph: GraphClient
    id: str
    token: SecretStr

    async def address(self, remote_id: str, field: str = "permalink_url") -> str | None:
        """Read where people see a post or a video."""
        answer = await self.graph.get(Endpoint.POST, remote_id, self.token, {"fields": field})
        address = answer.get(field)
        return address if isinstance(address, str) else None

    async def feed(self, since: datetime) -> tuple[LivePost, ...]:
        """Read the Page's posts back to an instant and an hour more, each with its text, and what it shows if told."""
        return await self._texts(Endpoint.PAGE_FEED, "feed", "message", since, "attachments{media_type,type}")

    async def reels(self, since: datetime) -> tuple[LivePost, ...]:
        """Read the Page's reels back to an instant and an hour more, each with its text."""
        return await self._texts(Endpoint.PAGE_REELS, "video_reels", "description", since)

    async def _texts(
        self, endpoint: Endpoint, edge: str, text: str, since: datetime, *more: str
    ) -> tuple[LivePost, ...]:
        back_to = since - CLOCK_SLACK
        fields = ",".join(("id", text, "created_time", *more))
        parameters = {"fields": fields, "since": str(int(back_to.timestamp()))}
        items = await read_edge(self.graph, endpoint, f"{self.id}/{edge}", self.token, parameters, back_to=back_to)
        return tuple(
            LivePost(
                id=required_id(endpoint, item, "id"),
                post_type=_post_type(item.get("attachments")),
                text_digest=text_digest(item.get(text)),
                published_at=instant(item.get("created_time")),
            )
            for item in items
        )


def _post_type(attachments: Any) -> PostType | None:
    """What a post of the feed shows (Meta: Post Attachments); None where it does not say: a mere text says nothing.

    What is shared is a link, though its media type may be that of what it leads to: a video on YouTube is a video, of
    the type video_share_youtube (seen in answers that projects recorded).
    """
    rows = attachments.get("data") if isinstance(attachments, dict) else None
    first = rows[0] if isinstance(rows, list) and rows else None
    if not isinstance(first, dict):
        return None
    return PostType.TEXT if "share" in str(first.get("type")).lower() else _POST_TYPES.get(str(first.get("media_type")))
