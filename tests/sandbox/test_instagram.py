"""Instagram's content publishing."""

from __future__ import annotations

import re

import pytest

from tests.sandbox.client import Client, Owner
from tests.sandbox.conftest import MediaServer

pytestmark = pytest.mark.anyio


async def test_a_story_goes_from_container_to_live(client: Client, instagram: Owner, media: MediaServer) -> None:
    """Create, poll, publish and list answer in Meta's shapes, and one row is live."""
    created = await client.post(
        f"/v25.0/{instagram.id}/media",
        instagram.token,
        media_type="STORIES",
        image_url=media["story.jpg"],
    )
    assert created.status == 200
    assert list(created.body) == ["id"]
    assert re.fullmatch(r"[0-9]{17}", created.body["id"])
    container_id = created.body["id"]

    status = await client.get(f"/v25.0/{container_id}", instagram.token, fields="status_code,status")
    assert status.body == {
        "status_code": "FINISHED",
        "status": "Finished: Media has been uploaded and it is ready to be published.",
        "id": container_id,
    }

    published = await client.publish(instagram, container_id)
    assert list(published.body) == ["id"]
    assert published.body["id"] != container_id

    after = await client.status_code(instagram, container_id, "PUBLISHED")
    assert after.body["status"] == "Published: Media has been successfully published."
    listed = await client.get(f"/{instagram.id}/stories", instagram.token)
    assert listed.body["data"] == [{"id": published.body["id"]}]
    assert set(listed.body["paging"]["cursors"]) == {"before", "after"}

    live = (await client.control("GET", "live"))["live"]
    assert len(live) == 1
    assert live[0]["account"] == instagram.id
    assert live[0]["container_id"] == container_id
    assert live[0]["media_id"] == published.body["id"]
    assert live[0]["media"] == media["story.jpg"]
    assert live[0]["kind"] == "photo_story"


async def test_media_is_fetched_as_metas_crawler(client: Client, instagram: Owner, media: MediaServer) -> None:
    """The media server sees the user agent that it must allow."""
    await client.container(instagram, media["story.jpg"])
    assert media.agents[0].startswith("facebookexternalhit/1.1")


async def test_a_story_is_read_by_its_media_id(client: Client, instagram: Owner, media: MediaServer) -> None:
    """The permalink carries another number than the id, and the offset has no colon."""
    media_id = (await client.publish(instagram, await client.container(instagram, media["story.jpg"]))).body["id"]
    read = await client.get(
        f"/{media_id}", instagram.token, fields="id,permalink,timestamp,media_type,media_product_type,caption"
    )
    assert read.body["media_type"] == "IMAGE"
    assert read.body["media_product_type"] == "STORY"
    assert "caption" not in read.body
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000", read.body["timestamp"])
    permalink = re.fullmatch(r"https://www\.instagram\.com/stories/greenhouse/([0-9]{19})", read.body["permalink"])
    assert permalink is not None
    other = await client.get(f"/{permalink[1]}", instagram.token)
    assert other.codes == (400, 100, 33)


async def test_a_video_is_checked_after_the_answer(client: Client, instagram: Owner, media: MediaServer) -> None:
    """A good video is FINISHED later, with all phases complete."""
    container_id = await client.container(instagram, media["story.mp4"], "video_url")
    read = await client.get(
        f"/{container_id}", instagram.token, fields="id,status_code,copyright_check_status,video_status"
    )
    assert read.body == {
        "id": container_id,
        "status_code": "FINISHED",
        "copyright_check_status": {"status": "completed", "matches_found": False},
        "video_status": {
            "uploading_phase": {"status": "complete"},
            "processing_phase": {"status": "complete"},
        },
    }


@pytest.mark.parametrize(("name", "subcode"), [("missing.mp4", 2207052), ("text.mp4", 2207026), ("cut.mp4", 2207026)])
async def test_a_bad_video_shows_only_in_the_status(
    client: Client, instagram: Owner, media: MediaServer, name: str, subcode: int
) -> None:
    """The call succeeds; the container is in ERROR later, and can't be published."""
    created = await client.post(f"/{instagram.id}/media", instagram.token, media_type="STORIES", video_url=media[name])
    assert created.status == 200
    status = await client.status_code(instagram, created.body["id"], "ERROR")
    assert status.body["status"] == f"Error: Media upload has failed with error code {subcode}"
    assert (await client.publish(instagram, created.body["id"])).codes == (400, 9007, 2207027)


