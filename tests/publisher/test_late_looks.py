"""A call whose answer was lost, and nobody could look for a day: what is not seen any more may have been live."""

from __future__ import annotations

import orjson
import pytest
from pydantic import SecretStr

from outbox.event import Event
from outbox.outcome import Published, Unknown
from publisher.tokens import KeyRing, generate_key
from tests.publisher.kinds import KIND
from tests.publisher.stage import Stage

pytestmark = pytest.mark.anyio
DAY_SECONDS = 25 * 3600
PROCESSING = {
    "video_status": "processing",
    "uploading_phase": {"status": "complete"},
    "processing_phase": {"status": "in_progress"},
    "publishing_phase": {"status": "not_started"},
}
POSTS = ("instagram feed", "facebook post", "facebook photos", "facebook reel")


async def lose(stage: Stage, kind: str, action: str, **more: object) -> Event:
    """Have the publishing call's answer lost; nobody looks yet."""
    await stage.graph.use(republish="duplicate")
    await stage.graph.fault(KIND[kind].publishing, action, **more)
    event = await stage.approve(kind)
    await stage.play(event, until=lambda outcome: isinstance(outcome, Unknown))
    return event


async def pass_a_day(stage: Stage) -> None:
    await stage.graph.advance(DAY_SECONDS)
    await stage.execute("update outbox.steps set created_at = created_at - interval '25 hours'")


async def publishing_calls(stage: Stage, kind: str) -> int:
    counts = (await stage.graph.control("GET", "counts"))["counts"]
    return int(counts[KIND[kind].publishing])


@pytest.mark.parametrize("kind", ["facebook image", "facebook video"])
async def test_a_story_that_has_left_the_list_is_not_published_again(stage: Stage, kind: str) -> None:
    """It was live for its 24 hours, and is in no list now: a person is asked, or the video tells."""
    await stage.graph.fault("list_stories", "error", times=None, code=2)
    event = await lose(stage, kind, "apply_then_drop")
    await stage.graph.control("DELETE", "faults")
    await pass_a_day(stage)
    end = (await stage.play(event)).end
    assert await stage.live_count() == 1
    if kind == "facebook image":
        assert isinstance(end, Unknown)
        assert end.delay_seconds is None
    else:
        assert isinstance(end, Published)
    assert await publishing_calls(stage, kind) == 1


async def test_a_video_story_that_can_not_be_read_a_day_later_is_for_a_person(stage: Stage) -> None:
    """Neither the list nor the video tells any more."""
    await stage.graph.fault("list_stories", "error", times=None, code=2)
    event = await lose(stage, "facebook video", "apply_then_drop")
    await stage.graph.control("DELETE", "faults")
    await pass_a_day(stage)
    await stage.graph.fault("video_status", "error", times=None, code=100, subcode=33)
    end = (await stage.play(event)).end
    assert isinstance(end, Unknown)
    assert end.delay_seconds is None
    assert await publishing_calls(stage, "facebook video") == 1


@pytest.mark.parametrize("kind", ["instagram image", "facebook image", "facebook video", *POSTS])
async def test_nothing_is_published_again_a_day_later(stage: Stage, kind: str) -> None:
    """A call that vanished a day ago: what could be published has expired, what was live may be gone."""
    event = await lose(stage, kind, "drop")
    await pass_a_day(stage)
    end = (await stage.play(event)).end
    assert isinstance(end, Unknown)
    assert end.delay_seconds is None
    assert await publishing_calls(stage, kind) == 1


@pytest.mark.parametrize("kind", POSTS)
async def test_what_is_still_seen_a_day_later_asks_nobody(stage: Stage, kind: str) -> None:
    """A post, or a handle that says that it was published, decides as ever."""
    event = await lose(stage, kind, "apply_then_drop")
    await pass_a_day(stage)
    end = (await stage.play(event)).end
    assert isinstance(end, Published), end
    assert await publishing_calls(stage, kind) == 1


async def test_a_video_that_meta_has_worked_on_for_a_day_is_for_a_person(stage: Stage) -> None:
    """While it is looked for its account stands still: not for ever."""
    event = await lose(stage, "facebook video", "drop")
    body = orjson.dumps({"id": "1", "status": PROCESSING}).decode()
    await stage.graph.fault("video_status", "error", times=None, status=200, body=body)
    await pass_a_day(stage)
    end = (await stage.play(event)).end
    assert isinstance(end, Unknown)
    assert end.delay_seconds is None


@pytest.mark.parametrize("code", [2, 10])
async def test_an_account_that_could_not_be_looked_at_for_a_day_is_for_a_person(stage: Stage, code: int) -> None:
    """An outage or a permission that is gone: looking ends."""
    event = await lose(stage, "instagram image", "drop")
    await stage.graph.fault("list_stories", "error", times=None, code=code)
    early = await stage.dispatch(event)
    assert isinstance(early, Unknown)
    assert early.delay_seconds is not None
    await pass_a_day(stage)
    late = await stage.dispatch(event)
    assert isinstance(late, Unknown)
    assert late.delay_seconds is None


@pytest.mark.parametrize(
    ("code", "subcode", "reason"),
    [(190, 460, "token"), (10, None, "token"), (25, 2207050, "account"), (100, 33, "account"), (2, None, "unknown")],
)
async def test_an_account_that_refuses_looks_says_so(stage: Stage, code: int, subcode: int | None, reason: str) -> None:
    """Its hold tells people what to do, as any other event's of that account would."""
    event = await lose(stage, "instagram image", "drop")
    await stage.graph.fault("list_stories", "error", times=None, code=code, subcode=subcode)
    outcome = await stage.dispatch(event)
    assert isinstance(outcome, Unknown)
    assert outcome.hold_reason == reason


async def test_a_token_that_no_key_opens_is_no_end_either(stage: Stage) -> None:
    """The hold says what is missing, and after a day a person is asked."""
    event = await lose(stage, "instagram image", "drop")
    foreign = KeyRing(generate_key()).encrypt(SecretStr("EAAother"))
    await stage.execute("update social.accounts set token_ciphertext = %s", foreign)
    early = await stage.dispatch(event)
    assert isinstance(early, Unknown)
    assert early.delay_seconds is not None
    assert early.hold_reason == "token"
    await pass_a_day(stage)
    late = await stage.dispatch(event)
    assert isinstance(late, Unknown)
    assert late.delay_seconds is None
