"""Calls whose answers are lost, wrong or late: whatever happens, one story is live."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import aiohttp
import anyio
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from outbox.event import JsonObject
from outbox.ledger import StepState
from outbox.outcome import Dead, Defer, Hold, Published, Reason, Unknown
from outbox.resolution import Resolution
from publisher.graph import GraphClient
from publisher.handler import VariantHandler
from publisher.media.client import open_media
from publisher.metrics import PublisherMetrics
from publisher.page import videos
from publisher.placement import Endpoint
from tests.publisher.stage import (
    KINDS,
    PREPARING,
    PUBLISHING,
    VIDEO,
    Stage,
    is_found_once_listed,
    open_stage,
    quick,
)

pytestmark = pytest.mark.anyio
REPUBLISH = ("error", "same_id", "duplicate")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("republish", REPUBLISH)
@pytest.mark.parametrize("action", ["apply_then_drop", "apply_then_error", "error", "drop"])
async def test_one_story_is_live_after_an_unclear_answer(stage: Stage, kind: str, republish: str, action: str) -> None:
    """Applied or not, answered or not: the event ends as published and one story is live."""
    await stage.graph.use(republish=republish)
    await stage.graph.fault(PUBLISHING[kind], action)
    event = await stage.approve(kind)
    play = await stage.play(event)
    assert isinstance(play.end, Published), play.outcomes
    assert play.end.result["remote_id"] is not None
    assert await stage.live_count() == 1
    was_applied = action.startswith("apply")
    assert play.end.result["verified"] == ("reconciled" if was_applied else "answer")
    assert (await stage.graph.control("GET", "counts"))["counts"][PUBLISHING[kind]] == (1 if was_applied else 2)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_late_list_is_no_proof_of_absence(database: str, kind: str) -> None:
    """A story that the list shows only later is not published again."""
    assert await is_found_once_listed(database, kind)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_dead_token_holds_the_account(stage: Stage, kind: str) -> None:
    """A token that died holds the account until a person acts, and nothing is lost: a new one goes on."""
    event = await stage.approve(kind)
    owner = await stage.owner(kind.split(maxsplit=1)[0])
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"token_state": "password_changed"})
    play = await stage.play(event)
    assert isinstance(play.end, Hold)
    assert (play.end.delay_seconds, play.end.reason, play.end.scope) == (math.inf, "token", "key")
    await stage.graph.control("PATCH", f"accounts/{owner.id}", {"token_state": "valid"})
    assert isinstance((await stage.play(event)).end, Published)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_rate_limit_holds_for_as_long_as_graph_says(stage: Stage, kind: str) -> None:
    """The usage header's minutes become the hold's seconds."""
    usage = {"estimated_time_to_regain_access": 7}
    await stage.graph.fault(PREPARING[kind], "error", code=80002, usage=usage)
    end = (await stage.play(await stage.approve(kind))).end
    assert isinstance(end, Hold)
    assert (end.delay_seconds, end.reason, end.scope) == (420.0, "rate_limited", "key")


async def test_the_app_limit_holds_the_app_for_an_hour(stage: Stage) -> None:
    """Code 4 without a regain time holds the whole app for an hour."""
    await stage.graph.fault("create_container", "error", code=4)
    end = (await stage.play(await stage.approve("instagram image"))).end
    assert isinstance(end, Hold)
    assert (end.delay_seconds, end.reason, end.scope) == (3600.0, "rate_limited", "app")


async def test_not_ready_after_finished_waits_and_publishes_the_same_container(stage: Stage) -> None:
    """9007/2207027 right after FINISHED is a definite refusal: the same container is published a little later."""
    await stage.graph.fault("publish_container", "error", code=9007, subcode=2207027, times=2)
    event = await stage.approve("instagram image")
    play = await stage.play(event)
    assert isinstance(play.end, Published)
    assert [o.reason for o in play.outcomes if isinstance(o, Defer)] == [Reason.PROCESSING] * 2
    trail = await stage.trail(event)
    assert trail.count("container done") == 1
    assert trail.count("publish refused") == 2
    assert await stage.live_count() == 1


async def test_action_blocked_is_reconciled_first_and_live_ends_as_published(stage: Stage) -> None:
    """4/2207051 with the story live is a success."""
    await stage.graph.fault("publish_container", "apply_then_error", code=4, subcode=2207051)
    play = await stage.play(await stage.approve("instagram image"))
    assert isinstance(play.end, Published)
    assert await stage.live_count() == 1


async def test_action_blocked_and_absent_holds_the_account_for_a_day(stage: Stage) -> None:
    """4/2207051 with nothing live, looked for twice, holds the account."""
    await stage.graph.fault("publish_container", "error", code=4, subcode=2207051)
    event = await stage.approve("instagram image")
    play = await stage.play(event)
    assert isinstance(play.end, Hold)
    assert play.end.reason == "account"
    assert 86_000 < play.end.delay_seconds <= 86_400
    assert (await stage.trail(event))[-1] == "publish refused"
    assert await stage.live_count() == 0


@pytest.mark.parametrize(("code", "subcode", "reason"), [(368, 1404112, "account"), (17, None, "rate_limited")])
async def test_an_account_in_trouble_costs_its_events_nothing_however_often(
    stage: Stage, code: int, subcode: int | None, reason: str
) -> None:
    """Released too early again and again, or limited for long: each call is looked for, and the event is never dead."""
    fault = await stage.graph.fault("publish_photo_story", "error", times=None, code=code, subcode=subcode)
    event = await stage.approve("facebook image")
    for _ in range(stage.settings.absences_max + 1):
        end = (await stage.play(event)).end
        assert isinstance(end, Hold)
        assert end.reason == reason
    await stage.graph.control("DELETE", f"faults/{fault}")
    assert isinstance((await stage.play(event)).end, Published)
    assert await stage.live_count() == 1


async def test_the_quota_holds_the_account_for_an_hour(stage: Stage) -> None:
    """9/2207042, whatever the quota said, is a definite refusal: an hour later the same container is published."""
    await stage.graph.fault("publish_container", "error", code=9, subcode=2207042)
    event = await stage.approve("instagram image")
    end = (await stage.play(event)).end
    assert isinstance(end, Hold)
    assert (end.delay_seconds, end.reason) == (3600.0, "rate_limited")
    assert isinstance((await stage.play(event)).end, Published)
    assert (await stage.trail(event)).count("container done") == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_media_that_can_not_be_fetched_ends_as_dead(stage: Stage, kind: str) -> None:
    """A broken URL is tried a few times, then the event is dead and nothing is live."""
    play = await stage.play(await stage.approve(kind, file="nowhere.jpg"))
    assert isinstance(play.end, Dead), play.outcomes
    assert len(play.outcomes) > 2
    assert await stage.live_count() == 0


@pytest.mark.parametrize("kind", ["instagram video", "facebook video"])
async def test_a_failed_container_is_replaced_a_few_times(database: str, kind: str) -> None:
    """Media that fails while Meta processes it ends as dead after a bounded number of new containers."""
    async with open_stage(database, quick(check_media=False)) as stage:
        event = await stage.approve(kind, file="text.mp4")
        play = await stage.play(event)
        assert isinstance(play.end, Dead), play.outcomes
        assert play.end.reason == "media_failed"
        assert sum(1 for line in await stage.trail(event) if line.endswith("done")) <= 4
        assert await stage.live_count() == 0


async def test_a_failing_upload_that_recovers_is_published(stage: Stage) -> None:
    """An image that Meta could not fetch once is published at the next try."""
    await stage.graph.fault("create_container", "error", code=9004, subcode=2207052)
    assert isinstance((await stage.play(await stage.approve("instagram image"))).end, Published)


async def test_a_video_that_takes_longer_to_send_goes_on_where_it_stood(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each go sends a chunk and costs no attempt; a relay would have ended one that sends it all."""
    monkeypatch.setattr(videos, "SENDING_SECONDS", -1.0)
    for name in ("publisher.page.videos.CHUNK_BYTES", "publisher.media.client._CHUNK_BYTES"):
        monkeypatch.setattr(name, VIDEO.stat().st_size // 3)
    play = await stage.play(await stage.approve("facebook feed video"))
    assert isinstance(play.end, Published)
    assert {type(each) for each in play.outcomes[:-1]} == {Defer}
    assert sum(isinstance(each, Defer) for each in play.outcomes) >= 3
    assert await stage.live_count() == 1


async def test_a_container_that_meta_does_not_find_is_replaced(stage: Stage) -> None:
    """24/2207008 is a definite refusal: twice the same container, then another one."""
    await stage.graph.fault("publish_container", "error", code=24, subcode=2207008, times=3)
    event = await stage.approve("instagram image")
    assert isinstance((await stage.play(event)).end, Published)
    trail = await stage.trail(event)
    assert trail.count("container done") == 2
    assert trail.count("publish refused") == 3
    assert await stage.live_count() == 1


async def test_a_duplicate_that_is_ours_is_a_success(stage: Stage) -> None:
    """1366051 "already posted" is reconciled, and the photo is found in the list."""
    await stage.graph.fault("publish_photo_story", "apply_then_error", code=1366051)
    assert isinstance((await stage.play(await stage.approve("facebook image"))).end, Published)
    assert await stage.live_count() == 1


async def test_a_duplicate_that_is_not_ours_is_dead(stage: Stage) -> None:
    """506 with nothing of ours live: the content is refused."""
    await stage.graph.fault("publish_container", "error", code=506)
    assert isinstance((await stage.play(await stage.approve("instagram image"))).end, Dead)
    assert await stage.live_count() == 0


async def test_an_expired_container_is_made_again(stage: Stage) -> None:
    """A container that expired before any intent is replaced, and one story is live."""
    await stage.graph.fault("list_stories", "error", code=17)
    event = await stage.approve("instagram image")
    assert isinstance((await stage.play(event)).end, Hold)
    await stage.graph.advance(25 * 3600)
    assert isinstance((await stage.play(event)).end, Published)
    assert (await stage.trail(event)).count("container done") == 2
    assert await stage.live_count() == 1


async def test_containers_that_expire_at_once_are_given_up(stage: Stage) -> None:
    """Each one counts against the account's 400 a day: a few are made, as of those that fail."""
    body = '{"status_code": "EXPIRED", "status": "Expired", "id": "1"}'
    await stage.graph.fault("container_status", "error", status=200, body=body, times=None)
    end = (await stage.play(await stage.approve("instagram image"))).end
    assert isinstance(end, Dead)
    assert end.reason == "media_failed"
    counts = (await stage.graph.control("GET", "counts"))["counts"]
    assert counts["create_container"] == stage.settings.new_containers_max + 1


async def test_an_expired_container_with_an_open_intent_waits_for_a_person(stage: Stage) -> None:
    """Nothing live, and the container can't tell any more: only a person may decide."""
    await stage.graph.fault("publish_container", "drop")
    event = await stage.approve("instagram image")
    await stage.play(event, until=lambda outcome: isinstance(outcome, Unknown))
    await stage.graph.advance(25 * 3600)
    end = (await stage.play(event)).end
    assert isinstance(end, Unknown)
    assert end.delay_seconds is None
    assert (await stage.graph.control("GET", "counts"))["counts"]["publish_container"] == 1
    assert stage.metric("outbox_reconciled_total", verdict="person") == 1


async def test_what_a_person_says_is_not_live_is_published_once(stage: Stage) -> None:
    """The step that the relay makes of it lets another container be made: the old one has expired."""
    await stage.graph.fault("publish_container", "drop")
    event = await stage.approve("instagram image")
    await stage.play(event, until=lambda outcome: isinstance(outcome, Unknown))
    await stage.graph.advance(25 * 3600)
    assert isinstance((await stage.play(event)).end, Unknown)
    await stage.decide(event, Resolution(2, "publish", False, None, "looked in the app", "anna"))
    assert isinstance((await stage.play(event)).end, Published)
    assert await stage.live_count() == 1


async def test_a_story_that_a_person_overlooked_is_not_published_again(stage: Stage) -> None:
    """Before the call the container is asked, and says that it is published."""
    await stage.graph.fault("publish_container", "apply_then_drop")
    await stage.graph.fault("container_status", "error", times=2, body="<html>", status=200, skip=1)
    event = await stage.approve("instagram image")
    await stage.play(event, until=lambda outcome: isinstance(outcome, Unknown))
    intent = next(step for step in await stage.steps(event) if step.state is StepState.INTENT)
    await stage.decide(event, Resolution(intent.position, "publish", False, None, None, "anna"))
    play = await stage.play(event)
    assert isinstance(play.end, Published), play.outcomes
    assert await stage.live_count() == 1


async def test_reads_that_fail_while_reconciling_are_neither_live_nor_absent(stage: Stage) -> None:
    """The event stays unknown until a look succeeds."""
    await stage.graph.fault("publish_container", "apply_then_drop")
    await stage.graph.fault("container_status", "error", skip=1, times=3, body="<html>", status=200)
    play = await stage.play(await stage.approve("instagram image"))
    assert isinstance(play.end, Published), play.outcomes
    assert sum(isinstance(outcome, Unknown) for outcome in play.outcomes) >= 3
    assert await stage.live_count() == 1


async def test_a_container_that_can_not_be_read_for_a_while_wakes_nobody(database: str) -> None:
    """100/33 at the look that would decide: it is looked for again, and then published with the same container."""
    async with open_stage(database, quick(gone_seconds=60)) as stage:
        await stage.graph.fault("publish_container", "drop")
        await stage.graph.fault("container_status", "error", skip=1, times=3, code=100, subcode=33)
        event = await stage.approve("instagram image")
        play = await stage.play(event)
        assert isinstance(play.end, Published), play.outcomes
        assert stage.metric("outbox_reconciled_total", verdict="person") == 0
        assert (await stage.trail(event)).count("container done") == 1
        assert await stage.live_count() == 1


async def test_a_container_that_stays_unreadable_waits_for_a_person(stage: Stage) -> None:
    """A bounded time, not for ever: it may be live and removed, or never was."""
    await stage.graph.fault("publish_container", "drop")
    await stage.graph.fault("container_status", "error", skip=1, times=None, code=100, subcode=33)
    end = (await stage.play(await stage.approve("instagram image"))).end
    assert isinstance(end, Unknown)
    assert end.delay_seconds is None
    assert stage.metric("outbox_reconciled_total", verdict="person") == 1


async def test_an_unreadable_container_is_published_all_the_same(stage: Stage) -> None:
    """Status reads that answer 100/33 for long don't keep a story from being published."""
    await stage.graph.fault("container_status", "error", times=None, code=100, subcode=33)
    play = await stage.play(await stage.approve("instagram image"))
    assert isinstance(play.end, Published), play.outcomes
    assert await stage.live_count() == 1


async def test_a_permalink_that_can_not_be_read_changes_nothing(stage: Stage) -> None:
    """The event ends as published without one."""
    await stage.graph.fault("read_media", "error", code=100, subcode=33)
    end = (await stage.play(await stage.approve("instagram image"))).end
    assert isinstance(end, Published)
    assert end.result["permalink"] is None


FINISHED = '{"status_code": "FINISHED", "status": "Finished", "id": "17889455560051444"}'


async def test_a_wrong_absence_is_found_out_before_anything_is_published_again(stage: Stage) -> None:
    """A story that list and status hid for two looks is seen in the container's status before a second call."""
    await stage.graph.use(republish="duplicate", stories_lag_seconds=60)
    await stage.graph.fault("publish_container", "apply_then_drop")
    await stage.graph.fault("container_status", "error", skip=1, times=2, status=200, body=FINISHED)
    event = await stage.approve("instagram image")
    play = await stage.play(event)
    assert isinstance(play.end, Published), play.outcomes
    assert play.end.result["verified"] == "status"
    assert (await stage.trail(event)).count("publish intent") == 1
    assert await stage.live_count() == 1


async def test_a_refusal_after_a_wrong_absence_is_not_taken_at_its_word(stage: Stage) -> None:
    """100 "already published" after an absence is looked into: the story was live, and the event is not dead."""
    await stage.graph.use(republish="error", stories_lag_seconds=3600)
    await stage.graph.fault("publish_container", "apply_then_drop")
    await stage.graph.fault("container_status", "error", skip=1, times=None, status=200, body=FINISHED)
    event = await stage.approve("instagram image")
    while (await stage.trail(event)).count("publish intent") < 2:
        await stage.play(event, until=lambda outcome: isinstance(outcome, Unknown))
        await anyio.sleep(0.05)
    await stage.graph.advance(3600)
    play = await stage.play(event)
    assert isinstance(play.end, Published), play.outcomes
    assert play.end.result["verified"] == "reconciled"
    assert (await stage.trail(event)).count("publish intent") == 2
    assert await stage.live_count() == 1


async def test_a_refusal_after_an_absence_that_stays_unexplained_waits_for_a_person(stage: Stage) -> None:
    """100 "already published" with nothing to be seen is for a person, not the end."""
    await stage.graph.use(republish="error", stories_lag_seconds=60)
    await stage.graph.fault("publish_container", "apply_then_drop")
    await stage.graph.fault("container_status", "error", skip=1, times=None, status=200, body=FINISHED)
    event = await stage.approve("instagram image")
    end = (await stage.play(event)).end
    assert isinstance(end, Unknown)
    assert end.delay_seconds is None
    assert "already been published" in end.error
    assert await stage.live_count() == 1


async def test_a_story_of_another_event_is_not_taken_for_ours(stage: Stage) -> None:
    """What the outbox published for another event meanwhile is no candidate, even where the snapshot missed it."""
    other = await stage.play(await stage.approve("instagram image"))
    assert isinstance(other.end, Published)
    await stage.graph.fault("list_stories", "error", times=1, status=200, body='{"data": []}')
    await stage.graph.fault("publish_container", "drop")
    event = await stage.approve("instagram image")
    play = await stage.play(event)
    assert isinstance(play.end, Published), play.outcomes
    assert play.end.result["remote_id"] != other.end.result["remote_id"]
    assert await stage.live_count() == 2


async def test_a_story_that_a_person_posted_meanwhile_is_not_guessed_at(stage: Stage) -> None:
    """Two new stories and a container that does not say PUBLISHED: only a person can tell."""
    await stage.graph.fault("publish_container", "apply_then_drop")
    await stage.graph.fault("container_status", "error", skip=1, times=None, status=200, body=FINISHED)
    fault = await stage.graph.fault("list_stories", "pause_before", skip=1)
    event = await stage.approve("instagram image")
    owner = await stage.owner("instagram")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.play, event)
        assert (await stage.graph.control("GET", f"faults/{fault}/hit"))["hit"]
        created = await stage.graph.post(
            f"/{owner.id}/media", owner.token, media_type="STORIES", image_url=f"{stage.media_url}/story.jpg"
        )
        assert (await stage.graph.publish(owner, created.body["id"])).status == 200
        await stage.graph.control("DELETE", f"faults/{fault}")
    waiting = await stage.dispatch(event)
    assert isinstance(waiting, Unknown)
    assert waiting.delay_seconds is None
    assert "2 new posts fit" in waiting.error