async def test_a_slow_media_server_times_out(client: Client, instagram: Owner, media: MediaServer) -> None:
    """A video's time-out shows in the status, an image's in the answer."""
    await client.use(media_timeout_seconds=0.05)
    video = await client.post(
        f"/{instagram.id}/media", instagram.token, media_type="STORIES", video_url=media["slow.mp4"]
    )
    status = await client.status_code(instagram, video.body["id"], "ERROR")
    assert status.body["status"].endswith("error code 2207003")
    image = await client.post(
        f"/{instagram.id}/media", instagram.token, media_type="STORIES", image_url=media["slow.jpg"]
    )
    assert image.codes == (400, -2, 2207003)


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("missing.jpg", (400, 9004, 2207052)),
        ("moved.jpg", (400, 9004, 2207052)),
        ("story.png", (400, 36001, 2207005)),
        ("text.jpg", (400, 36001, 2207005)),
        ("cut.jpg", (400, 36001, 2207005)),
        ("large.jpg", (400, 36000, 2207004)),
    ],
)
async def test_a_bad_image_is_refused_at_once(
    client: Client, instagram: Owner, media: MediaServer, name: str, codes: tuple[int, int, int]
) -> None:
    """An image is fetched during the call, and what is wrong with it is the answer."""
    answer = await client.post(f"/{instagram.id}/media", instagram.token, media_type="STORIES", image_url=media[name])
    assert answer.codes == codes


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/1.jpg", "nonsense", "http://", "http://127.0.0.1:1/ä.jpg"])
async def test_a_url_that_cannot_be_fetched_is_refused(client: Client, instagram: Owner, url: str) -> None:
    """Only ASCII URLs of HTTP can be fetched; the recorded message speaks of media types."""
    answer = await client.post(f"/{instagram.id}/media", instagram.token, media_type="STORIES", image_url=url)
    assert answer.codes == (400, 9004, 2207052)
    assert answer.error == {
        "message": "Only photo or video can be accepted as media type.",
        "type": "OAuthException",
        "code": 9004,
        "error_subcode": 2207052,
        "is_transient": False,
        "error_user_title": "Media download has failed. The media URI doesn't meet our requirements.",
        "error_user_msg": f"The media could not be fetched from this URI: {url}",
    }


async def test_lax_formats_take_png(client: Client, instagram: Owner, media: MediaServer) -> None:
    """With strict_formats off a PNG passes, as it was seen to."""
    await client.use(strict_formats=False)
    assert await client.container(instagram, media["story.png"])


async def test_unchecked_media_is_not_fetched(client: Client, instagram: Owner, media: MediaServer) -> None:
    """With check_media off no request reaches the media server."""
    await client.use(check_media=False)
    await client.container(instagram, media["missing.jpg"])
    await client.container(instagram, media["missing.mp4"], "video_url")
    assert media.agents == []


@pytest.mark.parametrize("media_type", ["POLL", "VIDEO"])
async def test_an_unknown_kind_is_refused(client: Client, instagram: Owner, media_type: str) -> None:
    """100/2207023; a single VIDEO is a reel since 2023."""
    answer = await client.post(
        f"/{instagram.id}/media", instagram.token, image_url="http://127.0.0.1/1.jpg", media_type=media_type
    )
    assert answer.codes == (400, 100, 2207023)


async def test_a_container_needs_one_url(client: Client, instagram: Owner) -> None:
    """Neither and both are refused."""
    path = f"/{instagram.id}/media"
    neither = await client.post(path, instagram.token, media_type="STORIES")
    both = await client.post(path, instagram.token, media_type="STORIES", image_url="x", video_url="y")
    assert neither.codes == both.codes == (400, 100, None)


