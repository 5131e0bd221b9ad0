"""Faults at random, and everything ends exactly once.

As part of the suite it is short. `make chaos` has 220 faults and prints its seed. `CHAOS_SEED=7 make chaos` throws the
same dice again, though processes and networks have dice of their own; `CHAOS_FAULTS=1000 make chaos` goes on longer.
"""

from __future__ import annotations

import os
import time
from collections import Counter as Tally
from functools import partial
from pathlib import Path
from random import Random

import anyio
import pytest

from tests.chaos import verdict
from tests.chaos.faults import FAULTS
from tests.chaos.ground import Ground, open_ground
from tests.chaos.load import ACCOUNTS, FAULTS_AN_ACCOUNT, WRITER_COUNT, create_variants, open_accounts, write_ticks
from tests.proxy import Mode
from tests.relay.running import eventually

pytestmark = pytest.mark.anyio

FAULT_COUNT = int(os.environ.get("CHAOS_FAULTS", "8"))
SEED = int(os.environ["CHAOS_SEED"])
RELAY_COUNT = 4
SETTLE_SECONDS = 300.0


async def test_whatever_fails_each_event_ends_exactly_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four relays, their network, PostgreSQL and the Graph API, under writers that never stop."""
    dice = Random(SEED)
    with capsys.disabled():
        print(f"\nchaos: seed {SEED}, {FAULT_COUNT} faults", flush=True)
    async with open_ground(tmp_path, dice, relay_count=RELAY_COUNT) as ground:
        began_at = time.monotonic()
        faults = await fight(ground, dice)
        await heal(ground)
        await settle(ground)
        counts = await verdict.judge(ground)
    with capsys.disabled():
        print(f"chaos: {time.monotonic() - began_at:.0f} s; {dict(faults)}; {counts}", flush=True)
    assert sum(faults.values()) == FAULT_COUNT


async def fight(ground: Ground, dice: Random) -> Tally[str]:
    """Let faults happen, some at the same time, once ticks and posts are emitted; return which ones."""
    happened: Tally[str] = Tally()
    stop = anyio.Event()
    accounts = await open_accounts(ground, ACCOUNTS * (1 + FAULT_COUNT // (FAULTS_AN_ACCOUNT * len(ACCOUNTS))))
    async with anyio.create_task_group() as everything:
        everything.start_soon(ground.keep_alive)
        async with anyio.create_task_group() as writers:
            for number in range(WRITER_COUNT):
                writers.start_soon(write_ticks, ground, number, Random(f"{SEED} {number}"), stop)
            writers.start_soon(create_variants, ground, accounts, Random(f"{SEED} variants"), stop)
            await eventually(partial(anyio.to_thread.run_sync, verdict.has_both, ground.dsn), seconds=SETTLE_SECONDS)
            async with anyio.create_task_group() as faults:
                for _ in range(FAULT_COUNT):
                    fault = dice.choice(FAULTS)
                    happened[fault.__name__] += 1
                    faults.start_soon(fault, ground, dice)
                    await anyio.sleep(dice.uniform(0.5, 3))
            stop.set()
        everything.cancel_scope.cancel()
    return happened


async def heal(ground: Ground) -> None:
    """End what still fails; a process runs in each place."""
    await ground.graph.control("DELETE", "faults")
    for place in ground.places:
        await place.proxy.use(Mode.PASS)
        if place.process is None:
            await ground.start(place)


async def settle(ground: Ground) -> None:
    """Wait until every committed event has its receipt."""
    async with anyio.create_task_group() as alive:
        alive.start_soon(ground.keep_alive)
        deadline = time.monotonic() + SETTLE_SECONDS
        while left := await anyio.to_thread.run_sync(verdict.unsettled, ground.dsn):
            assert time.monotonic() < deadline, f"seed {SEED}: {len(left)} events have not ended, the first: {left[:5]}"
            await anyio.sleep(0.2)
        alive.cancel_scope.cancel()
