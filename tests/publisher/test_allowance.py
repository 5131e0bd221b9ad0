"""What an account may publish in 24 hours, and when the next one may be."""

from __future__ import annotations

from functools import partial

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from outbox.event import EventId
from outbox.outcome import Defer, Hold, Published, Reason
from publisher.accounts import show_account
from publisher.allowance import (
    CONTAINERS_MAX,
    DAY,
    LOOK,
    MARGIN_SECONDS,
    NO_PLACE,
    PAGE_REELS_MAX,
    STEP_SECONDS,
    Allowance,
    Allowances,
    place_seconds,
)
from publisher.graph import open_graph
from publisher.metrics import PublisherMetrics
from publisher.variants import Account
from tests.publisher.stage import Stage

pytestmark = pytest.mark.anyio
AGE_STEPS = "update outbox.steps set created_at = created_at - %s * interval '1 second'"
WAIT = """
insert into outbox.waiting (event_id, lane, key, reason, due_at, attempts, deferrals, error)
select id, lane, key, 'rate_limited', clock_timestamp() + interval '1 hour', 0, 1, %s from outbox.events where id = %s
"""
FILL = """
insert into outbox.steps (event_id, position, name, state, detail, relay_id, created_at)
select 1000000 + n, 1, 'container', 'done', jsonb_build_object('account', %s::text, 'handle', n::text), 1,
  clock_timestamp() - interval '10 hours'
from generate_series(1, %s) as n
"""
FILL_REELS = """
insert into outbox.steps (event_id, position, name, state, detail, relay_id, created_at)
select 1000000 + n, p, 'publish', case p when 1 then 'intent' else 'done' end,
  case p when 1 then jsonb_build_object('account', %s::text, 'placement', 'reel') else '{"remote_id": "1"}' end, 1,
  clock_timestamp() - interval '10 hours'
from generate_series(1, %s) as n, generate_series(1, 2) as p
"""

KNOW = """
insert into social.usage (subject, quota_usage, quota_total, quota_read_at)
select subject, 1, 100, clock_timestamp() from unnest(%s::text[]) as t (subject)
"""


@pytest.mark.parametrize(
    ("ages", "count", "total", "rank", "seconds"),
    [
        ([DAY - 100, 50], 2, 2, 0, 100 + MARGIN_SECONDS),
        ([DAY - 100, 50], 2, 2, 1, DAY - 50 + MARGIN_SECONDS),
        ([DAY - 100, 50], 2, 1, 0, DAY - 50 + MARGIN_SECONDS),
        ([DAY - 100, 50], 2, 1, 1, STEP_SECONDS),
        ([], 0, 0, 0, STEP_SECONDS),
        ([DAY + 1], 1, 1, 0, MARGIN_SECONDS),
        # Somebody else published, too: nobody knows when, so it is asked by the hour.
        ([50], 2, 2, 0, STEP_SECONDS),
        ([DAY - 100], 2, 2, 0, 100 + MARGIN_SECONDS),
    ],
)
def test_a_place_becomes_free_a_day_after_it_was_taken(
    ages: list[float], count: int, total: int, rank: int, seconds: float
) -> None:
    """One for each event that waits; by the hour where it was not ours."""
    assert place_seconds(ages, count, total, rank) == seconds


@given(st.lists(st.floats(0, DAY), min_size=1, max_size=20), st.integers(0, 5))
def test_those_behind_get_no_earlier_place(ages: list[float], over: int) -> None:
    """Whatever was published when."""
    ages.sort(reverse=True)
    count, total = len(ages), len(ages) - over
    places = [place_seconds(ages, count, total, rank) for rank in range(total)]
    assert places == sorted(places)


async def test_what_exceeds_the_quota_is_put_off_until_places_become_free(stage: Stage) -> None:
    """Without a call to publish, at no attempt, each behind the other."""
    owner = await stage.owner("instagram")
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"quota_total": 2})
    for _ in range(2):
        assert isinstance((await stage.play(await stage.approve("instagram image"))).end, Published)
        await stage.execute(AGE_STEPS, 3600)
    await stage.execute("update social.usage set quota_read_at = quota_read_at - interval '1 minute'")
    waits = []
    for _ in range(2):
        event = await stage.approve("instagram image")
        outcome = (
            await stage.play(event, until=lambda it: isinstance(it, Defer) and it.reason is Reason.RATE_LIMITED)
        ).end
        assert isinstance(outcome, Defer)
        assert outcome.reason is Reason.RATE_LIMITED
        waits.append(outcome.delay_seconds)
        await stage.execute(WAIT, outcome.error, event.id)
        assert "publish intent" not in await stage.trail(event)
    assert waits == [pytest.approx(DAY - 7200, abs=60), pytest.approx(DAY - 3600, abs=60)]
    assert await stage.live_count() == 2
    [(usage, total, state)] = await stage.rows(
        "select quota_usage, quota_total, quota_state from social.account_states"
    )
    assert (usage, total, state) == (2, 2, "held")


