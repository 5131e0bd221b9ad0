"""A process that ends anywhere, and another that goes on: one story is live."""

from __future__ import annotations

import anyio
import pytest

from outbox.outcome import Published, Unknown
from tests.publisher.stage import KINDS, PUBLISHING, Crash, CrashAt, Stage

pytestmark = pytest.mark.anyio
REPUBLISH = ("error", "same_id", "duplicate")
CALLS = {
    "instagram image": ("create_container", "container_status", "list_stories", "publish_container", "read_media"),
    "instagram video": ("create_container", "container_status", "list_stories", "publish_container", "read_media"),
    "facebook image": ("upload_photo", "publish_photo_story", "list_stories"),
    "facebook video": ("start_video_story", "upload_video", "video_status", "finish_video_story", "list_stories"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("republish", REPUBLISH)
async def test_a_crash_at_any_write_leaves_one_story(stage: Stage, kind: str, republish: str) -> None:
    """Before or right after any step is durable, with the call answered."""
    await stage.graph.use(republish=republish)
    expected = 0
    for write in range(1, 10):
        crashes = [CrashAt(write, durable) for durable in (False, True)]
        for crash in crashes:
            play = await stage.play(await stage.approve(kind), crash=crash)
            assert isinstance(play.end, Published), (crash, play.outcomes)
            expected += 1
            assert await stage.live_count() == expected, crash
        if not any(crash.happened for crash in crashes):
            break
    assert expected > 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action", ["apply_then_drop", "drop"])
async def test_a_crash_at_any_write_after_a_lost_answer_leaves_one_story(stage: Stage, kind: str, action: str) -> None:
    """The same while the lost answer is being reconciled."""
    await stage.graph.use(republish="duplicate")
    expected = 0
    for write in range(3, 10):
        crashes = [CrashAt(write, durable) for durable in (False, True)]
        for crash in crashes:
            await stage.graph.fault(PUBLISHING[kind], action)
            play = await stage.play(await stage.approve(kind), crash=crash)
            assert isinstance(play.end, Published), (crash, play.outcomes)
            expected += 1
            assert await stage.live_count() == expected, crash
            await stage.graph.control("DELETE", "faults")
        if not any(crash.happened for crash in crashes):
            break


@pytest.mark.parametrize(("kind", "call"), [(kind, call) for kind, calls in CALLS.items() for call in calls])
@pytest.mark.parametrize("action", ["pause_before", "pause_after"])
async def test_a_process_that_ends_during_any_call_leaves_one_story(
    stage: Stage, kind: str, call: str, action: str
) -> None:
    """Cancelled while the call is under way, applied or not, under the setting that forgives nothing."""
    await stage.graph.use(republish="duplicate")
    fault = await stage.graph.fault(call, action)
    event = await stage.approve(kind)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.play, event)
        assert (await stage.graph.control("GET", f"faults/{fault}/hit"))["hit"]
        tasks.cancel_scope.cancel()
    await stage.graph.control("DELETE", "faults")
    play = await stage.play(event)
    assert isinstance(play.end, Published), play.outcomes
    assert await stage.live_count() == 1


async def test_a_deleted_variant_with_an_open_intent_waits_for_a_person(stage: Stage) -> None:
    """What may be live is never declared dead."""
    event = await stage.approve("instagram image")
    with pytest.raises(Crash):
        await stage.dispatch(event, crash=CrashAt(3, durable=False))
    assert await stage.live_count() == 1
    await stage.execute("delete from social.content_variants")
    play = await stage.play(event)
    assert all(isinstance(outcome, Unknown) for outcome in play.outcomes)
    assert len(play.outcomes) == 4


async def test_a_draft_with_an_open_intent_is_reconciled(stage: Stage) -> None:
    """An approval that is taken back after the call does not hide that the story is live."""
    event = await stage.approve("facebook image")
    with pytest.raises(Crash):
        await stage.dispatch(event, crash=CrashAt(3, durable=False))
    await stage.execute("update social.content_variants set status = 'draft'")
    assert isinstance((await stage.play(event)).end, Published)
    assert await stage.live_count() == 1


@pytest.mark.parametrize("names_its_account", [True, False])
async def test_a_variant_that_moved_with_an_open_intent_is_looked_for_where_it_was(
    stage: Stage, names_its_account: bool
) -> None:
    """Another account's stories prove nothing: a person is asked where an older event names no account."""
    event = await stage.approve("instagram image")
    if not names_its_account:
        await stage.execute("update outbox.events set payload = payload - 'account_id'")
        event = await stage.event(event.id)
    with pytest.raises(Crash):
        await stage.dispatch(event, crash=CrashAt(3, durable=False))
    await stage.owner("facebook")
    await stage.execute(
        "update social.content_variants set account_id = (select id from social.accounts where platform = 'facebook')"
    )
    end = (await stage.play(event)).end
    if names_its_account:
        assert isinstance(end, Published)
        assert end.result["verified"] == "reconciled"
    else:
        assert isinstance(end, Unknown)
        assert end.delay_seconds is None
    assert await stage.live_count() == 1


async def test_a_token_that_dies_with_an_open_intent_keeps_the_event_unknown(stage: Stage) -> None:
    """A hold would let go of what is not known; the event is reconciled when the token works again."""
    event = await stage.approve("instagram image")
    with pytest.raises(Crash):
        await stage.dispatch(event, crash=CrashAt(3, durable=False))
    owner = await stage.owner("instagram")
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"token_state": "expired"})
    outcome = await stage.dispatch(event)
    assert isinstance(outcome, Unknown)
    assert outcome.delay_seconds is not None
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"token_state": "valid"})
    assert isinstance((await stage.play(event)).end, Published)
    assert await stage.live_count() == 1
