"""Media are looked at before anything costs quota: what breaks a rule is dead, what can't be read is tried again."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from aiohttp import web
from PIL import Image
from psycopg.types.json import Jsonb

from outbox.event import Event, JsonObject
from outbox.outcome import Dead, Defer, Outcome, Published, Retry
from publisher.errors import MediaUnreachable, MediaUnsuitable
from publisher.media.client import AT_ONCE, AT_ONCE_OF_A_HOST, POSTS_OF_A_HOST, REDIRECTS_MAX, MediaClient, open_media
from publisher.media.facts import IMAGE_HEAD_BYTES, video_facts
from publisher.media.rules import RULES, Rule, violations
from publisher.placement import MediaType, Medium
from publisher.settings import PublisherSettings
from tests.publisher.stage import VIDEO, Stage, open_stage, picture, quick, serve_answers

pytestmark = pytest.mark.anyio
PUBLIC = PublisherSettings(media_seconds=5)


def image(width: int, height: int, form: str = "JPEG", **more: object) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height)).save(content, form, **more)
    return content.getvalue()


def index_last(video: bytes) -> bytes:
    """Move the index of a video behind its frames; nobody could play it, and anybody sees the order."""
    boxes: dict[str, bytes] = {}
    at = 0
    while at < len(video):
        size, name = struct.unpack_from(">I4s", video, at)
        boxes[name.decode()] = video[at : at + size]
        at += size
    return boxes["ftyp"] + boxes["mdat"] + boxes["moov"]


@asynccontextmanager
async def client_of(
    answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], media_seconds: float = 5
) -> AsyncIterator[tuple[MediaClient, str]]:
    """Open a client, and a host that answers by a function."""
    async with serve_answers(answer) as url, open_media(quick(media_seconds=media_seconds)) as client:
        yield client, f"{url}/medium"


async def measured(body: bytes, media_type: MediaType, **headers: str) -> JsonObject:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body, headers=headers)

    async with client_of(answer) as (client, url):
        return await client.measure(Medium(media_type, url))


async def test_an_image_tells_its_format_and_size() -> None:
    """Of what the host says and what the header says."""
    body = image(120, 90)
    assert await measured(body, MediaType.IMAGE, **{"Content-Type": "image/jpeg"}) == {
        "kind": "image",
        "content_type": "image/jpeg",
        "size_bytes": len(body),
        "format": "JPEG",
        "width": 120,
        "height": 90,
        "aspect_ratio": 1.3333,
    }


async def test_a_turned_image_is_measured_as_it_is_seen() -> None:
    """EXIF says that the camera lay on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    facts = await measured(image(120, 90, exif=exif), MediaType.IMAGE)
    assert (facts["width"], facts["height"]) == (90, 120)


async def test_an_image_with_a_long_header_is_read_on() -> None:
    """A preview in front of the picture is no reason to call it none."""
    facts = await measured(image(120, 90, comment=b"x" * 60_000, icc_profile=b"y" * 60_000), MediaType.IMAGE)
    assert facts["size_bytes"] > IMAGE_HEAD_BYTES
    assert facts["width"] == 120


async def test_an_image_of_unknown_length_is_counted() -> None:
    """A host that sends chunks does not say how large the file is."""
    body = image(400, 300) + b"\0" * IMAGE_HEAD_BYTES

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(body)
        return response

    async with client_of(answer) as (client, url):
        assert (await client.measure(Medium(MediaType.IMAGE, url)))["size_bytes"] == len(body)


async def test_a_video_is_measured_from_its_beginning() -> None:
    """A large file is not read to its end: what is after the index tells nothing."""
    sent = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Length": str(90_000_000)})
        await response.prepare(request)
        await response.write(VIDEO.read_bytes())
        try:
            while sent < 60_000_000:
                await response.write(bytes(1_000_000))
                sent += 1_000_000
        except ConnectionError:
            pass
        return response

    async with client_of(answer) as (client, url):
        facts = await client.measure(Medium(MediaType.VIDEO, url))
    assert facts["size_bytes"] == 90_000_000
    assert (facts["codec"], facts["width"], facts["height"], facts["duration_seconds"]) == ("AVC", 540, 960, 4.0)
    assert sent < 60_000_000


