"""Videos of a Facebook Page: stories, reels and posts (Meta: Page Stories API, Reels publishing, Page videos).

story, reel  POST /{page}/video_stories | video_reels  upload_phase=start   -> video, upload address
             POST {upload address}  file_url: Meta fetches the file; or offset, file_size and the bytes
             GET  /{video}?fields=status               until it is uploaded
             POST /{page}/video_stories | video_reels  upload_phase=finish  irreversible
video        POST /{page}/videos  upload_phase=start, transfer, finish      the same with a session and no upload host

`POST /{page}/videos` with `file_url` is one call, and has no handle before it: the bytes are always sent (sheet 6.3).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from outbox.event import JsonObject
from publisher.envelope import required_id
from publisher.errors import GraphError, MediaUnreachable, NoAnswer, Unfinished
from publisher.page.account import Page
from publisher.page.post import PagePart, PagePost, post_id
from publisher.page.video_status import video_status
from publisher.placement import (
    Endpoint,
    File,
    HandleState,
    HandleStatus,
    LivePost,
    Medium,
    PostType,
    Prepared,
    Sight,
    digest,
)

# Meta names no size; a chunk is held in memory.
CHUNK_BYTES = 4 * 1_048_576
# Well below the time after which a relay ends a handler.
SENDING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class PageVideo(PagePart):
    """A video that is uploaded and not finished yet.

    Attributes:
        edge: video_stories or video_reels.
        finish_with: What the call that finishes it says beside.
    """

    edge: str
    finish_with: Mapping[str, str] = field(default_factory=dict)

    @property
    def upload(self) -> Medium | None:
        """The video, where we send its bytes."""
        return self.medium if self.medium.upload else None

    def fingerprint(self, before: Sequence[Prepared]) -> str:  # noqa: ARG002
        """A digest of Page, edge and medium."""
        return digest("facebook", self.page.id, self.edge, self.medium.url, self.medium.upload)

    async def create(self, before: Sequence[Prepared], file: File | None) -> Prepared:  # noqa: ARG002
        """Start an upload, and tell Meta where to fetch the file unless we send it."""
        page = self.page
        parameters = {"upload_phase": "start"}
        answer = await page.graph.post(Endpoint.VIDEO_START, f"{page.id}/{self.edge}", page.token, parameters)
        video = required_id(Endpoint.VIDEO_START, answer, "video_id")
        upload_url = answer.get("upload_url")
        if not isinstance(upload_url, str):
            raise NoAnswer(f"expected upload_url in the answer to {Endpoint.VIDEO_START}, found none")
        if self.upload is not None:
            return Prepared(video, {"upload_url": upload_url})
        await page.graph.upload(upload_url, page.token, self.medium.url)
        return Prepared(video)

    async def send(self, prepared: Prepared, body: AsyncIterator[bytes], offset: int, size_bytes: int) -> None:
        """Send the video's bytes to the upload host."""
        page, url = self.page, prepared.more["upload_url"]
        await page.graph.send(url, page.token, body, offset=offset, size_bytes=size_bytes)

    async def status(self, prepared: Prepared) -> HandleStatus:
        """Read how far upload and processing are."""
        return await read_video(self.page, prepared.handle)

    async def finish(self, prepared: Prepared) -> JsonObject:
        """Finish: the video becomes a story or a reel. Irreversible."""
        page = self.page
        parameters = {"upload_phase": "finish", "video_id": prepared.handle, **self.finish_with}
        return await page.graph.post(Endpoint.VIDEO_FINISH, f"{page.id}/{self.edge}", page.token, parameters)


