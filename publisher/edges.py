"""Reading an edge to its end: a list that was cut off must never pass for "not there"."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import SecretStr

from outbox.event import JsonObject
from publisher.errors import NoAnswer
from publisher.graph import GraphClient
from publisher.placement import Endpoint

PAGE_SIZE = "100"
PAGES_MAX = 100
"""So many, of 100 each, are all that Instagram lists of an account (10,000; Meta: IG User Media). How far one is read
its caller bounds by an instant."""


async def read_edge(
    graph: GraphClient,
    endpoint: Endpoint,
    path: str,
    token: SecretStr,
    parameters: Mapping[str, str],
    *,
    back_to: datetime | None = None,
    time_field: str = "created_time",
) -> list[JsonObject]:
    """Return all objects of an edge, or those of a list that is sorted newest first back to an instant, and some more.

    The next page is asked for by cursor: `paging.next` is a whole URL with the token in it.

    Raises:
        NoAnswer: The list has no end in sight, does not go on where it says so, or is not a list.
    """
    items: list[JsonObject] = []
    query = {**parameters, "limit": PAGE_SIZE}
    for _ in range(PAGES_MAX):
        answer = await graph.get(endpoint, path, token, query)
        data = answer.get("data")
        if not isinstance(data, list):
            raise NoAnswer(f"expected a list from {endpoint}, found none")
        items.extend(item for item in data if isinstance(item, dict))
        if back_to is not None and _reaches(items, back_to, time_field):
            return items
        paging = answer.get("paging")
        if not isinstance(paging, dict) or "next" not in paging:
            return items
        cursors = paging.get("cursors")
        after = cursors.get("after") if isinstance(cursors, dict) else None
        if not isinstance(after, str) or after == query.get("after"):
            break
        query["after"] = after
    raise NoAnswer(f"expected the end of the list from {endpoint}, found more pages than can be read")


def _reaches(items: list[JsonObject], back_to: datetime, time_field: str) -> bool:
    """The newest of the last two is meant: one pinned or backdated post at the end of a page proves nothing."""
    ends = [instant(item.get(time_field)) for item in items[-2:]]
    return bool(ends) and all(end is not None and end < back_to for end in ends)


def instant(value: object) -> datetime | None:
    """Return Meta's time stamps: ISO 8601 with +0000, or seconds as text or number."""
    try:
        if isinstance(value, str) and not value.isdecimal():
            found = datetime.fromisoformat(value)
            return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        if isinstance(value, str | int | float):
            return datetime.fromtimestamp(float(value), UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None
