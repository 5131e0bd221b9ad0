"""A host that answers nobody: nothing is sent, no attempt is used up, and it goes on by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from structlog.testing import capture_logs

from outbox.outcome import Defer, Published, Reason, Retry
from publisher.errors import CircuitOpen, GraphError, NoAnswer
from publisher.graph import open_graph
from publisher.metrics import Host, PublisherMetrics
from publisher.placement import Endpoint
from tests.publisher.stage import Stage, open_stage, quick, serve_answers

pytestmark = pytest.mark.anyio
OPEN = "outbox_graph_circuit_open"
FAILURES = 3


@pytest.fixture
async def stage(database: str) -> AsyncIterator[Stage]:
    """The handler, quick to open a circuit and to probe."""
    settings = quick(circuit_failures=FAILURES, circuit_seconds=(0.05, 0.1))
    async with open_stage(database, settings) as stage:
        yield stage


async def test_while_it_is_open_events_wait_at_no_attempt(database: str) -> None:
    """Nothing is sent, and people hear of it once."""
    async with open_stage(database, quick(circuit_failures=FAILURES, circuit_seconds=(3600, 3600))) as stage:
        await stage.graph.fault("upload_photo", "error", times=FAILURES)
        with capture_logs() as logs:
            for _ in range(FAILURES):
                await stage.dispatch(await stage.approve("facebook image"))
            outcomes = [await stage.dispatch(await stage.approve("facebook image")) for _ in range(3)]
        for outcome in outcomes:
            assert isinstance(outcome, Defer)
            assert outcome.reason is Reason.RATE_LIMITED
            assert 3000 < outcome.delay_seconds <= 3600
        assert (await stage.graph.control("GET", "counts"))["counts"]["upload_photo"] == FAILURES
        assert stage.metric(OPEN, host="facebook") == 1
        assert [entry["event"] for entry in logs if "circuit" in entry["event"]] == ["circuit.opened"]


async def test_an_answer_closes_it(stage: Stage) -> None:
    """By itself: the events that waited go on, and people hear of it once."""
    await stage.graph.fault("upload_photo", "error", times=FAILURES + 1)
    with capture_logs() as logs:
        for _ in range(FAILURES):
            await stage.dispatch(await stage.approve("facebook image"))
        play = await stage.play(await stage.approve("facebook image"))
    assert isinstance(play.end, Published), play.outcomes
    assert sum(isinstance(each, Defer) and each.error is not None for each in play.outcomes) == 1  # the probe's failure
    assert [entry["event"] for entry in logs if "circuit" in entry["event"]] == ["circuit.opened", "circuit.closed"]
    assert stage.metric(OPEN, host="facebook") == 0


@pytest.mark.parametrize("action", ["drop", "error"])
async def test_time_outs_and_5xx_open_it_other_errors_do_not(stage: Stage, action: str) -> None:
    """An error with HTTP 400 is an answer: the host works."""
    await stage.graph.fault("upload_photo", action, times=FAILURES)
    for _ in range(FAILURES):
        await stage.dispatch(await stage.approve("facebook image"))
    assert stage.metric(OPEN, host="facebook") == 1


async def test_refusals_leave_it_closed(stage: Stage) -> None:
    """However many come in a row."""
    await stage.graph.fault("upload_photo", "error", times=FAILURES * 3, code=324, subcode=2069019)
    for _ in range(FAILURES * 3):
        await stage.dispatch(await stage.approve("facebook image"))
    assert stage.metric(OPEN, host="facebook") == 0


@pytest.mark.parametrize("is_cut", [True, False], ids=["cut", "silent"])
@pytest.mark.parametrize(
    ("platform", "placement"), [("instagram", "reel"), ("facebook", "reel"), ("facebook", "video")]
)
async def test_a_media_host_that_fails_opens_no_circuit(
    database: str, platform: str, placement: str, is_cut: bool
) -> None:
    """Whose bytes we pass on to Meta: it breaks off, or has nothing more to say; the sentence names it."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        assert request.transport is not None
        if is_cut:
            request.transport.abort()
        else:
            await anyio.sleep_forever()
        return response

    media_seconds = 60 if placement == "reel" else 2
    settings = quick(circuit_failures=1, check_media=False, upload_seconds=2, media_seconds=media_seconds)
    async with serve_answers(answer) as url, open_stage(database, settings) as stage:
        event = await stage.create(
            platform, placement=placement, media_type="video", media_url=f"{url}/1.mp4", upload=placement == "reel"
        )
        outcome = await stage.dispatch(event)
        assert isinstance(outcome, Retry)
        assert "media host" in outcome.error
        assert [stage.metric(OPEN, host=host) for host in Host] == [0, 0, 0]


