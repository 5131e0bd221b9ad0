"""Placements beyond stories, under lost answers, late lists, failing parts and crashes: one post is live."""

from __future__ import annotations

import anyio
import pytest

from outbox.event import Event
from outbox.outcome import Dead, Defer, Hold, Published, Retry, Unknown
from tests.publisher.kinds import KIND, NAMES_OF_POSTS
from tests.publisher.stage import CrashAt, Stage, is_found_once_listed

pytestmark = pytest.mark.anyio
REPUBLISH = ("error", "same_id", "duplicate")
ACTIONS = ("apply_then_drop", "apply_then_error", "error", "drop")
CAROUSEL = "instagram carousel"


async def live(stage: Stage, name: str) -> int:
    return await stage.graph.live_count(name)


def with_name(stage: Stage, name: str) -> str:
    """Serve media of a name of their own, so that their posts are counted apart."""
    for ending in ("jpg", "mp4"):
        stage.files[f"{name}.{ending}"] = stage.files[f"story.{ending}"]
    return name


@pytest.mark.parametrize("kind", NAMES_OF_POSTS)
@pytest.mark.parametrize("republish", REPUBLISH)
async def test_one_post_is_live_after_an_unclear_answer(stage: Stage, kind: str, republish: str) -> None:
    """Applied or not, answered or not: published once, with its id; called again only where nothing was applied."""
    await stage.graph.use(republish=republish)
    calls = 0
    for action in ACTIONS:
        name = with_name(stage, f"tomato-{action}")
        await stage.graph.fault(KIND[kind].publishing, action)
        play = await stage.play(await stage.approve(kind, name=name))
        assert isinstance(play.end, Published), (action, play.outcomes)
        assert play.end.result["remote_id"] is not None
        was_applied = action.startswith("apply")
        assert play.end.result["verified"] == ("reconciled" if was_applied else "answer")
        assert await live(stage, name) == 1, action
        calls += 1 if was_applied else 2
    assert (await stage.graph.control("GET", "counts"))["counts"][KIND[kind].publishing] == calls


@pytest.mark.parametrize("kind", NAMES_OF_POSTS)
async def test_a_late_list_is_no_proof_of_absence(database: str, kind: str) -> None:
    """A post that the list shows only later is not published again."""
    assert await is_found_once_listed(database, kind)


@pytest.mark.parametrize("kind", NAMES_OF_POSTS)
async def test_a_crash_at_any_write_leaves_one_post(stage: Stage, kind: str) -> None:
    """Before or right after any step is durable, under the setting that forgives nothing."""
    await stage.graph.use(republish="duplicate")
    for write in range(1, 20):
        crashes = [CrashAt(write, durable) for durable in (False, True)]
        for crash in crashes:
            name = with_name(stage, f"tomato-{write}-{'durable' if crash.durable else 'lost'}")
            play = await stage.play(await stage.approve(kind, name=name), crash=crash)
            assert isinstance(play.end, Published), (crash, play.outcomes)
            assert await live(stage, name) == 1, crash
        if not any(crash.happened for crash in crashes):
            return
    raise AssertionError("a post has fewer writes")


@pytest.mark.parametrize("kind", NAMES_OF_POSTS)
async def test_a_process_that_ends_during_any_call_leaves_one_post(stage: Stage, kind: str) -> None:
    """Cancelled while the call is under way, applied or not."""
    await stage.graph.use(republish="duplicate")
    for call in KIND[kind].calls:
        for action in ("pause_before", "pause_after"):
            name = with_name(stage, f"tomato-{call}-{action}")
            fault = await stage.graph.fault(call, action)
            event = await stage.approve(kind, name=name)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stage.play, event)
                assert (await stage.graph.control("GET", f"faults/{fault}/hit"))["hit"]
                tasks.cancel_scope.cancel()
            await stage.graph.control("DELETE", "faults")
            play = await stage.play(event)
            assert isinstance(play.end, Published), (call, action, play.outcomes)
            assert await live(stage, name) == 1, (call, action)


