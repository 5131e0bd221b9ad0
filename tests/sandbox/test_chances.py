"""Random faults follow from a seed."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError

from publisher.sandbox.chances import Chances, Mishap
from publisher.sandbox.endpoints import Endpoint
from publisher.sandbox.settings import SandboxSettings
from tests.sandbox.client import Client, Owner

pytestmark = pytest.mark.anyio
CDN = "https://cdn.example"


@pytest.fixture
async def unchecked(client: Client) -> Client:
    """A client whose media is not fetched."""
    await client.use(check_media=False)
    return client


def _drawn(chances: Chances, endpoint: Endpoint, count: int = 2_000) -> list[Mishap | None]:
    return [chances.draw(endpoint, number)[0] for number in range(count)]


def test_a_seed_decides_everything() -> None:
    """Equal seeds draw alike; another seed, and another endpoint, draw otherwise."""
    chances = Chances(seed=7, lost=0.1, denied=0.1)
    drawn = _drawn(chances, Endpoint.PUBLISH_CONTAINER)
    assert drawn == _drawn(Chances(seed=7, lost=0.1, denied=0.1), Endpoint.PUBLISH_CONTAINER)
    assert drawn != _drawn(Chances(seed=8, lost=0.1, denied=0.1), Endpoint.PUBLISH_CONTAINER)
    assert drawn != _drawn(chances, Endpoint.PUBLISH_PHOTO_STORY)


def test_probabilities_are_kept() -> None:
    """Of 2,000 draws about as many as were asked for; the seed is fixed, and so is the count."""
    drawn = Counter(_drawn(Chances(seed=7, lost=0.1, denied=0.2, dropped=0.05), Endpoint.PUBLISH_CONTAINER))
    assert 150 < drawn[Mishap.LOST] < 250
    assert 350 < drawn[Mishap.DENIED] < 450
    assert 70 < drawn[Mishap.DROPPED] < 130


@pytest.mark.parametrize("mishap", list(Mishap))
def test_a_mishap_meets_only_what_it_can(mishap: Mishap) -> None:
    """With probability 1 every call meets it, or none of an endpoint's does; named endpoints bound it."""
    chances = Chances.model_validate({mishap: 1})
    met = {endpoint for endpoint in Endpoint if set(_drawn(chances, endpoint, 5)) == {mishap}}
    assert met
    assert all(set(_drawn(chances, endpoint, 5)) == {None} for endpoint in set(Endpoint) - met)
    bounded = Chances.model_validate({mishap: 1, "endpoints": []})
    assert all(set(_drawn(bounded, endpoint, 5)) == {None} for endpoint in Endpoint)


def test_chances_are_checked() -> None:
    """Together they are at most 1; a misspelt one is refused."""
    for wrong in ({"lost": 0.6, "denied": 0.6}, {"lost": -0.1}, {"loosed": 0.1}, {"endpoints": ["nonsense"]}):
        with pytest.raises(ValidationError):
            Chances.model_validate(wrong)