async def test_only_those_that_wait_for_a_place_come_before(stage: Stage) -> None:
    """Not a Page's other posts, nor what waits for its turn or for a host: a place too late is never made up for."""
    owner = await stage.owner("facebook")
    await stage.execute(FILL_REELS, f"facebook:{owner.id}", PAGE_REELS_MAX)
    await stage.execute("update outbox.steps set created_at = created_at - (event_id - 1000000) * interval '1 minute'")
    waits = []
    for error in (None, NO_PLACE.format(what="publishes"), NO_PLACE.format(what="reels")):
        event = await stage.approve("facebook reel")
        play = await stage.play(event, until=lambda it: isinstance(it, Defer) and it.reason is Reason.RATE_LIMITED)
        assert isinstance(play.end, Defer)
        assert play.end.context == {"used": PAGE_REELS_MAX, "total": PAGE_REELS_MAX}
        waits.append(play.end.delay_seconds)
        await stage.execute(WAIT, error, event.id)
    event = await stage.approve("facebook reel")
    play = await stage.play(event, until=lambda it: isinstance(it, Defer) and it.reason is Reason.RATE_LIMITED)
    assert isinstance(play.end, Defer)
    assert waits == [pytest.approx(waits[0], abs=20)] * 3
    assert play.end.delay_seconds == pytest.approx(waits[0] + 60, abs=20)


async def test_an_event_that_was_put_off_goes_on_when_its_place_is_free(stage: Stage) -> None:
    """With the container that it has."""
    owner = await stage.owner("instagram")
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"quota_total": 1})
    assert isinstance((await stage.play(await stage.approve("instagram image"))).end, Published)
    event = await stage.approve("instagram image")
    play = await stage.play(event, until=lambda it: isinstance(it, Defer) and it.reason is Reason.RATE_LIMITED)
    assert isinstance(play.end, Defer)
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"quota_total": 5})
    await stage.execute("update social.usage set quota_read_at = quota_read_at - interval '1 hour'")
    assert isinstance((await stage.play(event)).end, Published)
    assert (await stage.trail(event)).count("container done") == 1


async def test_far_from_the_quota_it_is_asked_once(stage: Stage) -> None:
    """A look says how many may follow."""
    for _ in range(5):
        event = await stage.approve("instagram image")
        assert isinstance((await stage.play(event)).end, Published)
    assert (await stage.graph.control("GET", "counts"))["counts"]["publishing_limit"] == 1


@pytest.mark.parametrize("is_known", [False, True])
async def test_accounts_that_ask_at_once_share_a_look(stage: Stage, is_known: bool) -> None:
    """Of twenty the first looks alone, the others together; what is seen before the container serves the publish."""
    owners = [await stage.graph.owner("instagram") for _ in range(20)]
    keys = sorted(f"instagram:{owner.id}" for owner in owners)
    if is_known:
        await stage.execute(KNOW, keys)
    allowances = Allowances(stage.connections)
    before = stage.connections.get_stats()["requests_num"]
    async with open_graph(stage.settings, PublisherMetrics(CollectorRegistry())) as graph:
        asking = [
            Allowance(allowances, Account("instagram", owner.id, b""), EventId(1), graph, SecretStr(owner.token))
            for owner in owners
        ]
        async with anyio.create_task_group() as group:
            for each in asking:
                group.start_soon(each.admit_part)
        assert stage.connections.get_stats()["requests_num"] - before == 2
        async with anyio.create_task_group() as group:
            for each in asking:
                group.start_soon(partial(allowances.admit_publish, each, is_page_reel=False))
    if is_known:
        assert stage.connections.get_stats()["requests_num"] - before == 2
    known = await stage.rows("select subject from social.usage where quota_total is not null order by subject")
    assert [row[0] for row in known] == keys


async def test_a_quota_that_can_not_be_asked_keeps_nothing_from_being_published(stage: Stage) -> None:
    """Meta refuses definitely what is too much."""
    await stage.graph.fault("publishing_limit", "error", times=None, code=100)
    assert isinstance((await stage.play(await stage.approve("instagram image"))).end, Published)
    await stage.graph.control("PATCH", f"accounts/{(await stage.owner('instagram')).id}", {"quota_total": 1})
    end = (await stage.play(await stage.approve("instagram image"))).end
    assert isinstance(end, Hold)
    assert end.reason == "rate_limited"


