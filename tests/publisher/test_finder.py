"""What a success could not name is found later, and what can't be told apart stays unknown."""

from __future__ import annotations

import pytest

from outbox.event import Event
from outbox.outcome import Published, Unknown
from publisher import finder as finding
from publisher.finder import FORGET, Finder
from publisher.graph import GraphClient
from publisher.handler import VariantHandler
from tests.publisher.stage import Stage

pytestmark = pytest.mark.anyio
LAG_SECONDS = 60
FOUND = "select event_id, remote_id, permalink is not null from social.found_posts"
AGE = "update outbox.steps set created_at = created_at - interval '2 minutes' where state = 'done'"


async def unnamed(stage: Stage) -> Event:
    """Publish a story whose answer is lost while the list lags: its container says that it is live, and not as what."""
    await stage.graph.use(stories_lag_seconds=LAG_SECONDS)
    await stage.graph.fault("publish_container", "apply_then_drop")
    event = await stage.approve("instagram image")
    end = (await stage.play(event)).end
    assert isinstance(end, Published)
    assert end.result["remote_id"] is None
    return event


def finder(stage: Stage) -> Finder:
    assert isinstance(stage.handler, VariantHandler)
    graph: GraphClient = stage.handler.graph
    return Finder(stage.connections, graph, stage.keys)


async def test_a_post_is_found_once_its_list_shows_it(stage: Stage) -> None:
    """Not before; then with its permalink, in the application's view too, and nobody looks again."""
    event, looking = await unnamed(stage), finder(stage)
    await stage.execute(AGE)
    await looking.look()
    assert await stage.rows(FOUND) == []
    await stage.graph.advance(LAG_SECONDS)
    again = finder(stage)
    await again.look()
    [live] = (await stage.graph.control("GET", "live"))["live"]
    assert await stage.rows(FOUND) == [(event.id, live["media_id"], True)]
    [(result,)] = await stage.rows("select result from social.publish_jobs")
    assert result["remote_id"] == live["media_id"]
    again.looks.clear()
    await again.look()
    assert again.looks == {}


async def test_looks_grow_rarer(stage: Stage) -> None:
    """One a minute after the event, the next after four; none before."""
    await unnamed(stage)
    looking = finder(stage)
    await looking.look()
    assert looking.looks == {}
    await stage.execute(AGE)
    for _ in range(2):
        await looking.look()
        assert list(looking.looks.values()) == [1]


async def test_posts_that_can_not_be_told_apart_stay_unknown(stage: Stage) -> None:
    """Two of them, or one that Meta does not let us read: no event is harmed."""
    for _ in range(2):
        await unnamed(stage)
    await stage.execute(AGE)
    await stage.graph.advance(LAG_SECONDS)
    await finder(stage).look()
    await stage.graph.fault("list_stories", "error", code=2, times=None)
    await finder(stage).look()
    assert await stage.rows(FOUND) == []


async def test_a_story_without_a_name_keeps_no_feed_post_from_having_one(stage: Stage) -> None:
    """They are in different lists: what is new among the posts can't be the story."""
    await unnamed(stage)
    await stage.graph.fault("publish_container", "apply_then_drop")
    end = (await stage.play(await stage.approve("instagram feed"))).end
    assert isinstance(end, Published)
    assert end.result["remote_id"] is not None


async def test_those_that_are_not_found_keep_no_other_from_being_looked_for(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many come before it."""
    monkeypatch.setattr(finding, "PAGE", 1)
    for _ in range(2):
        await unnamed(stage)
    await stage.graph.fault("list_media", "error", skip=1, status=200, body='{"data": []}')
    await stage.graph.fault("publish_container", "apply_then_drop")
    event = await stage.approve("instagram feed")
    assert isinstance((await stage.play(event)).end, Published)
    await stage.execute(AGE)
    await stage.graph.advance(LAG_SECONDS)
    await finder(stage).look()
    assert [row[0] for row in await stage.rows(FOUND)] == [event.id]


FOREIGN = """
with event as (select outbox.emit(type => 'letter.written', payload => '{"to": "the greenhouse"}', key => 'post') as id)
insert into outbox.steps (event_id, position, name, state, detail, relay_id, created_at)
select id, p, 'publish', case p when 1 then 'intent' else 'done' end, '{"remote_id": null}', 1,
  clock_timestamp() - interval '2 minutes'
from event, generate_series(1, 2) as p
"""


async def test_what_other_handlers_publish_is_theirs(stage: Stage) -> None:
    """A step of theirs may have the same name, and an answer without an id: nobody looks for it, and ours is found."""
    await stage.execute(FOREIGN)
    await unnamed(stage)
    await stage.execute(AGE)
    await stage.graph.advance(LAG_SECONDS)
    await finder(stage).look()
    assert len(await stage.rows(FOUND)) == 1


async def test_what_was_found_goes_with_its_event(stage: Stage) -> None:
    """Pruning leaves nothing behind for long."""
    await stage.execute(
        "insert into social.found_posts (event_id, remote_id, found_at) values (0, '1', now() - interval '2 days')"
    )
    await stage.execute(FORGET)
    assert await stage.rows(FOUND) == []


async def test_a_late_list_passes_no_events_post_off_as_anothers(stage: Stage) -> None:
    """A call that took no effect, beside a post that the list shows only now: a person is asked, nothing is lost."""
    await unnamed(stage)
    fault = await stage.graph.fault("publish_container", "drop")
    event = await stage.approve("instagram image", name="text")
    stage.files["text.jpg"] = stage.files["story.jpg"]
    outcome = (await stage.play(event, until=lambda each: isinstance(each, Unknown))).end
    assert (await stage.graph.control("GET", f"faults/{fault}"))["hits"] == 1
    assert isinstance(outcome, Unknown)
    await stage.graph.advance(LAG_SECONDS)
    end = (await stage.play(event)).end
    assert isinstance(end, Unknown)
    assert end.delay_seconds is None
    assert await stage.live_count() == 1
