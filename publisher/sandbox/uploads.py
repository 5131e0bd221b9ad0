"""The upload host: files of Instagram containers and of Page videos, by a URL to fetch or by bytes from an offset on.

Sources: Meta's Instagram Resumable Uploads, Page Stories API and Reels Publishing guide.
"""

from __future__ import annotations

from typing import IO, Any, Final

from aiohttp import web

from publisher.sandbox import answers, instagram, page_videos
from publisher.sandbox.calls import Call
from publisher.sandbox.checks import GOOD, Checks
from publisher.sandbox.clock import Clock
from publisher.sandbox.endpoints import Endpoint
from publisher.sandbox.graph_error import GraphError
from publisher.sandbox.hosts import INSTAGRAM_UPLOAD, Site
from publisher.sandbox.media import temporary_file
from publisher.sandbox.objects import Container, Token, Verdict, Video
from publisher.sandbox.parameters import Parameters
from publisher.sandbox.world import World

FILE_BYTES_MAX: Final = 2_000_000_000
_CHUNK_BYTES: Final = 65_536
_HEADERS: Final = ("file_url", "offset", "file_size")


class Uploads:
    """Takes video files in; what has arrived of an unfinished one is kept, so that it can be resumed."""

    def __init__(self, world: World, clock: Clock, checks: Checks) -> None:
        self._world = world
        self._clock = clock
        self._checks = checks
        self._partial: dict[str, IO[bytes]] = {}

    async def receive(self, call: Call) -> dict[str, Any]:
        """Take a file, or a part of one; a file that is fetched arrives later.

        Raises:
            GraphError: the offset or the size is wrong, or the body ended early.
        """
        node = call.node
        assert isinstance(node, Container | Video)
        if node.uploaded_at is not None:
            raise _upload_error("ProcessingFailedError", "The file has been uploaded already.")
        node.subcode = call.failing_subcode
        file_url = call.values.get("file_url")
        if file_url:
            self.fetch(node, file_url)
        else:
            await self._receive_bytes(call, node)
        if isinstance(node, Container):
            return {"success": True, "message": "Upload successful."}
        return {"success": True}

    def check(self, container: Container) -> None:
        """Have the video of a container fetched and checked; it is in progress until then."""
        self._checks.start(self._check_later(container))

    def resume(self) -> None:
        """Have fetched what a restart interrupted."""
        for node in list(self._world.objects.values()):
            if not isinstance(node, Container | Video) or node.source_url is None:
                continue
            if isinstance(node, Container) and not node.awaits_upload:
                if not node.checked:
                    self.check(node)
            elif node.uploaded_at is None and node.problem is None and not node.received_bytes:
                self.fetch(node, node.source_url)

    def fetch(self, node: Container | Video, file_url: str) -> None:
        """Have a file fetched; it is here later, or at once where media is not checked."""
        node.source_url = file_url
        node.problem = None
        if self._checks.are_on:
            self._checks.start(self._fetch_later(node, file_url))
        else:
            self._finish(node, GOOD)

    async def take_chunk(self, video: Video, start: int, content: bytes) -> None:
        """Take a chunk of a chunked upload.

        Raises:
            GraphError: 1363037, it does not begin where the last one ended, or is longer than what is missing;
                1363041, the session is gone.
        """
        begin, _ = page_videos.chunk_bounds(video)
        size = video.file_bytes or 0
        if start != begin or begin + len(content) > size:
            raise answers.upload_offset_wrong(*page_videos.chunk_bounds(video))
        file = self._file(video)
        if file is not None:
            file.write(content)
        video.received_bytes += len(content)
        if video.received_bytes == size:
            self._finish(video, await self._inspect(video))

    async def take_file(self, video: Video, content: bytes) -> None:
        """Take a file that was sent whole with its call."""
        video.file_bytes = len(content)
        await self.take_chunk(video, 0, content)

    def clear(self) -> None:
        """Forget unfinished files."""
        for file in self._partial.values():
            file.close()
        self._partial.clear()

    async def _check_later(self, container: Container) -> None:
        assert container.source_url is not None
        verdict = await self._checks.video(container, container.source_url) if self._checks.are_on else GOOD
        instagram.finish_check(container, verdict)

    async def _fetch_later(self, node: Container | Video, file_url: str) -> None:
        self._finish(node, await self._checks.video(node, file_url))

    def _finish(self, node: Container | Video, verdict: Verdict) -> None:
        now = self._clock.now()
        if isinstance(node, Container):
            instagram.finish_upload(self._world, node, verdict, now)
        else:
            page_videos.finish_upload(self._world, node, verdict.problem, now)

    async def _receive_bytes(self, call: Call, node: Container | Video) -> None:
        file_size, offset = _read_size(call.values, "file_size"), _read_size(call.values, "offset")
        if offset != node.received_bytes:
            raise _upload_error("OffsetInvalidError", f"Expected offset {node.received_bytes}, found {offset}.")
        file = self._file(node)
        async for chunk in call.request.content.iter_chunked(_CHUNK_BYTES):
            if node.received_bytes + len(chunk) > file_size:
                raise _upload_error("ProcessingFailedError", "The body is longer than file_size.")
            if file is not None and file.closed:
                raise _upload_error("ProcessingFailedError", "The upload session is gone.")
            if file is not None:
                file.write(chunk)
            node.received_bytes += len(chunk)
        if node.received_bytes < file_size:
            raise _upload_error("PartialRequestError", "The body ended early.", is_transient=True)
        self._finish(node, await self._inspect(node))

    def _file(self, node: Container | Video) -> IO[bytes] | None:
        """Return where the bytes go; a part that was not kept, over a restart or a switch, is taken as good."""
        file = self._partial.get(node.id)
        if file is None and self._checks.are_on and node.received_bytes == 0:
            file = self._partial[node.id] = temporary_file()
        return file

    async def _inspect(self, node: Container | Video) -> Verdict:
        file = self._partial.pop(node.id, None)
        if file is None:
            return GOOD
        with file:
            return await self._checks.video_file(node, file)


