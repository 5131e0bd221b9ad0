"""What the workers know of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import anyio
import pytest
from prometheus_client import CollectorRegistry

from outbox.event import Event
from outbox.ledger import Step
from relay.clock import DatabaseClock
from relay.delivery import Delivery
from relay.holds import Holds
from relay.metrics import RelayMetrics
from relay.scheduler import Scheduler
from relay.worker import Workers
from tests.relay.deliveries import delivery

pytestmark = pytest.mark.anyio

CONCURRENCY = 2


async def write_nothing(_event: Event, _step: Step, _call_seconds: float | None) -> datetime:
    """No step is written here."""
    raise AssertionError


async def record_nothing(_event: Event) -> None:
    """Nobody is suspected here."""


def workers(ready: Sequence[Delivery], running: Sequence[Delivery]) -> Workers:
    """Two handlers at once, so many of which are at work."""
    scheduler = Scheduler()
    for each in ready:
        scheduler.offer(each)
    found = Workers(
        scheduler=scheduler,
        handlers={},
        write_step=write_nothing,
        settle=lambda *_: None,
        record_dispatch=record_nothing,
        put_back=lambda _: None,
        pause=lambda *_: None,
        in_doubt_count=lambda: 0,
        clock=DatabaseClock(),
        holds=Holds(),
        metrics=RelayMetrics(CollectorRegistry(), ["t"]),
        concurrency=CONCURRENCY,
        handler_seconds=60,
        short_deferral_seconds=1,
        unknown_seconds=1,
        crashes_max=3,
    )
    found._running.update({each: anyio.CancelScope() for each in running})
    return found


@pytest.mark.parametrize(
    ("keys", "running_count", "falls_behind"),
    [("ab", 0, True), ("ab", 1, True), ("ab", 2, False), ("aaaa", 1, False), ("aaaa", 0, False)],
)
async def test_a_full_room_is_no_keys_doing_while_more_could_run_than_does(
    keys: str, running_count: int, falls_behind: bool
) -> None:
    """Handlers are free and there are events for all of them: what is slow is this process, or its database."""
    ready = [delivery(key) for key in keys]
    running = [delivery(f"running {number}") for number in range(running_count)]
    assert workers(ready, running).falls_behind() is falls_behind