def test_chances_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON."""
    monkeypatch.setenv("SANDBOX_CHANCES", '{"seed": 7, "lost": 0.02}')
    assert SandboxSettings().chances == Chances(seed=7, lost=0.02)


async def _met(client: Client, owner: Owner, count: int) -> list[Any]:
    """Call so often, and return what each call met; POST, since aiohttp repeats a GET that was dropped."""
    for _ in range(count):
        with suppress(aiohttp.ClientError):
            await client.post(f"/{owner.id}/feed", owner.token, message="Hello")
    return [row["fault"] for row in (await client.control("GET", "requests"))["requests"]][-count:]


async def test_the_same_calls_meet_the_same_faults(unchecked: Client, page: Owner) -> None:
    """Over a reset; counts tell how many; without chances nothing happens."""
    await unchecked.use(chances={"seed": 3, "refused": 0.3, "dropped": 0.2})
    first = await _met(unchecked, page, 30)
    assert set(first) == {None, "random-refused", "random-dropped"}
    counts = (await unchecked.control("GET", "faults"))["random"]
    assert counts == {"refused": first.count("random-refused"), "dropped": first.count("random-dropped")}
    assert await unchecked.live_count() == first.count(None)
    await unchecked.control("POST", "reset")
    assert await _met(unchecked, page, 30) == first
    await unchecked.use(chances=None)
    assert set(await _met(unchecked, page, 10)) == {None}


async def _stories(client: Client, owner: Owner) -> tuple[str, int]:
    container_id = await client.container(owner, f"{CDN}/1.jpg")
    before = await client.live_count()
    try:
        answer = await client.publish(owner, container_id)
    except aiohttp.ClientError:
        return "nothing", await client.live_count() - before
    return ("good" if answer.status == 200 and "id" in answer.body else "bad"), await client.live_count() - before


@pytest.mark.parametrize(
    ("mishap", "answer", "live"),
    [
        ("refused", "bad", 0),
        ("limited", "bad", 0),
        ("dropped", "nothing", 0),
        ("denied", "bad", 1),
        ("lost", "nothing", 1),
        ("delayed", "good", 1),
        ("garbled", "bad", 1),
        ("unready", "bad", 0),
    ],
)
async def test_what_a_publish_meets(unchecked: Client, instagram: Owner, mishap: str, answer: str, live: int) -> None:
    """What it answers, and what is live."""
    await unchecked.use(chances={mishap: 1, "endpoints": ["publish_container"], "delay_seconds": 0})
    for _ in range(4):
        assert await _stories(unchecked, instagram) == (answer, live)


async def test_media_is_unreached_or_spoiled(unchecked: Client, instagram: Owner, page: Owner) -> None:
    """Refused at once, or taken and in ERROR later with one of the numbers after which it is made again."""
    path, given = f"/{instagram.id}/media", {"image_url": f"{CDN}/1.jpg", "media_type": "STORIES"}
    await unchecked.use(chances={"unreached": 1})
    assert (await unchecked.post(path, instagram.token, **given)).codes == (400, 9004, 2207052)
    photo = await unchecked.post(f"/{page.id}/photos", page.token, url=f"{CDN}/1.jpg", published="false")
    assert photo.codes == (400, 324, 2069019)
    await unchecked.use(chances={"spoiled": 1})
    created = await unchecked.post(path, instagram.token, **given)
    status = await unchecked.status_code(instagram, created.body["id"], "ERROR")
    assert status.body["status"][-7:] in ("2207003", "2207053", "2207082")
    await unchecked.use(chances={"unreadable": 1})
    assert (await unchecked.get(f"/{created.body['id']}", instagram.token)).codes == (400, 100, 33)


async def test_a_script_lets_media_fail(unchecked: Client, instagram: Owner, page: Owner) -> None:
    """`fail_media` on a container and on an upload, with the number that is asked for."""
    await unchecked.fault("create_container", "fail_media", subcode=2207076)
    created = await unchecked.post(
        f"/{instagram.id}/media", instagram.token, media_type="REELS", video_url=f"{CDN}/1.mp4"
    )
    status = await unchecked.status_code(instagram, created.body["id"], "ERROR")
    assert status.body["status"] == "Error: Media upload has failed with error code 2207076"
    await unchecked.fault("upload_video", "fail_media", subcode=1363047)
    started = await unchecked.post(f"/{page.id}/video_reels", page.token, upload_phase="start")
    headers = {"Authorization": f"OAuth {page.token}", "file_url": f"{CDN}/1.mp4"}
    await unchecked.send("POST", started.body["upload_url"], headers=headers)
    failed = await unchecked.video_status(page, started.body["video_id"], "error")
    assert failed["processing_phase"]["error"]["code"] == 1363047
    finish = await unchecked.post(
        f"/{page.id}/video_reels", page.token, upload_phase="finish", video_id=started.body["video_id"]
    )
    assert finish.codes == (400, 6000, None)
