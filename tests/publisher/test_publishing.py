"""The happy path of each kind of story."""

from __future__ import annotations

import pytest

from outbox.outcome import Published
from publisher.settings import ProofForm
from tests.publisher.kinds import ALL, KIND
from tests.publisher.stage import Stage, open_stage, quick

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", ALL)
async def test_a_post_goes_live_once(stage: Stage, kind: str) -> None:
    """Each kind ends as published, with its remote id and permalink, and one post is live, after the calls it takes."""
    event = await stage.approve(kind)
    play = await stage.play(event)
    assert isinstance(play.end, Published), play.outcomes
    assert play.end.result["remote_id"] is not None
    assert play.end.result["permalink"].startswith("https://")
    assert play.end.result["verified"] == "answer"
    assert await stage.live_count() == 1
    assert await stage.trail(event) == [f"{step} done" for step in KIND[kind].steps] + [
        "publish intent",
        "publish done",
    ]
    journal = await stage.graph.control("GET", "requests")
    assert {entry["endpoint"] for entry in journal["requests"]} >= set(KIND[kind].calls)


@pytest.mark.parametrize("form", [ProofForm.UNTIMED, ProofForm.TIMED])
@pytest.mark.parametrize("kind", ALL)
async def test_calls_are_proved_where_the_app_requires_it(database: str, kind: str, form: ProofForm) -> None:
    """Every call of every kind carries a good appsecret_proof."""
    async with open_stage(database, quick(app_secret="app secret", proof=form)) as stage:
        await stage.graph.use(app_secret="app secret", require_proof=True)
        assert isinstance((await stage.play(await stage.approve(kind))).end, Published)


async def test_stories_of_one_account_follow_each_other(stage: Stage) -> None:
    """Each has an id of its own, whatever was live before."""
    ids = set()
    for _ in range(5):
        end = (await stage.play(await stage.approve("instagram image"))).end
        assert isinstance(end, Published)
        ids.add(end.result["remote_id"])
    assert len(ids) == await stage.live_count() == 5


async def test_a_finished_event_is_reported_again_without_a_call(stage: Stage) -> None:
    """A process that ended between the last step and the receipt publishes nothing again."""
    event = await stage.approve("facebook image")
    first = (await stage.play(event)).end
    assert await stage.dispatch(event) == first
    assert await stage.live_count() == 1
