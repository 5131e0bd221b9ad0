"""The one writer of outcomes tells the scheduler what is durable, and nothing that is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import pytest
from prometheus_client import CollectorRegistry

from outbox import lease
from outbox.event import EventId
from outbox.outcome import Published, Reason, Retry
from relay.backoff import Backoff
from relay.decide import Policy
from relay.delivery import Delivery, Park
from relay.holds import Holds
from relay.metrics import RelayMetrics
from relay.scheduler import Scheduler
from relay.settler import Settler
from tests.outbox.store import event
from tests.relay.running import Store, rows, value

pytestmark = pytest.mark.anyio


class Writer:
    """A settler on a connection, with what it tells."""

    def __init__(self, store: Store, relay_id: int) -> None:
        self.scheduler = Scheduler()
        self.durable: list[EventId] = []
        self.meanwhile: list[Delivery] = []
        self.settler = Settler(
            connection=store,
            relay_id=relay_id,  # type: ignore[arg-type]
            policy=Policy(8, Backoff(60, 60), Random(1)),
            scheduler=self.scheduler,
            holds=Holds(),
            metrics=RelayMetrics(CollectorRegistry(), ["t"]),
            on_durable=self.on_durable,
            on_waiting=lambda _: None,
            renew_lease=self.renew,
        )

    def on_durable(self, event_ids: Sequence[EventId]) -> None:
        """What comes from the log while the settler is at work."""
        self.durable += event_ids
        while self.meanwhile:
            self.offer(self.meanwhile.pop(0))

    def offer(self, delivery: Delivery) -> bool:
        """As the relay does: queue it, or park it behind its sequence."""
        queued = self.scheduler.offer(delivery)
        if not queued:
            self.settler.settle(delivery, Park(Reason.PARKED, math.inf))
        return queued

    async def renew(self) -> None:
        """No lease is renewed here."""


@pytest.fixture
async def writer(store: Store) -> Writer:
    """A settler of an incarnation that owns all lanes."""
    relay_id = await lease.join(store, name="test", version="0", lease_seconds=60)
    await lease.take_lanes(store, relay_id)
    return Writer(store, relay_id)


async def test_what_is_submitted_together_is_one_statement(store: Store, writer: Writer) -> None:
    """A hundred outcomes are one commit."""
    for _ in range(100):
        writer.settler.settle(Delivery(await event(store)), Published())
    await writer.settler.flush()
    assert await value(store, "select count(distinct xmin::text) from outbox.receipts") == 1
    assert len(writer.durable) == 100


async def park_behind_one_that_ends(writer: Writer, first: Delivery, second: Delivery) -> None:
    """Let the first event of a sequence wait, come back and end; the second one comes while its end is written."""
    assert writer.offer(first)
    writer.scheduler.take()
    writer.scheduler.finished(first)
    writer.settler.settle(first, Retry("once"))
    await writer.settler.flush()

    back = Delivery(first.event, attempts=1, waiting=True)
    assert writer.offer(back)
    writer.scheduler.take()
    writer.scheduler.finished(back)
    writer.settler.settle(back, Published())
    writer.meanwhile.append(second)
    await writer.settler.flush()


async def test_an_event_that_parked_behind_one_that_has_ended_is_due(store: Store, writer: Writer) -> None:
    """It came when the first one still waited, as far as was known; nothing is before it any more."""
    first, second = [Delivery(await event(store, key="k", sequence="s")) for _ in range(2)]
    await park_behind_one_that_ends(writer, first, second)
    await writer.settler.flush()
    due = await rows(store, "select event_id from outbox.waiting where due_at <= clock_timestamp()")
    assert due == [(second.event.id,)]


async def test_no_event_overtakes_one_that_parked_a_moment_ago(store: Store, writer: Writer) -> None:
    """A sequence stays blocked while the waiting row of one of its events is not yet written."""
    first, second, third = [Delivery(await event(store, key="k", sequence="s")) for _ in range(3)]
    await park_behind_one_that_ends(writer, first, second)
    assert not writer.offer(third), "the third event runs before the second one"
