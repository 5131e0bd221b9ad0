"""A text is known by its words alone: a video with the same ones, or with none, is not taken for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from outbox.outcome import Published
from tests.publisher.stage import Stage, open_stage, quick

pytestmark = pytest.mark.anyio
LINK = "https://example.com/tomatoes"


@pytest.fixture
async def stage(database: str) -> AsyncIterator[Stage]:
    """A feed that lags behind, and time enough between two looks for it to catch up."""
    async with open_stage(database, quick(reconcile_seconds=2, list_lag_seconds=2, reconcile_seconds_max=2)) as stage:
        await stage.graph.use(feed_lag_seconds=0.5)
        yield stage


@pytest.mark.parametrize("words", [{"link": LINK}, {"caption": "Ripe"}], ids=["link", "caption"])
@pytest.mark.parametrize("medium", ["video", "image"])
async def test_another_events_video_is_not_taken_for_a_text(stage: Stage, medium: str, words: dict[str, Any]) -> None:
    """It appears while the text is looked for: the text never went live, and is published."""
    placement, file = {"video": ("video", "story.mp4"), "image": ("photo", "story.jpg")}[medium]
    caption = words.get("caption")
    url = f"{stage.media_url}/{file}"
    other = await stage.create("facebook", placement=placement, media_url=url, media_type=medium, caption=caption)
    assert isinstance((await stage.play(other)).end, Published)
    await stage.graph.fault("create_post", "error", code=2)
    event = await stage.create("facebook", placement="post", **words)
    end = (await stage.play(event)).end
    assert isinstance(end, Published), end
    assert end.result["verified"] == "answer"
    assert await stage.live_count() == 2


async def test_a_link_whose_answer_was_lost_is_found(stage: Stage) -> None:
    """It has no words, but is the one new post that shows a link."""
    await stage.graph.fault("create_post", "apply_then_drop")
    end = (await stage.play(await stage.create("facebook", placement="post", link=LINK))).end
    assert isinstance(end, Published)
    assert end.result["verified"] == "reconciled"
    assert await stage.live_count() == 1


@pytest.mark.parametrize("words", [{}, {"caption": "Ripe"}], ids=["link", "link and caption"])
async def test_a_link_to_a_video_whose_answer_was_lost_is_found(stage: Stage, words: dict[str, Any]) -> None:
    """Its attachment is a video, but one that is shared: no video of the Page's."""
    await stage.graph.fault("create_post", "apply_then_drop")
    link = "https://www.youtube.com/watch?v=tomatoes"
    end = (await stage.play(await stage.create("facebook", placement="post", link=link, **words))).end
    assert isinstance(end, Published)
    assert end.result["verified"] == "reconciled"
    assert await stage.live_count() == 1
