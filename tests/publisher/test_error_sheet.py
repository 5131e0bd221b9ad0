"""The reference sheet's error tables through the real publisher: status texts, and how often an error is borne."""

from __future__ import annotations

import pytest

from outbox.outcome import Dead, Defer, Hold, Retry
from publisher.error_table import UNLISTED, Reaction
from publisher.reactions import row_for
from tests.publisher.sheet import GENERAL, PAGE, SHEET, Line
from tests.publisher.stage import Stage

pytestmark = pytest.mark.anyio

FAILED_CONTAINERS_MAX = 3
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
    "line", [line for line in (*GENERAL, *PAGE) if line.times is not None], ids=lambda line: line.id
)
async def test_an_error_of_a_page_that_stays_ends_after_as_many_tries_as_the_sheet_says(
    stage: Stage, line: Line
) -> None:
    """Each try costs an attempt, but where it is a pause."""
    await stage.graph.fault("upload_photo", "error", code=line.code, subcode=line.subcode, times=None)
    event = await stage.approve("facebook image")
    if line.reaction is Reaction.DEFER:
        outcomes = [await stage.dispatch(event, deferrals=paused) for paused in range(2)]
    else:
        outcomes = [each for each in (await stage.play(event)).outcomes if not isinstance(each, Defer)]
    assert [type(outcome) for outcome in outcomes] == [
        *[Hold if line.reaction is Reaction.DEFER else Retry] * (line.times or 0),
        Dead,
    ]
    assert await stage.live_count() == 0
