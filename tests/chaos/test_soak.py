"""Every placement under every fault, until each variant has ended: none is live twice, and none ends as another thing.

As part of the suite it is short, under one of the three answers to a repeated publish. `make chaos` has 700 variants
under each of them, `make soak` 2,000; `SOAK_VARIANTS=300 SOAK_REPUBLISH=duplicate SOAK_SEED=7 make soak` chooses.
"""

from __future__ import annotations

import os
import time
from collections import Counter as Tally
from pathlib import Path
from random import Random

import anyio
import pytest

from tests.chaos import soak
from tests.chaos.ground import Ground, open_ground
from tests.chaos.load import open_accounts

pytestmark = pytest.mark.anyio

VARIANT_COUNT = int(os.environ.get("SOAK_VARIANTS", "40"))
SEED = int(os.environ["SOAK_SEED"])
REPUBLISH = (os.environ.get("SOAK_REPUBLISH") or ("error", "same_id", "duplicate")[SEED % 3]).split()
RELAY_COUNT = 2
# How long nothing may end before something is stuck.
STUCK_SECONDS = 90.0


async def test_each_variant_is_live_once_or_says_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two relays that are killed again and again, a quarter of all calls that fail, accounts that need a person."""
    dice = Random(SEED)
    killed_count = 0
    sown: dict[str, soak.Sown] = {}
    counts: dict[str, int] = {}
    held: Tally[str] = Tally()
    with capsys.disabled():
        print(f"\nsoak: seed {SEED}, {VARIANT_COUNT} variants under each of {', '.join(REPUBLISH)}", flush=True)
    async with open_ground(tmp_path, dice, relay_count=RELAY_COUNT, environment=soak.RELAYS) as ground:
        # Before anything fails by chance, one account is certain to need a person: with few variants none else may.
        [account] = await open_accounts(ground, ("instagram",))
        async with soak.without_token(ground, account, dice):
            sown |= await soak.sow(ground, [account], dice, range(1), expiring=0)
            assert await soak.until_held(ground, account, "token", seconds=STUCK_SECONDS)
        await ground.graph.use(
            chances={"seed": SEED, **soak.CHANCES},
            stories_lag_seconds=soak.LISTS_LAG_SECONDS,
            feed_lag_seconds=soak.LISTS_LAG_SECONDS,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(ground.keep_alive)
            stop = anyio.Event()
            async with anyio.create_task_group() as troubles:
                troubles.start_soon(soak.trouble_accounts, ground, Random(SEED), held, stop)
                for republish in REPUBLISH:
                    began_at = time.monotonic()
                    await ground.graph.use(republish=republish)
                    # Accounts of its own: what one may publish in a day is less than three times all this.
                    accounts = await open_accounts(ground, soak.ACCOUNTS)
                    numbers = range(len(sown), len(sown) + VARIANT_COUNT)
                    sown |= await soak.sow(ground, accounts, dice, numbers)
                    killed_count += await settle(ground, dice)
                    counts, whys = await soak.judge(ground, sown)
                    with capsys.disabled():
                        print(
                            f"soak: {republish}, {time.monotonic() - began_at:.0f} s; so far {counts}; {dict(whys)}",
                            flush=True,
                        )
                stop.set()
            group.cancel_scope.cancel()
        faults = (await ground.graph.control("GET", "faults"))["random"]
    with capsys.disabled():
        print(f"soak: {killed_count} relays killed; holds: {dict(held)}; {faults}", flush=True)
    assert counts["published"] > len(sown) / 2
    assert sum(faults.values()) > 0


async def settle(ground: Ground, dice: Random) -> int:
    """Kill relays until every event has ended or waits for a person, and return how many; fail where none ends."""
    killed_count, before, kill_at, deadline = 0, -1, VARIANT_COUNT + 1, 0.0
    while events := await anyio.to_thread.run_sync(soak.left, ground.dsn):
        if len(events) != before:
            before, deadline = len(events), time.monotonic() + STUCK_SECONDS
        assert time.monotonic() < deadline, f"seed {SEED}: {len(events)} events are stuck, the first: {events[:5]}"
        if len(events) <= kill_at:
            await soak.kill_a_relay(ground, dice)
            killed_count, kill_at = killed_count + 1, len(events) - dice.randint(1, 2 * soak.KILLED_EVERY)
        await anyio.sleep(0.2)
    return killed_count