async def steps_of(stage: Stage, event: Event, prefix: str) -> list[str]:
    return [line for line in await stage.trail(event) if line.startswith(prefix)]


async def test_children_are_made_once_whatever_becomes_of_their_parent(stage: Stage) -> None:
    """A parent that could not be made is made of the same children."""
    await stage.graph.fault("create_container", "error", code=324, subcode=2069019, skip=3, times=2)
    event = await stage.approve(CAROUSEL)
    play = await stage.play(event)
    assert [type(outcome) for outcome in play.outcomes if not isinstance(outcome, Defer)] == [Retry, Retry, Published]
    assert await steps_of(stage, event, "child") == ["child 1 done", "child 2 done", "child 3 done"]


async def test_a_child_that_fails_is_made_again_alone(stage: Stage) -> None:
    """A video that Meta could not process has no word on its neighbours."""
    await stage.graph.fault(
        "container_status", "error", skip=1, status=200, body='{"status_code": "ERROR", "status": "Error: 2207053"}'
    )
    event = await stage.approve(CAROUSEL)
    assert isinstance((await stage.play(event)).end, Published)
    assert await steps_of(stage, event, "child") == [
        "child 1 done",
        "child 2 done",
        "child 3 done",
        "child 2 refused",
        "child 2 done",
    ]
    assert await stage.live_count() == 1


async def test_a_parent_that_misses_its_children_has_them_made_again(stage: Stage) -> None:
    """24/2207008 from the call that makes the parent: a child has expired."""
    await stage.graph.fault("create_container", "error", code=24, subcode=2207008, skip=3)
    event = await stage.approve(CAROUSEL)
    assert isinstance((await stage.play(event)).end, Published)
    assert (await stage.trail(event)).count("child 1 done") == 2
    assert await stage.live_count() == 1


async def test_children_and_parent_that_are_a_day_old_are_made_again(stage: Stage) -> None:
    """Meta keeps containers for 24 hours; what waits longer begins anew, and is published once."""
    await stage.graph.fault("list_media", "error", code=17)
    event = await stage.approve(CAROUSEL)
    assert isinstance((await stage.play(event)).end, Hold)
    await stage.execute("update outbox.steps set created_at = created_at - interval '23 hours 1 minute'")
    assert isinstance((await stage.play(event)).end, Published)
    assert (await stage.trail(event)).count("child 1 done") == 2
    assert (await stage.trail(event)).count("container done") == 2
    assert await stage.live_count() == 1


async def test_a_changed_caption_gets_another_container_of_the_same_children(stage: Stage) -> None:
    """What is published is the variant as it stands."""
    await stage.graph.fault("list_media", "error", code=17)
    event = await stage.approve(CAROUSEL)
    assert isinstance((await stage.play(event)).end, Hold)
    await stage.execute("update social.content_variants set caption = 'Green'")
    assert isinstance((await stage.play(event)).end, Published)
    assert (await stage.trail(event)).count("child 1 done") == 1
    assert (await stage.trail(event)).count("container done") == 2


async def test_a_manual_post_beside_a_lost_one_is_told_apart_by_its_caption(stage: Stage) -> None:
    """Somebody posts by hand while an answer is lost: ours has our caption."""
    owner = await stage.owner("instagram")
    fault = await stage.graph.fault("publish_container", "pause_after")
    event = await stage.approve("instagram feed")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.play, event)
        assert (await stage.graph.control("GET", f"faults/{fault}/hit"))["hit"]
        tasks.cancel_scope.cancel()
    await stage.graph.control("DELETE", "faults")
    created = await stage.graph.post(
        f"/{owner.id}/media", owner.token, image_url=f"{stage.media_url}/story.jpg", caption="By hand"
    )
    by_hand = await stage.graph.publish(owner, created.body["id"])
    end = (await stage.play(event)).end
    assert isinstance(end, Published)
    assert end.result["remote_id"] not in {None, by_hand.body["id"]}


