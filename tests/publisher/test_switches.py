"""What Meta leaves open (the reference sheet's section 11) is a switch of the sandbox: under each setting we are safe.

Safe is: what was called once is live once, whatever became of the answer; and an answer is followed by its numbers,
with whatever HTTP status it comes.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from outbox.outcome import Dead, Defer, Hold, Published, Unknown
from publisher.sandbox.settings import Switches
from tests.publisher.kinds import ALL, KIND
from tests.publisher.stage import Stage, open_stage, picture, quick

pytestmark = pytest.mark.anyio

# By the number of the open question; 8 is walked in test_error_walk, 9 and 10 are nothing that we rely on.
SETTINGS: list[tuple[int, dict[str, Any]]] = [
    *((1, {"republish": answer}) for answer in ("error", "same_id", "duplicate")),
    (2, {"http_status_2207051": 400, "http_status_190": 401, "http_status_limits": 403}),
    (2, {"http_status_limits": 429}),
    *((3, {"quota_total": total, "stories_count": counted}) for total, counted in ((50, True), (100, False))),
    *((4, {"strict_formats": False, "png_publishes": published}) for published in (True, False)),
    *((5, {"published_readable_seconds": seconds}) for seconds in (0, 60)),
    *((5, {"stories_lag_seconds": seconds, "feed_lag_seconds": seconds}) for seconds in (0.05, 60)),
    (6, {"retry_after_seconds": 7, "http_status_limits": 429, "page_usage_header": True}),
    *((7, {"container_default_fields": name, "expired_text": "Abgelaufen"}) for name in ("status_code", "id")),
    *((11, {"page_story_seconds_max": seconds}) for seconds in (60, 90)),
]
USUAL = {name: Switches.model_fields[name].default for _, changes in SETTINGS for name in changes}
PUBLISHING = {
    "instagram image": "publish_container",
    "facebook image": "publish_photo_story",
}


def test_every_open_question_of_the_sheet_has_its_settings() -> None:
    """But for those that are no switch: what a number means, webhooks, the least budget."""
    assert {question for question, _ in SETTINGS} == set(range(1, 12)) - {8, 9, 10}


@pytest.mark.parametrize("kind", PUBLISHING)
async def test_one_post_is_live_under_each_setting_whatever_becomes_of_the_answer(stage: Stage, kind: str) -> None:
    """Lost, or never there: it ends as published, or a person is asked; it is live once."""
    for number, (question, changes) in enumerate(SETTINGS):
        # What took no effect is looked for twice, which takes its time: where lists and repeated calls are in question.
        for action in ("apply_then_drop", "drop") if question in {1, 5} else ("apply_then_drop",):
            name = f"tomato-{number}-{action}"
            stage.files |= {f"{name}.{ending}": stage.files[f"story.{ending}"] for ending in ("jpg", "mp4")}
            await stage.graph.use(**USUAL | changes)
            await stage.graph.fault(PUBLISHING[kind], action)
            play = await stage.play(await stage.approve(kind, name=name))
            live = await stage.graph.live_count(name)
            assert isinstance(play.end, Published | Unknown), (question, changes, action, play.outcomes)
            assert live == 1 or (action == "drop" and live == 0 and isinstance(play.end, Unknown)), (changes, action)


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind not in {"facebook image", "facebook post"}])
async def test_a_list_that_lags_for_long_hides_nothing_that_tells_of_itself(stage: Stage, kind: str) -> None:
    """A container, a video and a post's photo say that they were published; of the two left out only a list does."""
    await stage.graph.use(republish="duplicate", stories_lag_seconds=3_600, feed_lag_seconds=3_600)
    await stage.graph.fault(KIND[kind].publishing, "apply_then_drop")
    play = await stage.play(await stage.approve(kind))
    assert isinstance(play.end, Published), play.outcomes
    assert await stage.live_count() == 1


@pytest.mark.parametrize("kind", ["facebook image", "facebook post"])
async def test_what_only_a_list_tells_of_is_looked_for_as_long_as_the_list_may_lag(database: str, kind: str) -> None:
    """It is found in the end, and is live once, though a repeated call would publish it again."""
    async with open_stage(database, quick(list_lag_seconds=3_600)) as stage:
        await stage.graph.use(republish="duplicate", stories_lag_seconds=3, feed_lag_seconds=3)
        await stage.graph.fault(KIND[kind].publishing, "apply_then_drop")
        play = await stage.play(await stage.approve(kind))
        assert isinstance(play.end, Published), play.outcomes
        assert await stage.live_count() == 1


@pytest.mark.parametrize("changes", [changes for question, changes in SETTINGS if question in {2, 6}])
async def test_a_status_of_http_changes_nothing(stage: Stage, changes: dict[str, Any]) -> None:
    """A limit holds, a token holds, spam is looked after: by their numbers; a stated wait is heeded."""
    await stage.graph.use(**changes)
    await stage.graph.fault("create_container", "error", code=17)
    limited = await stage.dispatch(await stage.approve("instagram image"))
    assert isinstance(limited, Hold)
    assert limited.delay_seconds == changes.get("retry_after_seconds", stage.settings.limit_seconds)
    await stage.graph.fault("create_container", "error", code=190, subcode=463)
    refused = await stage.dispatch(await stage.approve("instagram image"))
    assert isinstance(refused, Hold)
    assert refused.reason == "token"
    await stage.graph.fault("publish_container", "apply_then_error", code=4, subcode=2207051)
    assert isinstance((await stage.play(await stage.approve("instagram image"))).end, Published)


async def test_a_quota_of_which_nobody_knows_what_counts_is_kept_to(stage: Stage) -> None:
    """Where stories do not count and nothing is left, Meta's own figures decide; no attempt is used."""
    await stage.graph.use(quota_total=1, stories_count=False)
    assert isinstance((await stage.play(await stage.approve("instagram feed"))).end, Published)
    outcome = (await stage.play(await stage.approve("instagram image"), until=lambda each: True)).end
    assert isinstance(outcome, Published | Defer)
    await stage.graph.use(quota_total=1, stories_count=True)
    outcome = (await stage.play(await stage.approve("instagram feed"), until=lambda each: True)).end
    assert isinstance(outcome, Defer)


async def test_a_picture_that_may_not_survive_publishing_is_not_sent(stage: Stage) -> None:
    """PNG has been seen to become a container: Meta documents JPEG, and so does our look at the file."""
    png = BytesIO()
    Image.open(BytesIO(picture())).save(png, "PNG")
    stage.files["story.png"] = png.getvalue()
    await stage.graph.use(strict_formats=False, png_publishes=False)
    assert isinstance((await stage.play(await stage.approve("instagram image", file="story.png"))).end, Dead)


async def test_a_container_that_has_expired_in_whatever_words_is_made_again(stage: Stage) -> None:
    """The code tells, not the text."""
    await stage.graph.use(expired_text="Abgelaufen", container_default_fields="id")
    await stage.graph.fault("list_stories", "error", code=17)
    event = await stage.approve("instagram image")
    assert isinstance((await stage.play(event)).end, Hold)
    await stage.graph.advance(86_401)
    assert isinstance((await stage.play(event)).end, Published)
    assert (await stage.trail(event)).count("container done") == 2
    assert await stage.live_count() == 1
