"""Meta's clock is not the database's: what went live at another time than the call is no stranger for that."""

from __future__ import annotations

import pytest

from outbox.outcome import Published, Unknown
from tests.publisher.kinds import KIND
from tests.publisher.stage import Stage

pytestmark = pytest.mark.anyio
KINDS = ("instagram image", "instagram feed", "facebook post")
AHEAD_SECONDS = 16 * 60


@pytest.mark.parametrize("kind", KINDS)
async def test_a_post_that_a_clock_ahead_hides_is_not_published_again(stage: Stage, kind: str) -> None:
    """It appeared 16 minutes after the call, as Meta counts: a person is asked, or the container says it all."""
    await stage.graph.advance(AHEAD_SECONDS)
    await stage.graph.use(republish="duplicate")
    await stage.graph.fault(KIND[kind].publishing, "apply_then_drop")
    finished = '{"status_code": "FINISHED", "status": "Finished", "id": "17889455560051444"}'
    await stage.graph.fault("container_status", "error", skip=1, times=None, status=200, body=finished)
    end = (await stage.play(await stage.approve(kind))).end
    assert await stage.live_count() == 1
    assert isinstance(end, Unknown)
    assert end.delay_seconds is None
    assert "but for the time" in end.error


@pytest.mark.parametrize("kind", KINDS)
async def test_a_clock_ahead_asks_nobody_about_what_never_went_live(stage: Stage, kind: str) -> None:
    """Nothing new is there, whatever the clocks say: it is published."""
    await stage.graph.advance(AHEAD_SECONDS)
    await stage.graph.fault(KIND[kind].publishing, "drop")
    end = (await stage.play(await stage.approve(kind))).end
    assert isinstance(end, Published)
    assert await stage.live_count() == 1
