"""Posts of an Instagram professional account (Meta: Content Publishing guide): stories, feed, carousels, reels.

    POST /{account}/media             -> container    Meta fetches an image now, a video later; or we send its bytes
    GET  /{container}                 -> IN_PROGRESS, FINISHED, PUBLISHED, ERROR, EXPIRED
    POST /{account}/media_publish     -> media        irreversible
    GET  /{account}/stories           -> live stories, without a word on containers
    GET  /{account}/media             -> all else, newest first, without a word on containers either

A placement is data: the parameters of its container and of its children (`placements.py`), and the list that shows it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson
from pydantic import SecretStr

from outbox.event import JsonObject
from publisher.edges import instant, read_edge
from publisher.errors import GraphError, NoAnswer
from publisher.graph import GraphClient, required_id
from publisher.placement import (
    Endpoint,
    HandleState,
    HandleStatus,
    LivePost,
    MediaType,
    Medium,
    PostType,
    Prepared,
    Sight,
    digest,
    text_digest,
)

# What is older is not ours: the reconciling window, and Meta's clock against the database's.
YOUNG = timedelta(hours=1)
# Both spellings have been seen (sheet 2.2).
COMPLETE = frozenset({"complete", "completed"})
_STATES = {
    "IN_PROGRESS": HandleState.PROCESSING,
    "FINISHED": HandleState.READY,
    "PUBLISHED": HandleState.PUBLISHED,
    "ERROR": HandleState.FAILED,
    "EXPIRED": HandleState.EXPIRED,
}
_POST_TYPES = {"IMAGE": PostType.IMAGE, "VIDEO": PostType.VIDEO, "CAROUSEL_ALBUM": PostType.CAROUSEL}


@dataclass(frozen=True, slots=True)
class InstagramAccount:
    """Who publishes, and through what."""

    graph: GraphClient
    id: str
    token: SecretStr


@dataclass(frozen=True, slots=True)
class Container:
    """One container: of a post, of a child, or the one that holds children.

    Attributes:
        account: Whose it is.
        name: The step's name.
        parameters: What is asked for; the URL of the medium is added, or that its bytes follow.
        medium: What it shows; None for the one that holds children.
    """

    account: InstagramAccount
    name: str
    parameters: Mapping[str, str]
    medium: Medium | None

    @property
    def media_type(self) -> MediaType:
        """What it shows; a container of children is ready as soon as an image is."""
        return MediaType.IMAGE if self.medium is None else self.medium.media_type

    @property
    def rests_on_others(self) -> bool:
        """A carousel is made of finished children."""
        return self.medium is None

    @property
    def upload(self) -> Medium | None:
        """A video whose bytes we send."""
        return self.medium if self.medium is not None and self.medium.upload else None

    def fingerprint(self, before: Sequence[Prepared]) -> str:
        """A digest of account, parameters, medium and children."""
        children = [prepared.handle for prepared in before] if self.rests_on_others else []
        return digest("instagram", self.account.id, self.parameters, self._source(), children)

    async def create(self, before: Sequence[Prepared], size_bytes: int | None) -> Prepared:  # noqa: ARG002
        """Create the container (sheet 1.2)."""
        parameters = {**self.parameters, **self._source()}
        if self.rests_on_others:
            parameters["children"] = ",".join(prepared.handle for prepared in before)
        account = self.account
        path = f"{account.id}/media"
        answer = await account.graph.post(Endpoint.CREATE_CONTAINER, path, account.token, parameters)
        handle = required_id(Endpoint.CREATE_CONTAINER, answer, "id")
        if self.upload is None:
            return Prepared(handle)
        upload_url = answer.get("uri")
        if not isinstance(upload_url, str):
            raise NoAnswer(f"expected uri in the answer to {Endpoint.CREATE_CONTAINER}, found none")
        return Prepared(handle, {"upload_url": upload_url})

    async def send(self, prepared: Prepared, body: AsyncIterator[bytes], offset: int, size_bytes: int) -> None:
        """Send the video's bytes (sheet 1.4)."""
        account, url = self.account, prepared.more["upload_url"]
        await account.graph.send(url, account.token, body, offset=offset, size_bytes=size_bytes)

    async def status(self, prepared: Prepared) -> HandleStatus:
        """Read the container."""
        return await container_status(self.account, prepared.handle, is_uploaded_by_us=self.upload is not None)

    def _source(self) -> dict[str, str]:
        if self.medium is None:
            return {}
        if self.medium.upload:
            return {"upload_type": "resumable"}
        return {f"{self.medium.media_type}_url": self.medium.url}


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
    """

    account: InstagramAccount
    name: str
    media: tuple[Medium, ...]
    parts: tuple[Container, ...]
    post_type: PostType
    text: str = ""

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
        return [post.id for post in await self.live(now)]

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

    async def permalink(self, remote_id: str) -> str | None:
        """Read the post's permalink."""
        account = self.account
        answer = await account.graph.get(Endpoint.MEDIA, remote_id, account.token, {"fields": "permalink"})
        permalink = answer.get("permalink")
        return permalink if isinstance(permalink, str) else None

    async def live(self, since: datetime) -> tuple[LivePost, ...]:
        """Read the account's live stories, or its posts back to an instant and an hour more."""
        account = self.account
        if self.name == "story":
            endpoint, path, fields = Endpoint.INSTAGRAM_STORIES, f"{account.id}/stories", "id,timestamp,media_type"
            items = await read_edge(account.graph, endpoint, path, account.token, {"fields": fields})
        else:
            endpoint, path, fields = Endpoint.INSTAGRAM_MEDIA, f"{account.id}/media", "id,timestamp,media_type,caption"
            parameters = {"fields": fields}
            items = await read_edge(
                account.graph, endpoint, path, account.token, parameters, back_to=since - YOUNG, time_field="timestamp"
            )
        return tuple(_live_post(endpoint, item, has_text=self.name != "story") for item in items)


