"""The reader goes on from where the owners of its lanes before it have left them."""

from __future__ import annotations

from typing import LiteralString

import anyio
import pytest
from prometheus_client import CollectorRegistry

import relay.reader
from outbox import lease
from outbox.database import PLANNER_SETTINGS, connect
from outbox.log import take_snapshot
from outbox.low_water import Cursor
from relay.delivery import Delivery
from relay.doorbell import Doorbell
from relay.metrics import RelayMetrics
from relay.reader import Reader
from relay.scheduler import Scheduler
from relay.spill import Spill
from tests.outbox.store import LANES, event
from tests.relay.running import Store, settings

pytestmark = pytest.mark.anyio

PUBLISHED: LiteralString = """
insert into outbox.receipts (event_id, outcome, attempts, deferrals, relay_id) values (%s, 'published', 0, 0, %s)
"""


async def test_lanes_that_are_taken_while_a_snapshot_is_on_its_way_are_not_read_to_it(
    database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their owner before us has read further: what it settled is not read again."""
    relay_id = await lease.join(store, name="test", version="0", lease_seconds=60)
    metrics = RelayMetrics(CollectorRegistry(), ["t"])
    offered: list[Delivery] = []
    read = anyio.Event()

    def offer(delivery: Delivery) -> None:
        offered.append(delivery)
        if delivery.event.payload:
            read.set()

    lane = (await event(store, key="k")).lane
    start = await take_snapshot(store)

    async def take_late(connection: Store) -> str:
        """The server answers; before we hear of it, a lane comes to us of which an event was settled since."""
        snapshot = await take_snapshot(connection)
        if len(reader.logs) == 2:
            settled = await event(store, key="k")
            await store.execute(PUBLISHED, [settled.id, relay_id])
            reader.take([(Cursor(start, await take_snapshot(store), settled.id), [lane])])
        return snapshot

    monkeypatch.setattr(relay.reader, "take_snapshot", take_late)
    async with await connect(database, application_name="outbox-test", settings=PLANNER_SETTINGS) as connection:
        polling = settings(database, poll_unlistened_seconds=0.01)
        doorbell = Doorbell(polling, connection, relay_id, metrics, set(), lambda: None, lambda: None)
        spill = Spill(connection, Scheduler(), offer, 1000, lambda: None, metrics)
        reader = Reader(connection, 100, doorbell, offer, 1000, metrics, spill, lambda: False)
        others = [other for other in LANES if other != lane]
        reader.take([(Cursor(start, start), others[:31]), (Cursor(start, start), others[31:])])
        async with anyio.create_task_group() as group:
            await group.start(reader.run)
            with anyio.fail_after(60):
                while len(reader.logs) == 2:  # noqa: ASYNC110 (tells nobody)
                    await anyio.sleep(0.005)
                await store.execute("select outbox.emit('t', '{\"is\": \"last\"}', key => 'k')")
                await read.wait()
            group.cancel_scope.cancel()
    assert [delivery.event.payload for delivery in offered] == [{"is": "last"}]
