"""The guard by itself: what it takes for lost, and what may only have been pruned since."""

from __future__ import annotations

import time
from typing import LiteralString

import anyio
import pytest
from prometheus_client import CollectorRegistry

from outbox.batch import Batch, StepRow
from outbox.event import Event
from outbox.ledger import Step, StepState
from outbox.settle import settle
from relay.clock import DatabaseClock
from relay.guard import Guard
from relay.lease import Lease
from relay.metrics import RelayMetrics
from tests.outbox.store import event, receipt
from tests.relay.running import Store, eventually

pytestmark = pytest.mark.anyio

DAY_SECONDS = 86_400.0


class Watch:
    """A guard whose incarnation has joined, and a clock that the test sets."""

    def __init__(self, store: Store) -> None:
        metrics = RelayMetrics(CollectorRegistry(), ["t"])
        self.store = store
        self.later_seconds = 0.0
        self.guard = Guard(metrics, 0, clock=lambda: time.monotonic() + self.later_seconds)
        self.lease = Lease(store, "test", "0", 60, DatabaseClock(), metrics)

    async def join(self) -> None:
        """Join, as the first incarnation of the process."""
        assert await self.guard.admit(self.store, anyio.Event())
        await self.lease.join(None)
        await self.store.execute("update outbox.lanes set relay_id = %s", [self.lease.relay_id])
        self.guard.joined(self.lease)

    async def settle(self, of: Event) -> None:
        """Write its receipt, and tell the guard."""
        await settle(self.store, self.lease.relay_id, Batch(receipts=[receipt(of)]))
        self.guard.settled([of.id])

    async def step(self, of: Event) -> None:
        """Write a step of it, and tell the guard."""
        step = Step(1, "publish", StepState.DONE, {})
        await settle(self.store, self.lease.relay_id, Batch(steps=[StepRow(of, step, None)]))
        self.guard.stepped(of.id, step.position)

    async def is_admitted(self) -> bool:
        """Whether the next incarnation may work; if not, all relays stand still."""
        stop = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(self._stop_if_held, stop)
            admitted = await self.guard.admit(self.store, stop)
            group.cancel_scope.cancel()
        return admitted

    async def _stop_if_held(self, stop: anyio.Event) -> None:
        await eventually(self._is_held)
        stop.set()

    async def _is_held(self) -> bool:
        return self.guard.verify_only


@pytest.fixture
async def watch(store: Store) -> Watch:
    """A guard of an incarnation that owns all lanes."""
    joined = Watch(store)
    await joined.join()
    return joined


async def test_a_step_that_was_pruned_is_not_lost(store: Store, watch: Watch) -> None:
    """The last one may be older than the retention though events are settled all the time: not all have steps."""
    await watch.step(await event(store))
    watch.later_seconds = 3 * DAY_SECONDS
    await watch.settle(await event(store))
    assert await watch.is_admitted()
    await store.execute("delete from outbox.steps")
    assert await watch.is_admitted()


async def test_an_incarnation_that_was_pruned_is_not_lost(store: Store, watch: Watch) -> None:
    """A relay that was cut off for days comes back: another one has retired it, and its row is gone."""
    watch.later_seconds = 3 * DAY_SECONDS
    await store.execute("update outbox.lanes set relay_id = null")
    await store.execute("delete from outbox.relays")
    assert await watch.is_admitted()


@pytest.mark.parametrize("days", [0, 3])
async def test_a_failover_is_believed_only_by_who_knows_what_was_committed(
    store: Store, watch: Watch, days: int
) -> None:
    """What a relay knows after days without the database shows nothing: it asks a person, as one that is new."""
    watch.later_seconds = days * DAY_SECONDS
    await store.execute("update outbox.cluster set timeline = timeline + 1, xid = pg_current_xact_id()")
    assert await watch.is_admitted() is (days == 0)


@pytest.mark.parametrize(
    "forget",
    ["delete from outbox.steps", "delete from outbox.receipts", "delete from outbox.relays"],
    ids=["step", "receipt", "incarnation"],
)
async def test_what_was_committed_lately_and_is_gone_is_lost(store: Store, watch: Watch, forget: LiteralString) -> None:
    """Each of them is looked for."""
    of = await event(store)
    await watch.step(of)
    await watch.settle(of)
    await store.execute("update outbox.lanes set relay_id = null")
    await store.execute(forget)
    assert not await watch.is_admitted()
