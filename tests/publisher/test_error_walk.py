"""Every row of the error tables through the real publisher: what becomes of the event, and what is live."""

from __future__ import annotations

import pytest

from outbox.outcome import Dead, Hold, Published, Retry, Unknown
from publisher.error_table import TABLE, Reaction
from publisher.errors import GraphError
from publisher.reactions import classify, row_for
from tests.publisher.stage import Stage
from tests.publisher.test_reactions import REVERSIBLE

pytestmark = pytest.mark.anyio

ROWS = [pytest.param(code, subcode, reaction, id=f"{code}-{subcode}") for code, subcode, reaction in REVERSIBLE]
EXPECTED = {
    Reaction.RETRY: Retry,
    Reaction.NEW_CONTAINER: Retry,
    Reaction.WAIT: Retry,
    Reaction.RECONCILE: Retry,
    Reaction.DEFER: Hold,
    Reaction.TOKEN: Hold,
    Reaction.ACCOUNT: Hold,
    Reaction.DEAD: Dead,
}


def test_the_walk_leaves_no_row_out() -> None:
    """A row of the code's own table that is not walked fails here."""
    walked = {id(row_for(code, subcode)) for code, subcode, _ in REVERSIBLE}
    assert [row for row in TABLE if id(row) not in walked] == []


async def test_every_error_of_a_create_has_its_outcome(stage: Stage) -> None:
    """A retry costs an attempt, a hold none and it says who pauses and why; the metric counts it; nothing is live."""
    for code, subcode, reaction in REVERSIBLE:
        before = stage.metric("outbox_graph_errors_total", reaction=reaction.value)
        await stage.graph.fault("create_container", "error", code=code, subcode=subcode)
        outcome = await stage.dispatch(await stage.approve("instagram image"))
        row = row_for(code, subcode)
        # What has no tries of its own ends at once.
        expected = Dead if row.tries == 0 else EXPECTED[reaction]
        assert isinstance(outcome, expected), (code, subcode, outcome)
        if isinstance(outcome, Hold):
            reason = {Reaction.TOKEN: "token", Reaction.ACCOUNT: "account"}.get(reaction, row.hold)
            assert (outcome.reason, outcome.scope) == (reason, row.scope), (code, subcode)
        assert stage.metric("outbox_graph_errors_total", reaction=reaction.value) == before + 1
    assert await stage.live_count() == 0


async def test_every_error_of_a_publish_that_took_effect_ends_as_published(stage: Stage) -> None:
    """Whatever it says, unless it certainly came before: the look finds the story, and nothing is called twice."""
    expected = 0
    for code, subcode, _ in REVERSIBLE:
        error = GraphError("media_publish", "", code=code, subcode=subcode)
        if classify(error, irreversible=True).reaction is not Reaction.RECONCILE:
            continue
        await stage.graph.fault("publish_container", "apply_then_error", code=code, subcode=subcode)
        play = await stage.play(await stage.approve("instagram image"))
        expected += 1
        assert isinstance(play.end, Published), (code, subcode, play.outcomes)
        assert play.end.result["verified"] == "reconciled"
        assert await stage.live_count() == expected, (code, subcode)
    assert expected > 50


async def test_no_error_of_a_publish_that_did_not_take_effect_is_acted_on_before_a_look(stage: Stage) -> None:
    """Unknown first, unless it certainly came before; a definite refusal has its own outcome at once."""
    for code, subcode, reaction in REVERSIBLE:
        await stage.graph.fault("publish_container", "error", code=code, subcode=subcode)
        event = await stage.approve("instagram image")
        outcome = await stage.dispatch(event)
        error = GraphError("media_publish", "", code=code, subcode=subcode)
        trail = await stage.trail(event)
        if classify(error, irreversible=True).reaction is Reaction.RECONCILE:
            assert isinstance(outcome, Unknown), (code, subcode, outcome)
            assert trail[-1] == "reconcile done"
        else:
            assert not isinstance(outcome, Unknown | Published), (code, subcode, outcome)
            assert "publish refused" in trail
            assert reaction is not Reaction.RETRY
    assert await stage.live_count() == 0
