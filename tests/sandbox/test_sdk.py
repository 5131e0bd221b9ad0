"""Meta's own Python SDK publishes through the sandbox: it knows Meta's API, and nothing of ours.

It sends the token and the untimed proof in the query, and lists as JSON in a form; it runs in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio
import pytest
from facebook_business.adobjects.igmedia import IGMedia
from facebook_business.adobjects.iguser import IGUser
from facebook_business.adobjects.page import Page
from facebook_business.adobjects.photo import Photo
from facebook_business.adobjects.shadowigmediabuilder import ShadowIGMediaBuilder
from facebook_business.api import FacebookAdsApi
from facebook_business.exceptions import FacebookRequestError
from facebook_business.session import FacebookSession

from tests.sandbox.client import Client, Owner
from tests.sandbox.conftest import MediaServer

pytestmark = pytest.mark.anyio
T = TypeVar("T")
SECRET = "0123456789abcdef"


@pytest.fixture
async def sdk(client: Client, monkeypatch: pytest.MonkeyPatch) -> Callable[[Owner], FacebookAdsApi]:
    """Return what opens the SDK for an account; the sandbox requires proofs, which the SDK makes."""
    await client.use(app_secret=SECRET, require_proof=True)
    monkeypatch.setattr(FacebookSession, "GRAPH", client.url)

    def open_api(owner: Owner) -> FacebookAdsApi:
        return FacebookAdsApi.init(
            app_id="645699291956344",
            app_secret=SECRET,
            access_token=owner.token,
            api_version="v25.0",
            timeout=30,
            crash_log=False,
        )

    return open_api


async def _run(call: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(call)


def _publish(user: IGUser, api: FacebookAdsApi, **params: Any) -> str:
    """Create, look until it is finished, publish."""
    container = user.create_media(params=params)
    fields = ["status_code", "status", "video_status"]
    builder = ShadowIGMediaBuilder(container["id"], api=api)
    deadline = time.monotonic() + 60
    while (status := builder.api_get(fields=fields))["status_code"] == "IN_PROGRESS":
        assert time.monotonic() < deadline
    assert status["status_code"] == "FINISHED", status["status"]
    return str(user.create_media_publish(params={"creation_id": container["id"]})["id"])


@pytest.mark.parametrize(("field", "name"), [("image_url", "story.jpg"), ("video_url", "story.mp4")])
async def test_it_publishes_a_story(
    client: Client,
    instagram: Owner,
    media: MediaServer,
    sdk: Callable[[Owner], FacebookAdsApi],
    *,
    field: str,
    name: str,
) -> None:
    """An image's and a video's; it is the one that the SDK lists, and the quota's use is read."""
    api = sdk(instagram)
    user = IGUser(instagram.id, api=api)
    media_id = await _run(lambda: _publish(user, api, media_type="STORIES", **{field: media[name]}))
    stories = await _run(lambda: list(user.get_stories(fields=["id", "media_product_type"])))
    assert [(story["id"], story["media_product_type"]) for story in stories] == [(media_id, "STORY")]
    (limit,) = await _run(lambda: list(user.get_content_publishing_limit(fields=["config", "quota_usage"])))
    assert (limit["quota_usage"], limit["config"]["quota_total"]) == (1, 100)
    assert await client.live_count(name) == 1


async def test_it_publishes_a_carousel(
    client: Client, instagram: Owner, media: MediaServer, sdk: Callable[[Owner], FacebookAdsApi]
) -> None:
    """The SDK sends `children` as a JSON array, and reads the list of media through a cursor."""
    api = sdk(instagram)
    user = IGUser(instagram.id, api=api)

    def publish() -> str:
        image = user.create_media(params={"image_url": media["feed.jpg"], "is_carousel_item": True})
        again = user.create_media(params={"image_url": media["story.jpg"], "is_carousel_item": True})
        children = [image["id"], again["id"]]
        return _publish(user, api, media_type="CAROUSEL", children=children, caption="Two #plants")

    media_id = await _run(publish)
    (row,) = await _run(lambda: list(user.get_media(fields=["id", "media_type", "caption"])))
    assert (row["id"], row["media_type"], row["caption"]) == (media_id, "CAROUSEL_ALBUM", "Two #plants")
    children = await _run(lambda: list(IGMedia(media_id, api=api).get_children(fields=["media_type"])))
    assert [child["media_type"] for child in children] == ["IMAGE", "IMAGE"]
    assert await client.live_count() == 1


