"""A running sandbox, a client for it, and a server of real media files."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import anyio
import pytest
from aiohttp import web
from PIL import Image

from publisher.sandbox.server import serve
from publisher.sandbox.settings import SandboxSettings
from tests.sandbox.client import Client, Owner

VIDEO = Path(__file__).parent / "media" / "story.mp4"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> SandboxSettings:
    for name in SandboxSettings.model_fields:
        monkeypatch.delenv(f"SANDBOX_{name.upper()}", raising=False)
    return SandboxSettings(port=0, image_seconds=(0, 0), video_seconds=(0, 0), media_timeout_seconds=5)


@pytest.fixture
async def client(settings: SandboxSettings) -> AsyncIterator[Client]:
    async with serve(settings) as sandbox, aiohttp.ClientSession() as session:
        yield Client(sandbox.url, session)


@pytest.fixture
async def instagram(client: Client) -> Owner:
    return await client.owner("instagram")


@pytest.fixture
async def page(client: Client) -> Owner:
    return await client.owner("facebook")


@dataclass(slots=True)
class MediaServer:
    """Real files over real HTTP; `agents` are the user agents that asked; `slow...` waits while it is slow."""

    url: str = ""
    agents: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    is_slow: bool = True

    def __getitem__(self, name: str) -> str:
        return f"{self.url}/{name}"

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve a file, or what its name promises."""
        self.agents.append(request.headers.get("User-Agent", ""))
        name = request.path.removeprefix("/")
        if name.startswith("slow") and self.is_slow:
            await anyio.sleep_forever()
        if name.startswith("moved"):
            return web.Response(status=302, headers={"Location": "/story.jpg"})
        content = self.files.get(name)
        return web.Response(status=404) if content is None else web.Response(body=content)


@pytest.fixture
async def media() -> AsyncIterator[MediaServer]:
    async with _serve_media() as server:
        yield server


@asynccontextmanager
async def _serve_media() -> AsyncIterator[MediaServer]:
    jpeg, video = picture("JPEG"), VIDEO.read_bytes()
    server = MediaServer(
        files={
            "story.jpg": jpeg,
            "story.png": picture("PNG"),
            "feed.jpg": picture("JPEG", (1080, 1350)),
            "wide.jpg": picture("JPEG", (1080, 540)),
            "feed.png": picture("PNG", (320, 320)),
            "cut.jpg": jpeg[: len(jpeg) // 2],
            "large.jpg": jpeg + bytes(8 * 1_048_576),
            "text.jpg": b"this is not a picture",
            "story.mp4": video,
            "long.mp4": slowed(video, 20),
            "cut.mp4": video[:600],
            "text.mp4": b"this is not a video",
        }
    )
    runner = web.ServerRunner(web.Server(server.answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


def picture(kind: str, size: tuple[int, int] = (108, 192)) -> bytes:
    """Return a picture, by default a small one in story format."""
    content = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(content, kind)
    return content.getvalue()


def slowed(video: bytes, factor: int) -> bytes:
    """Return a video that takes longer: the clocks in its index tick more slowly."""
    content = bytearray(video)
    for kind in (b"mvhd", b"mdhd"):
        at = content.find(kind)
        while at != -1:
            # After the kind: version and flags, two instants, then the ticks of a second.
            where = slice(at + 16, at + 20)
            content[where] = (int.from_bytes(content[where]) // factor).to_bytes(4)
            at = content.find(kind, at + 4)
    return bytes(content)
