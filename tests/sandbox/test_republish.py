"""A second publish of one handle, under the three settings: Meta documents no answer."""

from __future__ import annotations

import pytest

from tests.sandbox.client import Answer, Client
from tests.sandbox.conftest import MediaServer

pytestmark = pytest.mark.anyio
KINDS = ["instagram photo", "instagram video", "facebook photo", "facebook video"]


async def _publish_twice(client: Client, media: MediaServer, kind: str) -> tuple[Answer, Answer]:
    platform, medium = kind.split()
    owner = await client.owner(platform)
    url = media["story.jpg" if medium == "photo" else "story.mp4"]
    if platform == "instagram":
        field = "image_url" if medium == "photo" else "video_url"
        container_id = await client.container(owner, url, field)
        return await client.publish(owner, container_id), await client.publish(owner, container_id)
    if medium == "photo":
        path = f"/{owner.id}/photo_stories"
        parameters = {"photo_id": await client.photo(owner, url)}
    else:
        path = f"/{owner.id}/video_stories"
        parameters = {"upload_phase": "finish", "video_id": await client.video(owner, url)}
    return await client.post(path, owner.token, **parameters), await client.post(path, owner.token, **parameters)


@pytest.mark.parametrize("kind", KINDS)
async def test_error_refuses_it(client: Client, media: MediaServer, kind: str) -> None:
    """With `error` the second publish is code 100, and one post is live."""
    first, second = await _publish_twice(client, media, kind)
    assert first.status == 200
    assert second.codes == (400, 100, None)
    assert "already been published" in second.error["message"]
    assert await client.live_count() == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_same_id_repeats_the_answer(client: Client, media: MediaServer, kind: str) -> None:
    """With `same_id` the second publish answers as the first did, and one post is live."""
    await client.use(republish="same_id")
    first, second = await _publish_twice(client, media, kind)
    assert first.status == second.status == 200
    assert first.body == second.body
    assert await client.live_count() == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_duplicate_publishes_again(client: Client, media: MediaServer, kind: str) -> None:
    """With `duplicate` a second post is live, under another id."""
    await client.use(republish="duplicate")
    first, second = await _publish_twice(client, media, kind)
    assert first.status == second.status == 200
    assert first.body != second.body
    assert await client.live_count() == 2
