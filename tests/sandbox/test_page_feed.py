"""A Page's feed: text, links, photos, videos by URL, by file and by chunk, and reels."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import pytest

from tests.sandbox.client import Answer, Client, Owner, until
from tests.sandbox.conftest import VIDEO, MediaServer

pytestmark = pytest.mark.anyio
CDN = "https://cdn.example"


@pytest.fixture
async def unchecked(client: Client) -> Client:
    """A client whose media is not fetched."""
    await client.use(check_media=False)
    return client


async def _now(client: Client) -> int:
    return int((await client.control("GET", "clock"))["now"])


async def _kinds(client: Client) -> list[str]:
    return [row["kind"] for row in (await client.control("GET", "live"))["live"]]


async def _feed(client: Client, page: Owner, fields: str = "id", edge: str = "feed", **more: str) -> list[Any]:
    answer = await client.get(f"/{page.id}/{edge}", page.token, fields=fields, **more)
    assert answer.status == 200, answer.body
    rows: list[Any] = answer.body["data"]
    return rows


async def test_text_goes_to_the_feed(client: Client, page: Owner) -> None:
    """It is listed newest first, by itself in lists and alone, with a permalink; `since` cuts the list."""
    first = await client.post(f"/{page.id}/feed", page.token, message="Good morning")
    assert re.fullmatch(rf"{page.id}_[0-9]+", first.body["id"])
    await client.advance(100)
    second = await client.post(f"/{page.id}/feed", page.token, message="Look", link="https://greenhouse.example/")
    for edge in ("feed", "published_posts"):
        rows = await _feed(client, page, "message,permalink_url", edge)
        assert [row["message"] for row in rows] == ["Look", "Good morning"]
        assert rows[1] == {
            "message": "Good morning",
            "permalink_url": f"https://www.facebook.com/{first.body['id']}",
            "id": first.body["id"],
        }
    default = await client.get(f"/{page.id}/feed", page.token)
    assert set(default.body["data"][0]) == {"created_time", "message", "id"}
    assert [row["id"] for row in await _feed(client, page, since=str(await _now(client) - 50))] == [second.body["id"]]
    alone = await client.get(f"/{second.body['id']}", page.token, fields="attachments,status_type,is_published")
    assert alone.body["attachments"] == {
        "data": [{"media_type": "link", "type": "share", "url": "https://greenhouse.example/"}]
    }
    assert (alone.body["status_type"], alone.body["is_published"]) == ("shared_story", True)
    assert await _kinds(client) == ["feed_text", "feed_text"]
    assert await client.live_count("Good morning") == 1
    assert (await client.get(f"/{page.id}/stories", page.token)).body == {"data": []}


@pytest.mark.parametrize(
    ("parameters", "codes"),
    [
        ({}, (400, 100, None)),
        ({"message": ""}, (400, 100, None)),
        ({"link": "greenhouse"}, (400, 1500, None)),
        ({"link": "http://["}, (400, 1500, None)),
        ({"link": "https://www.facebook.com/1"}, (400, 200, 1609008)),
        ({"attached_media": "broken"}, (400, 100, None)),
        ({"attached_media": "[1]"}, (400, 100, None)),
        ({"attached_media[0]": '{"media_fbid":"1"}'}, (400, 100, None)),
        ({"message": "a", "scheduled_publish_time": "1"}, (400, 100, None)),
        ({"message": "a", "published": "false", "scheduled_publish_time": "1"}, (400, 100, None)),
    ],
)
async def test_what_a_post_may_not_be(
    client: Client, page: Owner, parameters: dict[str, str], codes: tuple[int, int, int | None]
) -> None:
    """Nothing goes live."""
    assert (await client.post(f"/{page.id}/feed", page.token, **parameters)).codes == codes
    assert await client.live_count() == 0


async def test_a_post_is_scheduled(client: Client, page: Owner) -> None:
    """From 10 minutes to 30 days ahead; it counts as live from then on, and one that is not published never."""
    path = f"/{page.id}/feed"
    at = str(await _now(client) + 3_600)
    scheduled = await client.post(path, page.token, message="Later", published="false", scheduled_publish_time=at)
    read = await client.get(f"/{scheduled.body['id']}", page.token, fields="is_published,scheduled_publish_time")
    assert read.body == {"is_published": False, "scheduled_publish_time": int(at), "id": scheduled.body["id"]}
    await client.post(path, page.token, message="Never", published="false")
    now_post = await client.post(path, page.token, message="Now")
    assert [row["id"] for row in await _feed(client, page)] == [now_post.body["id"]]
    assert await client.live_count() == 1
    await client.advance(3_601)
    assert [row["id"] for row in await _feed(client, page)] == [scheduled.body["id"], now_post.body["id"]]
    assert await client.live_count() == 2
    too_late = str(await _now(client) + 31 * 86_400)
    refused = await client.post(path, page.token, message="a", published="false", scheduled_publish_time=too_late)
    assert refused.codes == (400, 100, None)


async def test_a_photo_with_words_goes_to_the_feed(client: Client, page: Owner, media: MediaServer) -> None:
    """The answer has the photo and the post; the photo knows its post."""
    answer = await client.post(
        f"/{page.id}/photos", page.token, url=media["feed.jpg"], caption="Red", alt_text_custom="Tomatoes"
    )
    photo_id, post_id = answer.body["id"], answer.body["post_id"]
    read = await client.get(f"/{photo_id}", page.token, fields="page_story_id,name,alt_text_custom")
    assert read.body == {"page_story_id": post_id, "name": "Red", "alt_text_custom": "Tomatoes", "id": photo_id}
    (row,) = await _feed(client, page, "message,full_picture,status_type")
    assert row == {
        "message": "Red",
        "full_picture": media["feed.jpg"],
        "status_type": "added_photos",
        "id": post_id,
    }
    await client.post(f"/{page.id}/photos", page.token, url=media["feed.jpg"], message="Old name")
    assert [row["message"] for row in await _feed(client, page, "message")] == ["Old name", "Red"]


@pytest.mark.parametrize("form", ["indexed", "array"])
async def test_several_photos_make_one_post(unchecked: Client, page: Owner, form: str) -> None:
    """Uploaded before and attached by form; each photo knows the post."""
    photos = [await unchecked.photo(page, f"{CDN}/{number}.jpg") for number in range(3)]
    rows = [f'{{"media_fbid":"{photo_id}"}}' for photo_id in photos]
    attached = (
        {f"attached_media[{at}]": row for at, row in enumerate(rows)}
        if form == "indexed"
        else {"attached_media": f"[{','.join(rows)}]"}
    )
    post = await unchecked.post(f"/{page.id}/feed", page.token, message="Three", **attached)
    for photo_id in photos:
        read = await unchecked.get(f"/{photo_id}", page.token, fields="page_story_id")
        assert read.body["page_story_id"] == post.body["id"]
    alone = await unchecked.get(f"/{post.body['id']}", page.token, fields="attachments{subattachments}")
    (album,) = alone.body["attachments"]["data"]
    assert [row["target"]["id"] for row in album["subattachments"]["data"]] == photos
    assert await unchecked.live_count() == 1
    assert await unchecked.live_count("/2.jpg") == 1


async def test_attached_media_in_json_is_lost_without_a_word(unchecked: Client, page: Owner) -> None:
    """Only text goes live, as was seen; by itself nothing is left to publish."""
    photo_id = await unchecked.photo(page, f"{CDN}/1.jpg")
    headers = {"Authorization": f"Bearer {page.token}"}
    attached = [{"media_fbid": photo_id}]
    sent = await unchecked.send(
        "POST", f"/{page.id}/feed", headers=headers, json={"message": "One", "attached_media": attached}
    )
    assert sent.status == 200
    assert await _kinds(unchecked) == ["feed_text"]
    alone = await unchecked.send("POST", f"/{page.id}/feed", headers=headers, json={"attached_media": attached})
    assert alone.codes == (400, 100, None)


@pytest.mark.parametrize(("republish", "live"), [("error", 1), ("same_id", 1), ("duplicate", 2)])
async def test_photos_are_attached_twice(unchecked: Client, page: Owner, republish: str, live: int) -> None:
    """1366051, the first post again, or a second one: a switch, as for everything that is published twice."""
    await unchecked.use(republish=republish)
    photo_id = await unchecked.photo(page, f"{CDN}/1.jpg")
    attached = {"attached_media[0]": f'{{"media_fbid":"{photo_id}"}}'}
    first = await unchecked.post(f"/{page.id}/feed", page.token, **attached)
    second = await unchecked.post(f"/{page.id}/feed", page.token, **attached)
    assert await unchecked.live_count() == live
    if republish == "error":
        assert second.codes == (400, 100, 1366051)
    else:
        assert (second.body == first.body) is (republish == "same_id")


async def _start_reel(client: Client, page: Owner) -> tuple[str, str]:
    started = await client.post(f"/{page.id}/video_reels", page.token, upload_phase="start")
    return str(started.body["video_id"]), str(started.body["upload_url"])


async def _sent_reel(client: Client, page: Owner, url: str = f"{CDN}/1.mp4") -> str:
    video_id, upload_url = await _start_reel(client, page)
    headers = {"Authorization": f"OAuth {page.token}", "file_url": url}
    assert (await client.send("POST", upload_url, headers=headers)).body == {"success": True}
    await client.video_status(page, video_id, "ready")
    return video_id


async def _finish_reel(client: Client, page: Owner, video_id: str, **more: str) -> Answer:
    return await client.post(f"/{page.id}/video_reels", page.token, upload_phase="finish", video_id=video_id, **more)


async def test_a_reel_goes_live(client: Client, page: Owner, media: MediaServer) -> None:
    """Start, upload, finish; the answer names no post, the video does, and the list of reels shows it."""
    video_id = await _sent_reel(client, page, media["story.mp4"])
    finished = await _finish_reel(client, page, video_id, video_state="PUBLISHED", description="Moving")
    assert finished.body == {"success": True}
    status = await client.video_status(page, video_id, "ready")
    assert status["publishing_phase"]["publish_status"] == "published"
    read = await client.get(f"/{video_id}", page.token, fields="post_id,permalink_url,description,published")
    assert read.body["permalink_url"] == f"https://www.facebook.com/reel/{video_id}"
    assert (read.body["description"], read.body["published"]) == ("Moving", True)
    reels = await client.get(f"/{page.id}/video_reels", page.token)
    assert [(row["id"], row["description"]) for row in reels.body["data"]] == [(video_id, "Moving")]
    assert [row["id"] for row in await _feed(client, page)] == [read.body["post_id"]]
    assert await _kinds(client) == ["reel"]


async def test_a_reel_is_drafted_or_scheduled(unchecked: Client, page: Owner) -> None:
    """Neither is live; a scheduled one is at its time."""
    draft, scheduled = await _sent_reel(unchecked, page), await _sent_reel(unchecked, page)
    assert (await _finish_reel(unchecked, page, draft, video_state="DRAFT")).status == 200
    at = str(await _now(unchecked) + 3_600)
    sent = await _finish_reel(unchecked, page, scheduled, video_state="SCHEDULED", scheduled_publish_time=at)
    assert sent.status == 200
    phases = [(await unchecked.video_status(page, it, "ready"))["publishing_phase"] for it in (draft, scheduled)]
    assert [it["publish_status"] for it in phases] == ["draft", "scheduled"]
    assert await unchecked.live_count() == 0
    await unchecked.advance(3_601)
    assert await unchecked.live_count() == 1


async def test_what_finishes_no_reel(unchecked: Client, page: Owner) -> None:
    """An empty session is 6000; a story's video, an unknown one and an unknown state are 100."""
    empty, _ = await _start_reel(unchecked, page)
    assert (await _finish_reel(unchecked, page, empty)).codes == (400, 6000, None)
    story = await unchecked.video(page, f"{CDN}/1.mp4")
    for video_id in (story, "1"):
        assert (await _finish_reel(unchecked, page, video_id)).codes == (400, 100, None)
    good = await _sent_reel(unchecked, page)
    assert (await _finish_reel(unchecked, page, good, video_state="LIVE")).codes == (400, 100, None)
    assert (await unchecked.post(f"/{page.id}/video_reels", page.token)).codes == (400, 100, None)
    assert await unchecked.live_count() == 0


