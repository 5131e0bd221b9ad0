"""Whatever is changed of a variant that was approved: each of its accounts shows one post of it."""

from __future__ import annotations

import pytest

from outbox.event import Event
from outbox.outcome import Dead, Published
from tests.publisher.stage import NEWEST_EVENT, Stage

pytestmark = pytest.mark.anyio


async def set_status(stage: Stage, status: str) -> None:
    await stage.execute("update social.content_variants set status = %s", status)


async def events(stage: Stage) -> list[Event]:
    return [await stage.event(row[0]) for row in await stage.rows("select id from outbox.events order by id")]


async def end_as_dead(stage: Stage, event: Event) -> None:
    """Write the receipt that the relay writes."""
    outcome = (await stage.play(event)).end
    assert isinstance(outcome, Dead)
    await stage.execute(
        "insert into outbox.receipts (event_id, outcome, reason, attempts, deferrals, relay_id) "
        "values (%s, 'dead', %s, 0, 0, 1)",
        event.id,
        outcome.reason,
    )


async def test_a_story_that_becomes_a_feed_post_while_it_waits_is_published_once(stage: Stage) -> None:
    """Approved, taken back, changed, approved: there were two events, and both published the post."""
    await stage.approve("instagram image")
    await set_status(stage, "draft")
    await stage.execute("update social.content_variants set placement = 'feed'")
    await set_status(stage, "approved")
    ends = [(await stage.play(event)).end for event in await events(stage)]
    assert [type(end) for end in ends] == [Published]
    assert await stage.live_count() == 1


async def test_accounts_that_change_places_each_show_it_once(stage: Stage) -> None:
    """The first account becomes a further one: it had been published on again, and the new first one never."""
    await stage.owner("facebook")
    first = await stage.approve("instagram image")
    assert isinstance((await stage.play(first)).end, Published)
    await stage.execute(
        "update social.content_variants set account_id = (select id from social.accounts where platform = 'facebook')"
    )
    await stage.execute(
        "insert into social.variant_accounts (variant_id, account_id) "
        "select v.id, a.id from social.content_variants as v, social.accounts as a where a.platform = 'instagram'"
    )
    for event in (await events(stage))[1:]:
        assert isinstance((await stage.play(event)).end, Published)
    live = (await stage.graph.control("GET", "live"))["live"]
    assert sorted(post["platform"] for post in live) == ["facebook", "instagram"]


async def test_a_variant_that_is_approved_again_after_its_event_died_is_published(stage: Stage) -> None:
    """Content people mend and approve: nobody has to replay anything."""
    await set_status(stage, "draft")
    event = await stage.approve("instagram image")
    await set_status(stage, "draft")
    await end_as_dead(stage, event)
    await set_status(stage, "approved")
    [newest] = await stage.rows(NEWEST_EVENT)
    assert newest[0] > event.id
    assert isinstance((await stage.play(await stage.event(newest[0]))).end, Published)
    assert await stage.live_count() == 1