async def test_publishing_too_early_is_refused(client: Client, instagram: Owner, media: MediaServer) -> None:
    """A container in progress answers 9007/2207027 word for word, and is published after its time."""
    await client.use(image_seconds=[60, 60])
    created = await client.post(
        f"/{instagram.id}/media", instagram.token, media_type="STORIES", image_url=media["story.jpg"]
    )
    early = await client.publish(instagram, created.body["id"])
    assert early.status == 400
    assert early.error == {
        "message": "Media ID is not available",
        "type": "OAuthException",
        "code": 9007,
        "error_subcode": 2207027,
        "is_transient": False,
        "error_user_title": "Cannot Publish",
        "error_user_msg": "The media is not ready for publishing, please wait for a moment",
    }
    status = await client.status_code(instagram, created.body["id"], "IN_PROGRESS")
    assert status.body["status"] == "In Progress: Media is still being processed."
    await client.advance(61)
    assert (await client.publish(instagram, created.body["id"])).status == 200
    assert await client.live_count() == 1


async def test_a_container_expires(client: Client, instagram: Owner, media: MediaServer) -> None:
    """After 24 hours it is EXPIRED, and publishing it is 24/2207008, as for one that never was."""
    container_id = await client.container(instagram, media["story.jpg"])
    await client.advance(86_400)
    await client.status_code(instagram, container_id, "EXPIRED")
    assert (await client.publish(instagram, container_id)).codes == (400, 24, 2207008)
    assert (await client.publish(instagram, "17889455560051444")).codes == (400, 24, 2207008)
    assert (await client.post(f"/{instagram.id}/media_publish", instagram.token)).codes == (400, 100, None)
    assert await client.live_count() == 0


async def test_a_published_container_stays_published(client: Client, instagram: Owner, media: MediaServer) -> None:
    """Expiry is for what was not published."""
    container_id = await client.container(instagram, media["story.jpg"])
    await client.publish(instagram, container_id)
    await client.advance(2 * 86_400)
    await client.status_code(instagram, container_id, "PUBLISHED")


async def test_another_accounts_container_is_not_found(client: Client, instagram: Owner, media: MediaServer) -> None:
    """A container belongs to its account, even under one token."""
    other = await client.owner("instagram", token=instagram.token)
    container_id = await client.container(instagram, media["story.jpg"])
    assert (await client.publish(other, container_id)).codes == (400, 24, 2207008)


async def test_the_publish_quota_rolls(client: Client, media: MediaServer) -> None:
    """The quota ends with 9/2207042 and frees 24 hours after each publish."""
    owner = await client.owner("instagram", quota_total=2)
    containers = [await client.container(owner, media["story.jpg"]) for _ in range(3)]
    assert (await client.publish(owner, containers[0])).status == 200
    await client.advance(3_600)
    assert (await client.publish(owner, containers[1])).status == 200
    assert (await client.publish(owner, containers[2])).codes == (400, 9, 2207042)
    await client.advance(86_400 - 3_600)
    fresh = await client.container(owner, media["story.jpg"])
    assert (await client.publish(owner, fresh)).status == 200
    assert (await client.publish(owner, await client.container(owner, media["story.jpg"]))).codes == (
        400,
        9,
        2207042,
    )


async def test_the_publishing_limit_in_metas_shape(client: Client, instagram: Owner, media: MediaServer) -> None:
    """Without fields only the usage comes back; since narrows it."""
    path = f"/{instagram.id}/content_publishing_limit"
    await client.publish(instagram, await client.container(instagram, media["story.jpg"]))
    bare = await client.get(path, instagram.token)
    assert bare.body == {"data": [{"quota_usage": 1}]}
    full = await client.get(path, instagram.token, fields="config,quota_usage")
    assert full.body == {"data": [{"config": {"quota_total": 100, "quota_duration": 86_400}, "quota_usage": 1}]}
    now = (await client.control("GET", "clock"))["now"]
    later = await client.get(path, instagram.token, since=str(int(now) + 10))
    assert later.body == {"data": [{"quota_usage": 0}]}
    assert (await client.get(path, instagram.token, since="yesterday")).codes == (400, 100, None)
    assert (await client.get(path, instagram.token, fields="quota")).codes == (400, 100, None)