async def test_a_page_has_so_many_reels_a_day(unchecked: Client, page: Owner) -> None:
    """30 by default; they are free again 24 hours later."""
    await unchecked.use(reel_limit=1)
    first, second = await _sent_reel(unchecked, page), await _sent_reel(unchecked, page)
    assert (await _finish_reel(unchecked, page, first)).status == 200
    assert (await _finish_reel(unchecked, page, second)).codes == (400, 613, None)
    await unchecked.advance(86_400)
    assert (await _finish_reel(unchecked, page, second)).status == 200


@pytest.mark.parametrize(("republish", "live"), [("error", 1), ("same_id", 1), ("duplicate", 2)])
async def test_a_reel_is_finished_twice(unchecked: Client, page: Owner, republish: str, live: int) -> None:
    """A switch."""
    await unchecked.use(republish=republish)
    video_id = await _sent_reel(unchecked, page)
    await _finish_reel(unchecked, page, video_id)
    second = await _finish_reel(unchecked, page, video_id)
    assert second.status == (400 if republish == "error" else 200)
    assert await unchecked.live_count() == live


async def test_a_video_goes_to_the_feed_by_url(client: Client, page: Owner, media: MediaServer) -> None:
    """The answer is the video; the post comes when it is fetched and ready."""
    await client.use(video_seconds=[60, 60])
    sent = await client.post(
        f"/{page.id}/videos", page.token, file_url=media["story.mp4"], description="Moving", title="Plants"
    )
    video_id = sent.body["id"]
    await client.video_status(page, video_id, "processing")
    assert await _feed(client, page) == []
    assert await client.live_count() == 0
    await client.advance(61)
    assert await client.live_count() == 1
    (row,) = await _feed(client, page, "message,status_type")
    assert (row["message"], row["status_type"]) == ("Moving", "added_video")
    read = await client.get(f"/{video_id}", page.token, fields="post_id,title")
    assert read.body == {"post_id": row["id"], "title": "Plants", "id": video_id}


