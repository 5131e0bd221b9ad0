"""The media server: where the sandbox fetches what a story shows, as Meta does.

GET /story-07.jpg is drawn for every number; GET /story-09.mp4 is one of two files; anything else is not found.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

import anyio
from aiohttp import web

from relay.demo import pictures
from relay.demo.script import STORIES

_PATH = re.compile(r"/story-([0-9]{2,4})\.(jpg|mp4)")
_VIDEOS = ("story-1.mp4", "story-2.mp4")


@asynccontextmanager
async def serve() -> AsyncIterator[str]:
    """Serve on a free port of the loopback address until the end of the block, and give the base URL."""
    videos = [(files("relay.demo") / "media" / name).read_bytes() for name in _VIDEOS]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked = _PATH.fullmatch(request.path)
        if asked is None:
            return web.Response(status=404)
        number = int(asked[1])
        if asked[2] == "mp4":
            return web.Response(body=videos[number % len(videos)], content_type="video/mp4")
        content = await anyio.to_thread.run_sync(pictures.draw, number, _title(number))
        return web.Response(body=content, content_type="image/jpeg")

    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _title(number: int) -> str:
    return next((story.account.name for story in STORIES if story.number == number), "One more story")
