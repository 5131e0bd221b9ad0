"""Deliveries for the tests of pure decisions."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import Any

from outbox.event import Event, EventId, Lane
from outbox.ledger import Step, StepState
from relay.delivery import Delivery

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
INTENT = Step(1, "publish", StepState.INTENT, {})

_EVENT = Event(EventId(0), Lane(1), None, None, "t", {}, {}, None, None, None, NOW)
_NUMBERS = count(1)


def delivery(
    key: str | None = None, sequence: str | None = None, *, steps: list[Step] | None = None, **changes: Any
) -> Delivery:
    """A delivery of an event with an id above all earlier ones; `changes` are the event's."""
    event = _EVENT._replace(id=EventId(next(_NUMBERS)), key=key, sequence=sequence, **changes)
    return Delivery(event, steps=steps or [])
