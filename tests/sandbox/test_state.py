"""A sandbox with a state file goes on where it stood."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import orjson
import pytest

from publisher.sandbox.errors import SandboxError
from publisher.sandbox.server import serve
from publisher.sandbox.settings import SandboxSettings
from tests.sandbox.client import Client, Owner
from tests.sandbox.conftest import VIDEO, MediaServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "sandbox.json"


@asynccontextmanager
async def _running(settings: SandboxSettings, state: Path, **more: Any) -> AsyncIterator[Client]:
    kept = settings.model_copy(update={"state": state, "check_media": False, **more})
    async with serve(kept) as sandbox, aiohttp.ClientSession() as session:
        yield Client(sandbox.url, session)


async def test_everything_that_meta_would_know_comes_back(settings: SandboxSettings, state: Path) -> None:
    """Accounts, tokens, objects of every kind, what is live and what will be, quotas, and the clock."""
    async with _running(settings, state) as client:
        instagram, page = await client.owner("instagram"), await client.owner("facebook")
        direct = await client.owner("instagram", login="instagram", quota_total=7)
        person = {"name": "gardener", "accounts": [page.id], "long_lived": True}
        user = (await client.control("POST", "users", person))["token"]
        await client.advance(3_600)
        container_id = await client.container(instagram, "https://cdn.example/1.jpg")
        await client.publish(instagram, container_id)
        items = [
            (
                await client.post(
                    f"/{instagram.id}/media",
                    instagram.token,
                    image_url=f"https://cdn.example/{at}.jpg",
                    is_carousel_item="1",
                    user_tags='[{"username":"a","x":0.5,"y":0.5}]',
                )
            ).body["id"]
            for at in range(2)
        ]
        parent = await client.post(
            f"/{instagram.id}/media", instagram.token, media_type="CAROUSEL", children=",".join(items), caption="Two"
        )
        carousel = (await client.publish(instagram, parent.body["id"])).body["id"]
        unused = await client.container(direct, "https://cdn.example/2.jpg")
        photo_id = await client.photo(page, "https://cdn.example/3.jpg")
        video_id = await client.video(page, "https://cdn.example/4.mp4")
        await client.post(f"/{page.id}/video_stories", page.token, upload_phase="finish", video_id=video_id)
        now = int((await client.control("GET", "clock"))["now"])
        draft = await client.post(f"/{page.id}/feed", page.token, message="Never", published="false")
        later = str(now + 3_600)
        await client.post(
            f"/{page.id}/feed", page.token, message="Later", published="false", scheduled_publish_time=later
        )
        await client.control("PATCH", f"accounts/{page.id}", {"usage": {"call_count": 42}, "missing_scopes": ["x"]})
        before = await _seen(client, instagram, page, direct, carousel=carousel, user=user)
    async with _running(settings, state) as client:
        assert await _seen(client, instagram, page, direct, carousel=carousel, user=user) == before
        assert (await client.control("GET", "clock"))["ahead_seconds"] == 3_600
        assert (await client.publish(instagram, container_id)).codes == (400, 100, None)
        assert (await client.publish(direct, unused)).status == 200
        assert (await client.post(f"/{page.id}/photo_stories", page.token, photo_id=photo_id)).status == 200
        unpublished = await client.get(f"/{draft.body['id']}", page.token, fields="is_published")
        assert unpublished.body["is_published"] is False
        live = await client.live_count()
        await client.advance(3_601)
        assert await client.live_count() == live + 1
        known = {row["id"] for row in (await client.control("GET", "accounts"))["accounts"]}
        assert (await client.owner("instagram")).id not in known


async def _seen(client: Client, instagram: Owner, page: Owner, direct: Owner, *, carousel: str, user: str) -> list[Any]:
    reads = [
        (f"/{instagram.id}/media", instagram.token, "caption,children{media_url},timestamp,permalink"),
        (f"/{instagram.id}/stories", instagram.token, "permalink,timestamp"),
        (f"/{instagram.id}/content_publishing_limit", instagram.token, "config,quota_usage"),
        (f"/{direct.id}/content_publishing_limit", direct.token, "config,quota_usage"),
        (f"/{page.id}/stories", page.token, "media_id,post_id,creation_time"),
        (f"/{page.id}/feed", page.token, "message"),
        (f"/{carousel}/children", instagram.token, "media_type"),
        ("/me/accounts", user, "name,access_token"),
        ("/me", direct.token, "user_id"),
    ]
    answers = [(await client.get(path, token, fields=fields)).body for path, token, fields in reads]
    return [*answers, await client.control("GET", "live"), await client.control("GET", "accounts")]


async def test_the_file_is_the_owners_alone(settings: SandboxSettings, state: Path) -> None:
    """It holds tokens."""
    async with _running(settings, state) as client:
        await client.owner("instagram")
    assert stat.S_IMODE((await anyio.Path(state).stat()).st_mode) == 0o600


async def test_two_sandboxes_do_not_share_a_file(settings: SandboxSettings, state: Path) -> None:
    """The second one says so; once the first one has gone it may."""
    async with _running(settings, state):
        with pytest.raises(SandboxError, match="another one that uses it"):
            async with _running(settings, state):
                pass
    async with _running(settings, state):
        pass


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"version":2}', b'{"version":1}', b"\xff"])
async def test_a_file_that_is_no_state_is_refused(settings: SandboxSettings, state: Path, content: bytes) -> None:
    """In a sentence, and the file stays as it is."""
    await anyio.Path(state).write_bytes(content)
    with pytest.raises(SandboxError, match="Expected the state of a sandbox in "):
        async with _running(settings, state):
            pass
    assert await anyio.Path(state).read_bytes() == content


async def test_a_missing_folder_is_told_in_a_sentence(settings: SandboxSettings, tmp_path: Path) -> None:
    """Before anything is served."""
    with pytest.raises(SandboxError, match="Expected a folder for the state file"):
        async with _running(settings, tmp_path / "none" / "sandbox.json"):
            pass


async def test_a_reset_is_kept_too(settings: SandboxSettings, state: Path) -> None:
    """Nothing comes back that was forgotten."""
    async with _running(settings, state) as client:
        page = await client.owner("facebook")
        await client.post(f"/{page.id}/feed", page.token, message="Hello")
        await client.control("POST", "reset", {"accounts": True})
    async with _running(settings, state) as client:
        assert await client.control("GET", "health") == {"status": "ok", "accounts": 0, "live": 0}


async def test_media_that_was_being_fetched_is_fetched_again(
    settings: SandboxSettings, state: Path, media: MediaServer
) -> None:
    """A container and a video whose files were not here yet are ready after the restart."""
    async with _running(settings, state, check_media=True) as client:
        instagram, page = await client.owner("instagram"), await client.owner("facebook")
        created = await client.post(
            f"/{instagram.id}/media", instagram.token, media_type="STORIES", video_url=media["slow-late.mp4"]
        )
        started = await client.post(f"/{page.id}/video_stories", page.token, upload_phase="start")
        headers = {"Authorization": f"OAuth {page.token}", "file_url": media["slow-late.mp4"]}
        await client.send("POST", started.body["upload_url"], headers=headers)
    media.files["slow-late.mp4"] = VIDEO.read_bytes()
    media.is_slow = False
    async with _running(settings, state, check_media=True) as client:
        await client.status_code(instagram, created.body["id"], "FINISHED")
        await client.video_status(page, started.body["video_id"], "ready")


async def test_a_kill_leaves_a_whole_file(state: Path) -> None:
    """What was saved before SIGKILL is there afterwards, to the last byte."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SANDBOX_")}
    command = [sys.executable, "-m", "relay.cli", "sandbox", "--port", "0", "--json", "--state", str(state)]
    process = await anyio.open_process(
        command, env=environment | {"SANDBOX_CHECK_MEDIA": "false"}, stderr=subprocess.DEVNULL
    )
    file = anyio.Path(state)
    try:
        assert process.stdout is not None
        url = orjson.loads(await process.stdout.receive())["url"]
        async with aiohttp.ClientSession() as session:
            client = Client(url, session)
            page = await client.owner("facebook")
            with anyio.fail_after(60):
                saved = b""
                while page.id.encode() not in saved:
                    await anyio.sleep(0.05)
                    saved = await file.read_bytes() if await file.exists() else b""
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert [row["id"] for row in orjson.loads(await file.read_bytes())["accounts"]] == [page.id]
