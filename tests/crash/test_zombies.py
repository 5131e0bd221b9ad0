"""A relay that stands still until its lanes are another's, and then goes on as if nothing had happened."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from tests.crash.nursery import open_nursery
from tests.crash.theatre import open_world
from tests.postgres import Databases
from tests.publisher.stage import KINDS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kind", KINDS)
async def test_a_zombie_does_not_call_after_its_lanes_were_taken(kind: str, databases: Databases) -> None:
    """Stopped between its intent and its call, it wakes after another relay has looked, and published the story."""
    async with AsyncExitStack() as stack:
        nursery = stack.enter_context(open_nursery())
        world = await stack.enter_async_context(open_world("duplicate"))
        dsn = stack.enter_context(databases.migrated())
        theatre = await stack.enter_async_context(world.theatre(dsn, nursery, kind, 0))
        await theatre.block("steps", "publish", "intent")
        zombie = await theatre.start_relay()
        await theatre.blocked_backend()
        nursery.stop(zombie)
        await theatre.unblock()
        successor = await theatre.start_relay()
        assert await theatre.ended() == "published"
        nursery.kill(successor)
        nursery.resume(zombie)
        await theatre.incarnations(3)
        assert await theatre.live_count() == 1
        trail = await theatre.trail()
        assert trail.count(("publish", "done")) == 1
        # What the zombie had to say about its call was not written: the second intent is the successor's.
        assert trail.count(("publish", "intent")) == 2
        nursery.kill(zombie)