async def test_a_bad_video_never_comes_to_the_feed(client: Client, page: Owner, media: MediaServer) -> None:
    """The call succeeds, as on Meta's side; the status tells."""
    for name, status in (("missing.mp4", "upload_failed"), ("text.mp4", "error")):
        sent = await client.post(f"/{page.id}/videos", page.token, file_url=media[name])
        await client.video_status(page, sent.body["id"], status)
    assert await client.live_count() == 0
    assert (await client.post(f"/{page.id}/videos", page.token)).codes == (400, 100, None)


async def test_a_video_comes_as_a_file(client: Client, page: Owner) -> None:
    """A multipart `source`."""
    form = aiohttp.FormData()
    form.add_field("source", VIDEO.read_bytes(), filename="plants.mp4", content_type="video/mp4")
    headers = {"Authorization": f"Bearer {page.token}"}
    sent = await client.send("POST", f"/{page.id}/videos", data=form, headers=headers)
    await client.video_status(page, sent.body["id"], "ready")
    assert await client.live_count("plants.mp4") == 1


async def _transfer(client: Client, page: Owner, session_id: str, start: int, content: bytes) -> Answer:
    form = aiohttp.FormData()
    form.add_field("upload_phase", "transfer")
    form.add_field("upload_session_id", session_id)
    form.add_field("start_offset", str(start))
    form.add_field("video_file_chunk", content, filename="chunk")
    headers = {"Authorization": f"Bearer {page.token}"}
    return await client.send("POST", f"/{page.id}/videos", data=form, headers=headers)