class Unplugged(GraphClient):
    """Sends its first publish to a port where nothing listens."""

    async def post(self, endpoint: Endpoint, path: str, token: SecretStr, parameters: Mapping[str, str]) -> JsonObject:
        """Make the call, to the wrong port the first time."""
        base, refused = self._base, vars(self)["refused"]
        if endpoint is Endpoint.MEDIA_PUBLISH and not refused:
            refused.append(path)
            self._base = "http://127.0.0.1:9"
        try:
            return await super().post(endpoint, path, token, parameters)
        finally:
            self._base = base


async def test_a_call_that_was_never_sent_is_tried_again_without_looking(stage: Stage) -> None:
    """A refused connection is a definite refusal."""
    metrics = PublisherMetrics(CollectorRegistry())
    async with aiohttp.ClientSession() as session, open_media(stage.settings) as media:
        graph = Unplugged(session, stage.settings, metrics)
        vars(graph)["refused"] = []
        assert isinstance(stage.handler, VariantHandler)
        stage.handler = replace(stage.handler, graph=graph, media=media)
        event = await stage.approve("instagram image")
        play = await stage.play(event)
    assert isinstance(play.end, Published), play.outcomes
    assert [type(outcome) for outcome in play.outcomes] == [Defer, Published]
    refusal = next(step for step in await stage.steps(event) if step.state is StepState.REFUSED)
    assert refusal.detail["verified"] == "not_sent"
    assert await stage.live_count() == 1


