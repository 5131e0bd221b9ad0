"""Lists that are read to their end, and Meta's ways of writing time and status."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from publisher.edges import PAGES_MAX, instant, read_edge
from publisher.errors import NoAnswer
from publisher.page.video_status import video_status
from publisher.placement import Endpoint, HandleState
from tests.publisher.test_graph import TOKEN, Answer, graph_that

pytestmark = pytest.mark.anyio


def pages(count: int) -> Answer:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        page = int(request.query.get("after", 0))
        paging: dict[str, Any] = {"cursors": {"after": str(page + 1)}}
        if page + 1 < count:
            paging["next"] = "https://graph.example/?access_token=secret"
        return web.json_response({"data": [{"id": str(page)}], "paging": paging})

    return answer


async def test_a_list_is_read_page_by_page() -> None:
    """By cursor, to the page without a next one."""
    async with graph_that(pages(3)) as graph:
        items = await read_edge(graph, Endpoint.INSTAGRAM_STORIES, "1/stories", TOKEN, {"fields": "id"})
    assert [item["id"] for item in items] == ["0", "1", "2"]


async def test_all_that_an_account_lists_is_read() -> None:
    """After a restore all posts since are looked at, and Instagram lists 10,000: 100 pages."""
    async with graph_that(pages(100)) as graph:
        items = await read_edge(graph, Endpoint.PAGE_FEED, "1/feed", TOKEN, {"fields": "id"})
    assert len(items) == 100


async def test_a_list_that_does_not_go_on_is_no_answer() -> None:
    """The page that it names as the next one is the same again: it is asked for once."""
    asked: list[str | None] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.query.get("after"))
        return web.json_response({"data": [{"id": "1"}], "paging": {"cursors": {"after": "a"}, "next": "https://g"}})

    async with graph_that(answer) as graph:
        with pytest.raises(NoAnswer, match="more pages"):
            await read_edge(graph, Endpoint.PAGE_FEED, "1/feed", TOKEN, {})
    assert asked == [None, "a"]


async def test_a_list_without_end_is_no_answer() -> None:
    """What was not seen must not pass for absent."""
    async with graph_that(pages(PAGES_MAX + 1)) as graph:
        with pytest.raises(NoAnswer, match="more pages"):
            await read_edge(graph, Endpoint.INSTAGRAM_STORIES, "1/stories", TOKEN, {})


async def test_what_is_no_list_is_no_answer() -> None:
    """An object without data is not an empty list."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"id": "1"})

    async with graph_that(answer) as graph:
        with pytest.raises(NoAnswer, match="expected a list"):
            await read_edge(graph, Endpoint.PAGE_STORIES, "1/stories", TOKEN, {})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-08-01T11:44:36+0000", datetime(2026, 8, 1, 11, 44, 36, tzinfo=UTC)),
        ("2026-08-01T11:44:36", datetime(2026, 8, 1, 11, 44, 36, tzinfo=UTC)),
        ("1785584684", datetime(2026, 8, 1, 11, 44, 44, tzinfo=UTC)),
        (1785584684, datetime(2026, 8, 1, 11, 44, 44, tzinfo=UTC)),
        ("yesterday", None),
        (None, None),
    ],
)
def test_time_comes_as_text_or_as_seconds(value: object, expected: datetime | None) -> None:
    """Instagram writes ISO 8601 without a colon in the offset, Facebook seconds as text; without offset it is UTC."""
    assert instant(value) == expected


COMPLETE = {"status": "complete"}
AT_WORK = {"status": "in_progress"}
NOT_STARTED = {"status": "not_started"}


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"video_status": "uploading", "uploading_phase": AT_WORK}, HandleState.PROCESSING),
        ({"video_status": "upload_complete", "uploading_phase": COMPLETE}, HandleState.READY),
        ({"video_status": "upload_complete", "uploading_phase": {"status": "completed"}}, HandleState.READY),
        (
            {"video_status": "processing", "uploading_phase": COMPLETE, "processing_phase": NOT_STARTED},
            HandleState.READY,
        ),
        (
            {"video_status": "processing", "uploading_phase": COMPLETE, "processing_phase": AT_WORK},
            HandleState.PROCESSING,
        ),
        ({"video_status": "ready", "uploading_phase": COMPLETE, "processing_phase": COMPLETE}, HandleState.READY),
        ({"video_status": "ready", "publishing_phase": AT_WORK}, HandleState.PROCESSING),
        ({"video_status": "ready", "publishing_phase": {"publish_status": "published"}}, HandleState.PUBLISHED),
        ({"video_status": "ready", "publishing_phase": {"publish_status": "PUBLISHED"}}, HandleState.PUBLISHED),
        (
            {"video_status": "processing", "processing_phase": {"status": "not_started", "error": {"message": "540p"}}},
            HandleState.FAILED,
        ),
        ({"video_status": "upload_failed"}, HandleState.FAILED),
        ({"video_status": "error"}, HandleState.FAILED),
        ({"video_status": "expired"}, HandleState.EXPIRED),
        (None, HandleState.GONE),
    ],
)
def test_a_video_tells_its_state_in_phases(status: object, state: HandleState) -> None:
    """A failed phase may only carry an error; both spellings of complete; either case."""
    assert video_status(status).state is state
