"""Notes when the relay calls the handler, to tell afterwards how long a commit takes to reach it."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from outbox.event import Event, EventId
from outbox.handler import Handler, HandlerFactory, Runtime
from outbox.ledger import Ledger
from outbox.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One call of the handler; instants are seconds of the epoch, by this machine's clock."""

    event_id: EventId
    key: str | None
    began_at: float
    ended_at: float


@dataclass(slots=True)
class Dispatches:
    """All calls of the handler, in the order of their ends."""

    ended: list[Dispatch] = field(default_factory=list)

    def of(self, factory: HandlerFactory) -> HandlerFactory:
        """Wrap a handler so that its calls are noted here."""

        @asynccontextmanager
        async def open_noted(runtime: Runtime) -> AsyncIterator[Handler]:
            async with factory(runtime) as handler:

                async def handle(event: Event, ledger: Ledger) -> Outcome:
                    began_at = time.time()
                    try:
                        return await handler(event, ledger)
                    finally:
                        self.ended.append(Dispatch(event.id, event.key, began_at, time.time()))

                yield handle

        return open_noted

    def delay_seconds(self, event_id: EventId, committed_at: float) -> float | None:
        """Return how long after its commit an event reached the handler for the first time.

        None where that says nothing of the relay: its account was at work on another story, for there is never more
        than one of an account in flight.
        """
        first = min((each for each in self.ended if each.event_id == event_id), key=_began_at, default=None)
        if first is None:
            return None
        is_behind = any(
            each.key == first.key
            and each.event_id != event_id
            and each.began_at < first.began_at
            and each.ended_at > committed_at
            for each in self.ended
        )
        return None if is_behind else first.began_at - committed_at


def percentile(values: list[float], percent: float) -> float:
    """Return the smallest value that so many percent of all are not above; of at least one value."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _began_at(dispatch: Dispatch) -> float:
    return dispatch.began_at