def test_a_video_whose_index_comes_last_says_so() -> None:
    """Whole or cut off; and one whose index is cut off says that it comes first."""
    late = index_last(VIDEO.read_bytes())
    whole = video_facts(late, is_whole=True)
    assert whole is not None
    assert whole["is_index_first"] is False
    assert video_facts(late[:9_000], is_whole=False) == {"is_index_first": False}
    assert video_facts(VIDEO.read_bytes()[:3_000], is_whole=False) == {"is_index_first": True}


@pytest.mark.parametrize("media_type", list(MediaType))
@pytest.mark.parametrize("body", [b"", b"no medium", b"<html></html>", picture()[:20]])
async def test_what_is_no_medium_is_unsuitable(media_type: MediaType, body: bytes) -> None:
    """Neither library recognises it."""
    with pytest.raises(MediaUnsuitable, match=f"expected an? {media_type} as media, found another file"):
        await measured(body, media_type)


@pytest.mark.parametrize("content_type", ["text/html", "application/json", "video/mp4"])
async def test_another_content_type_is_unsuitable(content_type: str) -> None:
    """A login page that is served as an image's address."""
    with pytest.raises(MediaUnsuitable, match=f"found {content_type}"):
        await measured(picture(), MediaType.IMAGE, **{"Content-Type": content_type})


@pytest.mark.parametrize(
    ("status", "is_refusal"),
    [(404, True), (403, True), (401, True), (410, True), (429, False), (500, False), (503, False)],
)
async def test_a_host_that_refuses_is_told_from_one_in_trouble(status: int, is_refusal: bool) -> None:
    """Only what the host will say again and again ends an event."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status)

    async with client_of(answer) as (client, url):
        with pytest.raises(MediaUnreachable, match=f"answer 200, found {status}") as raised:
            await client.measure(Medium(MediaType.IMAGE, url))
    assert raised.value.is_refusal is is_refusal


async def test_a_silent_host_is_in_trouble() -> None:
    """It hangs up in the middle."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        assert request.transport is not None
        request.transport.abort()
        return response

    async with client_of(answer) as (client, url):
        with pytest.raises(MediaUnreachable) as raised:
            await client.measure(Medium(MediaType.IMAGE, url))
    assert raised.value.is_refusal is False


async def test_a_host_that_drips_is_given_up() -> None:
    """However long each byte keeps it busy: others wait for the place that it takes."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000000"})
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await anyio.sleep(0.01)

    async with client_of(answer, media_seconds=0.5) as (client, url):
        for read in (client.measure(Medium(MediaType.IMAGE, url)), client.read(url)):
            with pytest.raises(MediaUnreachable, match="found it slower") as raised:
                await read
            assert raised.value.is_refusal is False


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
async def test_the_media_of_a_post_are_looked_at_together(database: str, form: str) -> None:
    """One after the other ten slow ones took longer than a handler may, and the next try began anew."""
    asked, are_all_asked = 0, anyio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 3:
            are_all_asked.set()
        await are_all_asked.wait()
        return web.Response(body=image(120, 120, form if "2" in request.path else "JPEG"))

    async with serve_answers(answer) as url, open_stage(database, quick(media_seconds=30)) as stage:
        media = [{"kind": "image", "url": f"{url}/{number}.jpg"} for number in (1, 2, 3)]
        event = await stage.create("instagram", placement="carousel", media=Jsonb(media), caption="Ripe")
        play = await stage.play(event)
        assert not any(isinstance(outcome, Retry) for outcome in play.outcomes)
        if form == "JPEG":
            assert isinstance(play.end, Published)
        else:
            assert isinstance(play.end, Dead)
            assert "the image 2 does not suit" in play.end.error


async def test_a_slow_host_keeps_only_its_own_media_waiting() -> None:
    """However many of them are looked at."""
    asked, are_asked = 0, anyio.Event()

    async def stall(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == AT_ONCE_OF_A_HOST:
            are_asked.set()
        await anyio.sleep_forever()
        raise AssertionError

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=picture())

    async with (
        client_of(stall, media_seconds=60) as (client, slow),
        serve_answers(answer) as good,
        anyio.create_task_group() as group,
    ):
        for number in range(AT_ONCE):
            group.start_soon(client.measure, Medium(MediaType.IMAGE, f"{slow}/{number}"))
        with anyio.fail_after(60):
            await are_asked.wait()
            assert await client.measure(Medium(MediaType.IMAGE, f"{good}/1.jpg"))
        group.cancel_scope.cancel()
    assert asked == AT_ONCE_OF_A_HOST


async def test_a_slow_host_holds_so_many_workers_and_no_more(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The posts behind those are put off, at no attempt: one waits a moment for its turn, those after it do not."""
    monkeypatch.setattr("publisher.media.turns.WAIT_SECONDS", 0.1)
    monkeypatch.setattr("publisher.media.turns.BUSY_SECONDS", 1.0)
    asked, are_asked, goes_on = 0, anyio.Event(), anyio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == POSTS_OF_A_HOST:
            are_asked.set()
        await goes_on.wait()
        return web.Response(body=picture())

    async with serve_answers(answer) as url, open_stage(database, quick(media_seconds=60)) as stage:
        events = [
            await stage.create("facebook", media_url=f"{url}/{number}.jpg") for number in range(POSTS_OF_A_HOST + 3)
        ]
        ends: list[Outcome] = []

        async def play(event: Event) -> None:
            ends.append((await stage.play(event)).end)

        async with anyio.create_task_group() as group:
            for event in events[:POSTS_OF_A_HOST]:
                group.start_soon(play, event)
            with anyio.fail_after(20):
                await are_asked.wait()
                put_off = [await stage.dispatch(event) for event in events[POSTS_OF_A_HOST:]]
            goes_on.set()
        assert [(type(each), each.delay_seconds) for each in put_off if isinstance(each, Defer)] == [(Defer, 1.0)] * 3
        assert asked >= POSTS_OF_A_HOST
        for event in events[POSTS_OF_A_HOST:]:
            await play(event)
        assert [type(end) for end in ends] == [Published] * len(events)


