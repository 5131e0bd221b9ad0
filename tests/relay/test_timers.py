"""Timers by themselves: what a look finds of lanes that are taken while it is under way."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from outbox.batch import Batch
from outbox.database import connect
from outbox.outcome import Reason
from outbox.settle import settle
from relay.delivery import Delivery
from relay.holds import Holds
from relay.timers import Timers
from tests.outbox.store import LANES, blocked, event, incarnate, wait
from tests.relay.running import Store

pytestmark = pytest.mark.anyio


async def test_what_is_long_due_in_a_lane_taken_during_a_look_is_found_next(database: str, store: Store) -> None:
    """A look at all that is due covers the lanes that were ours when it began; what comes then is for the next look."""
    of = await event(store, key="k")
    long_due = wait(of, Reason.RETRY, -3600)
    await settle(store, await incarnate(store), Batch(waits=[long_due]))
    offered: list[Delivery] = []
    found = anyio.Event()

    def offer(deliveries: Sequence[Delivery]) -> None:
        offered.extend(deliveries)
        found.set()

    async with await connect(database, application_name="outbox-test") as connection:
        timers = Timers(connection, Holds(), offer, lambda _, __: None, lambda _, __: None, lambda: True)
        timers.take(lane for lane in LANES if lane != of.lane)
        async with anyio.create_task_group() as group:
            async with await connect(database, application_name="outbox-test") as other, other.transaction():
                await other.execute("lock table outbox.holds")
                await group.start(timers.run)
                await blocked(other, connection)
                timers.take([of.lane])
            with anyio.fail_after(20):  # the one after that, at all that is due, comes after 30 s
                await found.wait()
            group.cancel_scope.cancel()
    assert [each.event.id for each in offered] == [of.id]