async def test_it_publishes_a_reel(
    client: Client, instagram: Owner, media: MediaServer, sdk: Callable[[Owner], FacebookAdsApi]
) -> None:
    """With a cover and a boolean."""
    api = sdk(instagram)
    user = IGUser(instagram.id, api=api)
    await _run(
        lambda: _publish(
            user,
            api,
            media_type="REELS",
            video_url=media["story.mp4"],
            cover_url=media["story.jpg"],
            share_to_feed=True,
        )
    )
    assert [row["kind"] for row in (await client.control("GET", "live"))["live"]] == ["reel"]


async def test_it_publishes_a_pages_photo_story(
    client: Client, page: Owner, media: MediaServer, sdk: Callable[[Owner], FacebookAdsApi]
) -> None:
    """An unpublished photo first; `GET /stories` names the photo that was sent."""
    api = sdk(page)
    node = Page(page.id, api=api)
    photo = await _run(lambda: node.create_photo(params={"url": media["story.jpg"], "published": False}))
    story = await _run(lambda: node.create_photo_story(params={"photo_id": photo["id"]}))
    (row,) = await _run(lambda: list(node.get_stories()))
    assert (row["post_id"], row["media_id"]) == (story["post_id"], photo["id"])
    assert await client.live_count() == 1


async def test_it_publishes_a_pages_video_story_and_reel(
    client: Client, page: Owner, media: MediaServer, sdk: Callable[[Owner], FacebookAdsApi]
) -> None:
    """The SDK starts and finishes, in its two spellings; the file goes to the upload host without it."""
    api = sdk(page)
    node = Page(page.id, api=api)
    for create, start, finish in (
        (node.create_video_story, "START", "FINISH"),
        (node.create_video_reel, "start", "finish"),
    ):
        started = await _run(partial(create, params={"upload_phase": start}))
        headers = {"Authorization": f"OAuth {page.token}", "file_url": media["story.mp4"]}
        sent = await client.send("POST", started["upload_url"], headers=headers)
        assert sent.body == {"success": True}
        await client.use(require_proof=False)
        await client.video_status(page, started["video_id"], "ready")
        await client.use(require_proof=True)
        await _run(partial(create, params={"upload_phase": finish, "video_id": started["video_id"]}))
    assert [row["kind"] for row in (await client.control("GET", "live"))["live"]] == ["video_story", "reel"]


async def test_it_publishes_several_photos_in_a_pages_feed(
    client: Client, page: Owner, media: MediaServer, sdk: Callable[[Owner], FacebookAdsApi]
) -> None:
    """The SDK sends `attached_media` as one JSON array in a form; a photo tells its post."""
    api = sdk(page)
    node = Page(page.id, api=api)
    photos = [
        await _run(lambda: node.create_photo(params={"url": media["feed.jpg"], "published": False})) for _ in range(2)
    ]
    attached = [{"media_fbid": photo["id"]} for photo in photos]
    post = await _run(lambda: node.create_feed(params={"message": "Two", "attached_media": attached}))
    read = await _run(lambda: Photo(photos[1]["id"], api=api).api_get(fields=["page_story_id"]))
    assert read["page_story_id"] == post["id"]
    assert await client.live_count() == 1


async def test_it_understands_the_errors(
    client: Client, instagram: Owner, sdk: Callable[[Owner], FacebookAdsApi]
) -> None:
    """Code, subcode, user's words and transience come through, and a rate limit's header."""
    await client.use(check_media=False)
    user = IGUser(instagram.id, api=sdk(instagram))
    usage = {"call_count": 100, "estimated_time_to_regain_access": 7}
    await client.fault("publish_container", "error", code=4, subcode=2207051, usage=usage)
    container = await _run(lambda: user.create_media(params={"image_url": "https://cdn.example/1.jpg"}))
    with pytest.raises(FacebookRequestError) as caught:
        await _run(lambda: user.create_media_publish(params={"creation_id": container["id"]}))
    error = caught.value
    assert (error.http_status(), error.api_error_code(), error.api_error_subcode()) == (403, 4, 2207051)
    assert error.api_transient_error() is False
    assert error.api_error_message() == "Application request limit reached"
    assert '"estimated_time_to_regain_access":7' in error.http_headers()["X-Business-Use-Case-Usage"]


async def test_its_batches_are_answered(client: Client, page: Owner, sdk: Callable[[Owner], FacebookAdsApi]) -> None:
    """Two posts in one request, one of them refused."""
    api = sdk(page)
    node = Page(page.id, api=api)
    succeeded: list[Any] = []
    failed: list[Any] = []

    def send() -> None:
        batch = api.new_batch()
        for params in ({"message": "One"}, {}):
            node.create_feed(batch=batch, params=params, success=succeeded.append, failure=failed.append)
        batch.execute()

    await _run(send)
    assert [response.json()["id"].startswith(page.id) for response in succeeded] == [True]
    assert [response.error().api_error_code() for response in failed] == [100]
    assert await client.live_count() == 1
