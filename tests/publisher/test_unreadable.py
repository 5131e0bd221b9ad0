"""What can't be read while a post is prepared: waited for, never blamed on the event."""

from __future__ import annotations

import pytest

from outbox.outcome import Dead, Defer, Hold, Published, Reason
from tests.publisher.kinds import KIND
from tests.publisher.stage import Stage, open_stage, quick

pytestmark = pytest.mark.anyio
VIDEOS = ("facebook video", "facebook reel", "facebook feed video")
MISSING = {"code": 100, "subcode": 33}


@pytest.mark.parametrize("kind", VIDEOS)
async def test_a_pages_video_is_waited_for_and_made_again_once(stage: Stage, kind: str) -> None:
    """At no attempt, however long its status can't be read; then it is published."""
    fault = await stage.graph.fault("video_status", "error", times=None, **MISSING)
    event = await stage.approve(kind)
    waits: list[float] = []

    def has_waited(outcome: object) -> bool:
        assert isinstance(outcome, Defer), outcome
        assert outcome.reason is Reason.PROCESSING
        waits.append(outcome.delay_seconds)
        return outcome.delay_seconds > 1

    await stage.play(event, until=has_waited)
    assert len(waits) < 30
    counts = (await stage.graph.control("GET", "counts"))["counts"]
    assert counts[KIND[kind].calls[0]] == 2
    await stage.graph.control("DELETE", f"faults/{fault}")
    assert isinstance((await stage.play(event)).end, Published)
    assert await stage.live_count() == 1


async def test_a_pages_video_that_stays_unreadable_ends_when_it_grows_old(database: str) -> None:
    """The receipt says what could not be read; nothing is live."""
    async with open_stage(database, quick(gone_seconds=86_400)) as stage:
        await stage.graph.fault("video_status", "error", times=None, **MISSING)
        event = await stage.approve("facebook video")
        assert isinstance(await stage.dispatch(event), Defer)
        await stage.execute("alter table outbox.steps disable trigger all")
        await stage.execute("update outbox.steps set created_at = created_at - interval '82000 seconds'")
        end = await stage.dispatch(event)
        assert isinstance(end, Dead)
        assert end.reason == "media_unreadable"
        assert "video stands" in end.error
        assert await stage.live_count() == 0


@pytest.mark.parametrize(
    ("kind", "read", "send"),
    [
        ("instagram uploaded reel", "container_status", "upload_container"),
        ("facebook uploaded reel", "video_status", "upload_video"),
        ("facebook feed video", "video_status", "transfer_video"),
    ],
)
async def test_an_upload_of_which_nobody_knows_where_it_stands_is_waited_for(
    stage: Stage, kind: str, read: str, send: str
) -> None:
    """It fails, and it can't be read how much has arrived: that costs no attempt."""
    fault = await stage.graph.fault(read, "error", times=None, **MISSING)
    await stage.graph.fault(send, "error", times=2, code=6001)
    event = await stage.approve(kind)
    for _ in range(2):
        assert isinstance(await stage.dispatch(event), Defer)
    await stage.graph.control("DELETE", f"faults/{fault}")
    assert isinstance((await stage.play(event)).end, Published)


@pytest.mark.parametrize(
    ("kind", "call"),
    [("instagram image", "list_stories"), ("instagram feed", "list_media"), ("facebook post", "list_feed")],
)
async def test_an_account_whose_own_list_is_not_there_pauses(stage: Stage, kind: str, call: str) -> None:
    """By the hour, at no attempt, and people see why; it goes on by itself."""
    await stage.graph.fault(call, "error", **MISSING)
    event = await stage.approve(kind)
    end = (await stage.play(event)).end
    assert isinstance(end, Hold)
    assert (end.delay_seconds, end.reason, end.scope) == (3600.0, "account", "key")
    assert isinstance((await stage.play(event)).end, Published)


async def test_a_list_that_refuses_a_parameter_is_waited_for(stage: Stage) -> None:
    """A read's own trouble is no fault of the post's."""
    await stage.graph.fault("list_feed", "error", code=100)
    event = await stage.approve("facebook post")
    outcome = await stage.dispatch(event)
    assert isinstance(outcome, Defer)
    assert outcome.error is not None
    assert "page_feed" in outcome.error
    assert isinstance((await stage.play(event)).end, Published)
