"""Scripted faults: each action, whom it hits, and what it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest

from tests.sandbox.client import Answer, Client, Owner, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def unchecked(client: Client) -> Client:
    """A client whose media is not fetched."""
    await client.use(check_media=False)
    return client


@asynccontextmanager
async def _meanwhile(call: Coroutine[Any, Any, Answer]) -> AsyncIterator[asyncio.Task[Answer]]:
    """Run a call beside the block; end it when the block ends."""
    task = asyncio.create_task(call)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _ready(client: Client, owner: Owner, url: str = "https://cdn.example/17.jpg") -> str:
    return await client.container(owner, url)


async def test_error_answers_instead(unchecked: Client, instagram: Owner) -> None:
    """Nothing is published; the second call goes through."""
    container_id = await _ready(unchecked, instagram)
    fault_id = await unchecked.fault("publish_container", "error", code=4, subcode=2207051)
    answer = await unchecked.publish(instagram, container_id)
    assert answer.codes == (403, 4, 2207051)
    assert answer.error["message"] == "Application request limit reached"
    assert await unchecked.live_count() == 0
    assert (await unchecked.publish(instagram, container_id)).status == 200
    assert (await unchecked.control("GET", f"faults/{fault_id}"))["hits"] == 1


async def test_the_status_of_2207051_is_a_switch(unchecked: Client, instagram: Owner) -> None:
    """400 is documented, 403 was observed."""
    await unchecked.use(http_status_2207051=400)
    await unchecked.fault("read_account", "error", code=4, subcode=2207051)
    assert (await unchecked.get(f"/{instagram.id}", instagram.token)).status == 400


async def test_a_known_error_speaks_of_the_call(unchecked: Client, instagram: Owner) -> None:
    """A scripted 100/33 names the object, as the real one does."""
    container_id = await _ready(unchecked, instagram)
    await unchecked.fault("container_status", "error", code=100, subcode=33)
    answer = await unchecked.get(f"/{container_id}", instagram.token)
    assert answer.codes == (400, 100, 33)
    assert container_id in answer.error["message"]


async def test_an_errors_words_can_be_replaced(unchecked: Client, instagram: Owner) -> None:
    """Every part of the envelope can be scripted."""
    await unchecked.fault(
        "read_account",
        "error",
        status=503,
        code=77,
        subcode=88,
        message="no",
        type="FacebookApiException",
        is_transient=True,
    )
    answer = await unchecked.get(f"/{instagram.id}", instagram.token)
    assert answer.status == 503
    assert answer.error == {
        "message": "no",
        "type": "FacebookApiException",
        "code": 77,
        "error_subcode": 88,
        "is_transient": True,
    }


async def test_an_error_without_a_code_is_the_service_error(unchecked: Client, instagram: Owner) -> None:
    """HTTP 500 and code 2."""
    await unchecked.fault("read_account", "error")
    assert (await unchecked.get(f"/{instagram.id}", instagram.token)).codes == (500, 2, None)


async def test_a_body_need_not_be_json(unchecked: Client, instagram: Owner) -> None:
    """A proxy's page comes as it is, with HTTP 200 if nothing else is said."""
    await unchecked.fault("read_account", "error", body="<h1>Service Unavailable</h1>")
    answer = await unchecked.get(f"/{instagram.id}", instagram.token)
    assert (answer.status, answer.body) == (200, "<h1>Service Unavailable</h1>")


async def test_apply_then_error_publishes_and_denies_it(unchecked: Client, instagram: Owner) -> None:
    """The answer is an error, and the post is live."""
    container_id = await _ready(unchecked, instagram)
    await unchecked.fault("publish_container", "apply_then_error", code=4, subcode=2207051)
    assert (await unchecked.publish(instagram, container_id)).codes == (403, 4, 2207051)
    assert await unchecked.live_count() == 1
    await unchecked.status_code(instagram, container_id, "PUBLISHED")


async def test_apply_then_drop_publishes_in_silence(unchecked: Client, instagram: Owner) -> None:
    """The connection closes, and the post is live."""
    container_id = await _ready(unchecked, instagram)
    await unchecked.fault("publish_container", "apply_then_drop")
    with pytest.raises(aiohttp.ClientError):
        await unchecked.publish(instagram, container_id)
    assert await unchecked.live_count() == 1


