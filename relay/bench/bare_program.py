"""Calls Graph as the publisher does, and does nothing else: `python -m relay.bench.bare_program`, an order on stdin.

What a script looks like that publishes once and hopes: no log, no intent, no receipt. A task for each account, its
stories one after another, as the relay has them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final

import aiohttp
import anyio
import orjson

VERSION: Final = "v25.0"
PAGE_SIZE: Final = "100"


@dataclass(frozen=True, slots=True)
class Errand:
    """An account, and what it publishes."""

    account: str
    token: str = field(repr=False)
    media_urls: Sequence[str]


@dataclass(frozen=True, slots=True)
class Graph:
    """Calls Graph; what is no success ends the program."""

    session: aiohttp.ClientSession
    base: str

    async def call(self, method: str, path: str, token: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        """Call, with the token in a header, and the parameters of a POST in the form."""
        where = {"data": parameters} if method == "POST" else {"params": parameters}
        headers = {"Authorization": f"Bearer {token}"}
        async with self.session.request(method, f"{self.base}/{path}", headers=headers, **where) as response:  # type: ignore[arg-type]
            answer: dict[str, Any] = orjson.loads(await response.read())
        if "error" in answer:
            sys.exit(f"error: {method} {path.partition('/')[2] or 'an object'}: {answer['error'].get('message')}")
        return answer


def main() -> None:
    """Obey the order on stdin, and print how many seconds it took and how much CPU."""
    order = orjson.loads(sys.stdin.buffer.read())
    errands = [Errand(**each) for each in order["errands"]]
    use_uvloop = find_spec("uvloop") is not None
    took = anyio.run(publish_all, order["graph_url"], errands, backend_options={"use_uvloop": use_uvloop})
    print(orjson.dumps(took).decode())


async def publish_all(graph_url: str, errands: Sequence[Errand]) -> dict[str, float]:
    """Publish everything, all accounts at once."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        graph = Graph(session, f"{graph_url}/{VERSION}")
        began_at, cpu_began = time.monotonic(), time.process_time()
        async with anyio.create_task_group() as group:
            for errand in errands:
                group.start_soon(_run, graph, errand)
        return {"seconds": time.monotonic() - began_at, "cpu_seconds": time.process_time() - cpu_began}


async def _run(graph: Graph, errand: Errand) -> None:
    for media_url in errand.media_urls:
        await _publish(graph, errand.account, errand.token, media_url)


async def _publish(graph: Graph, account: str, token: str, media_url: str) -> None:
    created = await graph.call("POST", f"{account}/media", token, {"media_type": "STORIES", "image_url": media_url})
    container = created["id"]
    status = await graph.call("GET", container, token, {"fields": "status_code,status"})
    if status.get("status_code") != "FINISHED":
        sys.exit(f"error: expected a container that is finished at once, found {status.get('status_code')}")
    await _list_stories(graph, account, token)
    published = await graph.call("POST", f"{account}/media_publish", token, {"creation_id": container})
    await graph.call("GET", published["id"], token, {"fields": "permalink"})


async def _list_stories(graph: Graph, account: str, token: str) -> None:
    query = {"fields": "id", "limit": PAGE_SIZE}
    while True:
        answer = await graph.call("GET", f"{account}/stories", token, query)
        if "next" not in answer.get("paging", {}):
            return
        query["after"] = answer["paging"]["cursors"]["after"]


if __name__ == "__main__":
    main()
