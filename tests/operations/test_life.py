"""An event's whole life is told in order of time, and nothing of it is left out."""

from __future__ import annotations

import pytest
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from outbox.errors import Refused
from outbox.event import EventId
from outbox.life import Attempt, ReceiptWritten, StepWritten, load_life
from outbox.operations import cancel
from outbox.replay import replay
from tests.operations.histories import Histories

pytestmark = pytest.mark.anyio

Connection = AsyncConnection[TupleRow]


async def test_a_life_tells_everything_in_order(connection: Connection, histories: Histories) -> None:
    """Emitted, tried, stepped, asked to be cancelled, dispatched, ended, replayed."""
    event_id = histories.emit("variant.created", payload={"variant_id": "v"}, key="k", dedupe_key="d")
    histories.attempt(event_id, "no answer", {"role": "r"})
    histories.step(event_id, "container", "done", {"id": "1"})
    histories.step(event_id, "publish", "intent")
    histories.step(event_id, "publish", "refused")
    await cancel(connection, event_id, reason="wrong picture")
    histories.end(event_id, "dead", reason="rejected", error="no")
    replayed = await replay(connection, event_id)

    life = await load_life(connection, event_id)
    told = ["emitted", "attempt", "step", "step", "step", "cancellation_asked", "dispatched", "receipt", "replayed"]
    assert [moment.what for moment in life.moments] == told
    assert (life.event.state, life.payload, life.dedupe_key, life.may_be_live) == (
        "dead",
        {"variant_id": "v"},
        "d",
        False,
    )
    attempt, step, receipt = life.moments[1], life.moments[3], life.moments[7]
    assert isinstance(attempt, Attempt)
    assert (attempt.reason, attempt.error, attempt.context, attempt.relay) == (
        "retry",
        "no answer",
        {"role": "r"},
        "host:1",
    )
    assert isinstance(step, StepWritten)
    assert (step.position, step.name, step.state) == (2, "publish", "intent")
    assert isinstance(receipt, ReceiptWritten)
    assert (receipt.outcome, receipt.reason, receipt.error) == ("dead", "rejected", "no")
    other = await load_life(connection, replayed.replay_id)
    assert other.event.replay_of == event_id


async def test_a_waiting_life_tells_what_it_waits_for(connection: Connection, histories: Histories) -> None:
    """The waiting row, and the holds on its key and on the app; an infinite wait is None."""
    event_id = histories.emit(key="k")
    histories.wait(event_id, "held", error="the token has expired")
    for held in ("", "k", "other"):
        histories.hold(held)
    life = await load_life(connection, event_id)
    assert life.waiting is not None
    assert (life.waiting.reason, life.waiting.due_at, life.waiting.error) == ("held", None, "the token has expired")
    assert [(hold.scope, hold.key, hold.held_until) for hold in life.holds] == [("app", "", None), ("key", "k", None)]


async def test_an_ended_life_tells_no_holds(connection: Connection, histories: Histories) -> None:
    """What holds its key now has nothing to do with it."""
    event_id = histories.ended("published", key="k")
    histories.hold("k")
    life = await load_life(connection, event_id)
    assert (life.holds, life.waiting, life.may_be_live) == ([], None, True)


async def test_an_event_that_does_not_exist_has_no_life(connection: Connection) -> None:
    """A sentence."""
    with pytest.raises(Refused, match="event 7 does not exist"):
        await load_life(connection, EventId(7))