async def test_a_call_whose_intent_took_too_long_is_not_made(database: str) -> None:
    """The process may have stood still while its lease ran out and others took over: it begins anew, at no attempt."""
    async with open_stage(database, quick(intent_seconds=5)) as stage:
        await intents_take_too_long(stage)


async def intents_take_too_long(stage: Stage) -> None:
    await stage.execute(
        "create function public.stall() returns trigger language plpgsql as $$ begin"
        " if new.state = 'intent' and (select count(*) < 2 from outbox.steps where state = 'intent') then"
        " perform pg_sleep(5.2); end if; return new; end $$"
    )
    await stage.execute(
        "create trigger stall before insert on outbox.steps for each row execute function public.stall()"
    )
    event = await stage.approve("instagram image")
    play = await stage.play(event)
    assert play.outcomes[:-1] == [Defer(0.01, Reason.PROCESSING), Defer(0.02, Reason.PROCESSING)]
    assert isinstance(play.end, Published)
    unsent = ["publish intent", "publish refused"] * 2
    assert await stage.trail(event) == ["container done", *unsent, "publish intent", "publish done"]
    refused = [step.detail for step in await stage.steps(event) if step.state is StepState.REFUSED]
    assert {detail["verified"] for detail in refused} == {"not_sent"}
    assert await stage.live_count() == 1


async def test_calls_that_vanish_again_and_again_end_as_dead(stage: Stage) -> None:
    """A bounded number of calls is made, each verified absent before the next."""
    await stage.graph.fault("publish_container", "drop", times=None)
    event = await stage.approve("instagram image")
    end = (await stage.play(event)).end
    assert isinstance(end, Dead)
    assert end.reason == "attempts_exhausted"
    assert (await stage.trail(event)).count("publish refused") == 3
    assert await stage.live_count() == 0