async def test_drop_closes_without_a_change(unchecked: Client, instagram: Owner) -> None:
    """The connection closes, and nothing is live."""
    container_id = await _ready(unchecked, instagram)
    await unchecked.fault("publish_container", "drop")
    with pytest.raises(aiohttp.ClientError):
        await unchecked.publish(instagram, container_id)
    assert await unchecked.live_count() == 0


async def test_a_refused_call_leaves_the_fault_for_the_next(unchecked: Client, instagram: Owner) -> None:
    """A fault that follows a change waits for a call that makes one."""
    await unchecked.use(image_seconds=[60, 60])
    created = await unchecked.post(
        f"/{instagram.id}/media", instagram.token, media_type="STORIES", image_url="https://cdn.example/1.jpg"
    )
    container_id = created.body["id"]
    fault_id = await unchecked.fault("publish_container", "apply_then_error", code=2, usage={"call_count": 99})
    early = await unchecked.publish(instagram, container_id)
    assert early.codes == (400, 9007, 2207027)
    assert '"call_count":99' not in early.headers["X-Business-Use-Case-Usage"]
    assert (await unchecked.control("GET", f"faults/{fault_id}"))["hits"] == 0
    await unchecked.advance(61)
    assert (await unchecked.publish(instagram, container_id)).codes == (500, 2, None)
    assert await unchecked.live_count() == 1


async def test_delay_waits_and_goes_on(unchecked: Client, instagram: Owner) -> None:
    """A delayed call is carried out even when its client has given up."""
    container_id = await _ready(unchecked, instagram)
    fault_id = await unchecked.fault("publish_container", "delay", delay_seconds=0.1)
    async with _meanwhile(unchecked.publish(instagram, container_id)) as call:
        await unchecked.control("GET", f"faults/{fault_id}/hit")
        call.cancel()

    async def read() -> Answer:
        return await unchecked.send("GET", "/_sandbox/live")

    await until(read, lambda answer: bool(answer.body["count"] == 1))


async def test_usage_can_be_scripted(unchecked: Client, instagram: Owner) -> None:
    """A fault can put its figures into both headers, and a delay of nothing only does that."""
    await unchecked.fault(
        "read_account",
        "delay",
        usage={"call_count": 97, "estimated_time_to_regain_access": 12},
        app_usage={"total_time": 91},
    )
    answer = await unchecked.get(f"/{instagram.id}", instagram.token)
    assert answer.status == 200
    usage = orjson.loads(answer.headers["X-Business-Use-Case-Usage"])[instagram.id][0]
    assert (usage["call_count"], usage["estimated_time_to_regain_access"]) == (97, 12)
    assert orjson.loads(answer.headers["X-App-Usage"])["total_time"] == 91


async def test_skip_and_times_choose_the_calls(unchecked: Client, instagram: Owner) -> None:
    """The first is let through, two are hit, the fourth goes through."""
    await unchecked.fault("read_account", "error", code=1, skip=1, times=2)
    statuses = [(await unchecked.get(f"/{instagram.id}", instagram.token)).status for _ in range(4)]
    assert statuses == [200, 500, 500, 200]


async def test_times_null_is_for_ever(unchecked: Client, instagram: Owner) -> None:
    """Until the fault is removed."""
    fault_id = await unchecked.fault("read_account", "error", times=None)
    for _ in range(5):
        assert (await unchecked.get(f"/{instagram.id}", instagram.token)).status == 500
    await unchecked.control("DELETE", f"faults/{fault_id}")
    assert (await unchecked.get(f"/{instagram.id}", instagram.token)).status == 200


async def test_account_and_endpoint_choose_the_calls(unchecked: Client, instagram: Owner) -> None:
    """Another account and another endpoint are spared."""
    other = await unchecked.owner("instagram")
    await unchecked.fault("read_account", "error", account=instagram.id)
    assert (await unchecked.get(f"/{other.id}", other.token)).status == 200
    assert (await unchecked.get(f"/{instagram.id}/stories", instagram.token)).status == 200
    assert (await unchecked.get(f"/{instagram.id}", instagram.token)).status == 500


