"""Page stories: photos, videos, and the upload host."""

from __future__ import annotations

import io
import re

import aiohttp
import pytest

from tests.sandbox.client import Answer, Client, Owner
from tests.sandbox.conftest import VIDEO, MediaServer, picture

pytestmark = pytest.mark.anyio


async def test_a_photo_story_goes_live(client: Client, page: Owner, media: MediaServer) -> None:
    """Upload, publish, list and read back: `media_id` of the story is the photo that was sent."""
    photo_id = await client.photo(page, media["story.jpg"])
    assert await client.live_count() == 0
    unpublished = await client.get(f"/{photo_id}", page.token, fields="id,page_story_id")
    assert unpublished.body == {"id": photo_id}

    published = await client.post(f"/{page.id}/photo_stories", page.token, photo_id=photo_id)
    assert published.status == 200
    assert published.body["success"] is True
    post_id = published.body["post_id"]
    assert re.fullmatch(r"[0-9]{16}", post_id)

    listed = await client.get(f"/{page.id}/stories", page.token)
    (row,) = listed.body["data"]
    assert row["post_id"] == post_id
    assert row["media_id"] == photo_id
    assert row["media_type"] == "photo"
    assert row["status"] == "PUBLISHED"
    assert re.fullmatch(r"[0-9]+", row["creation_time"])
    assert row["url"].startswith("https://facebook.com/stories/")

    alone = await client.get(f"/{post_id}", page.token)
    assert alone.body["status"] == "published"
    assert alone.body["creation_time"] == row["creation_time"]
    read = await client.get(f"/{photo_id}", page.token, fields="page_story_id")
    assert read.body == {"page_story_id": post_id, "id": photo_id}
    (live,) = (await client.control("GET", "live"))["live"]
    assert (live["post_id"], live["media_id"], live["photo_id"]) == (post_id, photo_id, photo_id)


async def test_a_photo_comes_as_a_file_too(client: Client, page: Owner) -> None:
    """A multipart `source` is taken like a url, and known by its file name."""
    form = aiohttp.FormData()
    form.add_field("published", "false")
    form.add_field("source", picture("JPEG"), filename="17.jpg", content_type="image/jpeg")
    headers = {"Authorization": f"Bearer {page.token}"}
    uploaded = await client.send("POST", f"/{page.id}/photos", data=form, headers=headers)
    assert uploaded.status == 200
    photo_id = uploaded.body["id"]
    assert (await client.post(f"/{page.id}/photo_stories", page.token, photo_id=photo_id)).status == 200
    assert await client.live_count("17.jpg") == 1


async def test_a_file_that_is_too_large_is_324(client: Client, page: Owner) -> None:
    """More than 10 MB are refused, and the fields behind the file, the token for one, are still read."""
    form = aiohttp.FormData()
    form.add_field("source", io.BytesIO(picture("JPEG") + bytes(12_000_000)), filename="17.jpg")
    form.add_field("access_token", page.token)
    answer = await client.send("POST", f"/{page.id}/photos", data=form)
    assert answer.codes == (400, 324, 2069019)


@pytest.mark.parametrize("name", ["missing.jpg", "text.jpg", "moved.jpg"])
async def test_a_photo_that_cannot_be_used_is_324(client: Client, page: Owner, media: MediaServer, name: str) -> None:
    """A bad photo is 324/2069019, called transient although it is not."""
    answer = await client.post(f"/{page.id}/photos", page.token, url=media[name], published="false")
    assert answer.status == 400
    assert answer.error == {
        "message": "Missing or invalid image file",
        "type": "OAuthException",
        "code": 324,
        "error_subcode": 2069019,
        "is_transient": True,
    }


async def test_a_photo_needs_a_url_or_a_file(client: Client, page: Owner) -> None:
    """Neither is a parameter error."""
    assert (await client.post(f"/{page.id}/photos", page.token)).codes == (400, 100, None)


async def test_a_photo_without_published_false_goes_to_the_feed(
    client: Client, page: Owner, media: MediaServer
) -> None:
    """Forgetting published=false is a live post, and is counted as one."""
    answer = await client.post(f"/{page.id}/photos", page.token, url=media["story.jpg"])
    assert answer.body["post_id"].startswith(f"{page.id}_")
    (live,) = (await client.control("GET", "live"))["live"]
    assert live["kind"] == "feed_photo"
    assert (await client.get(f"/{page.id}/stories", page.token)).body == {"data": []}


async def test_a_bogus_photo_is_an_invalid_id(client: Client, page: Owner, media: MediaServer) -> None:
    """Unknown, foreign and deleted photos are called an invalid id."""
    other = await client.owner("facebook", token=page.token)
    foreign = await client.photo(other, media["story.jpg"])
    old = await client.photo(page, media["story.jpg"])
    await client.advance(86_400)
    for photo_id in ("1", "", foreign, old):
        answer = await client.post(f"/{page.id}/photo_stories", page.token, photo_id=photo_id)
        assert answer.error == {"message": "(#100) Invalid id.", "type": "OAuthException", "code": 100}
    assert (await client.get(f"/{old}", page.token)).codes == (400, 100, 33)


