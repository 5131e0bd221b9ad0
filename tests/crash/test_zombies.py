"""A relay that stands still, or is cut off, until its lanes are another's, and then goes on as if nothing had been."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from tests.crash.nursery import open_nursery
from tests.crash.theatre import open_world
from tests.postgres import Databases
from tests.proxy import Mode, open_proxy
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


@pytest.mark.parametrize("kind", KINDS)
async def test_a_relay_that_is_cut_off_does_not_call_after_its_lanes_were_taken(
    kind: str, databases: Databases
) -> None:
    """What it sent arrives when its lanes are another's, and the story is published: it is written nowhere."""
    async with AsyncExitStack() as stack:
        nursery = stack.enter_context(open_nursery())
        world = await stack.enter_async_context(open_world("duplicate"))
        dsn = stack.enter_context(databases.migrated())
        theatre = await stack.enter_async_context(world.theatre(dsn, nursery, kind, 0))
        proxy = await stack.enter_async_context(open_proxy(dsn))
        await theatre.block("steps", "publish", "intent")
        direct = theatre.environment["OUTBOX_DSN"]
        theatre.environment["OUTBOX_DSN"] = proxy.dsn(dsn)
        cut_off = await theatre.start_relay()
        await theatre.blocked_backend()
        await proxy.use(Mode.BLACK_HOLE)
        await theatre.unblock()
        theatre.environment["OUTBOX_DSN"] = direct
        successor = await theatre.start_relay()
        assert await theatre.ended() == "published"
        nursery.kill(successor)
        await proxy.use(Mode.PASS)
        await theatre.incarnations(3)
        assert await theatre.live_count() == 1
        assert (await theatre.trail()).count(("publish", "done")) == 1
        nursery.kill(cut_off)
