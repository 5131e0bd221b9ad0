"""The reader goes on from where the owners of its lanes before it have left them."""

from __future__ import annotations

from collections.abc import Sequence
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

    def offer(deliveries: Sequence[Delivery]) -> None:
        offered.extend(deliveries)
        if any(delivery.event.payload for delivery in deliveries):
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
        reader = Reader(connection, connection, 100, doorbell, offer, 1000, metrics, spill, lambda: False)
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


async def test_what_is_kept_of_hot_keys_has_a_bound(
    database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of theirs ends: reading pauses, with so many ids and so many events in hand, and goes no further."""
    ids_max, in_hand_max, slice_count = 50, 40, 20
    monkeypatch.setattr(relay.reader, "SPILLED_MAX", ids_max)
    relay_id = await lease.join(store, name="test", version="0", lease_seconds=60)
    metrics = RelayMetrics(CollectorRegistry(), ["t"])
    scheduler = Scheduler()

    def offer(deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            scheduler.offer(delivery)

    async with await connect(database, application_name="outbox-test", settings=PLANNER_SETTINGS) as connection:
        polling = settings(database, poll_unlistened_seconds=0.01)
        doorbell = Doorbell(polling, connection, relay_id, metrics, set(), lambda: None, lambda: None)
        spill = Spill(connection, scheduler, offer, in_hand_max, lambda: None, metrics)
        reading = (connection, connection, slice_count)
        reader = Reader(*reading, doorbell, offer, in_hand_max, metrics, spill, lambda: False)
        start = await take_snapshot(store)
        reader.take([(Cursor(start, start), LANES)])
        emitted_count = 0
        async with anyio.create_task_group() as group:
            await group.start(reader.run)
            with anyio.fail_after(60):
                # Each look finds less than there is room for: of what is listed together more is kept at once.
                while emitted_count < 400 and spill.count < ids_max:
                    for _ in range(slice_count // 2):
                        await event(store, key="k")
                    emitted_count += slice_count // 2
                    while reader.in_hand_count + spill.count < emitted_count:
                        if spill.count >= ids_max:
                            break
                        await anyio.sleep(0.005)
                for _ in range(2 * in_hand_max):
                    await event(store, key="k")
                while not reader.is_full:  # noqa: ASYNC110 (tells nobody)
                    await anyio.sleep(0.005)
            group.cancel_scope.cancel()
        assert ids_max <= spill.count <= ids_max + slice_count
        assert reader.in_hand_count <= 2 * in_hand_max
