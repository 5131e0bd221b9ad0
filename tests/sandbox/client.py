"""A client of the sandbox for tests: Graph calls, control calls, and the four ways to publish a story."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import anyio

DEADLINE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sandbox answered."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def error(self) -> dict[str, Any]:
        """The error in the body, without its trace id."""
        error = dict(self.body["error"])
        assert error.pop("fbtrace_id").startswith("A")
        return error

    @property
    def codes(self) -> tuple[int, int, int | None]:
        """HTTP status, code and subcode of the error."""
        return self.status, self.error["code"], self.error.get("error_subcode")


@dataclass(frozen=True, slots=True)
class Owner:
    """An account and its token."""

    id: str
    token: str


@dataclass(frozen=True, slots=True)
class Client:
    """Calls a running sandbox."""

    url: str
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, token: str | None = None, **parameters: str) -> Answer:
        """Make a Graph call: parameters in the query for GET and DELETE, else in a form."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        in_query = method in ("GET", "DELETE")
        return await self.send(
            method,
            path,
            headers=headers,
            params=parameters if in_query else None,
            data=None if in_query else parameters,
        )

    async def get(self, path: str, token: str | None = None, **parameters: str) -> Answer:
        """Make a GET call."""
        return await self.call("GET", path, token, **parameters)

    async def post(self, path: str, token: str | None = None, **parameters: str) -> Answer:
        """Make a POST call."""
        return await self.call("POST", path, token, **parameters)

    async def send(self, method: str, path: str, **options: Any) -> Answer:
        """Send any request."""
        url = path if path.startswith("http") else f"{self.url}{path}"
        async with self.session.request(method, url, **options) as response:
            is_json = response.content_type == "application/json"
            body = await response.json() if is_json else await response.text()
            return Answer(response.status, body, response.headers)

    async def control(self, method: str, path: str, body: Any = None, *, expect: int = 200) -> Any:
        """Make a control call."""
        answer = await self.send(method, f"/_sandbox/{path}", json=body)
        assert answer.status == expect, answer.body
        return answer.body

    async def owner(self, platform: str, **more: Any) -> Owner:
        """Add an account."""
        body = await self.control("POST", "accounts", {"platform": platform, "name": "greenhouse", **more})
        return Owner(body["id"], body["token"])

    async def use(self, **switches: Any) -> None:
        """Change settings."""
        await self.control("PATCH", "settings", switches)

    async def advance(self, seconds: float) -> None:
        """Move the sandbox's clock ahead."""
        await self.control("POST", "clock", {"advance_seconds": seconds})

    async def fault(self, endpoint: str, action: str, **more: Any) -> str:
        """Script a fault and return its id."""
        body = await self.control("POST", "faults", {"endpoint": endpoint, "action": action, **more})
        return str(body["id"])

    async def live_count(self, media: str | None = None) -> int:
        """Return how many posts are live."""
        query = "" if media is None else f"?media={media}"
        body = await self.control("GET", f"live{query}")
        assert body["count"] == len(body["live"])
        return int(body["count"])

    async def container(self, owner: Owner, url: str, kind: str = "image_url") -> str:
        """Create a story container and wait until it is ready."""
        answer = await self.post(f"/{owner.id}/media", owner.token, media_type="STORIES", **{kind: url})
        assert answer.status == 200, answer.body
        container_id = str(answer.body["id"])
        await self.status_code(owner, container_id, "FINISHED")
        return container_id

    async def status_code(self, owner: Owner, container_id: str, expected: str) -> Answer:
        """Poll a container until its status code is as expected."""

        async def read() -> Answer:
            return await self.get(f"/{container_id}", owner.token, fields="status_code,status")

        return await until(read, lambda answer: bool(answer.body["status_code"] == expected))

    async def publish(self, owner: Owner, container_id: str) -> Answer:
        """Publish a container."""
        return await self.post(f"/{owner.id}/media_publish", owner.token, creation_id=container_id)

    async def photo(self, owner: Owner, url: str) -> str:
        """Upload an unpublished Page photo."""
        answer = await self.post(f"/{owner.id}/photos", owner.token, url=url, published="false")
        assert answer.status == 200, answer.body
        return str(answer.body["id"])

    async def video(self, owner: Owner, url: str) -> str:
        """Upload a Page video by URL and wait until it is here."""
        started = await self.post(f"/{owner.id}/video_stories", owner.token, upload_phase="start")
        headers = {"Authorization": f"OAuth {owner.token}", "file_url": url}
        sent = await self.send("POST", started.body["upload_url"], headers=headers)
        assert sent.body == {"success": True}
        video_id = str(started.body["video_id"])
        await self.video_status(owner, video_id, "ready")
        return video_id

    async def video_status(self, owner: Owner, video_id: str, expected: str) -> dict[str, Any]:
        """Poll a video until its status is as expected; return the status object."""

        async def read() -> Answer:
            return await self.get(f"/{video_id}", owner.token, fields="status")

        answer = await until(read, lambda answer: bool(answer.body["status"]["video_status"] == expected))
        status: dict[str, Any] = answer.body["status"]
        return status


async def until(read: Callable[[], Awaitable[Answer]], is_it: Callable[[Answer], bool]) -> Answer:
    """Poll until an answer is as it should be; fail when it is not within the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        answer = await read()
        if is_it(answer):
            return answer
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS:g} s: {answer.body}"
        await anyio.sleep(0.01)