async def test_a_video_is_sent_in_chunks(client: Client, page: Owner) -> None:
    """Start, transfer, finish; a wrong offset is 1363037 and tells the right one; too early a finish is 6000."""
    content = VIDEO.read_bytes()
    path, size = f"/{page.id}/videos", str(len(content))
    started = await client.post(path, page.token, upload_phase="start", file_size=size)
    session_id, video_id = started.body["upload_session_id"], started.body["video_id"]
    assert (started.body["start_offset"], started.body["end_offset"]) == ("0", size)
    first = await _transfer(client, page, session_id, 0, content[:1_000])
    assert first.body == {"start_offset": "1000", "end_offset": size}
    wrong = await _transfer(client, page, session_id, 5, content[5:])
    assert wrong.codes == (400, 1363037, None)
    assert wrong.error["error_data"] == {"start_offset": "1000", "end_offset": size}
    finish = {"upload_phase": "finish", "upload_session_id": session_id, "description": "Moving"}
    assert (await client.post(path, page.token, **finish)).codes == (400, 6000, None)
    last = await _transfer(client, page, session_id, 1_000, content[1_000:])
    assert last.body == {"start_offset": size, "end_offset": size}
    assert (await client.post(path, page.token, **finish)).body == {"success": True}
    await client.video_status(page, video_id, "ready")
    assert [row["message"] for row in await _feed(client, page, "message")] == ["Moving"]
    assert (await client.post(path, page.token, **finish)).codes == (400, 100, None)
    assert await client.live_count() == 1


