"""The happy path of each kind of story."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from outbox.handler import Runtime
from outbox.outcome import Dead, Published
from publisher.accounts import add_account
from publisher.handler import open_handler_with
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


@pytest.mark.parametrize(
    ("kind", "listing", "fields"),
    [("instagram image", "list_stories", "id"), ("instagram feed", "list_media", "id,timestamp")],
)
async def test_what_is_live_before_the_call_is_asked_for_by_id_alone(
    stage: Stage, kind: str, listing: str, fields: str
) -> None:
    """What a post shows matters only to those who look for it later."""
    assert isinstance((await stage.play(await stage.approve(kind))).end, Published)
    journal = (await stage.graph.control("GET", "requests"))["requests"]
    assert [entry["parameters"]["fields"] for entry in journal if entry["endpoint"] == listing] == [fields]


async def test_a_pages_archive_is_not_read_for_an_address(stage: Stage) -> None:
    """It may go back for years; a story is live for a day."""
    play = await stage.play(await stage.approve("facebook image"))
    assert isinstance(play.end, Published)
    [read] = (await stage.graph.control("GET", "requests?endpoint=list_stories"))["requests"]
    [(now,)] = await stage.rows("select extract(epoch from clock_timestamp())::float8")
    assert now - float(read["parameters"]["since"]) == pytest.approx(25 * 3600, abs=120)


@asynccontextmanager
async def instagram_login(stage: Stage) -> AsyncIterator[None]:
    """An account of Instagram Login, and a handler that finds its host where only its tokens work."""
    owner = await stage.graph.owner("instagram", login="instagram")
    async with stage.connections.connection() as connection:
        await add_account(
            connection,
            stage.keys,
            platform="instagram",
            remote_id=owner.id,
            name="greenhouse",
            token=SecretStr(owner.token),
        )
    stage.owners["instagram"] = owner
    settings = stage.settings.model_copy(update={"instagram_url": f"{stage.graph.url}/graph.instagram.com"})
    async with open_handler_with(Runtime(stage.connections, CollectorRegistry()), settings) as handler:
        stage.handler = handler
        yield


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind.startswith("instagram") and not KIND[kind].upload])
async def test_a_post_goes_live_through_instagrams_own_host(stage: Stage, kind: str) -> None:
    """Every call of an account of Instagram Login goes to graph.instagram.com alone; the Facebook app proves none."""
    await stage.graph.use(app_secret="app secret", require_proof=True)
    async with instagram_login(stage):
        play = await stage.play(await stage.approve(kind))
    assert isinstance(play.end, Published), play.outcomes
    assert await stage.live_count() == 1
    paths = [entry["path"] for entry in (await stage.graph.control("GET", "requests"))["requests"]]
    assert paths
    assert [path for path in paths if not path.startswith("/graph.instagram.com/")] == []


async def test_an_upload_where_instagram_takes_no_bytes_is_dead_before_any_call(stage: Stage) -> None:
    """Resumable uploads are Facebook Login's alone (sheet 1.1): it says what else can be done."""
    async with instagram_login(stage):
        end = (await stage.play(await stage.approve("instagram uploaded reel"))).end
    assert isinstance(end, Dead)
    assert (end.reason, "without upload" in end.error) == ("unsupported", True)
    assert (await stage.graph.control("GET", "counts"))["counts"] == {}


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