async def test_a_file_is_asked_for_as_it_is() -> None:
    """Packed for the way it has another size, and other offsets."""
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.headers["Accept-Encoding"])
        return web.Response(body=gzip.compress(picture()), headers={"Content-Encoding": "gzip"})

    async with client_of(answer) as (client, url):
        with pytest.raises(MediaUnreachable, match="found it in gzip") as raised:
            await client.measure(Medium(MediaType.IMAGE, url))
    assert raised.value.is_refusal
    assert asked == ["identity"]


async def test_a_redirect_to_no_address_is_unsuitable() -> None:
    """A host may write anything there."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "https://["})

    async with client_of(answer) as (client, url):
        with pytest.raises(MediaUnsuitable, match="expected a URL"):
            await client.measure(Medium(MediaType.IMAGE, url))


@pytest.mark.parametrize(
    ("content_range", "is_whole"), [("bytes */1000", True), ("bytes */2000", False), (None, False)]
)
async def test_a_file_of_which_nothing_is_left_has_been_sent(content_range: str | None, is_whole: bool) -> None:
    """The last answer was lost, and the host has no such range: only where it names that very size is that the end."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=416, headers={} if content_range is None else {"Content-Range": content_range})

    async with client_of(answer) as (client, url):
        if is_whole:
            async with client.stream(url, 1000) as (size_bytes, _):
                assert size_bytes == 1000
        else:
            with pytest.raises(MediaUnreachable, match="found 416"):
                async with client.stream(url, 1000):
                    pass


async def test_redirects_are_followed_a_few_times() -> None:
    """Each of them is checked like the first address."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        left = int(request.query.get("left", 0))
        if left:
            return web.Response(status=302, headers={"Location": f"/medium?left={left - 1}"})
        return web.Response(body=picture())

    async with client_of(answer) as (client, url):
        assert await client.measure(Medium(MediaType.IMAGE, f"{url}?left={REDIRECTS_MAX}"))
        with pytest.raises(MediaUnreachable, match="redirects at most"):
            await client.measure(Medium(MediaType.IMAGE, f"{url}?left={REDIRECTS_MAX + 1}"))


async def test_an_address_of_another_kind_is_told_even_where_private_ones_are_read() -> None:
    """It is no fault of a host's."""
    for url in ("ftp://media.example/1.jpg", "media.example/1.jpg"):
        async with open_media(PublisherSettings(private_media=True)) as client:
            with pytest.raises(MediaUnsuitable, match="expected an https URL"):
                await client.measure(Medium(MediaType.IMAGE, url))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://media.example/1.jpg", "expected an https URL"),
        ("https://127.0.0.1/1.jpg", "expected a public address"),
        ("https://[::1]/1.jpg", "expected a public address"),
        ("https://169.254.169.254/latest/meta-data", "expected a public address"),
        ("https://10.0.0.1/1.jpg", "expected a public address"),
        ("https://localhost/1.jpg", "expected a public address"),
        ("https://user:password@media.example/1.jpg", "expected a URL without a password"),
        ("https://media.example/Größe.jpg", "expected a URL in US-ASCII"),
        ("https://[", "expected a URL as media, found another text"),
    ],
)
async def test_an_address_that_meta_could_not_reach_is_not_reached_for(url: str, expected: str) -> None:
    """Nor does the relay read for strangers what only it can see; no sentence repeats the address."""
    async with open_media(PUBLIC) as client:
        with pytest.raises(MediaUnsuitable, match=expected) as raised:
            await client.measure(Medium(MediaType.IMAGE, url))
    assert "password@" not in str(raised.value)
    assert "169.254" not in str(raised.value)


