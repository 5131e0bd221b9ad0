"""Stories of an Instagram professional account (Meta: Content Publishing guide).

    POST /{account}/media             -> container    Meta fetches an image now, a video later
    GET  /{container}                 -> IN_PROGRESS, FINISHED, PUBLISHED, ERROR, EXPIRED
    POST /{account}/media_publish     -> media        irreversible
    GET  /{account}/stories           -> what is live, without a word on containers

A live story does not name its container: ours is known by what was live before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

from publisher.edges import instant, read_edge
from publisher.errors import GraphError
from publisher.graph import GraphClient, required_id
from publisher.story import Endpoint, HandleState, HandleStatus, LiveStory, MediaType, Sight

_STATES = {
    "IN_PROGRESS": HandleState.PROCESSING,
    "FINISHED": HandleState.READY,
    "PUBLISHED": HandleState.PUBLISHED,
    "ERROR": HandleState.FAILED,
    "EXPIRED": HandleState.EXPIRED,
}
_URL_PARAMETER = {MediaType.IMAGE: "image_url", MediaType.VIDEO: "video_url"}
_MEDIA_TYPES = {"IMAGE": MediaType.IMAGE, "VIDEO": MediaType.VIDEO}


@dataclass(frozen=True, slots=True)
class InstagramStory:
    """An image or video story."""

    graph: GraphClient
    account: str
    token: SecretStr
    media_type: MediaType
    media_url: str

    @property
    def handle_name(self) -> str:
        """The name of the step that prepares."""
        return "container"

    @property
    def names_its_handle(self) -> bool:
        """Stories don't name their container."""
        return False

    @property
    def fingerprint(self) -> str:
        """A digest of account and media."""
        return hashlib.sha256(f"instagram {self.account} {self.media_type} {self.media_url}".encode()).hexdigest()

    async def prepare(self) -> str:
        """Create a container."""
        parameters = {"media_type": "STORIES", _URL_PARAMETER[self.media_type]: self.media_url}
        answer = await self.graph.post(Endpoint.CREATE_CONTAINER, f"{self.account}/media", self.token, parameters)
        return required_id(Endpoint.CREATE_CONTAINER, answer, "id")

    async def status(self, handle: str) -> HandleStatus:
        """Read the container; one that can't be read just now (100/33) counts as gone."""
        try:
            answer = await self.graph.get(Endpoint.CONTAINER, handle, self.token, {"fields": "status_code,status"})
        except GraphError as error:
            if (error.code, error.subcode) == (100, 33):
                return HandleStatus(HandleState.GONE, str(error))
            raise
        state = _STATES.get(str(answer.get("status_code")), HandleState.GONE)
        return HandleStatus(state, str(answer.get("status", "")))

    async def live_ids(self) -> list[str]:
        """Return the ids of all live stories of the account."""
        return [story.id for story in await self._stories()]

    async def publish(self, handle: str) -> str | None:
        """Publish the container."""
        path = f"{self.account}/media_publish"
        answer = await self.graph.post(Endpoint.MEDIA_PUBLISH, path, self.token, {"creation_id": handle})
        return required_id(Endpoint.MEDIA_PUBLISH, answer, "id")

    async def look(self, handle: str, since: datetime) -> Sight:  # noqa: ARG002 (the edge knows no `since`)
        """Read the container, then the live stories: one published in between is in the list."""
        status = await self.status(handle)
        return Sight(status, await self._stories())

    async def permalink(self, remote_id: str) -> str | None:
        """Read the story's permalink."""
        answer = await self.graph.get(Endpoint.MEDIA, remote_id, self.token, {"fields": "permalink"})
        permalink = answer.get("permalink")
        return permalink if isinstance(permalink, str) else None

    async def live(self, since: datetime) -> tuple[LiveStory, ...]:  # noqa: ARG002 (the edge knows no `since`)
        """Read the account's live stories."""
        return await self._stories()

    async def _stories(self) -> tuple[LiveStory, ...]:
        fields = {"fields": "id,timestamp,media_type"}
        items = await read_edge(self.graph, Endpoint.INSTAGRAM_STORIES, f"{self.account}/stories", self.token, fields)
        return tuple(
            LiveStory(
                id=required_id(Endpoint.INSTAGRAM_STORIES, item, "id"),
                media_type=_MEDIA_TYPES.get(str(item.get("media_type"))),
                published_at=instant(item.get("timestamp")),
            )
            for item in items
        )
