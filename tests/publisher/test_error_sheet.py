"""The reference sheet's error tables through the real publisher: status texts, and how often an error is borne."""

from __future__ import annotations

import pytest

from outbox.outcome import Dead, Defer, Hold, Outcome, Retry
from publisher.error_table import UNLISTED, Reaction
from publisher.reactions import row_for
from tests.publisher.sheet import SHEET, WALKS, Line
from tests.publisher.stage import Stage

pytestmark = pytest.mark.anyio

FAILED_CONTAINERS_MAX = 3
PREPARED_BY = {"instagram": "create_container", "facebook": "upload_photo"}
STATUS_LINES = [line for line in SHEET if "S" in line.seen_in]


@pytest.mark.parametrize("line", SHEET, ids=lambda line: line.id)
def test_each_row_of_the_sheet_is_in_the_table_as_the_sheet_has_it(line: Line) -> None:
    """The same reaction, as often."""
    row = row_for(line.code, line.subcode)
    assert row is not UNLISTED
    assert (row.reaction, row.tries if line.times is not None else None) == (line.reaction, line.times)


@pytest.mark.parametrize("line", STATUS_LINES, ids=lambda line: line.id)
async def test_a_status_text_is_followed_as_often_as_the_sheet_says(stage: Stage, line: Line) -> None:
    """A container that fails again and again: so many others are made, an attempt each, and then the event is dead."""
    body = f'{{"status_code": "ERROR", "status": "Error: Media upload has failed with error code {line.subcode}"}}'
    await stage.graph.fault("container_status", "error", status=200, body=body, times=None)
    event = await stage.approve("instagram video")
    play = await stage.play(event)
    burned = sum(isinstance(outcome, Retry) for outcome in play.outcomes)
    expected = 0 if line.reaction is Reaction.DEAD else line.times or FAILED_CONTAINERS_MAX
    assert isinstance(play.end, Dead), play.outcomes
    assert burned == expected
    assert (await stage.trail(event)).count("container refused") == expected + 1
    assert await stage.rows("select count(*) from outbox.attempts where event_id = %s", event.id) == [(expected,)]
    assert await stage.live_count() == 0


async def test_a_status_text_that_nobody_knows_has_other_containers_made(stage: Stage) -> None:
    """A bounded number of times, and the text is kept for people."""
    body = '{"status_code": "ERROR", "status": "Error: the moon is full"}'
    await stage.graph.fault("container_status", "error", status=200, body=body, times=None)
    end = (await stage.play(await stage.approve("instagram video"))).end
    assert isinstance(end, Dead)
    assert "the moon is full" in end.error


@pytest.mark.parametrize(
    ("line", "platform"),
    [(line, platform) for line, platform in WALKS if line.times is not None],
    ids=lambda value: value.id if isinstance(value, Line) else value,
)
async def test_an_error_that_stays_ends_after_as_many_tries_as_the_sheet_says(
    stage: Stage, line: Line, platform: str
) -> None:
    """Each try costs an attempt, but where it is a pause; other failures and waits before it don't count."""
    call, others = PREPARED_BY[platform], 3
    await stage.graph.fault(call, "error", code=2, times=others)
    event = await stage.approve(f"{platform} image")
    outcomes: list[Outcome] = []
    while not outcomes or not isinstance(outcomes[-1], Dead):
        if len(outcomes) == others:
            await stage.graph.fault(call, **line.script(), times=None)
        outcomes.append(await stage.dispatch(event, attempts=len(outcomes), deferrals=len(outcomes)))
        assert len(outcomes) < 10
    assert [type(outcome) for outcome in outcomes] == [
        *[Defer] * others,
        *[Hold if line.reaction is Reaction.DEFER else Retry] * (line.times or 0),
        Dead,
    ]
    assert await stage.live_count() == 0


async def test_refusals_of_a_media_host_are_counted_by_themselves(stage: Stage) -> None:
    """Three failures of Meta's before the first 404 are no reason to give the file up."""
    await stage.graph.fault("create_container", "error", code=2, times=3)
    event = await stage.approve("instagram image", file="late.jpg")
    stage.files["late.jpg"] = stage.files["story.jpg"]
    outcomes = [await stage.dispatch(event, attempts=attempts) for attempts in range(3)]
    await stage.execute("delete from outbox.steps")  # what was found of the media, too
    del stage.files["late.jpg"]
    outcomes += [await stage.dispatch(event, attempts=3 + attempts) for attempts in range(4)]
    assert [type(outcome) for outcome in outcomes] == [*[Defer] * 3, *[Retry] * 3, Dead]