async def test_a_transfer_counts_for_the_host_that_is_called(stage: Stage) -> None:
    """Chunks of a Page's video go where everything else goes, not to the upload host."""
    owner = await stage.owner("facebook")
    registry = CollectorRegistry()
    settings = stage.settings.model_copy(update={"circuit_failures": 1})
    await stage.graph.fault("transfer_video", "drop")
    async with open_graph(settings, PublisherMetrics(registry)) as graph:
        with pytest.raises(NoAnswer):
            await graph.post_file(
                Endpoint.VIDEO_UPLOAD,
                f"{owner.id}/videos",
                SecretStr(owner.token),
                {"upload_phase": "transfer", "upload_session_id": "1", "start_offset": "0"},
                field="video_file_chunk",
                name="chunk",
                content=b"1",
            )
    assert {host: registry.get_sample_value(OPEN, {"host": host}) for host in Host} == {
        Host.FACEBOOK: 1,
        Host.INSTAGRAM: 0,
        Host.UPLOAD: 0,
    }


async def test_an_irreversible_call_is_made_all_the_same(stage: Stage) -> None:
    """Its intent is durable: it follows at once, and its answer closes the circuit."""
    owner = await stage.owner("facebook")
    settings = stage.settings.model_copy(update={"circuit_seconds": (60, 60)})
    registry = CollectorRegistry()
    async with open_graph(settings, PublisherMetrics(registry)) as graph:
        token = SecretStr(owner.token)
        photo = await stage.graph.photo(owner, f"{stage.media_url}/story.jpg")
        await stage.graph.fault("list_stories", "error", times=FAILURES)
        for expected in (*[GraphError] * FAILURES, CircuitOpen):
            with pytest.raises(expected):
                await graph.get(Endpoint.PAGE_STORIES, f"{owner.id}/stories", token, {})
        answer = await graph.post(Endpoint.PHOTO_STORIES, f"{owner.id}/photo_stories", token, {"photo_id": photo})
        assert answer["success"] is True
        assert await graph.get(Endpoint.PAGE_STORIES, f"{owner.id}/stories", token, {})


async def test_no_more_calls_are_in_flight_than_may_be(stage: Stage) -> None:
    """The others wait for their turn, and that is no part of their time-out."""
    owner = await stage.owner("facebook")
    settings = stage.settings.model_copy(update={"calls_max": 2})
    fault = await stage.graph.fault("list_stories", "pause_before", times=5)
    answers = []
    async with open_graph(settings, PublisherMetrics(CollectorRegistry())) as graph, anyio.create_task_group() as group:

        async def read() -> None:
            answers.append(await graph.get(Endpoint.PAGE_STORIES, f"{owner.id}/stories", SecretStr(owner.token), {}))

        for _ in range(5):
            group.start_soon(read)
        for hits in (2, 4, 5):
            assert (await stage.graph.control("GET", f"faults/{fault}/hit?timeout=30&hits={hits}"))["hit"] is True
            assert (await stage.graph.control("GET", f"faults/{fault}"))["held"] <= 2
            await stage.graph.control("POST", f"faults/{fault}/resume", {})
    assert len(answers) == 5