def resolve_upload(world: World, token: Token | None, request: web.BaseRequest, site: Site) -> Call:
    """Find the container or the video that an upload URL names.

    Raises:
        GraphError: none that this token may upload to; 100/33, not an upload.
    """
    object_id = site.segments[-1] if site.segments else ""
    if request.method != "POST":
        raise answers.unsupported(request.method, object_id)
    node = world.objects.get(object_id)
    kind = Container if site.segments[:1] == (INSTAGRAM_UPLOAD,) else Video
    if not isinstance(node, Container | Video) or not isinstance(node, kind) or not _takes_file(node):
        raise _unauthorized()
    if token is None or node.account.id not in token.accounts:
        raise _unauthorized()
    values = {name: request.headers[name] for name in _HEADERS if name in request.headers}
    endpoint = Endpoint.UPLOAD_CONTAINER if isinstance(node, Container) else Endpoint.UPLOAD_VIDEO
    subjects = (url,) if (url := values.get("file_url")) else node.source_urls
    return Call(endpoint, request, "POST", site, Parameters(values), node.account, node, token, subjects)


def _takes_file(node: Container | Video) -> bool:
    return node.awaits_upload if isinstance(node, Container) else node.session_id is None


def _unauthorized() -> GraphError:
    return _upload_error("ProcessingFailedError", "unauthorized user request")


def _read_size(values: dict[str, str], name: str) -> int:
    text = values.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= FILE_BYTES_MAX):
        raise _upload_error("ProcessingFailedError", f"The header {name} must be a number of bytes.")
    return int(text)


def _upload_error(kind: str, message: str, *, is_transient: bool = False) -> GraphError:
    return GraphError(message, code=6001, kind=kind, is_transient=is_transient)
