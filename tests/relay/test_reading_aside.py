"""Lanes that a key crowds are read aside, and the other lanes beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import LiteralString

import anyio
import pytest
from prometheus_client import CollectorRegistry

import relay.reader
from outbox import lease
from outbox.database import PLANNER_SETTINGS, connect
from outbox.event import EventId
from outbox.ledger import Step, load_steps
from outbox.log import take_snapshot
from outbox.low_water import Cursor
from relay.delivery import Delivery
from relay.doorbell import Doorbell
from relay.metrics import RelayMetrics
from relay.reader import Reader
from relay.scheduler import Scheduler
from relay.spill import Spill
from tests.outbox.store import LANES, rows
from tests.relay.running import Store, eventually, settings

pytestmark = pytest.mark.anyio

BULK: LiteralString = "select count(outbox.emit('t', '{}', k.key)) from unnest(%s::text[]) as k (key)"
LANES_OF: LiteralString = """
select hashtextextended(k.key, 0) & 63 from unnest(%s::text[]) with ordinality as k (key, position) order by k.position
"""


@dataclass
class Reading:
    """A reader of all lanes on a database of the test's own, and what it has offered; nothing of that ends by itself.

    Attributes:
        reader: The reader.
        offered: What may be handled and has not ended.
        stuck_count: How often it has found that the room which it needs does not get any larger.
    """

    reader: Reader = field(init=False)
    offered: list[Delivery] = field(default_factory=list)
    stuck_count: int = 0

    def is_stuck(self) -> bool:
        """Take note of it; the relay itself is not slow."""
        self.stuck_count += 1
        return False

    def make_room(self) -> None:
        """Some of a hot key was brought back."""
        self.reader.make_room()

    def end(self, count: int, *, except_of: Sequence[str] = ()) -> None:
        """Let so many of what is offered end, of other keys than these."""
        ended = [delivery for delivery in self.offered if delivery.event.key not in except_of][:count]
        for delivery in ended:
            self.offered.remove(delivery)
        self.reader.settled([delivery.event.id for delivery in ended])


@asynccontextmanager
async def reading(database: str, store: Store, *, backlog: Sequence[str] = ()) -> AsyncIterator[Reading]:
    """A reader at work beside the block, with room for 100 events, that reads 20 at once.

    Of each key of the backlog there is an event already, in one commit.
    """
    relay_id = await lease.join(store, name="test", version="0", lease_seconds=60)
    metrics = RelayMetrics(CollectorRegistry(), ["t"])
    scheduler = Scheduler()
    start = await take_snapshot(store)
    await store.execute(BULK, [list(backlog)])
    found = Reading()

    def offer(deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            scheduler.offer(delivery)
            found.offered.append(delivery)

    async with (
        await connect(database, application_name="outbox-test", settings=PLANNER_SETTINGS) as connection,
        await connect(database, application_name="outbox-test", settings=PLANNER_SETTINGS) as aside,
    ):
        polling = settings(database, poll_unlistened_seconds=0.01)
        doorbell = Doorbell(polling, connection, relay_id, metrics, set(), lambda: None, lambda: None)
        spill = Spill(aside, scheduler, offer, 100, found.make_room, metrics)
        reader = Reader(connection, aside, 20, doorbell, offer, 100, metrics, spill, found.is_stuck)
        found.reader = reader
        reader.take([(Cursor(start, start), LANES)])
        async with anyio.create_task_group() as group:
            await group.start(reader.run)
            await group.start(spill.run)
            yield found
            group.cancel_scope.cancel()


async def is_idle(reader: Reader) -> bool:
    """Whether it reads all lanes together, and has caught up."""
    return len(reader.logs) == 1 and not reader.logs[0].catching_up


async def test_a_key_crowds_lanes_that_are_read_aside_together(database: str, store: Store) -> None:
    """Two lanes were parted from the others, which have a backlog; then one of both is crowded again."""
    hot, keys = ["a", "b"], [f"key{number}" for number in range(3000)]
    hot_lanes = await lanes_of(store, hot)
    lanes = await lanes_of(store, keys)
    others = [key for key, lane in zip(keys, lanes, strict=True) if lane not in hot_lanes]
    async with reading(database, store) as found:
        reader = found.reader
        await eventually(lambda: is_idle(reader))
        await store.execute(BULK, [[*["a"] * 20_000, *["b"] * 9000, *others]])

        async def are_aside_together() -> bool:
            found.end(10, except_of=hot)
            return any(sorted(log.lanes) == sorted(hot_lanes) for log in reader.logs)

        await eventually(are_aside_together)
        hot_count = reader.spill.count + reader.spill.in_hand_count
        await store.execute(BULK, [["a"] * 100])

        async def is_known() -> bool:
            found.end(10, except_of=hot)
            return reader.spill.count + reader.spill.in_hand_count >= hot_count + 100

        await eventually(is_known)


async def test_a_key_becomes_hot_while_events_of_it_are_about_to_be_offered(
    database: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not offered yet is not in its handlers' hands: nothing of the key would ever be fetched again."""
    [lane] = await lanes_of(store, ["crowd"])
    keys = [f"key{number}" for number in range(600)]
    lanes = await lanes_of(store, keys)
    beside = next(key for key, its_lane in zip(keys, lanes, strict=True) if its_lane == lane)
    others = [key for key, its_lane in zip(keys, lanes, strict=True) if its_lane != lane]
    is_read, may_be_offered = anyio.Event(), anyio.Event()

    async def load_steps_late(connection: Store, event_ids: Sequence[EventId]) -> dict[EventId, list[Step]]:
        """The server takes its time for those that are read aside."""
        if any(log.connection is reader.aside and not log.hand.missing(event_ids) for log in reader.logs):
            is_read.set()
            await may_be_offered.wait()
        return await load_steps(connection, event_ids)

    monkeypatch.setattr(relay.reader, "load_steps", load_steps_late)
    async with reading(database, store, backlog=[*["crowd"] * 2000, *[beside] * 60, *others]) as found:
        reader = found.reader

        async def is_about_to_be_offered() -> bool:
            found.end(10, except_of=["crowd", beside])
            return is_read.is_set()

        await eventually(is_about_to_be_offered)
        stuck_count = found.stuck_count

        async def is_full() -> bool:
            return found.stuck_count >= stuck_count + 2

        await eventually(is_full)
        may_be_offered.set()

        async def is_offered() -> bool:
            found.end(10, except_of=["crowd", beside])
            return any(delivery.event.key == beside for delivery in found.offered)

        await eventually(is_offered)


async def lanes_of(store: Store, keys: Sequence[str]) -> list[int]:
    """The lane of each key."""
    return [lane for (lane,) in await rows(store, LANES_OF, [list(keys)])]
