"""A rolling restart under load, with relays in processes of their own."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from subprocess import Popen
from typing import LiteralString

import anyio
import anyio.to_thread
import pytest

from outbox import database as connections
from outbox.event import LANE_COUNT
from tests.processes import program, read_line
from tests.relay.ownership import HISTORY
from tests.relay.running import Store, all_settled, eventually, rows, value

pytestmark = pytest.mark.anyio

RELAYS = 4
EVENTS = 4000
RATE = 500
BATCH = 25
KEYS = 200
LEASE_SECONDS = 300
"""Whoever waited for a lease to run out would wait longer than this test does for anything."""

RELAY = """
import sys
from contextlib import asynccontextmanager
import anyio
from pydantic import SecretStr
from outbox.outcome import Published
from relay import app, logs
from relay.settings import RelaySettings

@asynccontextmanager
async def open_handler(runtime):
    async def handle(event, ledger):
        await ledger.done("handled", {})
        return Published()
    yield handle

app.installed_factories = lambda: {"t": open_handler}
logs.configure("json", "warning")
print("imported", flush=True)
settings = {"dsn": SecretStr(sys.stdin.readline().strip()), "metrics_port": 0, "lease_seconds": float(sys.argv[1])}
anyio.run(app.run, RelaySettings.model_validate(settings))
print("ended", flush=True)
"""

EMIT: LiteralString = """
select count(outbox.emit('t', key => 'k' || n %% %(keys)s, sequence => case when n %% 3 > 0 then 's' || n %% 3 end))
from generate_series(%(first)s::bigint, %(last)s::bigint) as n
"""
WRITTEN_WITHOUT_OWNING: LiteralString = """
select count(*)
from (
  select event_id, relay_id, created_at as at from outbox.steps
  union all
  select event_id, relay_id, settled_at from outbox.receipts
) as w
join outbox.events as e on e.id = w.event_id
where w.relay_id is distinct from (
  select o.relay_id from public.ownership as o where o.lane = e.lane and o.at <= w.at order by o.at desc limit 1
)
"""

DISORDERED: LiteralString = """
select count(*) from (
  select s.created_at < lag(s.created_at) over (partition by e.key, e.sequence order by e.id) as too_early
  from outbox.events as e join outbox.steps as s on s.event_id = e.id where e.sequence is not null
) as handled where too_early
"""

OWNED: LiteralString = """
select count(*) from outbox.lanes as l join outbox.relays as r on r.id = l.relay_id
where r.retired_at is null and r.leaving_at is null group by r.id
"""

LONGEST_WAIT: LiteralString = """
select extract(epoch from max(r.settled_at - e.created_at))::float8
from outbox.events as e join outbox.receipts as r on r.event_id = e.id
"""


class Relays:
    """Relay processes on one database."""

    def __init__(self, dsn: str, stack: ExitStack) -> None:
        self._dsn = dsn
        self._stack = stack

    def prepare(self) -> Popen[str]:
        """Start a process that has imported everything, and waits."""
        process = self._stack.enter_context(program(RELAY, str(LEASE_SECONDS)))
        assert read_line(process) == "imported"
        return process

    def start(self, process: Popen[str]) -> None:
        """Have it run; it joins in its own time."""
        assert process.stdin is not None
        process.stdin.write(f"{self._dsn}\n")
        process.stdin.flush()

    def stop(self, process: Popen[str]) -> None:
        """Stop one as a service manager does, and wait until it has ended in order."""
        process.send_signal(signal.SIGTERM)
        assert read_line(process) == "ended"
        assert process.wait(timeout=60) == 0


async def emit_steadily(store: Store) -> None:
    """Emit so many events a second, on so many keys, two of three in a sequence."""
    began_at = time.monotonic()
    for first in range(1, EVENTS + 1, BATCH):
        await store.execute(EMIT, {"keys": KEYS, "first": first, "last": first + BATCH - 1})
        await anyio.sleep(max(0.0, began_at + (first + BATCH - 1) / RATE - time.monotonic()))


async def test_a_rolling_restart_under_load_loses_doubles_and_disorders_nothing(database: str, store: Store) -> None:
    """No relay writes what is of a lane that it does not own, and nothing waits for a lease to run out."""
    await store.execute(HISTORY)

    async def all_share() -> bool:
        return sorted(count for (count,) in await rows(store, OWNED)) == [LANE_COUNT // RELAYS] * RELAYS

    with ExitStack() as stack:
        relays = Relays(database, stack)
        prepared = [await anyio.to_thread.run_sync(relays.prepare) for _ in range(2 * RELAYS)]
        running = [prepared.pop() for _ in range(RELAYS)]
        for process in running:
            relays.start(process)
        await eventually(all_share, seconds=60)
        async with (
            await connections.connect(database, application_name="outbox-test") as emitting,
            anyio.create_task_group() as group,
        ):
            group.start_soon(emit_steadily, emitting)
            for _ in range(RELAYS):
                await anyio.to_thread.run_sync(relays.stop, running.pop(0))
                running.append(prepared.pop())
                relays.start(running[-1])
                await eventually(all_share, seconds=60)
        await all_settled(store, EVENTS, seconds=60)
        for process in running:
            await anyio.to_thread.run_sync(relays.stop, process)
    assert await rows(store, "select outcome, count(*) from outbox.receipts group by 1") == [("published", EVENTS)]
    assert await value(store, "select count(*) from outbox.steps") == EVENTS
    assert await value(store, "select count(distinct relay_id) from outbox.receipts") >= RELAYS
    assert await value(store, WRITTEN_WITHOUT_OWNING) == 0
    assert await value(store, DISORDERED) == 0
    print(f"longest wait from emit to receipt: {await value(store, LONGEST_WAIT):.2f} s")
