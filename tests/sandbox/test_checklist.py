"""The reference sheet's checklist for a simulator (section 9.1), each of its points as one check.

The points are the sheet's own words, in its order. What each means in full is in the tests beside this one; here
stands that none is missing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pytest

from tests.sandbox.client import Answer, Client, Owner
from tests.sandbox.conftest import MediaServer

pytestmark = pytest.mark.anyio
HOUR = 3600.0
DAY = 24 * HOUR
URL = "https://cdn.example/1.jpg"


@dataclass(frozen=True, slots=True)
class Scene:
    """A sandbox with an account of each platform, whose media is not fetched unless a check wants it."""

    client: Client
    instagram: Owner
    page: Owner
    media: MediaServer

    async def create(self, url: str = URL) -> Answer:
        """Create the container of a story."""
        path = f"/{self.instagram.id}/media"
        return await self.client.post(path, self.instagram.token, media_type="STORIES", image_url=url)

    async def status(self, container_id: str) -> Answer:
        """Read a container."""
        return await self.client.get(f"/{container_id}", self.instagram.token, fields="status_code")

    async def publish(self) -> Answer:
        """Publish a new story."""
        return await self.client.publish(self.instagram, str((await self.create()).body["id"]))


Check = Callable[[Scene], Awaitable[None]]


async def _hosts(scene: Scene) -> None:
    client, page = scene.client, scene.page
    direct = await client.owner("instagram", login="instagram")
    for host, owner in (("graph.facebook.com", page), ("graph.instagram.com", direct)):
        headers = {"Authorization": f"Bearer {owner.token}"}
        by_path = await client.send("GET", f"/{host}/v25.0/{owner.id}", headers=headers)
        by_header = await client.send("GET", f"/v25.0/{owner.id}", headers=headers | {"Host": host})
        assert (by_path.status, by_header.status) == (200, 200), host
    host, headers = "rupload.facebook.com", {"Authorization": f"OAuth {page.token}", "file_url": f"{URL}.mp4"}
    for prefix, more in ((f"/{host}", {}), ("", {"Host": host})):
        started = await client.post(f"/{page.id}/video_stories", page.token, upload_phase="start")
        path = f"{prefix}/video-upload/v25.0/{started.body['video_id']}"
        assert (await client.send("POST", path, headers=headers | more)).body == {"success": True}, path


async def _versions(scene: Scene) -> None:
    for version in ("", "/v21.0", "/v26.0"):
        assert (await scene.client.get(f"{version}/{scene.page.id}", scene.page.token)).status == 200


async def _encodings(scene: Scene) -> None:
    given = {"media_type": "STORIES", "image_url": URL}
    multipart = aiohttp.FormData(given)
    multipart.add_field("unused", b"1", filename="unused")
    ways: dict[str, dict[str, Any]] = {
        "form": {"data": given},
        "JSON": {"json": given},
        "multipart": {"data": multipart},
        "query": {"params": given},
    }
    for way, options in ways.items():
        headers = {"Authorization": f"Bearer {scene.instagram.token}"}
        answer = await scene.client.send("POST", f"/{scene.instagram.id}/media", headers=headers, **options)
        assert list(answer.body) == ["id"], (way, answer.body)


async def _tokens(scene: Scene) -> None:
    path, token = f"/{scene.page.id}", scene.page.token
    for scheme in ("Bearer", "OAuth"):
        headers = {"Authorization": f"{scheme} {token}"}
        assert (await scene.client.send("GET", path, headers=headers)).status == 200, scheme
    assert (await scene.client.get(path, access_token=token)).status == 200


async def _token_before_path(scene: Scene) -> None:
    assert (await scene.client.get("/1/no_such_edge", "EAAwrong")).codes == (400, 190, None)


async def _fields(scene: Scene) -> None:
    container_id = (await scene.create()).body["id"]
    answer = await scene.client.get(f"/{container_id}", scene.instagram.token, fields="permalink")
    assert answer.codes == (400, 100, None)
    assert answer.error["message"] == "(#100) Tried accessing nonexisting field (permalink)"


async def _unknown_object(scene: Scene) -> None:
    answer = await scene.client.get("/17900000000000000", scene.page.token)
    assert (answer.codes, answer.error["type"]) == ((400, 100, 33), "GraphMethodException")


async def _ids(scene: Scene) -> None:
    client, page = scene.client, scene.page
    photo = await client.post(f"/{page.id}/photos", page.token, url=URL, published="false")
    story = await client.post(f"/{page.id}/photo_stories", page.token, photo_id=photo.body["id"])
    created, published = await scene.create(), await scene.publish()
    ids = [photo.body["id"], story.body["post_id"], created.body["id"], published.body["id"]]
    assert all(isinstance(each, str) and each.isdecimal() for each in ids), ids


async def _traces(scene: Scene) -> None:
    errors = [
        await scene.client.get("/1", scene.page.token),
        await scene.client.get("/me", "EAAwrong"),
        await scene.client.call("DELETE", f"/{scene.page.id}", scene.page.token),
        await scene.client.post(f"/{scene.instagram.id}/media", scene.instagram.token, media_type="WHAT"),
        await scene.client.publish(scene.instagram, "1"),
    ]
    traces = [answer.body["error"]["fbtrace_id"] for answer in errors]
    assert len(set(traces)) == len(traces)
    assert [answer.headers["x-fb-trace-id"] for answer in errors] == traces


async def _content_type(scene: Scene) -> None:
    for token in (scene.page.token, "EAAwrong"):
        answer = await scene.client.get(f"/{scene.page.id}", token)
        assert answer.headers["Content-Type"] == "application/json; charset=UTF-8"


async def _headers(scene: Scene) -> None:
    answer = await scene.client.get(f"/v24.0/{scene.page.id}", scene.page.token)
    assert answer.headers["facebook-api-version"] == "v24.0"


async def _usage(scene: Scene) -> None:
    for owner in (scene.instagram, scene.page):
        good = await scene.client.get(f"/{owner.id}", owner.token)
        bad = await scene.client.get(f"/{owner.id}", owner.token, fields="no_such_field")
        for answer in (good, bad):
            assert owner.id in orjson.loads(answer.headers["X-Business-Use-Case-Usage"])


async def _clock(scene: Scene) -> None:
    client, instagram = scene.client, scene.instagram
    await client.use(quota_total=1)
    container_id = (await scene.create()).body["id"]
    assert (await scene.publish()).status == 200
    assert (await scene.publish()).codes == (400, 9, 2207042)
    stories = await client.get(f"/{instagram.id}/stories", instagram.token)
    assert len(stories.body["data"]) == 1
    await client.advance(DAY + 1)
    assert (await scene.status(container_id)).body["status_code"] == "EXPIRED"
    assert (await client.get(f"/{instagram.id}/stories", instagram.token)).body["data"] == []
    assert (await scene.publish()).status == 200


async def _containers_take_time(scene: Scene) -> None:
    await scene.client.use(image_seconds=(HOUR, HOUR))
    container_id = (await scene.create()).body["id"]
    assert (await scene.status(container_id)).body["status_code"] == "IN_PROGRESS"
    await scene.client.advance(HOUR)
    assert (await scene.status(container_id)).body["status_code"] == "FINISHED"


async def _media_fetch(scene: Scene) -> None:
    assert (await scene.create(scene.media["nowhere.jpg"])).status == 200
    await scene.client.use(check_media=True)
    assert (await scene.create(scene.media["story.jpg"])).status == 200
    assert (await scene.create(scene.media["nowhere.jpg"])).codes == (400, 9004, 2207052)
    assert len(scene.media.agents) == 2


async def _fault_numbers(scene: Scene) -> None:
    await scene.client.fault("read_account", "error", status=503, code=368, subcode=1390008, times=2)
    read = [await scene.client.get(f"/{scene.page.id}", scene.page.token) for _ in range(3)]
    assert [answer.status for answer in read] == [503, 503, 200]
    assert read[0].codes == (503, 368, 1390008)


async def _fault_delay(scene: Scene) -> None:
    fault = await scene.client.fault("read_account", "delay", delay_seconds=600)
    with pytest.raises(TimeoutError):
        await scene.client.send(
            "GET",
            f"/{scene.page.id}",
            headers={"Authorization": f"Bearer {scene.page.token}"},
            timeout=aiohttp.ClientTimeout(total=0.2),
        )
    assert (await scene.client.control("GET", f"faults/{fault}"))["hits"] == 1


async def _fault_apply_then_error(scene: Scene) -> None:
    await scene.client.fault("publish_container", "apply_then_error", code=4, subcode=2207051)
    assert (await scene.publish()).codes == (403, 4, 2207051)
    assert await scene.client.live_count() == 1


async def _fault_apply_then_drop(scene: Scene) -> None:
    await scene.client.fault("publish_container", "apply_then_drop")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await scene.publish()
    assert await scene.client.live_count() == 1


async def _fault_not_ready(scene: Scene) -> None:
    await scene.client.fault("publish_container", "error", code=9007, subcode=2207027)
    container_id = str((await scene.create()).body["id"])
    assert (await scene.status(container_id)).body["status_code"] == "FINISHED"
    assert (await scene.client.publish(scene.instagram, container_id)).codes == (400, 9007, 2207027)
    assert (await scene.client.publish(scene.instagram, container_id)).status == 200


async def _fault_status_read(scene: Scene) -> None:
    await scene.client.fault("container_status", "error", code=100, subcode=33, times=None)
    container_id = str((await scene.create()).body["id"])
    assert (await scene.status(container_id)).codes == (400, 100, 33)
    assert (await scene.client.publish(scene.instagram, container_id)).status == 200


async def _fault_usage(scene: Scene) -> None:
    figures = {"call_count": 97, "estimated_time_to_regain_access": 19}
    await scene.client.fault("read_account", "delay", usage=figures, app_usage={"total_time": 91})
    answer = await scene.client.get(f"/{scene.page.id}", scene.page.token)
    [row] = orjson.loads(answer.headers["X-Business-Use-Case-Usage"])[scene.page.id]
    assert {name: row[name] for name in figures} == figures
    assert orjson.loads(answer.headers["X-App-Usage"])["total_time"] == 91


async def _republish(scene: Scene) -> None:
    for republish, live in (("error", 1), ("same_id", 1), ("duplicate", 2)):
        await scene.client.control("POST", "reset")
        await scene.client.use(republish=republish)
        container_id = str((await scene.create()).body["id"])
        first, again = [await scene.client.publish(scene.instagram, container_id) for _ in range(2)]
        assert again.status == (400 if republish == "error" else 200)
        assert (again.body == first.body) == (republish == "same_id")
        assert await scene.client.live_count() == live


async def _strict_formats(scene: Scene) -> None:
    await scene.client.use(check_media=True)
    assert (await scene.create(scene.media["story.png"])).codes == (400, 36001, 2207005)
    await scene.client.use(strict_formats=False)
    assert (await scene.create(scene.media["story.png"])).status == 200


async def _quota_total(scene: Scene) -> None:
    path, token = f"/{scene.instagram.id}/content_publishing_limit", scene.instagram.token
    for total in (100, 50):
        await scene.client.use(quota_total=total)
        [row] = (await scene.client.get(path, token, fields="config,quota_usage")).body["data"]
        assert row["config"] == {"quota_total": total, "quota_duration": 86400}


async def _status_of_blocked(scene: Scene) -> None:
    for status in (403, 400):
        await scene.client.use(http_status_2207051=status)
        await scene.client.fault("publish_container", "error", code=4, subcode=2207051)
        assert (await scene.publish()).codes == (status, 4, 2207051)


async def _batch(scene: Scene) -> None:
    parts = [{"method": "GET", "relative_url": scene.page.id}, {"method": "GET", "relative_url": "1"}]
    answer = await scene.client.post("/", scene.page.token, batch=orjson.dumps(parts).decode())
    assert [part["code"] for part in answer.body] == [200, 400]


CHECKLIST: dict[str, Check] = {
    "hosts on one port by path or Host header": _hosts,
    "optional /vNN.N prefix": _versions,
    "form/JSON/multipart/query parameters": _encodings,
    "Bearer, OAuth and access_token": _tokens,
    "token checked before path": _token_before_path,
    "fields with (#100) Tried accessing nonexisting field (x)": _fields,
    "unknown object 100/33": _unknown_object,
    "ids as strings": _ids,
    "fbtrace_id in every error; x-fb-trace-id": _traces,
    "Content-Type: application/json; charset=UTF-8": _content_type,
    "facebook-api-version": _headers,
    "BUC header on every tokened call": _usage,
    "clock that tests can move (24 h expiry, rolling quota, story expiry)": _clock,
    "containers IN_PROGRESS to FINISHED by time": _containers_take_time,
    "media fetch from the given URL (opt-in) with 9004 on failure": _media_fetch,
    "faults per path: status/code/subcode, times": _fault_numbers,
    "faults: delay": _fault_delay,
    "faults: apply-then-error": _fault_apply_then_error,
    "faults: apply-then-drop": _fault_apply_then_drop,
    "faults: 9007 after FINISHED": _fault_not_ready,
    "faults: status read 100/33": _fault_status_read,
    "faults: usage percentages": _fault_usage,
    "switches: republish": _republish,
    "switches: strict_formats": _strict_formats,
    "switches: quota_total 50/100": _quota_total,
    "switches: http_status_2207051 403/400": _status_of_blocked,
    "batch POST /": _batch,
}


@pytest.mark.parametrize("point", CHECKLIST)
async def test_the_sandbox_has_what_the_checklist_asks_for(
    client: Client, instagram: Owner, page: Owner, media: MediaServer, point: str
) -> None:
    """A point of section 9.1."""
    await client.use(check_media=False)
    await CHECKLIST[point](Scene(client, instagram, page, media))