async def test_a_video_story_goes_live_by_url(client: Client, page: Owner, media: MediaServer) -> None:
    """Start in any case, upload by URL, watch the phases, finish, and find it published."""
    await client.use(video_seconds=[60, 60])
    started = await client.post(f"/v25.0/{page.id}/video_stories", page.token, upload_phase="START")
    video_id = started.body["video_id"]
    assert started.body["upload_url"] == f"{client.url}/video-upload/v25.0/{video_id}"
    fresh = await client.get(f"/{video_id}", page.token, fields="status")
    assert fresh.body == {
        "status": {
            "video_status": "uploading",
            "uploading_phase": {"status": "not_started", "bytes_transfered": 0},
            "processing_phase": {"status": "not_started"},
            "publishing_phase": {"status": "not_started"},
        },
        "id": video_id,
    }
    headers = {"Authorization": f"OAuth {page.token}", "file_url": media["story.mp4"]}
    sent = await client.send("POST", started.body["upload_url"], headers=headers)
    assert sent.body == {"success": True}
    status = await client.video_status(page, video_id, "processing")
    assert status["uploading_phase"]["status"] == "complete"
    assert status["processing_phase"] == {"status": "in_progress"}

    finished = await client.post(f"/{page.id}/video_stories", page.token, upload_phase="finish", video_id=video_id)
    assert finished.body["success"] is True
    assert await client.live_count() == 1
    assert (await client.get(f"/{page.id}/stories", page.token)).body == {"data": []}
    await client.advance(61)
    status = await client.video_status(page, video_id, "ready")
    assert status["publishing_phase"]["publish_status"] == "published"
    (row,) = (await client.get(f"/{page.id}/stories", page.token)).body["data"]
    assert (row["media_type"], row["media_id"]) == ("video", video_id)
    assert row["post_id"] == finished.body["post_id"]


async def _send_bytes(client: Client, url: str, token: str, content: bytes, *, offset: int, size: int) -> Answer:
    headers = {"Authorization": f"OAuth {token}", "offset": str(offset), "file_size": str(size)}
    return await client.send("POST", url, data=content, headers=headers)


async def test_a_video_is_uploaded_in_parts(client: Client, page: Owner) -> None:
    """What arrived is kept: `bytes_transfered` says from where to go on."""
    content = VIDEO.read_bytes()
    started = await client.post(f"/{page.id}/video_stories", page.token, upload_phase="start")
    url, video_id = started.body["upload_url"], started.body["video_id"]
    cut = await _send_bytes(client, url, page.token, content[:1_000], offset=0, size=len(content))
    assert cut.status == 400
    assert cut.body["debug_info"]["type"] == "PartialRequestError"
    assert cut.body["debug_info"]["retriable"] is True
    status = await client.video_status(page, video_id, "uploading")
    assert status["uploading_phase"] == {"status": "in_progress", "bytes_transfered": 1_000}
    wrong = await _send_bytes(client, url, page.token, content[5:], offset=5, size=len(content))
    assert wrong.body["debug_info"]["type"] == "OffsetInvalidError"
    rest = await _send_bytes(client, url, page.token, content[1_000:], offset=1_000, size=len(content))
    assert rest.body == {"success": True}
    await client.video_status(page, video_id, "ready")
    again = await _send_bytes(client, url, page.token, content, offset=0, size=len(content))
    assert again.body["debug_info"]["type"] == "ProcessingFailedError"


@pytest.mark.parametrize("size", ["", "-1", "x", "99999999999", "3000000000"])
async def test_a_bad_size_is_refused_in_the_upload_hosts_words(client: Client, page: Owner, size: str) -> None:
    """The upload host has no `error` envelope: `debug_info`, with JSON inside a string."""
    started = await client.post(f"/{page.id}/video_stories", page.token, upload_phase="start")
    headers = {"Authorization": f"OAuth {page.token}", "offset": "0", "file_size": size}
    answer = await client.send("POST", started.body["upload_url"], data=b"abc", headers=headers)
    assert answer.status == 400
    assert answer.body["debug_info"]["message"].startswith('{"success":false,"error":{"message":')


async def test_a_longer_body_than_announced_is_refused(client: Client, page: Owner) -> None:
    """`file_size` is the whole file's."""
    started = await client.post(f"/{page.id}/video_stories", page.token, upload_phase="start")
    answer = await _send_bytes(client, started.body["upload_url"], page.token, b"abcdef", offset=0, size=3)
    assert answer.body["debug_info"]["type"] == "ProcessingFailedError"