async def test_containers_are_limited_too(client: Client, instagram: Owner, media: MediaServer) -> None:
    """An account creates so many containers in 24 hours and no more."""
    await client.use(container_limit=2)
    for _ in range(2):
        await client.container(instagram, media["story.jpg"])
    refused = await client.post(
        f"/{instagram.id}/media", instagram.token, media_type="STORIES", image_url=media["story.jpg"]
    )
    assert refused.codes == (400, 9, 2207042)
    await client.advance(86_400)
    assert await client.container(instagram, media["story.jpg"])


async def test_stories_lag_and_end(client: Client, instagram: Owner, media: MediaServer) -> None:
    """A story is listed after the lag and for 24 hours; it counts as live from the first instant."""
    await client.use(stories_lag_seconds=30)
    container_id = await client.container(instagram, media["story.jpg"])
    media_id = (await client.publish(instagram, container_id)).body["id"]
    path = f"/{instagram.id}/stories"
    assert (await client.get(path, instagram.token)).body == {"data": []}
    assert await client.live_count() == 1
    await client.advance(31)
    assert (await client.get(path, instagram.token)).body["data"] == [{"id": media_id}]
    await client.advance(86_400 - 31)
    assert (await client.get(path, instagram.token)).body == {"data": []}


async def test_stories_are_paged_newest_first(client: Client, instagram: Owner, media: MediaServer) -> None:
    """The cursors lead through the list without gap or repetition."""
    published = [
        (await client.publish(instagram, await client.container(instagram, media["story.jpg"]))).body["id"]
        for _ in range(5)
    ]
    path = f"/{instagram.id}/stories"
    seen: list[str] = []
    after: dict[str, str] = {}
    while rows := (answer := await client.get(path, instagram.token, limit="2", **after)).body["data"]:
        seen += [row["id"] for row in rows]
        after = {"after": answer.body["paging"]["cursors"]["after"]}
    assert seen == published[::-1]
    assert (await client.get(path, instagram.token, after="%%%")).codes == (400, 100, None)


async def test_an_account_is_read(client: Client, instagram: Owner) -> None:
    """An account has an id of Instagram's shape and a username."""
    assert re.fullmatch(r"17841[0-9]{12}", instagram.id)
    bare = await client.get(f"/{instagram.id}", instagram.token)
    assert bare.body == {"id": instagram.id}
    named = await client.get(f"/{instagram.id}", instagram.token, fields="id,username")
    assert named.body == {"id": instagram.id, "username": "greenhouse"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "{id}/media_publish"),
        ("DELETE", "{id}"),
        ("PUT", "{id}/media"),
        ("POST", "{id}"),
        ("GET", "{id}/nonsense"),
        ("GET", "{id}/stories/more"),
        ("GET", "17889455560051444"),
        ("GET", ""),
    ],
)
async def test_a_wrong_verb_or_path_is_a_graph_error(client: Client, instagram: Owner, method: str, path: str) -> None:
    """Unknown objects, edges and verbs are all 100/33: Graph tells them apart by nothing."""
    answer = await client.call(method, f"/v25.0/{path.format(id=instagram.id)}", instagram.token)
    assert answer.codes == (400, 100, 33)
    assert answer.error["type"] == "GraphMethodException"
    assert answer.error["message"].startswith(f"Unsupported {method.lower()} request. Object with ID '")


async def test_an_unknown_field_is_refused(client: Client, instagram: Owner, media: MediaServer) -> None:
    """A container has no permalink: the message is the recorded one."""
    container_id = await client.container(instagram, media["story.jpg"])
    answer = await client.get(f"/{container_id}", instagram.token, fields="id,permalink")
    assert answer.status == 400
    assert answer.error == {
        "message": "(#100) Tried accessing nonexisting field (permalink)",
        "type": "OAuthException",
        "code": 100,
    }


async def test_a_story_cannot_be_deleted(client: Client, instagram: Owner, media: MediaServer) -> None:
    """Publishing is irrevocable: DELETE is refused, and the story stays live."""
    container_id = await client.container(instagram, media["story.jpg"])
    media_id = (await client.publish(instagram, container_id)).body["id"]
    refused = await client.call("DELETE", f"/{media_id}", instagram.token)
    assert refused.codes == (400, 10, None)
    assert await client.live_count() == 1
