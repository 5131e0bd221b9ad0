"""Reading an edge to its end: a list that was cut off must never pass for "not there"."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import SecretStr

from outbox.event import JsonObject
from publisher.errors import NoAnswer
from publisher.graph import GraphClient
from publisher.story import Endpoint

PAGE_SIZE = "100"
PAGES_MAX = 10


async def read_edge(
    graph: GraphClient, endpoint: Endpoint, path: str, token: SecretStr, parameters: Mapping[str, str]
) -> list[JsonObject]:
    """Return all objects of an edge.

    The next page is asked for by cursor: `paging.next` is a whole URL with the token in it.

    Raises:
        NoAnswer: The list has no end in sight, or is not a list.
    """
    items: list[JsonObject] = []
    query = {**parameters, "limit": PAGE_SIZE}
    for _ in range(PAGES_MAX):
        answer = await graph.get(endpoint, path, token, query)
        data = answer.get("data")
        if not isinstance(data, list):
            raise NoAnswer(f"expected a list from {endpoint}, found none")
        items.extend(item for item in data if isinstance(item, dict))
        paging = answer.get("paging")
        if not isinstance(paging, dict) or "next" not in paging:
            return items
        cursors = paging.get("cursors")
        after = cursors.get("after") if isinstance(cursors, dict) else None
        if not isinstance(after, str):
            break
        query["after"] = after
    raise NoAnswer(f"expected the end of the list from {endpoint}, found more pages than can be read")


def instant(value: object) -> datetime | None:
    """Return Meta's time stamps: ISO 8601 with +0000, or seconds as text or number."""
    try:
        if isinstance(value, str) and not value.isdecimal():
            return datetime.fromisoformat(value)
        if isinstance(value, str | int | float):
            return datetime.fromtimestamp(float(value), UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None
