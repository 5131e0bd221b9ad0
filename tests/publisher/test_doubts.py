"""A call that passed for absent, and what becomes known of it later: before its handle is given up, it is looked at."""

from __future__ import annotations

import pytest

from outbox.event import Event
from outbox.ledger import StepState
from outbox.outcome import Dead, Hold, Published, Unknown
from outbox.resolution import Resolution
from tests.publisher.kinds import KIND
from tests.publisher.stage import Stage
from tests.publisher.test_faults import FINISHED
from tests.publisher.test_posts import with_name

pytestmark = pytest.mark.anyio
KINDS = ("instagram image", "instagram feed")
ALL_KINDS = (*KINDS, "facebook image", "facebook photos", "facebook reel", "facebook post")


async def hold_after_absence(stage: Stage, kind: str, action: str) -> Event:
    """Have 4/2207051 answer the call, and two looks find nothing, whatever became of it: the account pauses."""
    await stage.graph.use(republish="duplicate", stories_lag_seconds=60, feed_lag_seconds=60)
    await stage.graph.fault(KIND[kind].publishing, action, code=4, subcode=2207051)
    if KIND[kind].platform == "instagram":
        await stage.graph.fault("container_status", "error", skip=1, times=2, status=200, body=FINISHED)
    event = await stage.approve(kind)
    assert isinstance((await stage.play(event)).end, Hold)
    return event


async def pass_a_day(stage: Stage) -> None:
    await stage.graph.advance(25 * 3600)
    await stage.execute("update outbox.steps set created_at = created_at - interval '25 hours'")


async def change_media(stage: Stage) -> None:
    name = with_name(stage, "other")
    await stage.execute("update social.content_variants set media_url = %s", f"{stage.media_url}/{name}.jpg")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_handle_that_grew_old_is_read_before_it_is_given_up(stage: Stage, kind: str) -> None:
    """Its container says that it was published: it passed for absent only because list and status lagged."""
    event = await hold_after_absence(stage, kind, "apply_then_error")
    await pass_a_day(stage)
    end = (await stage.play(event)).end
    assert isinstance(end, Published)
    assert await stage.live_count() == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_variant_that_was_edited_meanwhile_is_looked_for_as_it_was(stage: Stage, kind: str) -> None:
    """Another picture needs another container: not before the first one has been read again."""
    event = await hold_after_absence(stage, kind, "apply_then_error")
    await change_media(stage)
    end = (await stage.play(event)).end
    assert isinstance(end, Published)
    assert await stage.live_count() == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_an_edit_after_a_true_absence_is_published(stage: Stage, kind: str) -> None:
    """The container still says that it was not: nobody is asked."""
    event = await hold_after_absence(stage, kind, "error")
    await change_media(stage)
    assert isinstance((await stage.play(event)).end, Published)
    assert (await stage.graph.live_count(), await stage.graph.live_count("/other.")) == (1, 1)


@pytest.mark.parametrize("kind", ["instagram image", "facebook image"])
async def test_what_can_not_tell_a_day_later_is_for_a_person_once(stage: Stage, kind: str) -> None:
    """The container has expired, or the list has forgotten: a person says that it is not live, and it is published."""
    event = await hold_after_absence(stage, kind, "error")
    await pass_a_day(stage)
    end = (await stage.play(event)).end
    assert isinstance(end, Unknown)
    assert end.delay_seconds is None
    intents = [step for step in await stage.steps(event) if step.state is StepState.INTENT]
    assert await stage.graph.live_count() == 0
    # Whoever dispatches it again sees how long ago the call was.
    again = (await stage.play(event)).end
    assert isinstance(again, Unknown)
    assert again.delay_seconds is None
    await stage.decide(event, Resolution(intents[-1].position, "publish", False, None, "looked", "anna"))
    assert isinstance((await stage.play(event)).end, Published)
    assert await stage.live_count() == 1


async def test_what_a_person_finds_of_a_doubted_call_ends_it(stage: Stage) -> None:
    """The intent that was opened again takes the answer."""
    event = await hold_after_absence(stage, "facebook image", "apply_then_error")
    await pass_a_day(stage)
    assert isinstance((await stage.play(event)).end, Unknown)
    intents = [step for step in await stage.steps(event) if step.state is StepState.INTENT]
    await stage.decide(event, Resolution(intents[-1].position, "publish", True, "123", "seen", "anna"))
    end = (await stage.play(event)).end
    assert isinstance(end, Published)
    assert end.result["remote_id"] == "123"
    assert await stage.live_count() == 1


@pytest.mark.parametrize("kind", ["facebook photos", "facebook reel", "facebook post"])
async def test_what_tells_as_well_as_then_asks_nobody(stage: Stage, kind: str) -> None:
    """Photos and videos say of which post they are, a feed forgets nothing: what was absent still is."""
    event = await hold_after_absence(stage, kind, "error")
    await stage.graph.advance(3600)
    await stage.execute("update outbox.steps set created_at = created_at - interval '1 hour'")
    assert isinstance((await stage.play(event)).end, Published)
    assert await stage.live_count() == 1


async def test_a_late_text_is_found_before_it_is_posted_again(stage: Stage) -> None:
    """A text has no handle: its feed is read again."""
    event = await hold_after_absence(stage, "facebook post", "apply_then_error")
    await stage.graph.advance(60)
    assert isinstance((await stage.play(event)).end, Published)
    assert await stage.live_count() == 1


@pytest.mark.parametrize("kind", ALL_KINDS)
async def test_an_approval_that_was_taken_back_is_heeded_once_the_call_is_known_absent(stage: Stage, kind: str) -> None:
    """Looked for first, then dead: nothing begins again what a person withdrew."""
    await stage.graph.fault(KIND[kind].publishing, "drop")
    event = await stage.approve(kind)
    await stage.play(event, until=lambda outcome: isinstance(outcome, Unknown))
    await stage.execute("update social.content_variants set status = 'draft'")
    end = (await stage.play(event)).end
    assert isinstance(end, Dead)
    assert end.reason == "not_approved"
    assert await stage.live_count() == 0
    assert (await stage.trail(event))[-1] == "publish refused"