@pytest.mark.parametrize(
    ("content_range", "is_rest"),
    [
        ("bytes 100-999/1000", True),
        ("bytes 100-499/1000", False),
        ("bytes 0-899/1000", False),
        ("bytes 100-999/*", True),
    ],
)
async def test_a_part_of_the_rest_does_not_pass_for_all_of_it(content_range: str, is_rest: bool) -> None:
    """A host may send less than it is asked for: a video would end there, and be published so."""
    first, last = map(int, content_range.removeprefix("bytes ").partition("/")[0].split("-"))

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert request.headers["Range"] == "bytes=100-"
        return web.Response(status=206, headers={"Content-Range": content_range}, body=bytes(last + 1 - first))

    async with client_of(answer) as (client, url):
        if is_rest:
            async with client.stream(url, 100) as (size_bytes, _):
                assert size_bytes == 1000
        else:
            with pytest.raises(MediaUnreachable, match="another part"):
                async with client.stream(url, 100):
                    pass


async def test_a_medium_is_streamed_from_an_offset() -> None:
    """By a host that knows ranges, and by one that does not."""
    body = bytes(range(256)) * 1_000

    async def ranged(request: web.BaseRequest) -> web.StreamResponse:
        offset = request.http_range.start or 0
        return web.Response(status=206 if offset else 200, body=body[offset:])

    async def plain(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body)

    for answer in (ranged, plain):
        async with client_of(answer) as (client, url):
            for offset in (0, 100_001):
                async with client.stream(url, offset) as (size_bytes, chunks):
                    assert size_bytes == len(body)
                    assert b"".join([chunk async for chunk in chunks]) == body[offset:]


GOOD: dict[str, JsonObject] = {
    "image": {"format": "JPEG", "size_bytes": 1_000, "width": 1_080, "height": 1_080, "aspect_ratio": 1.0},
    "video": {
        "format": "MPEG-4",
        "size_bytes": 1_000_000,
        "codec": "AVC",
        "width": 1_080,
        "height": 1_920,
        "aspect_ratio": 0.5625,
        "duration_seconds": 10.0,
        "frames_per_second": 30.0,
        "bits_per_second": 5_000_000.0,
        "scan": "Progressive",
        "chroma": "4:2:0",
        "audio_codec": "AAC",
        "audio_channels": 2.0,
        "audio_samples_per_second": 48_000.0,
        "is_index_first": True,
    },
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.platform} {rule.media_type} {rule.fact}")
def test_each_rule_refuses_what_it_is_there_for(rule: Rule) -> None:
    """Good media break none; what lies outside of a rule breaks that one, and names its source."""
    wrong: list[float | str | bool] = [0.0] if rule.least is not None else []
    wrong += [rule.most * 2] if rule.most is not None else []
    wrong += ["Nothing" if rule.one_of != (True,) else False] if rule.one_of else []
    assert wrong
    for placement in rule.placements:
        where = {"platform": rule.platform, "placement": placement}
        good = GOOD[rule.media_type]
        assert violations(good, media_type=rule.media_type, **where) == []
        for value in wrong:
            broken = violations({**good, rule.fact: value}, media_type=rule.media_type, **where)
            assert [violation.rule for violation in broken] == [rule]
            assert rule.source in str(broken[0])


def test_bounds_are_written_out() -> None:
    """8 MiB is no 8.38861e+06."""
    [size] = [rule for rule in RULES if "2207004" in rule.source]
    [ratio] = [rule for rule in RULES if "2207009" in rule.source]
    assert (size.expected, ratio.expected) == ("at most 8388608", "0.8 to 1.91")