async def test_a_quota_beyond_all_bounds_is_none(stage: Stage) -> None:
    """A figure that no column takes keeps nothing from being published, and costs no attempt."""
    await stage.graph.control("PATCH", f"accounts/{(await stage.owner('instagram')).id}", {"quota_total": 10**12})
    assert isinstance((await stage.play(await stage.approve("instagram image"))).end, Published)
    assert await stage.rows("select from outbox.attempts") == []


async def test_a_publish_beyond_the_quota_holds_the_account_until_its_window_has_room(stage: Stage) -> None:
    """9/2207042, though we believed in a place: Meta says how many count, our steps when the first one ceases to."""
    owner = await stage.owner("instagram")
    for _ in range(2):
        assert isinstance((await stage.play(await stage.approve("instagram image"))).end, Published)
        await stage.execute(AGE_STEPS, 3600)
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"quota_total": 2})
    hold = (await stage.play(await stage.approve("instagram image"))).end
    assert isinstance(hold, Hold)
    assert (hold.reason, hold.scope) == ("rate_limited", "key")
    assert hold.delay_seconds == pytest.approx(DAY - 7200, abs=60)
    [(usage, total, state)] = await stage.rows(
        "select quota_usage, quota_total, quota_state from social.account_states"
    )
    assert (usage, total, state) == (2, 2, "held")


async def test_a_quota_that_somebody_else_used_up_is_asked_for_by_the_hour(stage: Stage) -> None:
    """Nobody knows when those cease to count."""
    owner = await stage.owner("instagram")
    assert isinstance((await stage.play(await stage.approve("instagram image"))).end, Published)
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"quota_total": 1})
    await stage.execute("delete from outbox.steps")
    hold = (await stage.play(await stage.approve("instagram image"))).end
    assert isinstance(hold, Hold)
    assert hold.delay_seconds == STEP_SECONDS


async def test_no_container_is_made_beyond_400_a_day(stage: Stage) -> None:
    """Nothing is called; the place is free a day after the first one was made."""
    owner = await stage.owner("instagram")
    await stage.execute(FILL, f"instagram:{owner.id}", CONTAINERS_MAX)
    outcome = await stage.dispatch(await stage.approve("instagram image"))
    assert isinstance(outcome, Defer)
    assert outcome.reason is Reason.RATE_LIMITED
    assert outcome.delay_seconds == pytest.approx(DAY - 36_000, abs=60)
    assert "create_container" not in (await stage.graph.control("GET", "counts"))["counts"]


async def test_a_page_publishes_30_reels_a_day(stage: Stage) -> None:
    """Its other posts go on (sheet 2.5)."""
    owner = await stage.owner("facebook")
    await stage.execute(FILL_REELS, f"facebook:{owner.id}", PAGE_REELS_MAX)
    event = await stage.approve("facebook reel")
    play = await stage.play(event, until=lambda it: isinstance(it, Defer) and it.reason is Reason.RATE_LIMITED)
    assert isinstance(play.end, Defer), play.outcomes
    assert play.end.delay_seconds == pytest.approx(DAY - 36_000, abs=60)
    assert isinstance((await stage.play(await stage.approve("facebook image"))).end, Published)


async def test_an_account_shows_what_is_left_of_each_of_its_limits(stage: Stage) -> None:
    """Containers of an Instagram account, reels of a Page: what our own steps say of the last 24 hours."""
    owner, page = await stage.owner("instagram"), await stage.owner("facebook")
    await stage.execute(FILL, f"instagram:{owner.id}", 7)
    await stage.execute(AGE_STEPS, 86_400)
    await stage.execute("update outbox.steps set event_id = event_id + 1000")
    await stage.execute(FILL, f"instagram:{owner.id}", 5)
    await stage.execute("update outbox.steps set event_id = event_id + 2000")
    await stage.execute(FILL_REELS, f"facebook:{page.id}", 3)
    async with stage.connections.connection() as connection:
        instagram = await show_account(connection, f"instagram:{owner.id}")
        facebook = await show_account(connection, f"facebook:{page.id}")
    assert (instagram.container_count, instagram.container_max, instagram.reel_count) == (5, CONTAINERS_MAX, None)
    assert (facebook.reel_count, facebook.reel_max, facebook.container_count) == (3, PAGE_REELS_MAX, None)


async def test_what_is_counted_is_found_by_index(stage: Stage) -> None:
    """Not by reading all steps."""
    await stage.execute(FILL, "instagram:2", 5000)
    await stage.execute("analyze outbox.steps")
    plan = await stage.rows("explain " + LOOK.replace("%(accounts)s", "array['instagram:1', 'instagram:2']"))
    assert "steps_by_account" in "\n".join(row[0] for row in plan)
