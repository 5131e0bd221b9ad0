"""When lanes change hands: at a clean stop at once, and after a death when the lease has ended, and not before.

The relay that takes over has a lease of 300 s, and looks by itself as often: what it does sooner it was told to do, by
another relay or by the end of another one's lease. All instants are the database's.
"""

from __future__ import annotations

from subprocess import Popen
from typing import LiteralString

import anyio
import anyio.to_thread
import pytest

from outbox.event import LANE_COUNT
from relay.app import serve
from tests.processes import program, read_line
from tests.relay.ownership import HISTORY
from tests.relay.running import Gate, Script, Store, emit, eventually, ready, settings, state_is, value, working

pytestmark = pytest.mark.anyio

LONG_SECONDS = 300.0
SHORT_SECONDS = 2.0
SHARE = LANE_COUNT // 2

RELAY = """
import sys
from contextlib import asynccontextmanager
import anyio, relay.app, relay.logs
from relay.settings import RelaySettings

@asynccontextmanager
async def open_handler(runtime):
    async def handle(event, ledger):
        print("handles", flush=True)
        await anyio.sleep_forever()
    yield handle

async def main():
    relay.logs.configure("json", "error")
    settings = RelaySettings(dsn=sys.argv[1], metrics_port=0, lease_seconds=float(sys.argv[2]))
    async with relay.app.serve(settings, anyio.Event(), factories={"t": open_handler}):
        await anyio.sleep_forever()

anyio.run(main)
"""

OWNED: LiteralString = "select count(*) from outbox.lanes where relay_id = %s"
KEY_OF: LiteralString = """
select 'k' || n from generate_series(1, 2000) as n
join outbox.lanes as l on l.lane = hashtextextended('k' || n, 0) & 63
where l.relay_id = %s limit 1
"""
TAKEN: LiteralString = """
select
  count(distinct o.lane),
  min(o.at - left_to.leased_until) > interval '0',
  extract(epoch from max(o.at) - %(since)s)
from public.ownership as o
join outbox.relays as taking on taking.id = o.relay_id
cross join (select leased_until from outbox.relays where id = %(gone)s) as left_to
where taking.id = %(by)s and o.at > %(since)s
"""
"""How many lanes a relay took, whether all of them after the other one's lease had ended, and how long since."""
NOW: LiteralString = "select clock_timestamp()"


async def owns(store: Store, relay_id: int, count: int) -> None:
    """Return once a relay owns so many lanes."""

    async def does_own() -> bool:
        return bool(await value(store, OWNED, [relay_id]) == count)

    await eventually(does_own, seconds=60)


async def test_a_clean_stop_hands_its_lanes_over_while_its_lease_runs(
    database: str, store: Store, script: Script
) -> None:
    """The one that stays is told, and waits neither for the lease nor for a look of its own."""
    await store.execute(HISTORY)
    gate, leaving, stop = Gate(), Script(), anyio.Event()
    leaving.acts["slow"] = [gate]
    async with working(settings(database, lease_seconds=LONG_SECONDS), script):
        async with serve(
            settings(database, lease_seconds=LONG_SECONDS, shutdown_seconds=60), stop, factories=leaving.factories
        ) as url:
            await eventually(lambda: ready(url), seconds=60)
            await owns(store, 2, SHARE)
            slow = await emit(store, "slow", key=await value(store, KEY_OF, [2]))
            await gate.entered.wait()
            since = await value(store, NOW)
            stop.set()
            await owns(store, 1, LANE_COUNT - 1)
            gate.opened.set()
        await owns(store, 1, LANE_COUNT)
        [taken] = await (await store.execute(TAKEN, {"since": since, "by": 1, "gone": 2})).fetchall()
        await state_is(store, slow, "published")
    assert taken[:2] == (SHARE, False)
    print(f"the last of {SHARE} lanes was taken {taken[2]:.3f} s after the stop")


async def test_the_lanes_of_a_relay_that_was_killed_are_taken_when_its_lease_has_ended(
    database: str, store: Store, script: Script
) -> None:
    """Each of them after that, by the database's clock; and by a relay that would not have looked for minutes."""
    await store.execute(HISTORY)
    async with working(settings(database, lease_seconds=LONG_SECONDS), script):
        with program(RELAY, database, f"{SHORT_SECONDS}") as process:
            await owns(store, 2, SHARE)
            event_id = await emit(store, "a", key=await value(store, KEY_OF, [2]))
            assert await anyio.to_thread.run_sync(read_line, process) == "handles"
            since = await value(store, NOW)
            await kill(process)
            await owns(store, 1, LANE_COUNT)
            [taken] = await (await store.execute(TAKEN, {"since": since, "by": 1, "gone": 2})).fetchall()
            await state_is(store, event_id, "published")
    assert taken[:2] == (SHARE, True)
    assert script.calls == ["a"]
    print(f"the last of {SHARE} lanes was taken {taken[2]:.3f} s after the death of a relay of {SHORT_SECONDS:g} s")


async def kill(process: Popen[str]) -> None:
    """SIGKILL."""
    process.kill()
    await anyio.to_thread.run_sync(process.wait)