async def test_the_upload_host_knows_its_users(client: Client, page: Owner, media: MediaServer) -> None:
    """A wrong token and a wrong video are the recorded `unauthorized user request`."""
    started = await client.post(f"/{page.id}/video_stories", page.token, upload_phase="start")
    url = started.body["upload_url"]
    for target, token in ((url, "EAAwrong"), (f"{client.url}/video-upload/v25.0/1", page.token)):
        headers = {"Authorization": f"OAuth {token}", "file_url": media["story.mp4"]}
        answer = await client.send("POST", target, headers=headers)
        assert (answer.status, answer.body) == (
            400,
            {
                "debug_info": {
                    "retriable": False,
                    "type": "ProcessingFailedError",
                    "message": '{"success":false,"error":{"message":"unauthorized user request"}}',
                }
            },
        )


async def test_finish_before_the_upload_is_6000(client: Client, page: Owner) -> None:
    """Finishing an empty session publishes nothing."""
    started = await client.post(f"/{page.id}/video_stories", page.token, upload_phase="start")
    answer = await client.post(
        f"/{page.id}/video_stories",
        page.token,
        upload_phase="finish",
        video_id=started.body["video_id"],
    )
    assert answer.codes == (400, 6000, None)
    assert await client.live_count() == 0


@pytest.mark.parametrize(("name", "video_status"), [("missing.mp4", "upload_failed"), ("text.mp4", "error")])
async def test_a_bad_video_fails_in_its_phase(
    client: Client, page: Owner, media: MediaServer, name: str, video_status: str
) -> None:
    """A failed phase carries an error, and finish is 6000."""
    started = await client.post(f"/{page.id}/video_stories", page.token, upload_phase="start")
    video_id = started.body["video_id"]
    headers = {"Authorization": f"OAuth {page.token}", "file_url": media[name]}
    await client.send("POST", started.body["upload_url"], headers=headers)
    status = await client.video_status(page, video_id, video_status)
    assert "error" in status["uploading_phase"] or "error" in status["processing_phase"]
    answer = await client.post(f"/{page.id}/video_stories", page.token, upload_phase="finish", video_id=video_id)
    assert answer.codes == (400, 6000, None)


async def test_video_stories_needs_a_phase_and_a_video(client: Client, page: Owner) -> None:
    """Both are parameter errors."""
    path = f"/{page.id}/video_stories"
    assert (await client.post(path, page.token)).codes == (400, 100, None)
    finish = await client.post(path, page.token, upload_phase="FINISH", video_id="1")
    assert finish.error["message"] == "(#100) Invalid id."


async def test_stories_are_filtered(client: Client, page: Owner, media: MediaServer) -> None:
    """By since and until, and by status: archived ones only where there is an archive."""
    path = f"/{page.id}/stories"
    photo_id = await client.photo(page, media["story.jpg"])
    await client.post(f"/{page.id}/photo_stories", page.token, photo_id=photo_id)
    now = int((await client.control("GET", "clock"))["now"])

    async def count(**filters: str) -> int:
        return len((await client.get(path, page.token, **filters)).body["data"])

    assert await count(since=str(now - 60)) == 1
    assert await count(since=str(now + 60)) == 0
    assert await count(until=str(now - 60)) == 0
    assert await count(status="ARCHIVED") == 0
    await client.advance(86_400)
    assert await count() == 0
    assert await count(status="archived") == 0
    await client.use(story_archive=True)
    assert await count(status="ARCHIVED") == 1
    assert (await client.get(path, page.token, status="DRAFT")).codes == (400, 100, None)
    fields = await client.get(path, page.token, status="ARCHIVED", fields="media_id,status")
    assert fields.body["data"] == [{"media_id": photo_id, "status": "ARCHIVED"}]


async def test_a_page_is_read(client: Client, page: Owner) -> None:
    """A Page has a name."""
    assert (await client.get(f"/{page.id}", page.token)).body == {"name": "greenhouse", "id": page.id}
    named = await client.get(f"/{page.id}", page.token, fields="id,name")
    assert named.body == {"id": page.id, "name": "greenhouse"}


async def test_nothing_of_a_page_can_be_deleted(client: Client, page: Owner, media: MediaServer) -> None:
    """A story post answers 100/33 and a photo `success: false`, as recorded."""
    photo_id = await client.photo(page, media["story.jpg"])
    published = await client.post(f"/{page.id}/photo_stories", page.token, photo_id=photo_id)
    post = await client.call("DELETE", f"/{published.body['post_id']}", page.token)
    assert post.codes == (400, 100, 33)
    photo = await client.call("DELETE", f"/{photo_id}", page.token)
    assert photo.body == {"success": False}
    assert await client.live_count() == 1