@dataclass(frozen=True, slots=True)
class SessionVideo(PagePart):
    """A video that is uploaded in chunks to a session of `/videos`, and not finished yet.

    Attributes:
        finish_with: What the call that finishes it says beside.
    """

    finish_with: Mapping[str, str] = field(default_factory=dict)

    @property
    def upload(self) -> Medium | None:
        """The video: its bytes are always sent."""
        return self.medium

    def fingerprint(self, before: Sequence[Prepared]) -> str:  # noqa: ARG002
        """A digest of Page and medium."""
        return digest("facebook", self.page.id, "videos", self.medium.url)

    async def create(self, before: Sequence[Prepared], file: File | None) -> Prepared:  # noqa: ARG002
        """Open a session for a file of a size."""
        assert file is not None
        answer = await self._phase(Endpoint.VIDEO_START, "start", {"file_size": str(file.size_bytes)})
        session = required_id(Endpoint.VIDEO_START, answer, "upload_session_id")
        return Prepared(required_id(Endpoint.VIDEO_START, answer, "video_id"), {"session": session})

    async def send(self, prepared: Prepared, body: AsyncIterator[bytes], offset: int, size_bytes: int) -> None:
        """Send chunk after chunk. Raises Unfinished where the file is too large for one go: the rest is for another."""
        chunk, until = bytearray(), time.monotonic() + SENDING_SECONDS
        try:
            async for some in body:
                chunk += some
                is_late = time.monotonic() > until
                if is_late or len(chunk) >= CHUNK_BYTES or offset + len(chunk) >= size_bytes:
                    await self._transfer(prepared, chunk, offset)
                    offset += len(chunk)
                    chunk.clear()
                if is_late and offset < size_bytes:
                    raise Unfinished(f"expected to send the video within {SENDING_SECONDS:g} s, a part of it is left")
        except MediaUnreachable:
            if chunk:
                await self._transfer(prepared, chunk, offset)
            raise

    async def _transfer(self, prepared: Prepared, chunk: bytearray, offset: int) -> None:
        page = self.page
        session = prepared.more["session"]
        await page.graph.post_file(
            Endpoint.VIDEO_UPLOAD,
            f"{page.id}/videos",
            page.token,
            {"upload_phase": "transfer", "upload_session_id": session, "start_offset": str(offset)},
            field="video_file_chunk",
            name="chunk",
            content=bytes(chunk),
        )

    async def status(self, prepared: Prepared) -> HandleStatus:
        """Read how far upload and processing are."""
        return await read_video(self.page, prepared.handle)

    async def finish(self, prepared: Prepared) -> JsonObject:
        """Finish: the video becomes a post. Irreversible."""
        parameters = {"upload_session_id": prepared.more["session"], **self.finish_with}
        return await self._phase(Endpoint.VIDEO_FINISH, "finish", parameters)

    async def _phase(self, endpoint: Endpoint, phase: str, parameters: Mapping[str, str]) -> JsonObject:
        page = self.page
        return await page.graph.post(endpoint, f"{page.id}/videos", page.token, {"upload_phase": phase, **parameters})


@dataclass(frozen=True, slots=True)
class VideoPost(PagePost):
    """A reel, or a video in the feed. Its id is the video's: Meta names no post (sheet 2.4)."""

    parts: Sequence[PageVideo | SessionVideo]

    async def publish(self, prepared: Sequence[Prepared]) -> str | None:
        """Finish the video."""
        return post_id(Endpoint.VIDEO_FINISH, await self.parts[0].finish(prepared[0])) or prepared[0].handle

    async def look(self, handles: Sequence[str], since: datetime) -> Sight:  # noqa: ARG002
        """Read the video: it says whether it was published. One that can't be read says nothing."""
        status = await read_video(self.page, handles[0])
        is_live = status.state is HandleState.PUBLISHED
        live = (LivePost(handles[0], handles[0], PostType.VIDEO),) if is_live else ()
        return Sight(status, live, is_exact=status.state is not HandleState.GONE)

    async def live(self, since: datetime) -> tuple[LivePost, ...]:
        """Read the Page's reels, or its feed."""
        return (await self.page.reels(since)) if self.name == "reel" else (await self.page.feed(since))


async def read_video(page: Page, video: str) -> HandleStatus:
    """Read a video; one that can't be read just now (100/33) counts as gone."""
    try:
        answer = await page.graph.get(Endpoint.VIDEO, video, page.token, {"fields": "status"})
    except GraphError as error:
        if error.is_missing:
            return HandleStatus(HandleState.GONE, str(error))
        raise
    return video_status(answer.get("status"))