async def test_media_follows_one_story_through_instagram(unchecked: Client, instagram: Owner) -> None:
    """A fault finds the publish, and the status, of the container made from a URL."""
    ours = await _ready(unchecked, instagram, "https://cdn.example/17.jpg")
    other = await _ready(unchecked, instagram, "https://cdn.example/18.jpg")
    for endpoint in ("create_container", "container_status", "publish_container"):
        await unchecked.fault(endpoint, "error", media="/17.jpg")
    assert (await unchecked.get(f"/{other}", instagram.token)).status == 200
    assert (await unchecked.get(f"/{ours}", instagram.token)).status == 500
    assert (await unchecked.publish(instagram, other)).status == 200
    assert (await unchecked.publish(instagram, ours)).status == 500
    created = await unchecked.post(
        f"/{instagram.id}/media", instagram.token, media_type="STORIES", image_url="https://cdn.example/17.jpg"
    )
    assert created.status == 500


async def test_media_follows_one_story_through_a_page(unchecked: Client, page: Owner) -> None:
    """A fault finds the photo's story, the video's upload, its status and its finish."""
    photo_id = await unchecked.photo(page, "https://cdn.example/17.jpg")
    video_id = await unchecked.video(page, "https://cdn.example/17.mp4")
    await unchecked.fault("publish_photo_story", "error", media="/17.jpg")
    await unchecked.fault("video_status", "error", media="/17.mp4")
    await unchecked.fault("finish_video_story", "error", media="/17.mp4")
    await unchecked.fault("upload_video", "error", media="/17.mp4", code=6001, is_transient=True)
    answer = await unchecked.post(f"/{page.id}/photo_stories", page.token, photo_id=photo_id)
    assert answer.status == 500
    assert (await unchecked.get(f"/{video_id}", page.token)).status == 500
    finish = await unchecked.post(f"/{page.id}/video_stories", page.token, upload_phase="finish", video_id=video_id)
    assert finish.status == 500
    started = await unchecked.post(f"/{page.id}/video_stories", page.token, upload_phase="start")
    headers = {"Authorization": f"OAuth {page.token}", "file_url": "https://cdn.example/17.mp4"}
    sent = await unchecked.send("POST", started.body["upload_url"], headers=headers)
    assert sent.status == 400
    assert sent.body["debug_info"]["retriable"] is True


async def test_pause_before_holds_the_change(unchecked: Client, instagram: Owner) -> None:
    """Nothing is live while it holds; resumed, the call goes on."""
    container_id = await _ready(unchecked, instagram)
    fault_id = await unchecked.fault("publish_container", "pause_before")
    async with _meanwhile(unchecked.publish(instagram, container_id)) as call:
        hit = await unchecked.control("GET", f"faults/{fault_id}/hit?timeout=60")
        assert (hit["hit"], hit["held"]) == (True, 1)
        assert await unchecked.live_count() == 0
        resumed = await unchecked.control("POST", f"faults/{fault_id}/resume")
        assert resumed == {"resumed": 1}
        assert (await call).status == 200
    assert await unchecked.live_count() == 1


async def test_pause_after_holds_the_answer(unchecked: Client, instagram: Owner) -> None:
    """The post is live while the answer is held."""
    container_id = await _ready(unchecked, instagram)
    fault_id = await unchecked.fault("publish_container", "pause_after")
    async with _meanwhile(unchecked.publish(instagram, container_id)) as call:
        await unchecked.control("GET", f"faults/{fault_id}/hit")
        assert await unchecked.live_count() == 1
        await unchecked.control("POST", f"faults/{fault_id}/resume")
        assert (await call).status == 200


@pytest.mark.parametrize(("action", "live_count"), [("pause_before", 1), ("pause_after", 1)])
async def test_a_held_call_can_be_dropped(unchecked: Client, instagram: Owner, action: str, live_count: int) -> None:
    """Resumed with drop, the connection closes; the change is made."""
    container_id = await _ready(unchecked, instagram)
    fault_id = await unchecked.fault("publish_container", action)
    async with _meanwhile(unchecked.publish(instagram, container_id)) as call:
        await unchecked.control("GET", f"faults/{fault_id}/hit")
        await unchecked.control("POST", f"faults/{fault_id}/resume", {"drop": True})
        with pytest.raises(aiohttp.ClientError):
            await call
    assert await unchecked.live_count() == live_count


