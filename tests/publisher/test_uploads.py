"""Videos whose bytes we send: what drips ends, what only takes long does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from aiohttp import web

from outbox.event import Event
from outbox.outcome import Dead, Defer, Published, Retry
from publisher.page import videos
from tests.publisher.stage import Stage, open_stage, quick, serve_answers

pytestmark = pytest.mark.anyio
UPLOADED = ("instagram reel", "facebook reel", "facebook video")
SIZE_BYTES = 1_000_000


async def drip(request: web.BaseRequest) -> web.StreamResponse:
    """Send a byte of the file, and fall silent."""
    offset = request.http_range.start or 0
    response = web.StreamResponse(status=206 if offset else 200, headers={"Content-Length": str(SIZE_BYTES - offset)})
    await response.prepare(request)
    await response.write(b"x")
    await anyio.sleep_forever()
    return response


@asynccontextmanager
async def uploading(
    database: str, kind: str, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **changes: object
) -> AsyncIterator[tuple[Stage, Event]]:
    """Open a stage with an event whose video comes from a host that answers by a function."""
    platform, placement = kind.split()
    settings = quick(check_media=False, upload_seconds=2, media_seconds=2, **changes)
    async with serve_answers(answer) as url, open_stage(database, settings) as stage:
        yield (
            stage,
            await stage.create(
                platform, placement=placement, media_type="video", media_url=f"{url}/1.mp4", upload=placement == "reel"
            ),
        )


@pytest.mark.parametrize("kind", UPLOADED)
async def test_an_upload_that_drips_begins_anew_and_ends(database: str, kind: str) -> None:
    """Its account would wait for it for ever."""
    async with uploading(database, kind, drip, processing_seconds_max=0.1, new_containers_max=1) as (stage, event):
        play = await stage.play(event)
        assert isinstance(play.end, Dead), play.outcomes
        assert play.end.reason == "media_failed"
        assert "a second; that was" in play.end.error
        assert [type(each) for each in play.outcomes if not isinstance(each, Defer)] == [Retry, Dead]
        refused = [line for line in await stage.trail(event) if line.endswith("refused")]
        assert len(refused) == 2


@pytest.mark.parametrize("kind", UPLOADED)
async def test_an_upload_that_drips_goes_on_for_a_while(database: str, kind: str) -> None:
    """Each byte that arrives costs no attempt."""
    async with uploading(database, kind, drip) as (stage, event):
        outcomes = [await stage.dispatch(event) for _ in range(3)]
        assert {type(outcome) for outcome in outcomes} == {Defer}


async def test_a_chunk_that_does_not_fill_is_sent_in_time(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay would end the handler that waits for the rest of it, and nothing of it would have arrived."""
    monkeypatch.setattr(videos, "SENDING_SECONDS", -1.0)

    async def stall(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(SIZE_BYTES)})
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await anyio.sleep(0.05)

    async with uploading(database, "facebook video", stall) as (stage, event):
        with anyio.fail_after(60):
            assert isinstance(await stage.dispatch(event), Defer)


async def test_meta_has_its_time_from_when_the_bytes_are_there(database: str) -> None:
    """An upload that took longer than processing may is not thrown away when it is done."""
    async with open_stage(database, quick(processing_seconds_max=60)) as stage:
        event = await stage.approve("instagram uploaded reel")
        await stage.graph.use(video_seconds=[0.2, 0.2])
        await stage.play(event, until=lambda outcome: isinstance(outcome, Defer))
        assert (await stage.trail(event))[-1] == "upload done"
        await stage.execute("alter table outbox.steps disable trigger all")
        await stage.execute(
            "update outbox.steps set created_at = created_at - interval '100 seconds' where name = 'container'"
        )
        play = await stage.play(event)
        assert isinstance(play.end, Published), play.outcomes
        assert (await stage.trail(event)).count("container done") == 1
