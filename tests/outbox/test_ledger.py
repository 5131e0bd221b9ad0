"""A ledger tells what an event's handler has done, and records what it is about to do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from outbox.errors import EventCancelled
from outbox.event import Event, EventId, Lane
from outbox.ledger import Ledger, Step, StepState

pytestmark = pytest.mark.anyio

NOW = datetime(2030, 1, 2, tzinfo=UTC)
EVENT = Event(EventId(1), Lane(1), "k", None, "t", {}, {}, None, None, None, NOW)

INTENT, DONE, REFUSED = StepState.INTENT, StepState.DONE, StepState.REFUSED


def ledger(*steps: tuple[str, StepState]) -> Ledger:
    """A ledger whose writes succeed, with some steps behind it."""

    async def write(event: Event, step: Step, call_seconds: float | None) -> datetime:
        return NOW

    rows = [Step(position, name, state, {"n": position}) for position, (name, state) in enumerate(steps, start=1)]
    return Ledger(EVENT, write, rows)


async def test_a_step_is_remembered_once_it_is_durable() -> None:
    """What was written can be asked for, with its instant."""
    made = ledger()
    step = await made.intent("publish", fingerprint="f", detail={"a": 1}, call_seconds=5)
    assert step == Step(1, "publish", INTENT, {"a": 1}, "f", NOW)
    assert made.steps == [step]


async def test_a_step_that_is_refused_to_be_written_is_not_remembered() -> None:
    """A cancelled event has no open intent: its call was not made."""

    async def write(event: Event, step: Step, call_seconds: float | None) -> datetime:
        raise EventCancelled("cancelled")

    made = Ledger(EVENT, write)
    with pytest.raises(EventCancelled):
        await made.intent("publish", fingerprint="f", detail={}, call_seconds=5)
    assert made.open_intent() is None


async def test_positions_count_up_from_the_last_one() -> None:
    """A second owner's steps follow the first one's."""
    made = ledger(("container", DONE), ("publish", INTENT))
    assert (await made.done("publish", {})).position == 3


@pytest.mark.parametrize(
    ("steps", "is_open"),
    [
        ([], False),
        ([("publish", INTENT)], True),
        ([("publish", INTENT), ("publish", DONE)], False),
        ([("publish", INTENT), ("publish", REFUSED)], False),
        ([("publish", INTENT), ("publish", REFUSED), ("publish", INTENT)], True),
        ([("publish", INTENT), ("container", DONE)], True),
        ([("photo", INTENT), ("photo", DONE), ("publish", INTENT)], True),
        ([("container", DONE)], False),
    ],
)
def test_an_intent_is_open_until_its_step_is_answered(steps: list[tuple[str, StepState]], is_open: bool) -> None:
    """Done and refused close it, other steps do not."""
    assert (ledger(*steps).open_intent() is not None) == is_open


def test_an_earlier_open_intent_is_not_hidden_by_a_later_one_that_is_answered() -> None:
    """Whatever may be live is found, in whatever order the steps stand."""
    made = ledger(("photo", INTENT), ("publish", INTENT), ("publish", DONE))
    step = made.open_intent()
    assert step is not None
    assert step.name == "photo"


def test_an_answer_is_that_of_the_newest_row() -> None:
    """A step that was begun again after its answer has none."""
    assert ledger(("publish", DONE)).answer("publish") == {"n": 1}
    assert ledger(("publish", DONE), ("publish", INTENT)).answer("publish") is None
    assert ledger(("publish", REFUSED)).answer("publish") is None
    assert ledger().answer("publish") is None