async def test_a_text_beside_another_new_one_waits_for_a_person(stage: Stage) -> None:
    """A lost post has no handle: where another new text is there, it may be ours as Meta changed it."""
    await stage.graph.fault("create_post", "drop")
    event = await stage.approve("facebook post")
    await stage.play(event, until=lambda outcome: isinstance(outcome, Unknown))
    owner = await stage.owner("facebook")
    await stage.graph.post(f"/{owner.id}/feed", owner.token, message="By hand")
    end = (await stage.play(event)).end
    assert isinstance(end, Unknown)
    assert end.delay_seconds is None
    assert await stage.live_count() == 1


@pytest.mark.parametrize("kind", ["facebook feed video", "facebook reel"])
async def test_a_text_beside_a_post_of_ours_that_appears_late_needs_nobody(stage: Stage, kind: str) -> None:
    """The list has a video under another id than the answer, once it is processed: its text tells whose it is."""
    await stage.graph.fault("create_post", "drop")
    text = await stage.approve("facebook post")
    await stage.play(text, until=lambda outcome: isinstance(outcome, Unknown))
    other = await stage.play(await stage.approve(kind, name=with_name(stage, "late")))
    assert isinstance(other.end, Published)
    play = await stage.play(text)
    assert isinstance(play.end, Published), play.outcomes
    assert (await stage.live_count(), await live(stage, "late")) == (2, 1)


async def test_photos_that_were_posted_already_are_a_success(stage: Stage) -> None:
    """1366051 after a call that had passed for absent: nobody else has these photos."""
    await stage.graph.fault("create_post", "drop")
    await stage.graph.fault("create_post", "error", code=1366051)
    event = await stage.approve("facebook photos")
    end = (await stage.play(event)).end
    assert isinstance(end, Published)
    assert end.result["verified"] == "already_posted"


async def test_photos_of_which_a_first_call_says_so_are_dead(stage: Stage) -> None:
    """Without an earlier call they can't be ours: the look decides, and it finds nothing."""
    await stage.graph.fault("create_post", "error", code=1366051)
    assert isinstance((await stage.play(await stage.approve("facebook photos"))).end, Dead)
    assert await stage.live_count() == 0


@pytest.mark.parametrize("kind", ["facebook reel", "facebook feed video"])
async def test_a_finished_video_that_can_not_be_read_is_not_finished_again(stage: Stage, kind: str) -> None:
    """100/33 on the one thing that could tell: it is neither live nor absent, and a person looks."""
    await stage.graph.use(republish="duplicate")
    fault = await stage.graph.fault(KIND[kind].publishing, "pause_after")
    event = await stage.approve(kind)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.play, event)
        assert (await stage.graph.control("GET", f"faults/{fault}/hit"))["hit"]
        tasks.cancel_scope.cancel()
    await stage.graph.control("DELETE", "faults")
    await stage.graph.fault("video_status", "error", code=100, subcode=33, times=None)
    end = (await stage.play(event)).end
    assert isinstance(end, Unknown)
    assert end.delay_seconds is None
    assert (await stage.graph.control("GET", "counts"))["counts"][KIND[kind].publishing] == 1
    assert await stage.live_count() == 1


async def test_a_video_whose_address_was_corrected_is_sent_anew(stage: Stage) -> None:
    """What waits for its quota was uploaded from the old address: it is given up."""
    await stage.graph.fault("publish_container", "error", code=9, subcode=2207042)
    event = await stage.approve("instagram uploaded reel")
    assert isinstance((await stage.play(event)).end, Hold)
    url = f"{stage.media_url}/{with_name(stage, 'new')}.mp4"
    await stage.execute("update social.content_variants set media_url = %s", url)
    assert isinstance((await stage.play(event)).end, Published)
    trail = await stage.trail(event)
    assert (trail.count("container done"), trail.count("container refused"), trail.count("upload done")) == (2, 1, 2)
    assert await stage.live_count() == 1
