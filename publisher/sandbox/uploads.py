"""The upload host of Page videos (Meta: Page Stories API): a URL to fetch, or bytes from an offset on."""

from __future__ import annotations

from typing import IO, Any, Final

from aiohttp import web

from publisher.sandbox import answers, facebook
from publisher.sandbox.answers import GraphError
from publisher.sandbox.calls import Call, Endpoint
from publisher.sandbox.clock import Clock
from publisher.sandbox.media import Inspector, temporary_file
from publisher.sandbox.objects import MediaProblem, Video
from publisher.sandbox.parameters import Parameters
from publisher.sandbox.world import World

FILE_BYTES_MAX: Final = 2_000_000_000
_CHUNK_BYTES: Final = 65_536
_HEADERS: Final = ("file_url", "offset", "file_size")


class Uploads:
    """Takes video files in; what has arrived of an unfinished one is kept, so that it can be resumed."""

    def __init__(self, world: World, clock: Clock, inspector: Inspector) -> None:
        self._world = world
        self._clock = clock
        self._inspector = inspector
        self._partial: dict[str, IO[bytes]] = {}

    async def receive(self, call: Call) -> dict[str, Any]:
        """Take a file, or a part of one; a file that is fetched arrives later.

        Raises:
            GraphError: the offset or the size is wrong, or the body ended early.
        """
        video = call.node
        assert isinstance(video, Video)
        if video.uploaded_at is not None:
            raise _upload_error("ProcessingFailedError", "The file has been uploaded already.")
        file_url = call.values.get("file_url")
        if file_url:
            self._fetch(video, file_url)
        else:
            await self._receive_bytes(call, video)
        return {"success": True}

    def clear(self) -> None:
        """Forget unfinished files."""
        for file in self._partial.values():
            file.close()
        self._partial.clear()

    def _fetch(self, video: Video, file_url: str) -> None:
        video.source_url = file_url
        video.problem = None
        if self._world.switches.check_media:
            self._inspector.start(self._fetch_later(video, file_url))
        else:
            facebook.finish_upload(self._world, video, None, self._clock.now())

    async def _fetch_later(self, video: Video, file_url: str) -> None:
        from publisher.sandbox import decoders  # noqa: PLC0415  # an optional extra

        problem = await self._inspector.inspect(
            file_url, decoders.PAGE_VIDEO, timeout_seconds=self._world.switches.media_timeout_seconds
        )
        facebook.finish_upload(self._world, video, problem, self._clock.now())

    async def _receive_bytes(self, call: Call, video: Video) -> None:
        file_size, offset = _read_size(call.values, "file_size"), _read_size(call.values, "offset")
        if offset != video.received_bytes:
            raise _upload_error("OffsetInvalidError", f"Expected offset {video.received_bytes}, found {offset}.")
        keeps_bytes = self._world.switches.check_media
        file = self._partial.get(video.id)
        if file is None and keeps_bytes:
            file = self._partial[video.id] = temporary_file()
        async for chunk in call.request.content.iter_chunked(_CHUNK_BYTES):
            if video.received_bytes + len(chunk) > file_size:
                raise _upload_error("ProcessingFailedError", "The body is longer than file_size.")
            if file is not None and file.closed:
                raise _upload_error("ProcessingFailedError", "The upload session is gone.")
            if file is not None:
                file.write(chunk)
            video.received_bytes += len(chunk)
        if video.received_bytes < file_size:
            raise _upload_error("PartialRequestError", "The body ended early.", is_transient=True)
        problem = None if file is None else await self._inspect(video, file)
        facebook.finish_upload(self._world, video, problem, self._clock.now())

    async def _inspect(self, video: Video, file: IO[bytes]) -> MediaProblem | None:
        from publisher.sandbox import decoders  # noqa: PLC0415  # an optional extra

        self._partial.pop(video.id, None)
        with file:
            return await self._inspector.inspect_file(file, decoders.PAGE_VIDEO)


def resolve_upload(world: World, token: str | None, request: web.BaseRequest, segments: list[str]) -> Call:
    """Find the video that an upload URL names.

    Raises:
        GraphError: none that this token may upload to; 100/33, not an upload.
    """
    video_id = segments[-1] if segments else ""
    if request.method != "POST":
        raise answers.unsupported(request.method, video_id)
    video = world.objects.get(video_id)
    if not isinstance(video, Video) or video.account.token.value != token:
        raise _upload_error("ProcessingFailedError", "unauthorized user request")
    values = {name: request.headers[name] for name in _HEADERS if name in request.headers}
    return Call(
        Endpoint.UPLOAD_VIDEO,
        request,
        Parameters(values),
        video.account,
        video,
        values.get("file_url") or video.source_url,
    )


def _read_size(values: dict[str, str], name: str) -> int:
    text = values.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= FILE_BYTES_MAX):
        raise _upload_error("ProcessingFailedError", f"The header {name} must be a number of bytes.")
    return int(text)


def _upload_error(kind: str, message: str, *, is_transient: bool = False) -> GraphError:
    return GraphError(message, code=6001, kind=kind, is_transient=is_transient)
