"""The reference sheet's error tables, every row for each platform that it is of, through the real publisher.

A row is walked where it can come: from the first call that prepares, and from the call that can't be taken back, which
had taken effect or not. Each walk says what becomes of the event, what that costs, who is held and why, what is
counted, and what is live. Status texts of containers are in `test_error_sheet.py`.
"""

from __future__ import annotations

import pytest

from outbox.outcome import Dead, Defer, Hold, Outcome, Published, Retry, Unknown
from publisher.error_table import TABLE, UNLISTED, Reaction
from publisher.errors import GraphError, NoAnswer
from publisher.reactions import classify, row_for
from tests.publisher.kinds import KIND
from tests.publisher.sheet import SHEET, SILENCE, WALKS, Line
from tests.publisher.stage import Stage

pytestmark = pytest.mark.anyio

PLATFORMS = ("instagram", "facebook")
PREPARED_BY = {
    "instagram": ("instagram image",),
    "facebook": ("facebook image", "facebook feed video", "facebook reel"),
}
PUBLISHED_BY = {
    "instagram": ("instagram image",),
    "facebook": ("facebook image", "facebook photo", "facebook reel"),
}
OUTCOMES: dict[Reaction, type[Outcome]] = {
    Reaction.RETRY: Retry,
    Reaction.NEW_CONTAINER: Retry,
    Reaction.WAIT: Retry,
    Reaction.RECONCILE: Retry,
    Reaction.DEFER: Hold,
    Reaction.TOKEN: Hold,
    Reaction.ACCOUNT: Hold,
    Reaction.DEAD: Dead,
}
# Who pauses: all that the app does, or one account (sheet 4.3).
OF_THE_APP = {(4, None), (341, None)}


def of(platform: str) -> list[Line]:
    """Return the rows that a platform's calls may answer."""
    return [line for line, whose in WALKS if whose == platform]


def error_of(line: Line, endpoint: str) -> GraphError | NoAnswer:
    """Return what the publisher's client makes of a row."""
    if line.is_silence:
        return NoAnswer("nothing")
    return GraphError(endpoint, "", code=line.number, subcode=line.subcode)


def check_hold(outcome: Outcome, line: Line) -> None:
    """A hold costs no attempt, and says who pauses and why."""
    assert isinstance(outcome, Hold)
    reason = {Reaction.TOKEN: "token", Reaction.ACCOUNT: "account"}.get(line.reaction)
    assert outcome.reason == (reason or row_for(line.code, line.subcode).hold), line
    assert outcome.scope == ("app" if (line.code, line.subcode) in OF_THE_APP else "key"), line


def test_every_row_of_the_sheet_is_walked_and_every_row_of_the_table_is_in_the_sheet() -> None:
    """A row that is added to either alone fails here."""
    assert {line.id for line in (*SHEET, *SILENCE)} == {line.id for line, _ in WALKS}
    assert len({line.id for line in (*SHEET, *SILENCE)}) == len(SHEET) + len(SILENCE)
    rows = [row_for(line.number, line.subcode) for line in SHEET]
    assert UNLISTED not in rows
    assert [row for row in TABLE if row not in rows] == []
    assert {platform for _, platform in WALKS} == set(PLATFORMS)


@pytest.mark.parametrize(
    ("platform", "kind"), [(platform, kind) for platform in PLATFORMS for kind in PREPARED_BY[platform]]
)
async def test_every_error_before_the_call_has_its_outcome(stage: Stage, platform: str, kind: str) -> None:
    """A retry costs one attempt, a hold and an outage none; the metric counts it; nothing is live."""
    call = KIND[kind].calls[0]
    for line in of(platform):
        before = stage.metric("outbox_graph_errors_total", reaction=line.reaction.value)
        await stage.graph.fault(call, **line.script())
        outcome = await stage.dispatch(await stage.approve(kind))
        # What has no tries of its own ends at once; what is Meta's own failure is waited out.
        expected = Defer if line.is_outage else OUTCOMES[line.reaction]
        assert isinstance(outcome, Dead if line.times == 0 else expected), (line, outcome)
        if isinstance(outcome, Hold):
            check_hold(outcome, line)
        assert stage.metric("outbox_graph_errors_total", reaction=line.reaction.value) == before + 1, line
    assert await stage.live_count() == 0


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_every_error_of_a_call_that_took_effect_ends_as_published(stage: Stage, platform: str) -> None:
    """Whatever it says, unless it certainly came before: a look finds the post, and nothing is called twice."""
    expected = 0
    for number, line in enumerate(of(platform)):
        if classify(error_of(line, "publish"), irreversible=True).reaction is not Reaction.RECONCILE:
            continue
        kind = PUBLISHED_BY[platform][number % len(PUBLISHED_BY[platform])]
        await stage.graph.fault(KIND[kind].publishing, **line.script(applied=True))
        play = await stage.play(await stage.approve(kind))
        expected += 1
        assert isinstance(play.end, Published), (line, play.outcomes)
        assert not any(isinstance(outcome, Retry) for outcome in play.outcomes), line
        assert play.end.result["verified"] == "reconciled", line
        assert await stage.live_count() == expected, line
    assert expected > 45


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_no_error_of_a_call_that_did_not_take_effect_is_acted_on_before_a_look(
    stage: Stage, platform: str
) -> None:
    """Unknown first, unless it certainly came before; a definite refusal has its own outcome at once."""
    for number, line in enumerate(of(platform)):
        kind = PUBLISHED_BY[platform][number % len(PUBLISHED_BY[platform])]
        reaction = classify(error_of(line, "publish"), irreversible=True).reaction
        before = stage.metric("outbox_graph_errors_total", reaction=reaction.value)
        await stage.graph.fault(KIND[kind].publishing, **line.script())
        event = await stage.approve(kind)
        play = await stage.play(event, until=lambda outcome: not isinstance(outcome, Defer))
        trail = await stage.trail(event)
        if reaction is Reaction.RECONCILE:
            assert isinstance(play.end, Unknown), (line, play.end)
            assert trail[-1] == "reconcile done"
        else:
            assert "publish refused" in trail, line
            assert not isinstance(play.end, Unknown), (line, play.end)
            if reaction is not Reaction.WAIT:
                assert isinstance(play.end, OUTCOMES[reaction]), (line, play.end)
            if isinstance(play.end, Hold):
                check_hold(play.end, line)
        if reaction is not Reaction.WAIT:
            assert stage.metric("outbox_graph_errors_total", reaction=reaction.value) == before + 1, line
            assert await stage.live_count() == 0, line
        else:
            await stage.graph.control("POST", "reset")
