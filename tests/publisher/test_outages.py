"""Meta fails by itself, for hours: the events that it fails wait, and are published when it is back."""

from __future__ import annotations

from typing import Any

import pytest

from outbox.outcome import Defer, Published, Reason, Retry
from publisher.error_table import DAY
from publisher.errors import GraphError, NoAnswer, NotSent, TooLate
from publisher.limits import Failure, Outage, outage_outcome_of
from tests.publisher.stage import Stage, open_stage, quick

pytestmark = pytest.mark.anyio
WAITS = (2.0, 300.0)
ATTEMPTS_MAX = 24
FAULTS: dict[str, dict[str, Any]] = {
    "drop": {"action": "drop"},
    "code 2": {"action": "error", "code": 2},
    "code 1 with 400": {"action": "error", "code": 1, "status": 400},
    "an unknown code with 500": {"action": "error", "code": 4711, "status": 500},
    "HTML": {"action": "error", "status": 502, "body": "<html></html>"},
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("kind", "call"),
    [
        ("instagram image", "create_container"),
        ("instagram image", "container_status"),
        ("instagram image", "list_stories"),
        ("facebook image", "upload_photo"),
        ("facebook reel", "start_reel"),
    ],
)
async def test_an_outage_costs_no_attempt(database: str, kind: str, call: str, fault: str) -> None:
    """However many calls of a lone event fail, too few to open a circuit, it is published when Meta is back."""
    async with open_stage(database, quick(circuit_failures=1000)) as stage:
        outage = await stage.graph.fault(call, times=None, **FAULTS[fault])
        event = await stage.approve(kind)
        for _ in range(ATTEMPTS_MAX + 1):
            outcome = await stage.dispatch(event)
            assert isinstance(outcome, Defer), outcome
        await stage.graph.control("DELETE", f"faults/{outage}")
        play = await stage.play(event)
        assert isinstance(play.end, Published), play.outcomes
        assert await stage.live_count() == 1


async def test_an_outage_ends_where_something_is_made(database: str) -> None:
    """What comes after it is another one: its first wait is short again."""
    first, longest = 0.01, 0.08
    async with open_stage(database, quick(outage_seconds=(first, longest))) as stage:
        await stage.graph.fault("create_container", "error", code=2, times=4)
        await stage.graph.fault("list_stories", "error", code=2, times=1)
        event = await stage.approve("instagram image")
        outcomes = [await stage.dispatch(event) for _ in range(5)]
    waits = [outcome.delay_seconds for outcome in outcomes if isinstance(outcome, Defer)]
    assert len(waits) == 5
    assert waits[0] <= first < longest / 2 <= waits[3]  # doubled thrice; jitter takes half at most
    assert waits[4] <= first


async def test_an_event_with_a_deadline_is_tried_until_then(stage: Stage) -> None:
    """Also after a day, where one without a deadline begins to count attempts."""
    await stage.graph.fault("create_container", "error", code=2, times=None)
    patient = await stage.create(
        "instagram", media_url=f"{stage.media_url}/story.jpg", expires_at="2100-01-01T00:00:00Z"
    )
    lone = await stage.approve("instagram image")
    for event in (patient, lone):
        assert isinstance(await stage.dispatch(event), Defer)
    await stage.execute("alter table outbox.steps disable trigger all")
    await stage.execute("update outbox.steps set created_at = created_at - interval '25 hours'")
    assert isinstance(await stage.dispatch(patient), Defer)
    assert isinstance(await stage.dispatch(lone), Retry)


@pytest.mark.parametrize(
    ("outage", "expected"),
    [
        (Outage(1, 0, None), 2),
        (Outage(4, 14, None), 16),
        (Outage(1000, DAY, None), 300),
        (Outage(1000, 40 * DAY, 7 * DAY), 300),
        (Outage(1000, DAY, 100), 50),
        (Outage(1000, DAY, 3), 2),
        (Outage(1000, DAY, -1), 2),
    ],
)
def test_the_wait_doubles_and_halves_what_is_left(outage: Outage, expected: float) -> None:
    """So that it is tried once more before the deadline, however late Meta comes back."""
    outcome = outage_outcome_of(Failure.of(NoAnswer("nothing")), outage, WAITS)
    assert isinstance(outcome, Defer)
    assert (outcome.delay_seconds, outcome.reason) == (expected, Reason.RATE_LIMITED)


def test_after_a_day_without_a_deadline_attempts_count() -> None:
    """It may be what Meta makes of this content: it ends."""
    assert isinstance(outage_outcome_of(Failure.of(NoAnswer("nothing")), Outage(300, DAY + 1, None), WAITS), Retry)


@pytest.mark.parametrize(
    ("error", "is_outage"),
    [
        (NoAnswer("nothing"), True),
        (NotSent("no connection"), True),
        (TooLate("an intent was late"), False),
        (GraphError("media", "", code=1), True),
        (GraphError("media", "", code=-1, subcode=2207001), True),
        (GraphError("media", "", code=4711, status=503), True),
        (GraphError("media", "", code=4711), False),
        (GraphError("media", "", code=100, status=500), False),
        (GraphError("media", "", code=9004, subcode=2207052, status=500), False),
    ],
)
def test_what_an_outage_is(error: GraphError | NoAnswer, is_outage: bool) -> None:
    """What Meta says of the content or the account is none, whatever its HTTP status."""
    assert Failure.of(error).is_outage is is_outage
    assert Failure.read(Failure.of(error).detail).is_outage is is_outage