async def container_status(account: InstagramAccount, handle: str, *, is_uploaded_by_us: bool = False) -> HandleStatus:
    """Read a container (sheet 1.5); one that can't be read just now (100/33) counts as gone."""
    fields = "status_code,status,video_status" if is_uploaded_by_us else "status_code,status"
    try:
        answer = await account.graph.get(Endpoint.CONTAINER, handle, account.token, {"fields": fields})
    except GraphError as error:
        if (error.code, error.subcode) == (100, 33):
            return HandleStatus(HandleState.GONE, str(error))
        raise
    state = _STATES.get(str(answer.get("status_code")), HandleState.GONE)
    text = str(answer.get("status", ""))
    phase = uploading_phase(answer.get("video_status"))
    # A container has stayed IN_PROGRESS while its upload had failed (sheet 1.4).
    if state is HandleState.PROCESSING and str(phase.get("status")).lower() == "error":
        state = HandleState.FAILED
    return HandleStatus(state, text, received_bytes(phase), str(phase.get("status")).lower() in COMPLETE)


def uploading_phase(status: object) -> JsonObject:
    """Return the uploading phase of a video's status, empty where there is none."""
    phase = status.get("uploading_phase") if isinstance(status, dict) else None
    return phase if isinstance(phase, dict) else {}


def received_bytes(phase: JsonObject) -> int | None:
    """Return how many bytes have arrived; Instagram spells it with two r, the Page's documents with one."""
    value = phase.get("bytes_transferred", phase.get("bytes_transfered"))
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() else None


def as_json(value: object) -> str:
    """Return lists and objects as Graph takes them in a form."""
    return orjson.dumps(value).decode()


def _live_post(endpoint: Endpoint, item: JsonObject, *, has_text: bool) -> LivePost:
    return LivePost(
        id=required_id(endpoint, item, "id"),
        post_type=_POST_TYPES.get(str(item.get("media_type"))),
        text_digest=text_digest(item.get("caption")) if has_text else None,
        published_at=instant(item.get("timestamp")),
    )