async def test_a_held_call_need_not_be_applied(unchecked: Client, instagram: Owner) -> None:
    """Resumed with apply=false, the call answers the fault's error or, with drop, nothing."""
    container_id = await _ready(unchecked, instagram)
    fault_id = await unchecked.fault("publish_container", "pause_before", times=2, code=1)
    async with _meanwhile(unchecked.publish(instagram, container_id)) as call:
        await unchecked.control("GET", f"faults/{fault_id}/hit")
        await unchecked.control("POST", f"faults/{fault_id}/resume", {"apply": False})
        assert (await call).codes == (500, 1, None)
    async with _meanwhile(unchecked.publish(instagram, container_id)) as call:
        await unchecked.control("GET", f"faults/{fault_id}/hit?hits=2")
        await unchecked.control("POST", f"faults/{fault_id}/resume", {"apply": False, "drop": True})
        with pytest.raises(aiohttp.ClientError):
            await call
    assert await unchecked.live_count() == 0


@pytest.mark.parametrize(("action", "live_count"), [("pause_before", 0), ("pause_after", 1)])
async def test_a_client_that_goes_while_it_is_held(
    unchecked: Client, instagram: Owner, action: str, live_count: int
) -> None:
    """A pause before the change is never applied then; one after it has been."""
    container_id = await _ready(unchecked, instagram)
    fault_id = await unchecked.fault("publish_container", action)
    async with _meanwhile(unchecked.publish(instagram, container_id)):
        await unchecked.control("GET", f"faults/{fault_id}/hit")
    await unchecked.control("POST", f"faults/{fault_id}/resume")

    async def read() -> Answer:
        return await unchecked.send("GET", "/_sandbox/requests?endpoint=publish_container")

    await until(read, _ended)
    assert await unchecked.live_count() == live_count


def _ended(answer: Answer) -> bool:
    last = answer.body["requests"][-1]
    return bool(last["dropped"] or last["status"] is not None)


async def test_hit_gives_up_in_time(unchecked: Client) -> None:
    """A fault that hits nothing answers `hit: false`."""
    fault_id = await unchecked.fault("read_account", "error")
    assert (await unchecked.control("GET", f"faults/{fault_id}/hit?timeout=0.01"))["hit"] is False
    await unchecked.control("GET", f"faults/{fault_id}/hit?timeout=never", expect=400)


async def test_removing_a_fault_frees_the_calls_that_it_holds(unchecked: Client, instagram: Owner) -> None:
    """DELETE lets them go on."""
    fault_id = await unchecked.fault("read_account", "pause_before")
    async with _meanwhile(unchecked.get(f"/{instagram.id}", instagram.token)) as call:
        await unchecked.control("GET", f"faults/{fault_id}/hit")
        await unchecked.control("DELETE", "faults")
        assert (await call).status == 200
    assert (await unchecked.control("GET", "faults"))["faults"] == []


async def test_a_token_comes_before_a_fault(unchecked: Client, instagram: Owner) -> None:
    """A call without a good token uses no fault up."""
    fault_id = await unchecked.fault("read_account", "error")
    assert (await unchecked.get(f"/{instagram.id}", "EAAwrong")).codes == (400, 190, None)
    assert (await unchecked.control("GET", f"faults/{fault_id}"))["hits"] == 0


@pytest.mark.parametrize(
    ("code", "subcode", "status", "words"),
    [
        (10, None, 400, "(#10) Application does not have permission for this action"),
        (17, None, 400, "(#17) User request limit reached"),
        (190, 459, 400, "Error validating access token: You cannot access the app till you log in"),
        (190, 463, 400, "Error validating access token: Session has expired"),
        (200, None, 403, "(#200) Permissions error"),
        (506, None, 400, "(#506) Duplicate status message"),
        (36004, 2207010, 400, "The caption is too long."),
        (80002, None, 400, "(#80002) There have been too many calls to this Instagram account."),
        (4711, 12, 400, "(#4711) Scripted fault"),
    ],
)
async def test_known_errors_need_no_words(  # noqa: PLR0917  # a row of a table
    unchecked: Client, instagram: Owner, code: int, subcode: int | None, status: int, words: str
) -> None:
    """Code and subcode are enough; an unknown one says that it was scripted."""
    await unchecked.fault("read_account", "error", code=code, subcode=subcode)
    answer = await unchecked.get(f"/{instagram.id}", instagram.token)
    assert answer.codes == (status, code, subcode)
    assert answer.error["message"].startswith(words)