def test_what_could_not_be_measured_breaks_no_rule() -> None:
    """Meta looks at it anyway."""
    assert violations({}, platform="instagram", placement="reel", media_type=MediaType.VIDEO) == []


@pytest.mark.parametrize(("fact", "value"), [("duration_seconds", 60.04), ("frames_per_second", 60.03)])
def test_rounding_breaks_no_rule(fact: str, value: float) -> None:
    """A container's length is rounded up to whole frames."""
    facts = GOOD["video"] | {fact: value}
    assert violations(facts, platform="instagram", placement="story", media_type=MediaType.VIDEO) == []


async def test_media_that_break_a_rule_are_dead_before_anything_costs_quota(stage: Stage) -> None:
    """The receipt says the rule, what was found and who says so; no container was made."""
    stage.files["story.png"] = image(108, 192, "PNG")
    play = await stage.play(await stage.approve("instagram image", file="story.png"))
    assert isinstance(play.end, Dead)
    assert play.end.reason == "media_unsuitable"
    assert play.end.context is not None
    assert play.end.context["rule"] == "format JPEG"
    assert (play.end.context["found"], play.end.context["source"]) == ("PNG", "IG media")
    assert len(play.outcomes) == 1
    assert "create_container" not in (await stage.graph.control("GET", "counts"))["counts"]


async def test_a_cover_is_looked_at_too(stage: Stage) -> None:
    """Meta would refuse it after the video has been fetched; one that fits is published with its reel."""
    stage.files |= {"cover.png": image(108, 192, "PNG"), "cover.jpg": image(108, 192, "JPEG")}
    reel = {"placement": "reel", "media_type": "video", "media_url": f"{stage.media_url}/story.mp4"}
    event = await stage.create("instagram", **reel, cover_url=f"{stage.media_url}/cover.png")
    end = (await stage.play(event)).end
    assert isinstance(end, Dead)
    assert end.error.startswith("the cover does not suit a reel of instagram: expected format JPEG, found PNG")
    assert "create_container" not in (await stage.graph.control("GET", "counts"))["counts"]
    event = await stage.create("instagram", **reel, cover_url=f"{stage.media_url}/cover.jpg")
    assert isinstance((await stage.play(event)).end, Published)


async def test_media_that_are_nowhere_are_tried_a_few_times(stage: Stage) -> None:
    """A fresh file may not be everywhere yet; then the event is dead, and nothing was called."""
    play = await stage.play(await stage.approve("facebook video", file="nowhere.mp4"))
    assert [type(outcome) for outcome in play.outcomes] == [Retry, Retry, Retry, Dead]
    assert isinstance(play.end, Dead)
    assert play.end.reason == "media_unreachable"
    assert "start_video_story" not in (await stage.graph.control("GET", "counts"))["counts"]


async def test_media_that_appear_are_published(stage: Stage) -> None:
    """The retry finds them."""
    event = await stage.approve("instagram image", file="late.jpg")
    assert isinstance(await stage.dispatch(event), Retry)
    stage.files["late.jpg"] = stage.files["story.jpg"]
    assert isinstance((await stage.play(event)).end, Published)


async def test_media_are_not_fetched_again_by_a_retry(stage: Stage) -> None:
    """What was found is in the steps, by itself where the call after it failed."""
    await stage.graph.use(check_media=False)
    await stage.graph.fault("create_container", "error", code=2)
    event = await stage.approve("instagram image")
    assert isinstance(await stage.dispatch(event), Defer)
    assert await stage.trail(event) == ["media done", "prepare refused"]
    del stage.files["story.jpg"]
    assert isinstance((await stage.play(event)).end, Published)


async def test_what_was_found_is_kept_beside_the_first_handle(stage: Stage) -> None:
    """No step of its own on the happy path."""
    event = await stage.approve("facebook image")
    await stage.play(event)
    detail = (await stage.steps(event))[0].detail
    assert detail["media"]["facts"][0]["format"] == "JPEG"


async def test_without_the_check_media_are_left_to_meta(database: str) -> None:
    """For relays that may not go where media are."""
    async with open_stage(database, quick(check_media=False)) as stage:
        event = await stage.approve("instagram image")
        assert isinstance((await stage.play(event)).end, Published)
        assert "media" not in (await stage.steps(event))[0].detail
        play = await stage.play(await stage.approve("instagram image", file="text.jpg"))
        assert isinstance(play.end, Dead)
        assert play.end.reason == "rejected"