async def test_what_opens_no_chunked_upload(client: Client, page: Owner) -> None:
    """Sizes and sessions have their codes."""
    path = f"/{page.id}/videos"
    assert (await client.post(path, page.token, upload_phase="start")).codes == (400, 100, None)
    large = await client.post(path, page.token, upload_phase="start", file_size="2000000001")
    assert large.codes == (400, 1363023, None)
    assert (await _transfer(client, page, "1", 0, b"a")).codes == (400, 1363041, None)
    assert (await client.post(path, page.token, upload_phase="finish")).codes == (400, 1363041, None)
    assert (await client.post(path, page.token, upload_phase="pause")).codes == (400, 100, None)
    started = await client.post(path, page.token, upload_phase="start", file_size="2")
    bare = await client.post(
        path, page.token, upload_phase="transfer", upload_session_id=started.body["upload_session_id"]
    )
    assert bare.codes == (400, 100, None)


async def test_the_length_of_a_story_video_is_a_switch(client: Client, page: Owner, media: MediaServer) -> None:
    """Whether 60 or 90 seconds are its end: Meta says both."""
    started = await client.post(f"/{page.id}/video_stories", page.token, upload_phase="start")
    await client.use(page_story_seconds_max=60)
    headers = {"Authorization": f"OAuth {page.token}", "file_url": media["long.mp4"]}
    await client.send("POST", started.body["upload_url"], headers=headers)
    await client.video_status(page, started.body["video_id"], "error")
    await client.use(page_story_seconds_max=90)
    assert await client.video(page, media["long.mp4"])


async def test_reads_are_paged_by_address(unchecked: Client, page: Owner) -> None:
    """`paging.next` of the feed is an address that works with the token it was given."""
    for number in range(3):
        await unchecked.post(f"/{page.id}/feed", page.token, message=str(number))
    first = await unchecked.get(f"/{page.id}/feed", None, access_token=page.token, limit="2", fields="message")
    second = await unchecked.send("GET", first.body["paging"]["next"])
    assert [row["message"] for row in (*first.body["data"], *second.body["data"])] == ["2", "1", "0"]
    assert "next" not in second.body["paging"]


async def test_a_reel_waits_for_its_file(unchecked: Client, page: Owner) -> None:
    """Polling sees the phases of a reel that is sent in parts, with the Page's spelling of the count."""
    video_id, url = await _start_reel(unchecked, page)
    headers = {"Authorization": f"OAuth {page.token}", "offset": "0", "file_size": "10"}
    await unchecked.send("POST", url, data=b"12345", headers=headers)

    async def read() -> Answer:
        return await unchecked.get(f"/{video_id}", page.token, fields="status")

    answer = await until(read, lambda it: bool(it.body["status"]["uploading_phase"]["bytes_transfered"] == 5))
    assert answer.body["status"]["video_status"] == "uploading"
