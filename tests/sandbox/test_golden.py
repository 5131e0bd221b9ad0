"""Bodies that were recorded live, or that Meta's pages print, are the sandbox's: key by key, word by word.

Each file in `golden/` names its source. What differs from call to call is struck out on both sides: ids, trace ids,
instants, cursors.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.sandbox.client import Answer, Client, Owner

pytestmark = pytest.mark.anyio
GOLDEN = Path(__file__).parent / "golden"
CDN = "https://cdn.example"


@dataclass(frozen=True, slots=True)
class Scene:
    """A sandbox with an Instagram account and a Page."""

    client: Client
    instagram: Owner
    page: Owner

    async def container(self) -> str:
        """Create a container of a story that is ready."""
        return await self.client.container(self.instagram, f"{CDN}/1.jpg")

    async def read(self, owner: Owner, object_id: str, fields: str) -> Answer:
        """Read an object."""
        return await self.client.get(f"/{object_id}", owner.token, fields=fields)

    async def story(self) -> str:
        """Publish a story of the Page and return the photo in it."""
        photo_id = await self.client.photo(self.page, f"{CDN}/1.jpg")
        await self.client.post(f"/{self.page.id}/photo_stories", self.page.token, photo_id=photo_id)
        return photo_id

    async def scripted(self, owner: Owner, **fault: Any) -> Answer:
        """Read an account under a fault of which only the code is given."""
        await self.client.fault("read_account", "error", **fault)
        return await self.client.get(f"/{owner.id}", owner.token)

    async def with_token(self, state: str) -> Answer:
        """Call with a token that works no more."""
        await self.client.control("PATCH", f"accounts/{self.page.id}", {"token_state": state})
        return await self.client.get(f"/{self.page.id}", self.page.token)

    async def usage(self, owner: Owner, call_count: int, header: str) -> Answer:
        """Return a header as if it were a body."""
        usage = {"call_count": call_count, "total_cputime": call_count, "total_time": call_count}
        await self.client.control("PATCH", f"accounts/{owner.id}", {"usage": usage})
        answer = await self.client.get(f"/{owner.id}", owner.token)
        return Answer(answer.status, orjson.loads(answer.headers[header]), answer.headers)


async def container_finished(scene: Scene) -> Answer:
    return await scene.read(scene.instagram, await scene.container(), "status_code,status")


async def container_published(scene: Scene) -> Answer:
    container_id = await scene.container()
    await scene.client.publish(scene.instagram, container_id)
    return await scene.read(scene.instagram, container_id, "status_code,status")


async def container_unknown_field(scene: Scene) -> Answer:
    return await scene.read(scene.instagram, await scene.container(), "permalink")


async def container_created(scene: Scene) -> Answer:
    path = f"/{scene.instagram.id}/media"
    return await scene.client.post(path, scene.instagram.token, media_type="STORIES", image_url=f"{CDN}/1.jpg")


async def container_published_id(scene: Scene) -> Answer:
    return await scene.client.publish(scene.instagram, await scene.container())


async def publishing_limit(scene: Scene) -> Answer:
    for _ in range(2):
        await scene.client.publish(scene.instagram, await scene.container())
    path = f"/{scene.instagram.id}/content_publishing_limit"
    return await scene.client.get(path, scene.instagram.token, fields="config,quota_usage")


async def instagram_story(scene: Scene) -> Answer:
    published = await scene.client.publish(scene.instagram, await scene.container())
    return await scene.read(scene.instagram, published.body["id"], "id,media_product_type,permalink,timestamp")


async def instagram_story_deleted(scene: Scene) -> Answer:
    published = await scene.client.publish(scene.instagram, await scene.container())
    return await scene.client.call("DELETE", f"/{published.body['id']}", scene.instagram.token)


async def not_ready(scene: Scene) -> Answer:
    await scene.client.use(image_seconds=[60, 60])
    return await scene.client.publish(scene.instagram, (await container_created(scene)).body["id"])


async def page_photo(scene: Scene) -> Answer:
    path = f"/{scene.page.id}/photos"
    return await scene.client.post(path, scene.page.token, url=f"{CDN}/1.jpg", published="false")


async def page_photo_story(scene: Scene) -> Answer:
    photo_id = (await page_photo(scene)).body["id"]
    return await scene.client.post(f"/{scene.page.id}/photo_stories", scene.page.token, photo_id=photo_id)


async def page_photo_story_bogus(scene: Scene) -> Answer:
    return await scene.client.post(f"/{scene.page.id}/photo_stories", scene.page.token, photo_id="1")


async def page_stories(scene: Scene) -> Answer:
    await scene.story()
    return await scene.client.get(f"/{scene.page.id}/stories", scene.page.token)


async def page_story(scene: Scene) -> Answer:
    return await scene.read(scene.page, (await page_photo_story(scene)).body["post_id"], "status,creation_time")


async def page_photo_deleted(scene: Scene) -> Answer:
    return await scene.client.call("DELETE", f"/{await scene.story()}", scene.page.token)


async def _send(scene: Scene, owner: Owner, url: str, token: str, size: int) -> Answer:
    headers = {"Authorization": f"OAuth {token}", "offset": "0", "file_size": str(size)}
    return await scene.client.send("POST", url, data=bytes(50_002), headers=headers)


async def video_status(scene: Scene) -> Answer:
    started = await scene.client.post(f"/{scene.page.id}/video_stories", scene.page.token, upload_phase="start")
    await _send(scene, scene.page, started.body["upload_url"], scene.page.token, 60_000)
    return await scene.read(scene.page, started.body["video_id"], "status")


async def _resumable(scene: Scene) -> Answer:
    path = f"/{scene.instagram.id}/media"
    return await scene.client.post(path, scene.instagram.token, media_type="REELS", upload_type="resumable")


async def instagram_video_status(scene: Scene) -> Answer:
    started = await _resumable(scene)
    await _send(scene, scene.instagram, started.body["uri"], scene.instagram.token, 60_000)
    return await scene.read(scene.instagram, started.body["id"], "video_status")


async def upload_done(scene: Scene) -> Answer:
    started = await _resumable(scene)
    return await _send(scene, scene.instagram, started.body["uri"], scene.instagram.token, 50_002)


async def upload_unauthorized(scene: Scene) -> Answer:
    started = await _resumable(scene)
    return await _send(scene, scene.instagram, started.body["uri"], "EAAwrong", 50_002)


async def token_unparseable(scene: Scene) -> Answer:
    return await scene.client.get("/me", "EAAwrong")


async def proof_missing(scene: Scene) -> Answer:
    await scene.client.use(app_secret="0123456789abcdef", require_proof=True)
    return await scene.client.get("/me", scene.page.token)


async def usage_of_app(scene: Scene) -> Answer:
    app_usage = {"call_count": 12}
    await scene.client.fault("read_account", "delay", app_usage=app_usage)
    answer = await scene.client.get(f"/{scene.page.id}", scene.page.token)
    return Answer(answer.status, orjson.loads(answer.headers["X-App-Usage"]), answer.headers)


PLAYED: dict[str, Callable[[Scene], Awaitable[Answer]]] = {
    play.__name__: play
    for play in (
        *(container_finished, container_published, container_unknown_field, container_created),
        *(container_published_id, publishing_limit, instagram_story, instagram_story_deleted, not_ready),
        *(page_photo, page_photo_story, page_photo_story_bogus, page_stories, page_story, page_photo_deleted),
        *(video_status, instagram_video_status, upload_done, upload_unauthorized),
        *(token_unparseable, proof_missing, usage_of_app),
    )
} | {
    "token_password_changed": lambda scene: scene.with_token("password_changed"),
    "token_unconfirmed": lambda scene: scene.with_token("unconfirmed"),
    "token_role_lost": lambda scene: scene.with_token("role_lost"),
    "permission_10": lambda scene: scene.scripted(scene.page, code=10),
    "page_limit": lambda scene: scene.scripted(scene.page, code=32),
    "page_calls_limit": lambda scene: scene.scripted(scene.page, code=80001),
    "usage_of_instagram": lambda scene: scene.usage(scene.instagram, 1, "X-Business-Use-Case-Usage"),
    "usage_of_page": lambda scene: scene.usage(scene.page, 0, "X-Business-Use-Case-Usage"),
}


def test_every_golden_file_is_played() -> None:
    """And nothing is played that was not recorded."""
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(PLAYED)


@pytest.mark.parametrize("name", PLAYED)
async def test_the_sandbox_answers_as_recorded(client: Client, instagram: Owner, page: Owner, name: str) -> None:
    """Status, keys in their order, and words."""
    recorded = orjson.loads((GOLDEN / f"{name}.json").read_bytes())
    await client.use(check_media=False)
    answer = await PLAYED[name](Scene(client, instagram, page))
    assert answer.status == recorded["status"]
    assert _struck(answer.body) == _struck(recorded["body"])


_VARYING = (
    (re.compile(r'"fbtrace_id":"[A-Za-z0-9_-]{11,23}"'), '"fbtrace_id":"*"'),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000"), "*"),
    (re.compile(r'"creation_time":"\d{10}"'), '"creation_time":"*"'),
    (re.compile(r'"(before|after)":"[A-Za-z0-9_=-]+"'), r'"\1":"*"'),
    (re.compile(r"(?<![A-Za-z0-9])\d{14,20}(?![0-9])"), "*"),
)


def _struck(body: Any) -> str:
    """Return a body as text, with its keys in their order, without what varies."""
    text = orjson.dumps(body).decode()
    for pattern, struck in _VARYING:
        text = pattern.sub(struck, text)
    return text
